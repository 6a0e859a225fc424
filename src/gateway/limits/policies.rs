//! `/v1/limits`: rate-limit policies and whom they bind.

use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::objects::registry::messages::{Ask, DocumentKind, Reply, StoredDocument};
use narthex_core::base::time::{Timestamp, as_text};
use narthex_core::http::problem::Problem;
use narthex_core::limits::policy::{self, Limit};

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::super::lists::page;
use super::super::roles::etag;
use super::super::services::{ask_registry, checked_id, refusal};

#[derive(Serialize)]
struct LimitView<'a> {
    name: &'a str,
    #[serde(flatten)]
    limit: Limit,
    #[serde(serialize_with = "as_text")]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    updated_at: Timestamp,
}

fn view(stored: &StoredDocument) -> Result<LimitView<'_>, Problem> {
    let limit = serde_json::from_str(stored.document.get()).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(LimitView { name: &stored.id, limit, created_at: stored.created_at, updated_at: stored.updated_at })
}

pub async fn put(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let id = checked_id(name)?;
    let condition = call.condition()?;
    let body = call.json_body().await?;
    let limit = policy::read(std::str::from_utf8(&body).unwrap_or_default()).map_err(Problem::invalid)?;
    let document = to_raw_value(&limit).map_err(|error| Problem::internal(error.to_string()))?;
    match ask_registry(caller, Ask::Put { kind: DocumentKind::Limit, id, document, condition }).await? {
        Reply::Document { stored, created } => {
            let answer = Answer::json(if created { 201 } else { 200 }, &view(&stored)?)?.with("etag", &etag(&stored));
            Ok(if created { answer.with("location", &format!("/v1/limits/{name}")) } else { answer })
        }
        other => Err(refusal(other, "limit")),
    }
}

pub async fn delete(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let ask = Ask::Delete { kind: DocumentKind::Limit, id: name.into(), condition: call.condition()? };
    match ask_registry(caller, ask).await? {
        Reply::Done => Ok(Answer::empty(204)),
        other => Err(refusal(other, "limit")),
    }
}

pub async fn get(caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let stored = caller.snapshot.documents(DocumentKind::Limit).find(|stored| stored.id == name);
    let stored = stored.ok_or_else(|| Problem::not_found("limit"))?;
    Ok(Answer::json(200, &view(stored)?)?.with("etag", &etag(stored)))
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    call.only_query(&[])?;
    let data = caller.snapshot.documents(DocumentKind::Limit).map(view).collect::<Result<Vec<_>, _>>()?;
    page(call, &data, None)
}
