//! The URIs of apps (MCP Apps, `ui://…`) at `/mcp`, which combines many services.
//!
//! Hosts only accept `ui://` URIs for apps, so a URI stays as its service wrote it while its owner is unambiguous. That
//! is decided by the definitions of tools, which name the apps they are shown with:
//!
//! * A URI that only the tools of one service name belongs to that service.
//! * One that no tool names belongs to the only service that lists it, if all lists could be read completely, or to the
//!   only one with resources.
//! * Any other one is `ui://service+rest`, which always identifies its service.
//!
//! So no service can take the place of another's app: a URI that several claim, or may claim, has no owner and must be
//! requested by its longer form.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use super::names;
use crate::base::service_id::ServiceId;
use crate::services::outline::ServiceOutline;
use crate::services::tool_apps::{FLAT, NESTED};

/// The prefix of all app URIs.
pub const SCHEME: &str = "ui://";
/// The maximum number of forms suggested for an ambiguous URI.
const MAX_FORMS: usize = 20;

/// The owner of a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim<'s> {
    /// One service.
    Of(&'s ServiceId),
    /// Several services claim it.
    Several,
    /// No tool names it.
    Open,
}

/// The URIs that tools name, and their owners.
#[derive(Debug, Default)]
pub struct Apps<'s> {
    services: Vec<&'s ServiceId>,
    named: BTreeMap<&'s str, BTreeSet<&'s ServiceId>>,
    /// The only service with resources, if there is just one.
    alone: Option<&'s ServiceId>,
}

fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// A `_meta` with each app URI mapped by `named`; `None` if there are none.
pub fn rewrite_meta(meta: &RawValue, named: impl Fn(&str) -> String) -> Option<String> {
    type Members<'a> = BTreeMap<String, &'a RawValue>;
    let replaced = |members: &Members<'_>, name: &str| {
        let own = text(members.get(name)?)?;
        serde_json::value::to_raw_value(&named(&own)).ok()
    };
    let mut members: Members<'_> = serde_json::from_str(meta.get()).ok()?;
    let nested: Option<Members<'_>> = members.get(NESTED.0).and_then(|ui| serde_json::from_str(ui.get()).ok());
    let nested = nested.and_then(|ui| {
        let address = replaced(&ui, NESTED.1)?;
        let mut ui = ui;
        ui.insert(NESTED.1.into(), &address);
        serde_json::value::to_raw_value(&ui).ok()
    });
    let flat: Vec<_> = FLAT.into_iter().filter_map(|name| Some((name, replaced(&members, name)?))).collect();
    if nested.is_none() && flat.is_empty() {
        return None;
    }
    members.extend(nested.as_deref().map(|ui| (NESTED.0.to_string(), ui)));
    members.extend(flat.iter().map(|(name, address)| ((*name).to_string(), &**address)));
    serde_json::to_string(&members).ok()
}

impl<'s> Apps<'s> {
    /// Of all services.
    pub fn of(services: impl Iterator<Item = &'s ServiceOutline>) -> Self {
        let mut apps = Self::default();
        let mut with_resources = Vec::new();
        for service in services {
            apps.services.push(&service.id);
            if !service.declares("resources") {
                continue;
            }
            with_resources.push(&service.id);
            for address in service.server.iter().flat_map(|server| &server.apps) {
                apps.named.entry(address).or_default().insert(&service.id);
            }
        }
        apps.alone = if let [alone] = with_resources.as_slice() { Some(*alone) } else { None };
        apps
    }

    /// The owner of a URI that does not contain a service's id.
    pub fn claim(&self, address: &str) -> Claim<'s> {
        let mut claimants = self.claimants(address);
        match (self.alone, claimants.next(), claimants.next()) {
            (Some(alone), ..) => Claim::Of(alone),
            (None, Some(service), None) => Claim::Of(service),
            (None, Some(_), Some(_)) => Claim::Several,
            (None, None, _) => Claim::Open,
        }
    }

    /// The services whose tools name a URI.
    pub fn claimants(&self, address: &str) -> impl Iterator<Item = &'s ServiceId> {
        self.named.get(address).into_iter().flatten().copied()
    }

    /// The public URI, or URI template, of a service's resource. `only`: no other service lists it.
    pub fn uri(&self, service: &ServiceId, own: &str, only: bool) -> String {
        let Some(rest) = own.strip_prefix(SCHEME) else { return names::uri(service, own) };
        let is_clear = match self.claim(own) {
            Claim::Of(owner) => owner == service,
            Claim::Several => false,
            Claim::Open => only,
        };
        // A URI that looks like another's longer form would lead there.
        if is_clear && !self.services.iter().any(|id| own_rest(id, rest).is_some()) {
            return own.into();
        }
        format!("{SCHEME}{}", names::uri(service, rest))
    }
}

