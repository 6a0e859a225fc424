//! One call of one target, until its response begins.

use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, select};
use serde_json::Value;

use crate::execution::resolve_destination;
use crate::objects::registry::snapshot::{Entry, ServiceDocument};
use crate::objects::secrets::DecryptedSecrets;
use crate::platform::relay::{CallBody, CallStart, Parts, Upload};
use crate::platform::{clock, log_event};
use crate::transport::model::{self, Destination};
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::Problem;
use narthex_core::models::convert::{self, Echo};
use narthex_core::models::endpoint::{Endpoint, Format};
use narthex_core::models::failure::{FailureKind, text_of};
use narthex_core::models::list_prices::AppliedPrices;
use narthex_core::models::offer::{ModelOffer, offer_of};
use narthex_core::models::response_body::value_of;
use narthex_core::models::route::CallSettings;
use narthex_core::services::model_routing::ModelTarget;
use narthex_core::services::transport::ModelEndpoint;

use super::super::call::Call;
use super::beginning::{CallFailure, ResponseStart, failed, first_piece};
use super::conversion::{self, Converted};
use super::demo;
use super::intake::{Edit, Intake, add};

/// How long the response to a request may take that is sent while it comes, in milliseconds.
const LARGE_MS: u64 = 300_000;

/// What a call is made with.
pub struct Target {
    pub document: Rc<ServiceDocument>,
    /// The offer of the model, if the service lists its models.
    pub offer: Option<ModelOffer>,
    /// The provider's name of the model.
    pub upstream: String,
    pub settings: CallSettings,
    /// Only the gateway asks for usage.
    pub drops_usage: bool,
    /// The provider's endpoint.
    pub endpoint: Endpoint,
    /// What of a converted request its response needs; `None`: the formats are the same.
    pub echo: Option<Echo>,
    /// The credentials that the provider was called with: none of its errors shows them to clients.
    pub secrets: Option<Rc<DecryptedSecrets>>,
}

impl Target {
    /// `route`: the settings of the route. `None`: the service was deleted or changed in the meantime, or its document
    /// cannot be read.
    pub async fn of(entry: &Entry, wanted: &ModelTarget, route: Option<&CallSettings>) -> Option<Self> {
        let document = entry.document().await.ok()?;
        let model = wanted.model.as_str();
        if !document.service().transport.has_models() {
            return None;
        }
        let endpoint = document.service().transport.model_endpoint();
        let own = endpoint.map(|(_, endpoint)| endpoint.settings.clone()).unwrap_or_default();
        let settings = route.map_or_else(|| own.clone(), |route| route.or(&own));
        let offer = document.service().models.as_deref().and_then(|models| offer_of(models, model)).cloned();
        if document.service().models.is_some() && offer.is_none() {
            return None;
        }
        let upstream = offer.as_ref().and_then(|offer| offer.upstream.clone()).unwrap_or_else(|| model.into());
        let (endpoint, echo, secrets) = (wanted.endpoint, None, None);
        Some(Self { document, offer, upstream, settings, drops_usage: false, endpoint, echo, secrets })
    }

    pub fn endpoint(&self) -> Option<(Format, &ModelEndpoint)> {
        self.document.service().transport.model_endpoint()
    }

    /// The prices that apply to its calls.
    pub fn prices(&self) -> Option<AppliedPrices<'_>> {
        // The demonstration has no address.
        let address = self.endpoint().map_or("", |(_, endpoint)| &endpoint.url);
        AppliedPrices::of(address, self.offer.as_ref(), &self.upstream)
    }
}

