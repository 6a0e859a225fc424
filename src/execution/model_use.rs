//! What contexts use of the models of a service that lists them: such calls are named, counted and priced as those of
//! the model endpoints are.

use serde_json::value::RawValue;

use crate::objects::contexts::messages::Work;
use crate::objects::registry::snapshot::ServiceDocument;
use narthex_core::calling::openai::model_of;
use narthex_core::models::endpoint::Endpoint;
use narthex_core::models::list_prices::AppliedPrices;
use narthex_core::models::offer::offer_of;
use narthex_core::models::response_body::ResponseReader;
use narthex_core::models::spent::Spent;
use narthex_core::models::token_usage::Used;

/// The model that parameters ask for, or that of the transport. `None` if the service lists no models.
pub fn asked(document: &ServiceDocument, parameters: &str) -> Option<String> {
    let (_, endpoint) = document.service().transport.model_endpoint()?;
    document.service().models.as_ref()?;
    model_of(parameters).or_else(|| endpoint.model.clone())
}

/// The provider's name of a model, if it is another.
pub fn upstream<'d>(document: &'d ServiceDocument, model: &str) -> Option<&'d str> {
    offer_of(document.service().models.as_deref()?, model)?.upstream.as_deref()
}

/// What an attempt used; `None` if it used no model, if the service lists none, or if there is no result.
pub fn spent(document: &ServiceDocument, work: &Work, result: Option<&RawValue>) -> Option<Spent> {
    let parameters = work.parameters.get();
    if !Endpoint::uses_model(&work.admission.capability) {
        return None;
    }
    let (model, result) = (asked(document, parameters)?, result?.get());
    let (format, endpoint) = document.service().transport.model_endpoint()?;
    let mut reader = ResponseReader::new(format);
    reader.push(result.as_bytes());
    let report = reader.report();
    let is_embedding = work.admission.capability == Endpoint::Embeddings.capability();
    let estimated = || Used::estimated(is_embedding, parameters.len() as u64, result.len() as u64);
    let used = report.used.unwrap_or_else(estimated);
    let offer = offer_of(document.service().models.as_deref()?, &model)?;
    let prices = AppliedPrices::of(&endpoint.url, Some(offer), offer.upstream.as_deref().unwrap_or(&model));
    let cost = prices.map(|prices| prices.cost(&used, report.service_tier.as_deref()));
    Some(Spent { model, usage: used.tokens, cost, finish_reason: report.finish_reason, ..Spent::default() })
}
