//! The models that a caller may use, in the shapes of both formats.

use serde::Serialize;

use crate::objects::registry::snapshot::Snapshot;
use narthex_core::base::json::Fault;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::endpoint::Format;
use narthex_core::models::list_prices::{AppliedPrices, PriceOrigin};
use narthex_core::models::offer::offer_of;
use narthex_core::models::price::Prices;
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
    /// Those of its targets that have prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    prices: Option<Vec<TargetPrices>>,
}

/// What a model costs at a service.
#[derive(Serialize)]
struct TargetPrices {
    service: ServiceId,
    /// The model at the service.
    model: String,
    origin: PriceOrigin,
    prices: Prices,
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

fn openai<'a>(snapshot: &'a Snapshot, model: &'a ListedModel, prices: Option<Vec<TargetPrices>>) -> OpenAiModel<'a> {
    let (created, owned_by) = origin(snapshot, model);
    OpenAiModel { id: &model.name, object: "model", created: created.seconds(), owned_by, prices }
}

/// The prices of a model, for a request that asks for them: they are no members of OpenAI's format.
async fn asked_prices(call: &Call, snapshot: &Snapshot, model: &ListedModel) -> Option<Vec<TargetPrices>> {
    let is_asked = call.query("prices").as_deref() == Some("true");
    if is_asked { Some(prices(snapshot, model).await) } else { None }
}

/// What a model costs at each service that has it. A service whose document cannot be read is left out.
async fn prices(snapshot: &Snapshot, model: &ListedModel) -> Vec<TargetPrices> {
    let services: Vec<_> = snapshot.services.iter().collect();
    let mut all = Vec::new();
    for (at, name) in model_routing::behind(&snapshot.rules.model_routes, &services, &model.name) {
        let Some(entry) = snapshot.services.get(at) else { continue };
        let Ok(document) = entry.document().await else { continue };
        let service = document.service();
        let address = service.transport.model_endpoint().map_or("", |(_, endpoint)| &endpoint.url);
        let offer = service.models.as_deref().and_then(|models| offer_of(models, &name));
        let upstream = offer.and_then(|offer| offer.upstream.as_deref()).unwrap_or(&name);
        let Some(AppliedPrices { origin, prices }) = AppliedPrices::of(address, offer, upstream) else { continue };
        all.push(TargetPrices { service: service.id.clone(), model: name, origin, prices: prices.clone() });
    }
    all
}

fn anthropic<'a>(snapshot: &'a Snapshot, model: &'a ListedModel) -> AnthropicModel<'a> {
    let (created, _) = origin(snapshot, model);
    AnthropicModel { r#type: "model", id: &model.name, display_name: &model.name, created_at: created.text() }
}

/// `GET /v1/models`.
pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    let models = all(caller);
    let snapshot = &caller.snapshot;
    match format(call) {
        Format::OpenAi => {
            let mut data = Vec::with_capacity(models.len());
            for model in &models {
                data.push(openai(snapshot, model, asked_prices(call, snapshot, model).await));
            }
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
pub async fn get(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let name = super::decoded(name);
    let services: Vec<_> = caller.snapshot.services.iter().collect();
    let may_use = |name: &str| selection::may_use(&caller.principal, name);
    let may_call = |offer: &_| selection::may_call(&caller.principal, offer);
    let routes = &caller.snapshot.rules.model_routes;
    let Some(model) = model_routing::find(routes, &services, &name, &may_use, &may_call) else {
        return Err(selection::unknown(&name));
    };
    match format(call) {
        Format::OpenAi => {
            let prices = asked_prices(call, &caller.snapshot, &model).await;
            Answer::json(200, &openai(&caller.snapshot, &model, prices))
        }
        Format::Anthropic => {
            Ok(Answer::json(200, &anthropic(&caller.snapshot, &model))?.with("request-id", &call.request_id))
        }
    }
}