/// What is changed in a request, in the order of the places. `closing_at` is where members are added.
fn edits(intake: &Intake, endpoint: Endpoint, target: &mut Target) -> (Vec<Edit>, String) {
    let mut edits = Vec::new();
    let mut added = String::new();
    if target.upstream != intake.model {
        let text = Value::from(target.upstream.as_str()).to_string();
        edits.push(Edit { at: intake.model_at, text });
    }
    let asks_usage = endpoint == Endpoint::Chat && target.endpoint().is_some_and(|(_, one)| one.stream_usage);
    if let Some((option, at)) = intake.head.usage_option.as_ref().filter(|_| asks_usage) {
        target.drops_usage = true;
        match at {
            Some(at) => edits.push(Edit { at: *at, text: option.clone() }),
            None => added = format!(r#","stream_options":{option}"#),
        }
    }
    if endpoint == Endpoint::Responses && intake.head.store.is_none() {
        match intake.head.store_at {
            Some(at) => edits.push(Edit { at, text: "false".into() }),
            None => added.push_str(r#","store":false"#),
        }
    }
    edits.sort_by_key(|edit| edit.at.from);
    (edits, added)
}

/// What is sent to a provider.
enum Outgoing {
    /// The request as it came, with edits in it, and what is added at its end.
    Same(Vec<Edit>, String),
    Converted(Parts),
}

/// Calls a target. `endpoint` is that of the client.
///
/// # Errors
/// `Err`: the request is refused. `Ok(Err)`: the call has failed.
pub async fn call(
    call: &Call,
    entry: &Entry,
    target: &mut Target,
    endpoint: Endpoint,
    intake: &mut Intake,
    deadline: Timestamp,
) -> Result<Result<ResponseStart, CallFailure>, Problem> {
    let document = target.document.clone();
    let outgoing = if target.endpoint == endpoint {
        let (edits, added) = edits(intake, endpoint, target);
        Outgoing::Same(edits, added)
    } else {
        let Converted { parts, body, echo } = conversion::request(intake, endpoint, target.endpoint, target).await?;
        target.echo = Some(echo);
        if !document.service().transport.is_remote() {
            return Ok(demo::call(target.endpoint, &body, intake.head.streams, &call.request_id));
        }
        Outgoing::Converted(parts)
    };
    if !document.service().transport.is_remote() {
        target.drops_usage = intake.head.usage_option.is_some();
        let body = demo::body(intake);
        return Ok(demo::call(endpoint, &body, intake.head.streams, &call.request_id));
    }
    let mut begun = called(call, &document, target, outgoing, intake, deadline).await?;
    if let (Some(_), Err(CallFailure { response: Some(response), .. })) = (&target.echo, &mut begun) {
        let body = value_of(&response.body).or_else(|| text_of(&response.body).map(Value::from)).unwrap_or_default();
        response.body = convert::error(endpoint, response.shown, &body, &call.request_id).to_string().into();
    }
    Ok(begun.inspect_err(|failed| {
        let (tenant, service) = (call.tenant.borrow(), &entry.service().id);
        log_event!(CallFailed, tenant = &*tenant, service = service, detail = &failed.detail);
    }))
}

/// Calls a provider, and waits for its first piece.
async fn called(
    call: &Call,
    document: &ServiceDocument,
    target: &mut Target,
    outgoing: Outgoing,
    intake: &mut Intake,
    deadline: Timestamp,
) -> Result<Result<ResponseStart, CallFailure>, Problem> {
    let Some((format, registered)) = document.service().transport.model_endpoint() else {
        return Ok(Err(failed(FailureKind::NotCalled, "not an endpoint of models")));
    };
    let tenant = call.tenant.borrow().clone();
    let (address, secrets) = match resolve_destination(&tenant, document, &registered.url, call.public_origin()).await {
        Ok(destination) => destination,
        Err(not_called) => return Ok(Err(failed(FailureKind::NotCalled, format!("{not_called:?}")))),
    };
    target.secrets = Some(secrets.clone());
    let now = clock::now();
    let left = deadline.since(now);
    if left == 0 {
        return Ok(Err(failed(FailureKind::Deadline, "")));
    }
    let first_ms = target.settings.first_piece_ms(intake.head.streams).min(left);
    // The first piece can come only after the last of the request.
    let first_ms = if intake.rest.is_some() { first_ms.max(LARGE_MS).min(left) } else { first_ms };
    let until = now.plus_ms(first_ms);
    let forwarded = if target.echo.is_none() { forwarded(call) } else { Vec::new() };
    let destination = Destination { format, endpoint: registered, address: &address, secrets: &secrets };
    let (streams, converts) = (intake.head.streams, target.echo.is_some());
    let sending = send(&destination, target.endpoint, &forwarded, intake, outgoing, first_ms);
    let begun =
        pin!(async { Ok(first_piece(sending.await?, (target.endpoint, streams, converts), until, deadline).await) });
    let mut begun = match select(begun, call.request.left()).await {
        Either::Left((begun, _)) => begun?,
        Either::Right(_) => Err(failed(FailureKind::Gone, "the client has left")),
    };
    if let Err(CallFailure { response: Some(response), .. }) = &mut begun {
        response.is_secret = secrets.shows_in(&String::from_utf8_lossy(&response.body));
    }
    Ok(begun)
}

/// Sends a request: whole, or while it comes.
async fn send(
    to: &Destination<'_>,
    endpoint: Endpoint,
    forwarded: &[(&str, &str)],
    intake: &mut Intake,
    outgoing: Outgoing,
    first_ms: u64,
) -> Result<CallStart, Problem> {
    let (edits, added) = match outgoing {
        Outgoing::Converted(parts) => {
            return Ok(model::call(to, endpoint, forwarded, CallBody::Parts(&parts), first_ms).await);
        }
        Outgoing::Same(edits, added) => (edits, added),
    };
    if intake.rest.is_none() {
        let parts = whole_parts(intake, &edits, &added);
        return Ok(model::call(to, endpoint, forwarded, CallBody::Parts(&parts), first_ms).await);
    }
    let upload = Upload::open(upload_length(intake, &edits));
    let sent = pin!(send_on(&upload, intake, &edits));
    let called = pin!(model::call(to, endpoint, forwarded, CallBody::Upload(&upload), first_ms));
    match select(called, sent).await {
        Either::Left((start, _)) => Ok(start),
        // A provider that takes no more has answered, or is gone.
        Either::Right((Ok(()) | Err(Unsent::NotTaken), called)) => Ok(called.await),
        Either::Right((Err(Unsent::Refused(problem)), _)) => Err(problem),
    }
}

/// Headers of the client's that a provider knows.
fn forwarded(call: &Call) -> Vec<(&str, &str)> {
    let is_known = |name: &str| name == "accept" || name == "openai-beta" || name.starts_with("anthropic-");
    call.request.headers().filter(|(name, _)| is_known(name)).collect()
}

fn whole_parts(intake: &Intake, edits: &[Edit], added: &str) -> Parts {
    let (parts, closing_at) = (Parts::default(), intake.closing_at.unwrap_or(intake.bytes));
    add(&parts, &intake.pieces, 0, (0, closing_at), edits);
    if !added.is_empty() {
        parts.text(added);
    }
    add(&parts, &intake.pieces, 0, (closing_at, intake.bytes), edits);
    parts
}

/// The length of what is sent, if the client has declared its own; else 0.
fn upload_length(intake: &Intake, edits: &[Edit]) -> u64 {
    let Some(declared) = intake.rest.as_ref().and_then(|rest| rest.declared) else { return 0 };
    let removed: u64 = edits.iter().map(|edit| edit.at.to - edit.at.from).sum();
    let new: usize = edits.iter().map(|edit| edit.text.len()).sum();
    declared + new as u64 - removed
}

/// Why a body was not sent to its end.
enum Unsent {
    /// It is refused.
    Refused(Problem),
    /// The provider takes no more of it.
    NotTaken,
}

/// Sends a large body while it comes. Its last piece is sent only once the whole of it is known to be acceptable.
async fn send_on(upload: &Upload, intake: &mut Intake, edits: &[Edit]) -> Result<(), Unsent> {
    let Intake { pieces, rest: Some(_), bytes, .. } = intake else { return Ok(()) };
    let write = async |parts: Parts| upload.write(parts).await.map_err(|_| Unsent::NotTaken);
    let Some(mut held) = pieces.pop() else { return Ok(()) };
    let mut held_at = *bytes - held.bytes() as u64;
    let first = Parts::default();
    add(&first, pieces, 0, (0, held_at), edits);
    pieces.clear();
    write(first).await?;
    intake.passes_on();
    let Some(rest) = &mut intake.rest else { return Ok(()) };
    while let Some(piece) = rest.next().await.map_err(Unsent::Refused)? {
        let begins = rest.read() - piece.bytes() as u64;
        let window = Parts::default();
        add(&window, std::slice::from_ref(&held), held_at, (held_at, begins), edits);
        write(window).await?;
        (held, held_at) = (piece, begins);
    }
    let window = Parts::default();
    add(&window, std::slice::from_ref(&held), held_at, (held_at, rest.read()), edits);
    write(window).await?;
    upload.close();
    Ok(())
}
