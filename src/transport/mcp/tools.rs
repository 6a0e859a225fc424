//! `tools/list` and `tools/call`.

use std::borrow::Cow;

use serde_json::json;
use serde_json::value::RawValue;

use crate::objects::registry::snapshot::ServiceDocument;
use crate::objects::sessions::messages::{self as sessions, NoteChange};
use crate::platform::{clock, log_event, settings};
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::CallResult;
use narthex_core::mcp::client::elicitation;
use narthex_core::mcp::client::progress;
use narthex_core::mcp::client::request::UpstreamRequest;
use narthex_core::mcp::client::response::UpstreamMessage;
use narthex_core::mcp::client::result::{self, RequestOutcome};
use narthex_core::mcp::client::task;
use narthex_core::mcp::client::throttle::Throttle;
use narthex_core::mcp::client::tool_listing::Listing;
use narthex_core::mcp::client_capabilities::ClientCapabilities;
use narthex_core::mcp::definitions::tidy;
use narthex_core::mcp::param_headers;
use narthex_core::services::capability::Capability;
use narthex_core::services::tool_catalogue::ToolsRead;

use super::super::Order;
use super::super::observer::{CallObserver, Notification};
use super::{Peer, ask, discovery, link_cache};

/// The maximum number of pages of a list.
const MAX_PAGES: usize = 100;

/// How often a server may request a repetition that carries only its state.
const MAX_REPEATS: u32 = 8;
/// The delay before such a repetition, doubled each time, in milliseconds.
const RETRY_DELAY_MS: u64 = 100;

/// A call of a tool in progress.
pub(super) struct ToolCall<'a, O> {
    order: &'a Order<'a>,
    observer: &'a O,
    client_capabilities: ClientCapabilities,
    asked: u32,
    progress_at: Timestamp,
    /// Limits the notifications in the client's session.
    throttle: Throttle,
}

