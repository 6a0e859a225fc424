//! Documents: what a tenant configures under an id, with a version that is its entity tag.
//!
//! `GET` of a list and of one, `PUT` and `DELETE` are the same for every kind, and are here. What differs is in a file
//! per kind, as an implementation of [`Document`].

pub(super) mod clients;
pub(super) mod issuers;
pub(super) mod limits;
pub(super) mod model_routes;
pub(super) mod roles;
pub(super) mod schedules;
pub(super) mod tenants;
pub(super) mod webhooks;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::to_raw_value;

use crate::objects::protocol::Done;
use crate::objects::registry::messages::{
    DeleteDocument, DocumentKind, DocumentReply, PutDocument, StoredDocument, WriteRefusal, WrittenDocument,
};
use crate::objects::registry::snapshot::Snapshot;
use crate::objects::reply::Reply;
use narthex_core::http::problem::Problem;

use super::answer::Answer;
use super::call::{Call, Caller};
use super::lists::page;
use super::registry_client::{self, ask_registry};
use super::services::{check_id, unchanged};

pub use clients::new_secret;
pub use roles::may_grant;
pub use webhooks::{notify_hub, rotated};

/// What a caller wants to do with documents of a kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    List,
    Get,
    Put,
    Delete,
}

/// A kind of document. Permissions are in the table of routes.
pub trait Document: Serialize + DeserializeOwned {
    const KIND: DocumentKind;
    /// Whether a client that has the current version of one gets a 304.
    const REVALIDATES: bool = false;

    /// What responses show in addition: secrets that were just made, and what other objects know.
    type Extras: Default;
    type View<'a>: Serialize;

    fn view<'a>(
        caller: &Caller,
        stored: &'a StoredDocument,
        document: &'a Self,
        extras: &'a Self::Extras,
    ) -> Self::View<'a>;

    /// Documents that come with the gateway: all of them, or the one of this id.
    fn built_in<'a>(_id: Option<&str>) -> Vec<Self::View<'a>> {
        Vec::new()
    }

    /// Refuses an operation before anything is read, whatever the id.
    fn allow(_caller: &Caller, _operation: Operation) -> Result<(), Problem> {
        Ok(())
    }

    fn check_id(id: &str) -> Result<(), Problem> {
        check_id(id)
    }

    /// What a list shows in addition, or the document of this id.
    async fn extras(_caller: &Caller, _id: Option<&str>) -> Result<Self::Extras, Problem> {
        Ok(Self::Extras::default())
    }

    /// Reads the body of a `PUT`, and refuses what the caller may not write.
    async fn accept(call: &Call, caller: &Caller, id: &str, body: &str) -> Result<(Self, Self::Extras), Problem>;

    /// What a `PUT` was refused with.
    fn refusal(refusal: WriteRefusal) -> Problem {
        registry_client::refusal(refusal, Self::KIND.as_str())
    }

    /// Follows a `PUT`, before its response.
    async fn written(
        _caller: &Caller,
        _record: &StoredDocument,
        _document: &Self,
        _created: bool,
        extras: Self::Extras,
    ) -> Result<Self::Extras, Problem> {
        Ok(extras)
    }

    /// Refuses a `DELETE` that the caller may not make.
    async fn may_delete(_call: &Call, _caller: &Caller, _id: &str) -> Result<(), Problem> {
        Ok(())
    }

    /// Follows a `DELETE`, before its response.
    async fn deleted(_caller: &Caller, _id: &str) -> Result<(), Problem> {
        Ok(())
    }
}

/// What a path cannot hold as it is (RFC 3986 §3.3). A slash of a name stays one.
const IN_PATHS: &AsciiSet = &CONTROLS
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

pub fn etag(stored: &StoredDocument) -> String {
    format!("\"{}\"", stored.version)
}

/// The documents of a kind.
pub fn all<D: Document>(snapshot: &Snapshot) -> impl Iterator<Item = (&StoredDocument, D)> {
    snapshot.documents(D::KIND).filter_map(read)
}

