//! The session of a legacy client that can answer requests: its running calls, the events on their streams, and the
//! questions it has not answered. The events themselves are stored separately, by call and number.
//!
//! Invariants:
//!
//! * One Worker at a time writes to a call's stream: resuming it raises its `turn`, and earlier turns are over.
//! * The numbers of a stream only grow, and what is kept of it is bounded.
//! * A question is answered when all of its requests are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::order;
use crate::base::principal_id::PrincipalId;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::context::create_request::MAX_PARAMETERS_BYTES;

/// A session without use for this long ends, in milliseconds.
pub const IDLE_MS: u64 = 86_400_000;
/// The minimum interval at which use is persisted, in milliseconds.
const TOUCH_MS: u64 = 3_600_000;
/// The maximum number of calls; the oldest are forgotten.
const MAX_CALLS: usize = 32;
/// The maximum number of events kept of one stream, and their bytes.
const MAX_EVENTS: usize = 100;
const MAX_BYTES: usize = 512 * 1024;
/// The maximum size of responses that wait for others, of all calls. The session is one row.
const MAX_HELD_BYTES: usize = 1024 * 1024;
/// The maximum number of resources that a session watches.
const MAX_WATCHED: usize = 50;
/// The maximum number of pending change notifications.
const MAX_NOTED: usize = 100;
/// The maximum number of upstream sessions per session; further ones are kept by each isolate.
const MAX_UPSTREAMS: usize = 100;

/// Who opened the session, and what the client supports.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Opener {
    pub principal: PrincipalId,
    /// The negotiated revision.
    pub version: String,
    /// Its `ClientCapabilities`.
    pub client: Box<RawValue>,
}

/// A session at an upstream server that belongs to this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamSession {
    /// The service's configuration when it began.
    pub place: String,
    /// The negotiated revision.
    pub version: String,
    pub session: String,
}

/// The state of one session.
#[derive(Debug, Serialize, Deserialize)]
pub struct Session {
    pub opener: Opener,
    /// As set by `logging/setLevel`.
    #[serde(default)]
    pub level: Option<String>,
    used_at: Timestamp,
    #[serde(default)]
    calls: BTreeMap<u64, Call>,
    #[serde(default)]
    last_call: u64,
    /// The number of GET streams so far: the last one receives notifications.
    #[serde(default)]
    listening: u64,
    /// The URIs of watched resources.
    #[serde(default)]
    watched: BTreeSet<String>,
    /// Pending notifications, by service and method.
    #[serde(default)]
    noted: BTreeSet<(ServiceId, String)>,
    /// By service.
    #[serde(default)]
    upstreams: BTreeMap<ServiceId, UpstreamSession>,
}

/// The constant part of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallInfo {
    /// The id of the JSON-RPC request, as it was written.
    pub request: String,
    pub context: String,
    /// The progress token, as it was written.
    #[serde(default)]
    pub token: Option<String>,
    /// All messages of it name the task.
    #[serde(default)]
    pub related: bool,
}

impl CallInfo {
    /// The same for a call whose content is not kept: the token is part of it.
    #[must_use]
    pub fn unkept(self) -> Self {
        Self { token: None, ..self }
    }
}

/// The position of a call's stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamPosition {
    /// The event number of the last progress notification.
    #[serde(default)]
    pub event: u64,
    /// The last progress value, which only grows.
    #[serde(default)]
    pub progress: f64,
    /// The number of questions asked.
    #[serde(default)]
    pub asked: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Call {
    begun: CallInfo,
    turn: u64,
    /// The number of the last event.
    last: u64,
    #[serde(default)]
    reached: StreamPosition,
    /// Numbers and sizes of the events that are kept.
    #[serde(default)]
    kept: VecDeque<(u64, usize)>,
    /// The requests of the current question.
    #[serde(default)]
    requests: Vec<Request>,
}

impl Call {
    /// The size of responses that wait for the others of their question, in bytes.
    fn held(&self) -> usize {
        let responses = self.requests.iter().filter_map(|request| request.response.as_ref());
        responses.map(|response| response.get().len()).sum()
    }
}

/// A request to the client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub name: String,
    /// It is an elicitation, which the user may decline.
    pub elicits: bool,
    #[serde(default)]
    pub response: Option<Box<RawValue>>,
}

/// The effect of a response to a request.
#[derive(Debug, PartialEq, Eq)]
pub enum ResponseEffect {
    /// It answers no open request.
    Nothing,
    /// Other requests of the question are open.
    Waits,
    /// The question is answered: the text of an object with the responses by name.
    Answered { context: String, question: usize, responses: String },
    /// The client cannot do what the work needs.
    Refused { context: String },
}