/// Calls a tool, within the time of the context.
pub async fn call_tool(
    order: &Order<'_>,
    peer: Peer,
    document: &ServiceDocument,
    observer: &impl CallObserver,
) -> RequestOutcome {
    let admission = &order.work.admission;
    if admission.expires_at <= order.now {
        return RequestOutcome::Transport(CallResult::TimedOut { deadline: true });
    }
    let (name, arguments) = (json!(admission.capability), order.work.parameters.get());
    let is_it = |known: &&Capability| known.name == admission.capability;
    let known = document.service().capabilities.iter().find(is_it);
    let schema = known.and_then(|known| known.input_schema.as_deref());
    let mut headers = schema.map_or_else(Vec::new, |schema| param_headers::headers(schema.get(), arguments));
    headers.push(("traceparent".into(), order.trace.header()));
    let client_capabilities = peer.client_capabilities();
    let mut tool_call = ToolCall {
        order,
        observer,
        client_capabilities,
        asked: 0,
        progress_at: Timestamp(0),
        throttle: Throttle::new(settings::timing().notification_interval_ms),
    };
    if task::is_required(known.and_then(|known| known.tool.as_deref())) {
        match discovery::open(&peer, peer.hint.as_deref(), admission.expires_at, true).await {
            Ok(link) if !link.revision.is_modern() => {
                return tool_call.as_task(&peer, &name.to_string(), arguments).await;
            }
            Ok(_) => {}
            Err(outcome) => return outcome,
        }
    }
    let responses = order.work.input.as_deref().and_then(elicitation::responses).map(RawValue::get);
    let responses = responses.map_or_else(String::new, |responses| format!(r#","inputResponses":{responses}"#));
    let mut state = order.work.input_state.clone();
    for again in 0.. {
        let said = state.map_or_else(String::new, |state| format!(r#","requestState":{}"#, json!(state)));
        // The answers belong to the first request.
        let responses = if again == 0 { responses.as_str() } else { "" };
        let params = format!(r#"{{"name":{name},"arguments":{arguments}{responses}{said}}}"#);
        let outcome = tool_call.once(&peer, "tools/call", &params, &headers).await;
        if let RequestOutcome::Answered(Err(error)) = &outcome
            && task::is_wanted(error)
        {
            return tool_call.as_modern_task(&peer, &params, &headers).await;
        }
        let RequestOutcome::Answered(Ok(result)) = &outcome else { return outcome };
        state = result::asks_again(result).filter(|_| again < MAX_REPEATS);
        if state.is_none() {
            return outcome;
        }
        clock::pause(RETRY_DELAY_MS << again).await;
    }
    RequestOutcome::Transport(CallResult::Broken)
}

impl<O: CallObserver> ToolCall<'_, O> {
    pub(super) fn expires_at(&self) -> Timestamp {
        self.order.work.admission.expires_at
    }

    pub(super) fn has_time(&self) -> bool {
        clock::now() < self.expires_at()
    }

    /// Sends one request, and handles all messages until the response.
    pub(super) async fn once(
        &mut self,
        peer: &Peer,
        method: &str,
        params: &str,
        headers: &[(String, String)],
    ) -> RequestOutcome {
        let admission = &self.order.work.admission;
        let asked = UpstreamRequest {
            progress: (method == "tools/call").then_some(admission.id.as_str()),
            log_level: admission.log_level.as_deref(),
            meta: admission.meta.as_deref().map(RawValue::get),
            ..UpstreamRequest::new(method, params)
        };
        let mut conversation = match ask(peer, &asked, headers, admission.expires_at, true).await {
            Ok(conversation) => conversation,
            Err(outcome) => return outcome,
        };
        loop {
            let outcome = conversation.next().await;
            let is_end = matches!(outcome, Ok(UpstreamMessage::Response(_)) | Err(_));
            for method in self.throttle.due(clock::now(), is_end) {
                self.note(&method).await;
            }
            match outcome {
                Ok(UpstreamMessage::Response(response)) => return RequestOutcome::Answered(response),
                Ok(UpstreamMessage::Request { id, method, params }) => {
                    let answer = self.answer(&method, params.as_deref()).await;
                    conversation.respond(&id, answer.as_deref().map(RawValue::get)).await;
                }
                Ok(UpstreamMessage::Notification { method, params }) => self.notice(&method, params).await,
                Err(outcome) => return outcome,
            }
        }
    }

    /// The result for a request that a legacy server sends during its call. `None` if the client cannot be asked.
    async fn answer(&mut self, method: &str, params: Option<&RawValue>) -> Option<Box<RawValue>> {
        if method == "ping" {
            return RawValue::from_string("{}".into()).ok();
        }
        self.asked += 1;
        let name = format!("{}-{}", self.order.work.attempt, self.asked);
        let params = params.map(task::unrelated);
        let request = elicitation::of_request(&name, method, params.as_deref()).ok()?;
        let input = self.ask_client(request).await?;
        elicitation::response(&input, &name).map(RawValue::to_owned)
    }

    /// Asks the client that called, and returns its answer. `None` if it cannot be asked.
    pub(super) async fn ask_client(&mut self, request: Box<RawValue>) -> Option<Box<RawValue>> {
        let can_be_asked = self.client_capabilities.missing(&elicitation::requests(&request)?).is_none();
        if !can_be_asked {
            return None;
        }
        match self.observer.request_input(request).await {
            Ok(input) => input,
            Err(failure) => {
                let admission = &self.order.work.admission;
                log_event!(InputRequestNotMade, tenant = &admission.tenant, context = &admission.id, detail = &failure);
                None
            }
        }
    }

    async fn notice(&mut self, method: &str, params: Option<Box<RawValue>>) {
        let params = params.map(|params| match tidy(method, &params) {
            Cow::Borrowed(_) => params,
            Cow::Owned(tidied) => RawValue::from_string(tidied).unwrap_or(params),
        });
        match (method, params) {
            ("notifications/message", Some(params)) => {
                self.observer.notify(Notification::Message(params));
            }
            ("notifications/progress", Some(params))
                if progress::is_of(&params, self.order.work.admission.id.as_str()) =>
            {
                let data = progress::kept(&params);
                let now = clock::now();
                if !self.observer.notify(Notification::Progress(params))
                    && now.since(self.progress_at) >= settings::timing().progress_interval_ms
                {
                    self.progress_at = now;
                    self.observer.progress(data).await;
                }
            }
            ("notifications/prompts/list_changed" | "notifications/resources/list_changed", _) => {
                self.changed(method).await;
            }
            _ => {}
        }
    }

    /// Forwards a change that the gateway does not record: on the stream of the call, otherwise on that of the session.
    async fn changed(&mut self, method: &str) {
        let is_heard = self.observer.notify(Notification::Changed(method.into()));
        if !is_heard && self.throttle.admit(method, clock::now()) {
            self.note(method).await;
        }
    }

    async fn note(&self, method: &str) {
        let admission = &self.order.work.admission;
        let Some(session) = &admission.session else { return };
        let change = NoteChange { service: admission.service.clone(), method: method.into() };
        if let Err(failure) = sessions::call(session, &admission.owner, &change).await {
            log_event!(
                ChangeNotAnnounced,
                tenant = &admission.tenant,
                context = &admission.id,
                service = &admission.service,
                detail = &failure
            );
        }
    }
}

/// Reads all tools until then, or returns why that failed. The revision is discovered again, as the server may have
/// been replaced. The session for this is ended afterwards.
pub async fn list_tools(peer: &Peer, timeout_seconds: u64, until: Timestamp) -> Result<ToolsRead, String> {
    let peer = peer.private();
    let read = read_tools(&peer, timeout_seconds, until).await;
    link_cache::close(&peer).await;
    read
}

async fn read_tools(peer: &Peer, timeout_seconds: u64, until: Timestamp) -> Result<ToolsRead, String> {
    let said = |reason: String| match peer.secrets.shows_in(&reason) {
        true => "its answer repeats its credentials".into(),
        false => reason,
    };
    let link = discovery::discover(peer, until, false).await.map_err(|outcome| said(outcome.reason("initialize")))?;
    let server = link.server.clone().unwrap_or_default();
    let has_tools = server.capabilities.is_none() || server.declares("tools");
    let mut listing = Listing::new(link.revision.version().into(), server, timeout_seconds);
    if !has_tools {
        return listing.finish(None);
    }
    let broken = read_pages(peer, &mut listing, until).await.err().map(said);
    listing.finish(broken)
}

async fn read_pages(peer: &Peer, listing: &mut Listing, until: Timestamp) -> Result<(), String> {
    const LIST: &str = "tools/list";
    let mut cursor: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let params = cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor})).to_string();
        let conversation = ask(peer, &UpstreamRequest::new(LIST, &params), &[], until, false).await;
        let response = match conversation {
            Ok(conversation) => conversation.response().await,
            Err(outcome) => Err(outcome),
        };
        let page = match response {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => return Err(RequestOutcome::Answered(Err(error)).reason(LIST)),
            Err(outcome) => return Err(outcome.reason(LIST)),
        };
        match listing.take(&page)? {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
    Err(format!("its list of tools does not end within {MAX_PAGES} pages"))
}
