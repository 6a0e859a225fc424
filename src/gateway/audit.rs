//! `/v1/audit`: changes to the configuration with their actors, and rejected credentials.

use serde_json::value::RawValue;

use crate::objects::registry::messages::{AuditEntries, AuditQuery};
use narthex_core::base::json::Fault;
use narthex_core::http::page_cursor;
use narthex_core::http::problem::Problem;

use super::answer::Answer;
use super::call::{Call, Caller};
use super::lists::{bad_cursor, limit, page, time};
use super::registry_client::ask_registry;

const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 200;

/// Longer than any action; the database accepts patterns of at most 50 characters.
const LONGEST_ACTION: usize = 40;

/// `key.revoked`, `key.*` or `*`.
fn is_action(text: &str) -> bool {
    let named = text.strip_suffix('*').unwrap_or(text);
    text.len() <= LONGEST_ACTION && named.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'_' | b'-'))
}

fn query(call: &Call) -> Result<AuditQuery, Problem> {
    let mut faults = Vec::new();
    let (after, before) = (time(call, "after", &mut faults), time(call, "before", &mut faults));
    let action = call.query("action");
    if action.as_deref().is_some_and(|action| !is_action(action)) {
        faults.push(Fault::new("?action", "must be an action such as key.revoked, or a prefix such as key.*"));
    }
    let limit = limit(call, DEFAULT_LIMIT, MAX_LIMIT);
    if limit.is_none() {
        faults.push(Fault::new("?limit", format!("must be an integer from 1 to {MAX_LIMIT}")));
    }
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    let (actor, object) = (call.query("actor"), call.query("object"));
    Ok(AuditQuery { actor, action, object, after, before, below: None, limit: limit.unwrap_or(DEFAULT_LIMIT) })
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    call.only_query(&["actor", "action", "object", "after", "before", "limit", "cursor"])?;
    let mut query = query(call)?;
    // A cursor belongs to its filters; the length of its pages may change.
    let filters = AuditQuery { limit: DEFAULT_LIMIT, ..query.clone() };
    let digest = format!("audit {} {}", caller.principal.tenant, serde_json::to_string(&filters).unwrap_or_default());
    let key = &caller.snapshot.cursor_key;
    if let Some(text) = call.query("cursor") {
        let below = page_cursor::read(key, &text, &digest).and_then(|number| number.parse().ok());
        query.below = Some(below.ok_or_else(bad_cursor)?);
    }
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    query.limit += 1;
    let AuditEntries::Audit { mut entries } = ask_registry(caller, &query).await?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().filter(|_| more).map(|(number, _)| page_cursor::write(key, &number.to_string(), &digest));
    let data: Vec<&RawValue> = entries.iter().map(|(_, entry)| entry.as_ref()).collect();
    page(call, &data, next)
}
