//! The way of a response to its client, and what is recorded of it.

use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, pending, select};
use serde_json::value::RawValue;

use crate::auth::credential_watch::CredentialWatch;
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::http::Headers;
use crate::platform::relay::{self, Piece, RelayEnd, RelayRules, Relayed, response_of};
use crate::platform::{clock, settings, tasks};
use narthex_core::base::time::Timestamp;
use narthex_core::context::status::ErrorCode;
use narthex_core::context::{Admission, AttemptReport};
use narthex_core::http::media_type::EVENT_STREAM;
use narthex_core::models::convert;
use narthex_core::models::endpoint::{Endpoint, Format};
use narthex_core::models::failure::FailureKind;
use narthex_core::models::refusal;
use narthex_core::models::response_body::{ResponseReader, is_reason, value_of};
use narthex_core::models::route::OnDisconnect;
use narthex_core::models::spent::Spent;
use narthex_core::models::stream::{ShowsSecrets, StreamError};
use narthex_core::models::token_usage::Used;

mod watch;

use super::super::answer::{Answer, Body, JSON};
use super::attempt::Target;
use super::beginning::ResponseStart;
use super::kept_result::KeptResult;
use super::permit::CallPermit;
use super::record::{AttemptEnd, Recorder, report, report_call};
use super::stored::StoredCall;
use watch::{Events, Reading, Watch};

/// How long the rest of a response is read once its client has left, in milliseconds. The platform ends all work 30 s
/// after a client has left: the rest of that is for the record.
const DRAIN_MS: u64 = 20_000;
/// A silence of this length is broken by a comment, in milliseconds.
const PING_MS: u64 = 15_000;

/// A call that has begun, with all that is needed to end it.
pub struct Delivery {
    pub recorder: Recorder,
    pub snapshot: Rc<Snapshot>,
    /// The index of the service.
    pub service: usize,
    pub target: Target,
    pub permit: Option<CallPermit>,
    /// Returned when the response has ended.
    pub limit_permits: Vec<super::super::limits::request_quotas::Permit>,
    pub endpoint: Endpoint,
    pub streams: bool,
    /// The model as it was asked for.
    pub model: String,
    pub service_tier: Option<String>,
    pub request_bytes: u64,
    pub started_at: Timestamp,
    pub deadline: Timestamp,
    pub request_id: String,
    /// The platform's signal for a client that leaves.
    pub client: wasm_bindgen::JsValue,
}

impl Delivery {
    /// The response to the client. What is recorded of it follows when it has ended.
    pub fn respond(self, begun: ResponseStart, watch: CredentialWatch, mut headers: Headers) -> Answer {
        let head = begun.head();
        let media = match (&self.target.echo, &begun) {
            (Some(_), ResponseStart::Events { .. }) => EVENT_STREAM,
            (None, _) if !head.media.is_empty() => &head.media,
            _ => JSON,
        };
        headers.set("content-type", media);
        let Admission { id, service, .. } = &self.recorder.admission;
        let (id, service, is_stream) = (id.clone(), service.clone(), self.streams);
        let response = match begun {
            ResponseStart::Whole { pieces, reader, .. } => {
                let Some(pieces) = self.for_client(pieces) else { return self.unreadable(reader, &headers) };
                let response = response_of(200, &headers, &pieces);
                let result = self.kept_document(&pieces).and_then(KeptResult::whole);
                tasks::keep_running(self.end(Some(RelayEnd::Done), Reading::Document(reader), result));
                response
            }
            ResponseStart::Document { from, pieces, reader } => {
                let kept = self.kept_document(&pieces);
                self.relay(from, pieces, (Reading::Document(reader), kept), watch, &headers)
            }
            ResponseStart::Events { from, pieces } => {
                let Target { endpoint, drops_usage, echo, secrets, .. } = &self.target;
                let shows = secrets.clone().map(|secrets| ShowsSecrets(Rc::new(move |text| secrets.shows_in(text))));
                let events = match echo {
                    Some(echo) => Events::converted(self.endpoint, *endpoint, echo.clone(), shows),
                    None => Events::passed(*endpoint, *drops_usage, shows),
                };
                let reading = Reading::Events(Box::new(events));
                let kept = self.recorder.stored.is_some().then(|| KeptResult::stream(self.endpoint));
                self.relay(from, pieces, (reading, kept), watch, &headers)
            }
        };
        let answer = Answer { streams: is_stream, ..Answer::new(200, Body::Made(response)) };
        answer.about(id, Some(service.as_str()))
    }

