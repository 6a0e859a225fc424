//! `GET /v1/registry`: how much storage the documents of a tenant use.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::objects::registry::messages::{DocumentSize, ReadSize, SizeReply};
use crate::objects::registry::snapshot;
use narthex_core::access::oauth::registrations::MAX_REGISTRATIONS;
use narthex_core::base::order;
use narthex_core::http::problem::Problem;
use narthex_core::registry::revision::Revision;
use narthex_core::registry::size::{KindSize, MAX_BYTES, MAX_DOCUMENT_BYTES, MAX_INDEX_BYTES, MAX_REGISTRATION_BYTES};

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::registry_client::ask_registry;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Registrations {
    count: u64,
    limit: usize,
    bytes: u64,
    limit_bytes: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SizedDocument<'a> {
    /// The path below `/v1`.
    object: String,
    bytes: &'a u64,
}

/// Unreadable documents that are named.
const MAX_UNREADABLE: usize = 1_000;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct View<'a> {
    revision: Revision,
    bytes: u64,
    limit_bytes: u64,
    /// The part that each isolate keeps: outlines of services, and all other documents.
    index_bytes: u64,
    index_limit_bytes: u64,
    document_limit_bytes: u64,
    documents: BTreeMap<String, KindSize>,
    registrations: Registrations,
    largest: Vec<SizedDocument<'a>>,
    /// Documents that the snapshot has no room for, so that requests do not see them.
    left_out: Vec<SizedDocument<'a>>,
    /// Documents of a later version, as paths below `/v1`.
    unreadable: Vec<String>,
}

/// As the audit log names objects.
fn plural(kind: &str) -> String {
    format!("{kind}s")
}

fn shown(weighed: &DocumentSize) -> SizedDocument<'_> {
    SizedDocument { object: format!("{}/{}", plural(&weighed.kind), weighed.id), bytes: &weighed.bytes }
}

pub async fn get(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    call.only_query(&[])?;
    let SizeReply::Size(size) = ask_registry(caller, &ReadSize).await?;
    let view = View {
        revision: caller.snapshot.revision,
        bytes: size.bytes,
        limit_bytes: MAX_BYTES,
        index_bytes: size.index_bytes,
        index_limit_bytes: MAX_INDEX_BYTES,
        document_limit_bytes: MAX_DOCUMENT_BYTES,
        documents: order::insert_all(size.kinds.iter().map(|(kind, held)| (plural(kind), *held))),
        registrations: Registrations {
            count: size.registrations.count,
            limit: MAX_REGISTRATIONS,
            bytes: size.registrations.bytes,
            limit_bytes: MAX_REGISTRATION_BYTES,
        },
        largest: size.largest.iter().map(shown).collect(),
        left_out: caller.snapshot.left_out.iter().map(shown).collect(),
        unreadable: caller.snapshot.unreadable().take(MAX_UNREADABLE).collect(),
    };
    Answer::json(200, &view)
}

/// Completes the caller's snapshot with the documents that it had no room for.
pub async fn complete(caller: &mut Caller) -> Result<(), Problem> {
    if !caller.snapshot.left_out.is_empty() {
        caller.snapshot = snapshot::complete(&caller.principal.tenant, &caller.snapshot).await.map_err(internal)?;
    }
    Ok(())
}
