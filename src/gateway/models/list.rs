//! The models that a caller may use, in the shapes of both formats.

use serde::Serialize;

use crate::objects::registry::snapshot::Snapshot;
use narthex_core::base::json::Fault;
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::endpoint::Format;
use narthex_core::registry::messages::DocumentKind;
use narthex_core::services::model_routing::{self, ListedModel};

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::{refusal, selection};

/// The default and the maximum size of a page in Anthropic's shape.
const PAGE: usize = 20;
const MAX_PAGE: usize = 1_000;

/// A model in OpenAI's shape.
#[derive(Serialize)]
struct OpenAiModel<'a> {
    id: &'a str,
    object: &'static str,
    /// In seconds since 1970.
    created: u64,
    /// The service, or `narthex` for a route.
    owned_by: &'a str,
}

#[derive(Serialize)]
struct OpenAiList<'a> {
    object: &'static str,
    data: Vec<OpenAiModel<'a>>,
}

/// A model in Anthropic's shape.
#[derive(Serialize)]
struct AnthropicModel<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: String,
}

#[derive(Serialize)]
struct AnthropicList<'a> {
    data: Vec<AnthropicModel<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

fn format(call: &Call) -> Format {
    refusal::format(call).unwrap_or(Format::OpenAi)
}

/// All that the caller may use.
fn all(caller: &Caller) -> Vec<ListedModel> {
    let services: Vec<_> = caller.snapshot.services.iter().collect();
    let may_use = |name: &str| selection::may_use(&caller.principal, name);
    let may_call = |offer: &_| selection::may_call(&caller.principal, offer);
    model_routing::list(&caller.snapshot.rules.model_routes, &services, &may_use, &may_call)
}

/// When a model came, and whose it is.
fn origin<'s>(snapshot: &'s Snapshot, model: &ListedModel) -> (Timestamp, &'s str) {
    let route = || snapshot.documents(DocumentKind::ModelRoute).find(|stored| stored.id == model.name);
    if let Some(stored) = route().filter(|_| model.is_route) {
        return (stored.created_at, "narthex");
    }
    let entry = model.services.first().and_then(|at| snapshot.services.get(*at));
    entry.map_or((Timestamp::default(), ""), |entry| (entry.outline.created_at, entry.service().id.as_str()))
}

fn openai<'a>(snapshot: &'a Snapshot, model: &'a ListedModel) -> OpenAiModel<'a> {
    let (created, owned_by) = origin(snapshot, model);
    OpenAiModel { id: &model.name, object: "model", created: created.seconds(), owned_by }
}

fn anthropic<'a>(snapshot: &'a Snapshot, model: &'a ListedModel) -> AnthropicModel<'a> {
    let (created, _) = origin(snapshot, model);
    AnthropicModel { r#type: "model", id: &model.name, display_name: &model.name, created_at: created.text() }
}

/// `GET /v1/models`.
pub fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    let models = all(caller);
    let snapshot = &caller.snapshot;
    match format(call) {
        Format::OpenAi => {
            let data = models.iter().map(|model| openai(snapshot, model)).collect();
            Answer::json(200, &OpenAiList { object: "list", data })
        }
        Format::Anthropic => {
            let (page, has_more) = page(call, &models)?;
            let (first_id, last_id) =
                (page.first().map(|one| one.name.as_str()), page.last().map(|one| one.name.as_str()));
            let data = page.into_iter().map(|model| anthropic(snapshot, model)).collect();
            let answer = Answer::json(200, &AnthropicList { data, has_more, first_id, last_id })?;
            Ok(answer.with("request-id", &call.request_id))
        }
    }
}

/// A page, and whether more follow in its direction.
fn page<'m>(call: &Call, models: &'m [ListedModel]) -> Result<(Vec<&'m ListedModel>, bool), Problem> {
    let limit = match call.query("limit") {
        None => PAGE,
        Some(text) => text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(|| {
            let errors = vec![Fault::new("?limit", format!("must be from 1 to {MAX_PAGE}"))];
            let detail = format!("limit must be from 1 to {MAX_PAGE}.");
            Problem { errors, ..Problem::new(Code::InvalidRequest, detail) }
        })?,
    };
    // Names are sorted; one that is gone in the meantime still marks its place.
    if let Some(before) = call.query("before_id") {
        let until = models.partition_point(|model| model.name < before);
        let from = until.saturating_sub(limit);
        return Ok((models.iter().take(until).skip(from).collect(), from > 0));
    }
    let after = call.query("after_id");
    let from = after.map_or(0, |after| models.partition_point(|model| model.name <= after));
    let page: Vec<_> = models.iter().skip(from).take(limit).collect();
    Ok((page, from + limit < models.len()))
}

/// `GET /v1/models/{id}`.
pub fn get(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let name = super::decoded(name);
    let services: Vec<_> = caller.snapshot.services.iter().collect();
    let may_use = |name: &str| selection::may_use(&caller.principal, name);
    let may_call = |offer: &_| selection::may_call(&caller.principal, offer);
    let routes = &caller.snapshot.rules.model_routes;
    let Some(model) = model_routing::find(routes, &services, &name, &may_use, &may_call) else {
        return Err(selection::unknown(&name));
    };
    match format(call) {
        Format::OpenAi => Answer::json(200, &openai(&caller.snapshot, &model)),
        Format::Anthropic => {
            Ok(Answer::json(200, &anthropic(&caller.snapshot, &model))?.with("request-id", &call.request_id))
        }
    }
}
