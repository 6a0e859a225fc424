//! `/v1/capabilities`: the capabilities that the caller may call.

use std::collections::BTreeMap;

use semver::Version;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::objects::registry::snapshot::{Entry, ServiceDocument};
use narthex_core::base::service_id::ServiceId;
use narthex_core::execution::known_service::KnownService;
use narthex_core::http::problem::Problem;
use narthex_core::lane::observed::HealthStatus;
use narthex_core::services::capability::Capability;
use narthex_core::services::routing::Routable;
use narthex_core::services::schema::Formats;

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::lists::{ListedItems, Listing, bad_cursor, page};

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Offer<'a> {
    service: &'a ServiceId,
    #[cfg_attr(test, schemars(with = "narthex_core::services::ServiceStatus"))]
    status: &'a str,
    tier: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CapabilityView<'a> {
    name: &'a str,
    version: String,
    description: &'a str,
    input_schema: Option<&'a RawValue>,
    output_schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Formats::is_annotate")]
    #[cfg_attr(test, schemars(extend("enum" = ["assert"])))]
    format: Formats,
    idempotent: bool,
    durable: bool,
    timeout_seconds: u64,
    /// Whether a service would run a context now.
    available: bool,
    services: Vec<Offer<'a>>,
}

fn shown<'v>(capability: &'v Capability, entries: &[&'v Entry]) -> CapabilityView<'v> {
    let is_available = |entry: &&Entry| {
        let condition = entry.condition();
        !entry.service().draining && condition.health != HealthStatus::Offline && !condition.is_open()
    };
    let offer = |entry: &&'v Entry| {
        let service = entry.service();
        Offer { service: &service.id, status: service.status(&entry.measured()), tier: service.tier }
    };
    CapabilityView {
        name: &capability.name,
        version: capability.version.to_string(),
        description: &capability.description,
        input_schema: capability.input_schema.as_deref(),
        output_schema: capability.output_schema.as_deref(),
        format: capability.format,
        idempotent: capability.idempotent,
        durable: capability.durable,
        timeout_seconds: capability.timeout_seconds,
        available: entries.iter().any(is_available),
        services: entries.iter().map(offer).collect(),
    }
}

/// A capability in one version, and the services that offer it.
type Offers<'s> = BTreeMap<(&'s str, &'s Version), Vec<&'s Entry>>;

/// What the caller may call of what these services offer.
fn offers<'s>(caller: &'s Caller, name: Option<&str>, of: Option<&str>) -> Offers<'s> {
    let mut found = Offers::new();
    for entry in &caller.snapshot.services {
        let service = entry.service();
        if of.is_some_and(|id| id != service.id.as_str()) {
            continue;
        }
        for capability in &service.capabilities {
            let wanted = name.is_none_or(|name| name == capability.name);
            if wanted && caller.principal.may_call(&service.id, &capability.name, &capability.permissions) {
                found.entry((&capability.name, &capability.version)).or_default().push(entry);
            }
        }
    }
    found
}

fn sort_key((name, version): (&str, &Version)) -> String {
    format!("{name} {version}")
}

/// Reads a sort key again.
fn last(text: &str) -> Option<(&str, Version)> {
    let (name, version) = text.split_once(' ')?;
    Some((name, Version::parse(version).ok()?))
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    let listing = Listing::read(call, caller, "capabilities", &["name", "service"])?;
    let (name, of) = (call.query("name"), call.query("service"));
    let after = match listing.after.as_deref() {
        Some(text) => Some(last(text).ok_or_else(bad_cursor)?),
        None => None,
    };
    let found = offers(caller, name.as_deref(), of.as_deref());
    let is_left = |key: &(&str, &Version)| after.as_ref().is_none_or(|(name, version)| *key > (name, version));
    let left = found.iter().filter(|(key, _)| is_left(key)).take(listing.limit.saturating_add(1));
    let mut offered: Vec<Offered<'_>> = left.map(|(key, entries)| (*key, &**entries)).collect();
    let more = offered.len() > listing.limit;
    offered.truncate(listing.limit);
    let (data, covered) = described(caller, &offered).await?;
    let last = offered.get(covered.saturating_sub(1)).filter(|_| more || covered < offered.len());
    page(call, &data, last.map(|(key, _)| listing.cursor(caller, &sort_key(*key))))
}

/// A capability in one version, and the services that offer it.
type Offered<'s> = ((&'s str, &'s Version), &'s [&'s Entry]);

/// The views of these capabilities as far as they fit into one page, and how many of them that covers. What no service
/// offers any longer has none.
async fn described(caller: &Caller, offered: &[Offered<'_>]) -> Result<(Vec<Box<RawValue>>, usize), Problem> {
    let mut listed = ListedItems::default();
    // Each document is read once, and the first service that offers a capability describes it.
    let mut of_service: BTreeMap<&ServiceId, (&Entry, Vec<usize>)> = BTreeMap::new();
    for (index, (_, entries)) in offered.iter().enumerate() {
        let Some(first) = entries.first() else { continue };
        of_service.entry(&first.service().id).or_insert_with(|| (*first, Vec::new())).1.push(index);
    }
    let mut waiting: Vec<(&Entry, Vec<usize>)> = of_service.into_values().collect();
    while !waiting.is_empty() {
        waiting.retain(|(_, indices)| indices.iter().any(|index| listed.may_have(*index)));
        let entries: Vec<&Entry> = waiting.iter().map(|(entry, _)| *entry).collect();
        let (documents, covered) = caller.snapshot.first_documents(&entries).await.map_err(internal)?;
        let mut documents = documents.into_iter().peekable();
        for (entry, indices) in waiting.drain(..covered.min(entries.len())) {
            let Some(document) = documents.next_if(|document| document.service().id == entry.service().id) else {
                continue;
            };
            for index in indices {
                describe(&mut listed, offered, index, &document)?;
            }
        }
    }
    // A service may have changed in the meantime; then another one describes what it offered.
    for (index, (_, entries)) in offered.iter().enumerate() {
        for entry in entries.iter().skip(1) {
            if listed.has(index) || !listed.may_have(index) {
                break;
            }
            let (documents, _) = caller.snapshot.first_documents(&[entry]).await.map_err(internal)?;
            if let Some(document) = documents.first() {
                describe(&mut listed, offered, index, document)?;
            }
        }
    }
    Ok(listed.finish(offered.len()))
}

fn describe(
    listed: &mut ListedItems,
    offered: &[Offered<'_>],
    index: usize,
    document: &ServiceDocument,
) -> Result<(), Problem> {
    let Some(((name, version), entries)) = offered.get(index) else { return Ok(()) };
    let at = document.position(name, version);
    match at.and_then(|at| document.service().capabilities.get(at)) {
        Some(capability) => listed.add(index, &shown(capability, entries)),
        None => Ok(()),
    }
}