    /// A document that has these pieces so far, if the content is kept.
    fn kept_document(&self, pieces: &[Piece]) -> Option<KeptResult> {
        self.recorder.stored.as_ref()?;
        let mut kept = KeptResult::document();
        for piece in pieces {
            piece.each(|bytes| kept.push(bytes));
        }
        Some(kept)
    }

    /// A whole response in the client's format; `None`: it cannot be read.
    fn for_client(&self, pieces: Vec<Piece>) -> Option<Vec<Piece>> {
        let Some(echo) = &self.target.echo else { return Some(pieces) };
        let bytes: Vec<u8> = pieces.iter().flat_map(Piece::to_vec).collect();
        let body = value_of(&bytes)?;
        let body = convert::response(self.endpoint, self.target.endpoint, &body, echo, clock::now().seconds());
        Some(vec![Piece::of_text(&body.to_string())])
    }

    /// A response that cannot be converted.
    fn unreadable(self, reader: ResponseReader, headers: &Headers) -> Answer {
        let (code, message) = ("upstream_invalid_response", "The provider's response has another form.");
        let body = refusal::body(self.endpoint.format(), 502, code, message, None, &self.request_id);
        let response = response_of(502, headers, &[Piece::of_text(&body)]);
        let answer = Answer { code: Some("upstream_error"), ..Answer::new(502, Body::Made(response)) };
        let Admission { id, service, .. } = &self.recorder.admission;
        let answer = answer.about(id.clone(), Some(service.as_str()));
        let mut conclusion = self.concluded(Some(RelayEnd::Done), Reading::Document(reader));
        let message = "The service responded in another form.";
        conclusion.end = AttemptEnd::failed(ErrorCode::UpstreamInvalidResponse, message);
        tasks::keep_running(self.record(conclusion, None));
        answer
    }