/// The name of a session, which cannot be guessed.
pub fn name(random: [u8; 24]) -> String {
    URL_SAFE_NO_PAD.encode(random)
}

/// The id of a request to the client, which identifies its question.
pub fn request_id(call: u64, question: usize, at: usize) -> String {
    format!("q{call}.{question}.{at}")
}

/// The id of an event: its stream, and its number there. The response has no number.
pub fn event_id(call: u64, number: Option<u64>) -> String {
    number.map_or_else(|| format!("{call}.end"), |number| format!("{call}.{number}"))
}

/// The position in a call's stream.
pub fn read_event_id(text: &str) -> Option<(u64, Option<u64>)> {
    let (call, number) = text.trim().split_once('.')?;
    let call = call.parse().ok()?;
    if number == "end" { Some((call, None)) } else { Some((call, Some(number.parse().ok()?))) }
}

impl Session {
    /// Opens a session.
    pub fn open(opener: Opener, now: Timestamp) -> Self {
        Self {
            opener,
            level: None,
            used_at: now,
            calls: BTreeMap::new(),
            last_call: 0,
            listening: 0,
            watched: BTreeSet::new(),
            noted: BTreeSet::new(),
            upstreams: BTreeMap::new(),
        }
    }

    /// When it ends without further use.
    pub fn ends_at(&self) -> Timestamp {
        self.used_at.plus_ms(IDLE_MS)
    }

    /// Whether its use must be persisted.
    pub fn touch(&mut self, now: Timestamp) -> bool {
        let worth = now.since(self.used_at) >= TOUCH_MS;
        if worth {
            self.used_at = now;
        }
        worth
    }

    /// Begins a call with a streamed response: returns its number, and that of a call that was forgotten for it.
    pub fn begin(&mut self, begun: CallInfo) -> (u64, Option<u64>) {
        self.last_call += 1;
        let call = Call {
            begun,
            turn: 1,
            last: 0,
            reached: StreamPosition::default(),
            kept: VecDeque::new(),
            requests: Vec::new(),
        };
        self.calls.insert(self.last_call, call);
        let forgotten = (self.calls.len() > MAX_CALLS).then(|| self.calls.pop_first().map(|(number, _)| number));
        (self.last_call, forgotten.flatten())
    }

    fn in_turn(&mut self, call: u64, turn: u64) -> Option<&mut Call> {
        self.calls.get_mut(&call).filter(|call| call.turn == turn)
    }

    /// Adds events of these sizes to a call's stream: returns the number of the first, and of the first that is still
    /// kept. `None` if another Worker writes there by now.
    pub fn publish(&mut self, call: u64, turn: u64, sizes: &[usize], reached: StreamPosition) -> Option<(u64, u64)> {
        let call = self.in_turn(call, turn)?;
        let first = call.last + 1;
        for size in sizes {
            call.last += 1;
            call.kept.push_back((call.last, *size));
        }
        call.reached = reached;
        let bytes = |kept: &VecDeque<(u64, usize)>| kept.iter().map(|(_, size)| size).sum::<usize>();
        while call.kept.len() > MAX_EVENTS || call.kept.len() > 1 && bytes(&call.kept) > MAX_BYTES {
            call.kept.pop_front();
        }
        Some((first, call.kept.front().map_or(call.last + 1, |(number, _)| *number)))
    }

    /// Records the requests of a question on the call's stream.
    pub fn ask(&mut self, call: u64, turn: u64, requests: Vec<Request>) {
        if let Some(call) = self.in_turn(call, turn) {
            call.requests = requests;
        }
    }

    /// Resumes a stream: returns its new turn and its position.
    pub fn resume(&mut self, call: u64) -> Option<(CallInfo, u64, StreamPosition)> {
        let call = self.calls.get_mut(&call)?;
        call.turn += 1;
        Some((call.begun.clone(), call.turn, call.reached))
    }

    /// The context of a running request, by the request's id.
    pub fn context_of(&self, request: &str) -> Option<&str> {
        self.calls.values().rev().find(|call| call.begun.request == request).map(|call| call.begun.context.as_str())
    }

