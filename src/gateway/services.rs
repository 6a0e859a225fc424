//! `/v1/services`: the registry of services.

use serde_json::value::RawValue;

use crate::objects::protocol::Done;
use crate::objects::registry::messages::{DeleteService, PatchService, PutService, RotateSecret, ServiceReply};
use crate::objects::registry::snapshot::Entry;
use crate::platform::{secret_box, tasks};
use crate::transport;
use narthex_core::base::json::Fault;
use narthex_core::base::names::valid_id;
use narthex_core::execution::known_service::KnownService;
use narthex_core::http::etag;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::services::{self, ServiceKind};

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::lists::{ListedItems, Listing, page};
use super::registry_client::{self, document, service_id};
use super::service_view::{etag, view, written};
use super::tools;

const STATUSES: [&str; 5] = ["online", "degraded", "offline", "draining", "unknown"];
/// How long an old signing secret remains valid by default, and at most, in seconds.
pub const DEFAULT_OVERLAP: u64 = 86_400;
pub const MAX_OVERLAP: u64 = 30 * 86_400;

pub fn check_id(id: &str) -> Result<(), Problem> {
    if valid_id(id) {
        return Ok(());
    }
    let detail = "must be 1 to 64 lower-case letters, digits, - or _, beginning with a letter or digit";
    Err(Problem::invalid(vec![Fault::new("#/id", detail)]))
}

/// Secrets are stored encrypted or not at all.
pub fn require_key() -> Result<(), Problem> {
    if secret_box::newest().is_some() {
        return Ok(());
    }
    Err(Problem::new(
        Code::NotConfigured,
        "No KEK_1 is set to encrypt secrets with: 32 bytes in base64. Set it with: openssl rand -base64 32 | npx wrangler secret put KEK_1",
    ))
}

pub async fn put(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    require_key()?;
    check_id(id)?;
    let condition = call.condition()?;
    let document = call.json_text().await?;
    let put = PutService { id: service_id(caller, id)?, document, condition, rules: call.write_rules() };
    let ServiceReply::Service(service) = registry_client::write(caller, &put, "service").await?;
    written(&tools::after_write(caller, service).await?)
}

pub async fn patch(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    require_key()?;
    let condition = call.condition()?;
    let patch = call.merge_patch().await?;
    let patch = PatchService { id: service_id(caller, id)?, patch, condition, rules: call.write_rules() };
    let ServiceReply::Service(service) = registry_client::write(caller, &patch, "service").await?;
    written(&tools::after_write(caller, service).await?)
}

/// Another signing secret. For a while the old one signs too, so that there is time to give the new one to the service.
pub async fn rotate_secret(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    require_key()?;
    let (overlap_seconds, signing_secret) = call
        .read_optional_body(|body| {
            let overlap_seconds = body.integer("overlap_seconds", 0..=MAX_OVERLAP).unwrap_or(DEFAULT_OVERLAP);
            (overlap_seconds, services::read_signing_secret(body))
        })
        .await?;
    let rotate = RotateSecret { id: service_id(caller, id)?, overlap_seconds, signing_secret };
    let ServiceReply::Service(service) = registry_client::write(caller, &rotate, "service").await?;
    written(&service)
}

pub async fn delete(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    let (condition, id) = (call.condition()?, service_id(caller, id)?);
    let delete = DeleteService { id: id.clone(), condition };
    let Done::Done = registry_client::write(caller, &delete, "service").await?;
    let tenant = caller.principal.tenant.clone();
    tasks::keep_running(async move { transport::mcp::close_service(&tenant, &id).await });
    Ok(Answer::empty(204))
}

pub async fn get(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    let entry = caller.snapshot.service(id).ok_or_else(|| Problem::not_found("service"))?;
    let (document, measured) = (document(entry).await?, entry.measured());
    let tag = etag(&document.registered, &measured);
    if unchanged(call, &tag) {
        return Ok(Answer::empty(304).with("etag", &tag));
    }
    Ok(Answer::json(200, &view(&document.registered, &measured))?.with("etag", &tag))
}

/// Whether the client has the version of this entity tag (RFC 9110 §13.1.2).
pub fn unchanged(call: &Call, tag: &str) -> bool {
    call.request.header("if-none-match").is_some_and(|known| etag::has(known, tag))
}

const FILTERS: [&str; 4] = ["type", "capability", "status", "tag"];

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    let listing = Listing::read(call, caller, "services", &FILTERS)?;
    let kind = call.query("type").map(|text| ServiceKind::parse(&text));
    if kind == Some(None) {
        let detail = "must be llm, tool, database, external_api, file_storage or custom";
        return Err(Problem::invalid(vec![Fault::new("?type", detail)]));
    }
    let (capability, status, tag) = (call.query("capability"), call.query("status"), call.query("tag"));
    if status.as_deref().is_some_and(|status| !STATUSES.contains(&status)) {
        let detail = "must be online, degraded, offline, draining or unknown";
        return Err(Problem::invalid(vec![Fault::new("?status", detail)]));
    }
    let matching = |entry: &&Entry| {
        let service = entry.service();
        listing.after.as_ref().is_none_or(|last| service.id.as_str() > last.as_str())
            && kind.flatten().is_none_or(|kind| kind == service.kind)
            && capability.as_ref().is_none_or(|name| service.capabilities.iter().any(|offer| offer.name == *name))
            && status.as_ref().is_none_or(|status| status == service.status(&entry.measured()))
            && tag.as_ref().is_none_or(|tag| service.tags.contains(tag))
    };
    let mut entries: Vec<&Entry> =
        caller.snapshot.services.iter().filter(matching).take(listing.limit.saturating_add(1)).collect();
    let more = entries.len() > listing.limit;
    entries.truncate(listing.limit);
    let (data, covered) = shown(caller, &entries).await?;
    let last = entries.get(covered.saturating_sub(1)).filter(|_| more || covered < entries.len());
    page(call, &data, last.map(|last| listing.cursor(caller, last.service().id.as_str())))
}

/// The views of these services as far as they fit into one page, and how many services that covers. Those that were
/// deleted in the meantime have none.
async fn shown(caller: &Caller, entries: &[&Entry]) -> Result<(Vec<Box<RawValue>>, usize), Problem> {
    let (mut listed, mut at) = (ListedItems::default(), 0);
    while let Some(rest) = entries.get(at..).filter(|rest| !rest.is_empty() && listed.may_have(at)) {
        let (documents, covered) = caller.snapshot.first_documents(rest).await.map_err(internal)?;
        let mut documents = documents.into_iter().peekable();
        for (index, entry) in rest.iter().take(covered).enumerate() {
            if let Some(document) = documents.next_if(|document| document.service().id == entry.service().id) {
                listed.add(at + index, &view(&document.registered, &entry.measured()))?;
            }
        }
        at += covered;
    }
    Ok(listed.finish(entries.len()))
}