/// The service of a URI, by those that claim it and those whose lists could not be read completely; or the error for
/// the client.
pub fn resolve<'s>(
    apps: &Apps<'_>,
    address: &str,
    claimants: &BTreeSet<&'s ServiceId>,
    unread: &BTreeSet<&'s ServiceId>,
) -> Result<&'s ServiceId, String> {
    let all = claimants.iter().chain(unread.difference(claimants));
    let forms = || all.clone().take(MAX_FORMS).map(|service| apps.uri(service, address, false)).collect::<Vec<_>>();
    match (claimants.first(), claimants.len(), unread.is_empty()) {
        (None, _, true) => Err("No such resource, or you do not have access to it.".into()),
        (Some(service), 1, true) => Ok(service),
        (_, 0 | 1, false) => {
            let forms = forms().join(", ");
            Err(format!("The owner of this URI is unknown, as not all lists could be read. Request one of: {forms}"))
        }
        _ => Err(format!("Several services have this URI. Request one of: {}", forms().join(", "))),
    }
}

/// The rest of a URI of this service, after `ui://` and the service's id.
fn own_rest<'t>(service: &ServiceId, rest: &'t str) -> Option<&'t str> {
    names::own_uri(service, rest)
}

/// The owner of a URI and its name there, as the URI itself states.
pub fn owner<'i>(uri: &str, services: impl Iterator<Item = &'i ServiceId>) -> Option<(&'i ServiceId, String)> {
    let (start, rest) = uri.strip_prefix(SCHEME).map_or(("", uri), |rest| (SCHEME, rest));
    let found = services.filter_map(|id| Some((id, own_rest(id, rest)?)));
    let (service, own) = found.max_by_key(|(id, _)| names::scheme(id).len())?;
    Some((service, format!("{start}{own}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::Service;
    use serde_json::{Value, json};

    fn service(id: &str, addresses: &[&str], has_resources: bool) -> ServiceOutline {
        let capability = |(at, address): (usize, &&str)| {
            json!({"name": format!("t{at}"), "version": "1.0.0", "idempotent": false, "durable": true, "timeout_seconds": 60,
                "permissions": [], "tool": {"_meta": {"ui": {"resourceUri": address, "x": 1}}}})
        };
        let capabilities: Vec<Value> = addresses.iter().enumerate().map(capability).collect();
        let declared = if has_resources { json!({"resources": {}}) } else { json!({}) };
        let document = json!({"id": id, "name": id, "type": "tool", "tags": [], "capabilities": capabilities,
            "transport": {"kind": "mcp", "url": "https://a.example/", "timeout_seconds": 1, "refresh_seconds": 60, "changed_tools": "serve"},
            "limits": {"max_concurrency": null, "max_queue": 1}, "retry": {"max_attempts": 1, "base_ms": 1, "cap_ms": 1},
            "weight": 1, "tier": 0, "catalogue": {"server": {"capabilities": declared}}});
        serde_json::from_str::<Service>(&document.to_string()).unwrap().outline()
    }

    #[test]
    fn a_uri_stays_while_its_owner_is_unambiguous() {
        let services = [
            service("a", &["ui://one", "ui://both"], true),
            service("b_c", &["ui://both", "ui://a+x"], true),
            service("silent", &["ui://one"], false),
        ];
        let apps = Apps::of(services.iter());
        assert_eq!(apps.uri(&"a".into(), "ui://one", false), "ui://one");
        assert_eq!(apps.uri(&"b_c".into(), "ui://one", true), "ui://b.c+one");
        assert_eq!(
            (apps.uri(&"a".into(), "ui://both", true), apps.uri(&"b_c".into(), "ui://both", true)),
            ("ui://a+both".into(), "ui://b.c+both".into())
        );
        assert_eq!(
            (apps.uri(&"a".into(), "ui://new", true), apps.uri(&"a".into(), "ui://new", false)),
            ("ui://new".into(), "ui://a+new".into())
        );
        // It would lead to another service.
        assert_eq!(apps.uri(&"b_c".into(), "ui://a+x", true), "ui://b.c+a+x");
        assert_eq!(apps.uri(&"a".into(), "demo://one", true), "a+demo://one");
        assert_eq!(
            [apps.claim("ui://one"), apps.claim("ui://both"), apps.claim("ui://new")],
            [Claim::Of(&"a".into()), Claim::Several, Claim::Open]
        );
        let ids = || services.iter().map(|service| &service.id);
        for (service, own) in
            [("a", "ui://both"), ("b_c", "ui://both"), ("b_c", "ui://a+x"), ("b_c", "ui://"), ("a", "x://y")]
        {
            let service = &service.into();
            let uri = if own.starts_with("ui://") { apps.uri(service, own, false) } else { names::uri(service, own) };
            assert_eq!(owner(&uri, ids()), Some((service, own.into())), "{uri}");
        }
        assert_eq!(owner("ui://one", ids()), None);
    }

    #[test]
    fn an_address_that_an_unread_list_may_have_belongs_to_no_service() {
        let services = [service("a", &[], true), service("b", &[], true), service("c", &[], true)];
        let apps = Apps::of(services.iter());
        let named = |ids: &[&str]| services.iter().map(|one| &one.id).filter(|id| ids.contains(&id.as_str())).collect();
        let of = |claimants: &[&str], unread: &[&str]| {
            resolve(&apps, "ui://app/1", &named(claimants), &named(unread)).map(ServiceId::as_str)
        };
        assert_eq!(of(&["b"], &[]), Ok("b"));
        assert_eq!(of(&[], &[]), Err("No such resource, or you do not have access to it.".into()));
        let unclear = "The owner of this URI is unknown, as not all lists could be read. Request one of: ";
        assert_eq!(of(&["b"], &["a"]), Err(format!("{unclear}ui://b+app/1, ui://a+app/1")));
        assert_eq!(of(&[], &["a", "c"]), Err(format!("{unclear}ui://a+app/1, ui://c+app/1")));
        let several = "Several services have this URI. Request one of: ui://a+app/1, ui://b+app/1";
        assert_eq!(of(&["a", "b"], &[]), Err(several.into()));
        assert_eq!(of(&["a", "b"], &["c"]), Err(format!("{several}, ui://c+app/1")));
    }

    #[test]
    fn where_one_service_alone_has_resources_all_addresses_are_its() {
        let services = [service("a", &["ui://one"], true), service("b", &[], false)];
        let apps = Apps::of(services.iter());
        assert_eq!(apps.uri(&"a".into(), "ui://new/{id}", false), "ui://new/{id}");
        assert_eq!(apps.claim("ui://new"), Claim::Of(&"a".into()));
    }

    #[test]
    fn the_uri_of_a_tools_app_is_found_in_all_forms() {
        let named = |meta: Value| {
            let raw = serde_json::value::to_raw_value(&meta).unwrap();
            rewrite_meta(&raw, |own| format!("{own}!")).map(|text| serde_json::from_str::<Value>(&text).unwrap())
        };
        assert_eq!(
            named(json!({"ui": {"resourceUri": "ui://a", "v": [1]}, "x": 1})),
            Some(json!({"ui": {"resourceUri": "ui://a!", "v": [1]}, "x": 1}))
        );
        assert_eq!(named(json!({"ui/resourceUri": "ui://a"})), Some(json!({"ui/resourceUri": "ui://a!"})));
        assert_eq!(
            named(json!({"openai/outputTemplate": "ui://a"})),
            Some(json!({"openai/outputTemplate": "ui://a!"}))
        );
        for none in
            [json!({}), json!({"ui": 1}), json!({"ui": {"resourceUri": 1}}), json!([]), json!({"ui/resourceUri": null})]
        {
            assert_eq!(named(none.clone()), None, "{none}");
        }
    }
}