    /// Handles the client's response to a request, by the id as it was written; `None` is an error.
    pub fn respond(&mut self, id: &str, response: Option<&RawValue>) -> ResponseEffect {
        let Some((call, question, at)) = read_request_id(id) else { return ResponseEffect::Nothing };
        let held: usize = self.calls.values().map(Call::held).sum();
        let Some(call) = self.calls.get_mut(&call).filter(|call| call.reached.asked == question) else {
            return ResponseEffect::Nothing;
        };
        let (context, given) = (call.begun.context.clone(), call.held());
        let Some(request) = call.requests.get_mut(at).filter(|request| request.response.is_none()) else {
            return ResponseEffect::Nothing;
        };
        let declined = || RawValue::from_string(r#"{"action":"cancel"}"#.into()).ok().filter(|_| request.elicits);
        // A larger one could neither be forwarded nor stored.
        let fits = |response: &&RawValue| {
            let more = response.get().len();
            given + more <= MAX_PARAMETERS_BYTES && held + more <= MAX_HELD_BYTES
        };
        let response = match response {
            Some(response) => Some(response).filter(fits).map(RawValue::to_owned),
            None => declined(),
        };
        request.response = match response {
            Some(response) => Some(response),
            None => {
                call.requests.clear();
                return ResponseEffect::Refused { context };
            }
        };
        let given = call.requests.iter().map(|request| Some((request.name.as_str(), request.response.as_deref()?)));
        let given: Option<Vec<(&str, &RawValue)>> = given.collect();
        let given: Option<BTreeMap<&str, &RawValue>> = given.map(order::insert_all);
        match given.and_then(|given| serde_json::to_string(&given).ok()) {
            Some(responses) => {
                call.requests.clear();
                ResponseEffect::Answered { context, question, responses }
            }
            None => ResponseEffect::Waits,
        }
    }

    /// Begins a GET stream, which replaces the previous one.
    pub fn listen(&mut self) -> u64 {
        self.listening += 1;
        self.listening
    }

    /// Whether this is the current GET stream.
    pub fn listens(&self, number: u64) -> bool {
        self.listening == number
    }

    /// Notes a change of a service for the GET stream. Returns false if it is already pending.
    pub fn note_change(&mut self, service: ServiceId, method: String) -> bool {
        self.noted.len() < MAX_NOTED && self.noted.insert((service, method))
    }

    /// Takes the pending notifications.
    pub fn take_changes(&mut self) -> Vec<(ServiceId, String)> {
        std::mem::take(&mut self.noted).into_iter().collect()
    }

    /// The session at a server, if one began with this configuration.
    pub fn upstream(&self, service: &ServiceId, place: &str) -> Option<UpstreamSession> {
        self.upstreams.get(service).filter(|known| known.place == place).cloned()
    }

    /// Stores a new upstream session unless there is one; returns the effective one.
    pub fn keep_upstream(&mut self, service: ServiceId, begun: UpstreamSession) -> UpstreamSession {
        if let Some(known) = self.upstream(&service, &begun.place) {
            return known;
        }
        if self.upstreams.len() < MAX_UPSTREAMS || self.upstreams.contains_key(&service) {
            self.upstreams.insert(service, begun.clone());
        }
        begun
    }

    /// Removes a session that the server has forgotten. False if another has replaced it.
    pub fn forget_upstream(&mut self, service: &ServiceId, gone: &str) -> bool {
        let is_it = self.upstreams.get(service).is_some_and(|known| known.session == gone);
        is_it && self.upstreams.remove(service).is_some()
    }

    /// The services with upstream sessions.
    pub fn upstream_services(&self) -> Vec<ServiceId> {
        self.upstreams.keys().cloned().collect()
    }

    /// Takes all upstream sessions.
    pub fn take_upstreams(&mut self) -> Vec<(ServiceId, UpstreamSession)> {
        std::mem::take(&mut self.upstreams).into_iter().collect()
    }

    /// Watches a resource. False if there are too many.
    pub fn watch(&mut self, uri: String) -> bool {
        let room = self.watched.len() < MAX_WATCHED || self.watched.contains(&uri);
        if room {
            self.watched.insert(uri);
        }
        room
    }

    /// Stops watching a resource.
    pub fn unwatch(&mut self, uri: &str) {
        self.watched.remove(uri);
    }

    /// The watched URIs.
    pub fn watched(&self) -> Vec<String> {
        self.watched.iter().cloned().collect()
    }
}

fn read_request_id(raw: &str) -> Option<(u64, usize, usize)> {
    let text: String = serde_json::from_str(raw).ok()?;
    let mut parts = text.strip_prefix('q')?.splitn(3, '.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests;