/// The document of this id.
pub fn find<'s, D: Document>(snapshot: &'s Snapshot, id: &str) -> Option<(&'s StoredDocument, D)> {
    snapshot.documents(D::KIND).find(|stored| stored.id == id).and_then(read)
}

/// As [`find`], for requests about that document.
pub fn known<'s, D: Document>(snapshot: &'s Snapshot, id: &str) -> Result<(&'s StoredDocument, D), Problem> {
    let kind = D::KIND.as_str();
    find(snapshot, id).ok_or_else(|| match snapshot.rules.is_unreadable(kind, id) {
        true => Problem::later_version(&format!("The {kind} {id}")),
        false => Problem::not_found(kind),
    })
}

fn read<D: Document>(stored: &StoredDocument) -> Option<(&StoredDocument, D)> {
    Some((stored, serde_json::from_str(stored.document.get()).ok()?))
}

pub async fn list<D: Document>(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    D::allow(caller, Operation::List)?;
    call.only_query(&[])?;
    let extras = D::extras(caller, None).await?;
    let documents: Vec<(&StoredDocument, D)> = all(&caller.snapshot).collect();
    let mut views = D::built_in(None);
    views.extend(documents.iter().map(|(stored, document)| D::view(caller, stored, document, &extras)));
    page(call, &views, None)
}

pub async fn get<D: Document>(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    D::allow(caller, Operation::Get)?;
    if let Some(view) = D::built_in(Some(id)).first() {
        return Answer::json(200, view);
    }
    let (stored, document) = known::<D>(&caller.snapshot, id)?;
    let tag = etag(stored);
    if D::REVALIDATES && unchanged(call, &tag) {
        return Ok(Answer::empty(304).with("etag", &tag));
    }
    let extras = D::extras(caller, Some(id)).await?;
    Ok(Answer::json(200, &D::view(caller, stored, &document, &extras))?.with("etag", &tag))
}

pub async fn put<D: Document>(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    D::allow(caller, Operation::Put)?;
    D::check_id(id)?;
    let condition = call.condition()?;
    check_unreadable(caller, D::KIND, id)?;
    let body = call.json_text().await?;
    let (document, extras) = D::accept(call, caller, id, &body).await?;
    let raw = to_raw_value(&document).map_err(|error| Problem::internal(error.to_string()))?;
    let put = PutDocument { kind: D::KIND, id: id.into(), document: raw, condition };
    let Reply(outcome) = ask_registry(caller, &put).await?;
    let DocumentReply::Document(WrittenDocument { stored, created }) = outcome.map_err(D::refusal)?;
    let extras = D::written(caller, &stored, &document, created, extras).await?;
    let view = D::view(caller, &stored, &document, &extras);
    let answer = Answer::json(if created { 201 } else { 200 }, &view)?.with("etag", &etag(&stored));
    let location = || format!("/v1/{}s/{}", D::KIND.as_str(), utf8_percent_encode(id, IN_PATHS));
    Ok(if created { answer.with("location", &location()) } else { answer })
}

/// Replacing or deleting a document that grants something takes that from others. What one of a later version grants is
/// unknown.
fn check_unreadable(caller: &Caller, kind: DocumentKind, id: &str) -> Result<(), Problem> {
    let grants = matches!(kind, DocumentKind::Role | DocumentKind::Issuer | DocumentKind::Client);
    match grants && caller.snapshot.rules.is_unreadable(kind.as_str(), id) {
        true => caller.principal.require("*"),
        false => Ok(()),
    }
}

pub async fn delete<D: Document>(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    D::allow(caller, Operation::Delete)?;
    check_unreadable(caller, D::KIND, id)?;
    D::may_delete(call, caller, id).await?;
    let delete = DeleteDocument { kind: D::KIND, id: id.into(), condition: call.condition()? };
    let Done::Done = registry_client::write(caller, &delete, D::KIND.as_str()).await?;
    D::deleted(caller, id).await?;
    Ok(Answer::empty(204))
}