    fn relay(
        self,
        from: relay::PiecedResponse,
        pieces: Vec<Piece>,
        (reading, kept): (Reading, Option<KeptResult>),
        watch: CredentialWatch,
        headers: &Headers,
    ) -> wasm_bindgen::JsValue {
        let is_stream = matches!(reading, Reading::Events(_));
        let settings = &self.target.settings;
        let ping = match (is_stream, self.endpoint.format()) {
            (false, _) => "",
            (true, Format::OpenAi) => ": still there\n\n",
            (true, Format::Anthropic) => "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        };
        let rules = RelayRules {
            idle_ms: settings.stream_idle_ms(),
            until_ms: self.deadline.0,
            ping,
            ping_ms: PING_MS.min(settings::timing().keep_alive_ms),
            drain_ms: DRAIN_MS,
            client: self.client.clone(),
        };
        let drains = settings.on_disconnect.unwrap_or_default() == OnDisconnect::Drain;
        let observer = Rc::new(Watch::new((reading, kept), self.endpoint, &self.request_id, drains));
        // Documents were read already; events are read again, to be passed on whole.
        let (response, relayed) = match is_stream {
            true => relay::begin(from, &pieces, observer.clone(), 200, headers, &rules),
            false => relay::begin_behind(from, &pieces, observer.clone(), 200, headers, &rules),
        };
        let cancelled = self.recorder.stored.as_ref().map(StoredCall::cancelled);
        tasks::keep_running(async move {
            let end = wait(relayed, watch, cancelled, &observer).await;
            let (reading, kept) = observer.ended();
            self.end(end, reading, kept.and_then(KeptResult::whole)).await;
        });
        response
    }

    /// Records how the response ended; `None`: with the credentials of the client, or it was cancelled. `result`: the
    /// whole response, if it is kept.
    async fn end(self, end: Option<RelayEnd>, reading: Reading, result: Option<Box<RawValue>>) {
        let conclusion = self.concluded(end, reading);
        self.record(conclusion, result).await;
    }

    async fn record(self, conclusion: Conclusion, result: Option<Box<RawValue>>) {
        let Some(entry) = self.snapshot.services.get(self.service) else { return };
        let Conclusion { end, used, finish_reason, service_tier } = conclusion;
        let signal = end.signal();
        let report: AttemptReport = report(entry, self.started_at, Some(200), end);
        let service_tier = service_tier.or_else(|| self.service_tier.clone());
        let prices = self.target.prices();
        let spent = Spent {
            model: self.model.clone(),
            usage: used.tokens,
            cost: prices.map(|prices| prices.cost(&used, service_tier.as_deref())),
            finish_reason: finish_reason.filter(|reason| is_reason(reason)),
            ..Spent::default()
        };
        drop(self.limit_permits);
        report_call(&self.recorder.tenant, entry, self.permit, &report, signal).await;
        self.recorder.store(report, spent, result).await;
    }

    fn concluded(&self, end: Option<RelayEnd>, reading: Reading) -> Conclusion {
        let (is_whole, error, used, finish_reason, service_tier) = match reading {
            Reading::Document(reader) => {
                let report = reader.report();
                let used = report.used.unwrap_or_else(|| self.estimated(reader.read()));
                (reader.is_whole(), None, used, report.finish_reason, report.service_tier)
            }
            Reading::Events(events) => {
                let Events { reader, .. } = *events;
                let used = reader.used(self.request_bytes);
                (reader.is_whole(), reader.error, used, reader.finish_reason, reader.service_tier)
            }
        };
        let end = match end {
            Some(end) => ended(end, is_whole, error.as_ref()),
            None => {
                let message = "It was stopped before the end of the response: its client's credentials ended, or it was \
                               cancelled.";
                AttemptEnd::failed(ErrorCode::Cancelled, message)
            }
        };
        Conclusion { end, used, finish_reason, service_tier }
    }

    /// What a response without usage has used, by its size.
    fn estimated(&self, response_bytes: u64) -> Used {
        Used::estimated(self.endpoint == Endpoint::Embeddings, self.request_bytes, response_bytes)
    }
}

/// What is recorded of a response.
struct Conclusion {
    end: AttemptEnd,
    used: Used,
    finish_reason: Option<String>,
    service_tier: Option<String>,
}

/// How an attempt ended by the end of its response.
fn ended(end: RelayEnd, is_whole: bool, error: Option<&StreamError>) -> AttemptEnd {
    let fault = error.map(|error| FailureKind::of_error(&error.value));
    match end {
        RelayEnd::Gone | RelayEnd::Done if is_whole => AttemptEnd::Succeeded,
        RelayEnd::Gone => AttemptEnd::failed(ErrorCode::Cancelled, "The client left before the end of the response."),
        RelayEnd::Overdue => {
            AttemptEnd::failed(ErrorCode::DeadlineExceeded, "The deadline passed before the end of the response.")
        }
        RelayEnd::TooLong => AttemptEnd::failed(ErrorCode::UpstreamError, "An event of the stream was too long."),
        RelayEnd::Done | RelayEnd::Broke | RelayEnd::Idle if fault.is_some() => {
            let message = "The service reported an error in its stream.";
            match fault {
                Some(FailureKind::Server) => AttemptEnd::broken(ErrorCode::UpstreamError, message),
                _ => AttemptEnd::failed(ErrorCode::UpstreamError, message),
            }
        }
        RelayEnd::Idle => AttemptEnd::broken(ErrorCode::UpstreamTimeout, "The stream was silent for too long."),
        RelayEnd::Done | RelayEnd::Broke => {
            AttemptEnd::broken(ErrorCode::UpstreamError, "The response ended before its end.")
        }
    }
}

/// How a relayed response ended by itself; `None`: the credentials of its client have ended, or it was cancelled.
async fn wait(
    mut relayed: Relayed,
    watch: CredentialWatch,
    cancelled: Option<impl Future<Output = ()>>,
    observer: &Watch,
) -> Option<RelayEnd> {
    let cancelled = pin!(async {
        match cancelled {
            Some(cancelled) => cancelled.await,
            None => pending().await,
        }
    });
    let revoked = pin!(watch.ended());
    match select(pin!(relayed.ended()), select(revoked, cancelled)).await {
        Either::Left((end, _)) => return Some(end),
        Either::Right((Either::Left(_), _)) => observer.is_revoked.set(true),
        Either::Right((Either::Right(_), _)) => observer.is_cancelled.set(true),
    }
    relayed.stop();
    // Its end may have come before.
    let end = relayed.ended().await;
    (end == RelayEnd::Done).then_some(end)
}
