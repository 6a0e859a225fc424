//! Which events a subscriber receives.

use serde::{Deserialize, Serialize};

use super::bundle::{Bundle, Item};
use super::event_type::EventType;
use crate::base::json::{Fault, Object};
use crate::base::principal_id::PrincipalId;

/// The longest subject or service, in bytes.
const MAX_NAME_BYTES: usize = 200;
/// The maximum number of patterns in `types`.
const MAX_TYPES: usize = 32;

/// All conditions that are set must hold. A hub evaluates equal filters only once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Filter {
    /// Exact types, or prefixes ending in `*`; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only events of this principal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<PrincipalId>,
}

fn type_matches(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => event_type.starts_with(prefix),
        None => pattern == event_type,
    }
}

fn too_long(at: &str, most: usize) -> Fault {
    Fault::new(at, format!("must have at most {most} bytes"))
}

fn valid_pattern(text: &str) -> bool {
    let body = text.strip_suffix('*').unwrap_or(text);
    text.len() <= 64 && !text.is_empty() && body.bytes().all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'_')
}

impl Filter {
    /// Reads the query parameters. `owner=me` is the caller; only a caller with `sees_all` may name another owner.
    pub fn from_query(
        get: impl Fn(&str) -> Option<String>,
        me: &PrincipalId,
        sees_all: bool,
    ) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let types: Vec<String> = get("types")
            .map(|list| list.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Into::into).collect())
            .unwrap_or_default();
        if types.len() > MAX_TYPES || !types.iter().all(|pattern| valid_pattern(pattern)) {
            faults.push(Fault::new(
                "?types",
                "must be a comma-separated list of event types such as context.completed or context.*",
            ));
        }
        let filter = Self { types, subject: get("subject"), service: get("service"), owner: None };
        filter.bounded(&mut faults);
        let owner = match get("owner").as_deref() {
            None | Some("*") | Some("") => None,
            Some("me") => Some(me.clone()),
            Some(other) => {
                if other.len() > PrincipalId::MAX_BYTES {
                    faults.push(too_long("?owner", PrincipalId::MAX_BYTES));
                }
                PrincipalId::parse(other)
            }
        };
        let filter = Self { owner, ..filter };
        if faults.is_empty() { Ok(filter.narrowed(me, sees_all)) } else { Err(faults) }
    }

    /// Reads a message `{"subscribe": {…}}`.
    pub fn from_message(text: &str, me: &PrincipalId, sees_all: bool) -> Result<Self, Vec<Fault>> {
        let mut message = Object::new(text, "#").map_err(|fault| vec![fault])?;
        let subscribe = message.object("subscribe");
        let subscribe = message.require("subscribe", subscribe);
        let Some(mut wanted) = subscribe else {
            return Err(message.finish());
        };
        let filter = Self::from_members(&mut wanted, me, sees_all);
        message.absorb(wanted);
        let faults = message.finish();
        if faults.is_empty() { Ok(filter) } else { Err(faults) }
    }

    /// Reads the members of a document; faults are recorded there.
    pub fn from_members(wanted: &mut Object<'_>, me: &PrincipalId, sees_all: bool) -> Self {
        let types = wanted.strings("types", MAX_TYPES, 64).unwrap_or_default();
        if !types.iter().all(|pattern| valid_pattern(pattern)) {
            wanted.fault("types", "must be event types such as context.completed or context.*");
        }
        // What this reads can always be parsed: without an owner, a filter would let more through.
        let owner = wanted.string("owner", 1..=PrincipalId::MAX_BYTES).filter(|owner| owner != "*");
        let owner = owner.and_then(|owner| if owner == "me" { Some(me.clone()) } else { PrincipalId::parse(&owner) });
        let subject = wanted.string("subject", 1..=MAX_NAME_BYTES);
        let service = wanted.string("service", 1..=MAX_NAME_BYTES);
        Self { types, subject, service, owner }.narrowed(me, sees_all)
    }

    fn bounded(&self, faults: &mut Vec<Fault>) {
        for (name, value) in [("subject", &self.subject), ("service", &self.service)] {
            if value.as_ref().is_some_and(|value| value.len() > MAX_NAME_BYTES) {
                faults.push(too_long(&format!("?{name}"), MAX_NAME_BYTES));
            }
        }
    }

    /// A caller without `sees_all` receives its own contexts, whatever it asked for.
    fn narrowed(self, me: &PrincipalId, sees_all: bool) -> Self {
        if sees_all { self } else { Self { owner: Some(me.clone()), ..self } }
    }

    /// Whether a subscriber receives an event. Events without an owner (services, keys) are not restricted by `owner`.
    pub fn matches(&self, bundle: &Bundle, item: &Item) -> bool {
        let event_type = item.kind.event_type();
        if event_type == EventType::Unknown {
            return false;
        }
        let event_type = event_type.as_str();
        (self.types.is_empty() || self.types.iter().any(|pattern| type_matches(pattern, event_type)))
            && self.subject.as_ref().is_none_or(|subject| *subject == bundle.subject)
            && self.service.as_ref().is_none_or(|service| {
                bundle.service.as_ref().is_some_and(|of| of.as_str() == service)
                    || (bundle.service.is_none() && bundle.subject == *service)
            })
            && self.owner.as_ref().is_none_or(|owner| match &bundle.owner {
                Some(of) => of == owner,
                None => event_type.starts_with("service."),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::EventKind;
    use super::*;
    use crate::base::time::Timestamp;
    use crate::context::status::Status;

    fn me() -> PrincipalId {
        PrincipalId::of_key("me")
    }

    fn bundle(owner: Option<&str>) -> Bundle {
        Bundle {
            subject: "ctx_1".into(),
            owner: owner.and_then(PrincipalId::parse),
            owner_name: None,
            replay_of: None,
            capability: None,
            service: Some("llm".into()),
            trace: None,
            role: None,
            model: None,
            previous_number: None,
            items: vec![Item { number: 1, at: Timestamp(0), kind: EventKind::Status(Status::Queued) }],
        }
    }

    fn query(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_string())
    }

    fn sees(pairs: &'static [(&'static str, &'static str)], all: bool, owner: &str) -> bool {
        let bundle = bundle(Some(owner));
        Filter::from_query(query(pairs), &me(), all).unwrap().matches(&bundle, &bundle.items[0])
    }

    #[test]
    fn all_that_is_set_must_hold() {
        assert!(sees(&[], true, "key:other"));
        assert!(sees(&[("types", "context.*, key.created")], true, "key:other"));
        assert!(!sees(&[("types", "context.completed")], true, "key:other"));
        assert!(sees(&[("subject", "ctx_1"), ("service", "llm")], true, "key:other"));
        assert!(!sees(&[("subject", "ctx_2")], true, "key:other"));
        assert!(!sees(&[("owner", "me")], true, "key:other"));
    }

    #[test]
    fn no_subscriber_receives_an_event_of_a_later_version() {
        let raw = serde_json::value::RawValue::from_string(r#"{"priced":1}"#.into()).unwrap();
        let item = Item { number: 1, at: Timestamp(0), kind: EventKind::Unknown(raw) };
        assert!(!Filter::default().matches(&bundle(None), &item));
        assert!(Filter::default().matches(&bundle(None), &bundle(None).items[0]));
    }

    #[test]
    fn without_sees_all_only_own_contexts_match() {
        assert!(!sees(&[("owner", "*")], false, "key:other"));
        assert!(!sees(&[("owner", "key:other")], false, "key:other"));
        assert!(sees(&[("owner", "key:other")], false, "key:me"));
        let message = r#"{"subscribe":{"owner":"*"}}"#;
        assert_eq!(Filter::from_message(message, &me(), false).unwrap().owner, Some(me()));
    }

    /// Without its owner, the filter would let through the events of all principals.
    #[test]
    fn an_owner_is_kept_or_rejected_however_long_it_is() {
        let longest = "ä".repeat(PrincipalId::MAX_BYTES);
        let message = format!(r#"{{"subscribe":{{"owner":"{longest}"}}}}"#);
        let filter = Filter::from_message(&message, &me(), true).unwrap();
        assert_eq!(filter.owner.as_ref().map(PrincipalId::as_str), Some(longest.as_str()));
        let named = |name: &str| (name == "owner").then(|| longest.clone());
        assert_eq!(Filter::from_query(named, &me(), true).unwrap_err()[0].pointer, "?owner");
        let message = message.replace("ä\"", "ää\"");
        assert!(Filter::from_message(&message, &me(), true).is_err());
    }

    #[test]
    fn an_invalid_message_has_faults() {
        for bad in ["[]", "{}", r#"{"subscribe":{"types":["A"]}}"#, r#"{"subscribe":{"x":1}}"#, r#"{"unsubscribe":{}}"#]
        {
            assert!(!Filter::from_message(bad, &me(), true).unwrap_err().is_empty(), "{bad}");
        }
    }
}
