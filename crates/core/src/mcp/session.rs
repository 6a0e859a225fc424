//! The session of a legacy client that can be asked: its calls under way, what was sent on their streams, and what it was
//! asked and has not answered. What was sent stands beside this, by call and number.
//!
//! Kept by all of it:
//!
//! * one worker at a time writes to a call's stream: who takes it up again raises its `turn`, and an earlier turn is over;
//! * a stream's numbers only grow, and what is kept of it is bounded;
//! * a question is answered once all of its requests are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::time::Timestamp;
use crate::context::create_request::MAX_PARAMETERS_BYTES;

/// A session that is not used for so long ends, in milliseconds.
pub const IDLE_MS: u64 = 86_400_000;
/// Use is written down at most so often, in milliseconds.
const TOUCH_MS: u64 = 3_600_000;
/// Calls that are remembered; the oldest make room.
const MAX_CALLS: usize = 32;
/// What is kept of one call's stream.
const MAX_EVENTS: usize = 100;
const MAX_BYTES: usize = 512 * 1024;
/// Responses of all its calls that wait for others. The session is one row.
const MAX_HELD_BYTES: usize = 1024 * 1024;
/// Resources a session watches.
const MAX_WATCHED: usize = 50;
/// Changes that are remembered to be told.
const MAX_NOTED: usize = 100;
/// Sessions at servers that are remembered; of more each isolate has its own.
const MAX_UPSTREAMS: usize = 100;

/// Who opened it, and what it can.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Opener {
    pub principal: String,
    /// The revision that was agreed on.
    pub version: String,
    /// Its `ClientCapabilities`.
    pub client: Box<RawValue>,
}

/// A session at a server, which belongs to this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// The service as it was configured when it was begun.
    pub place: String,
    /// The revision that was agreed on.
    pub version: String,
    pub session: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Session {
    pub opener: Opener,
    /// As `logging/setLevel` set it.
    #[serde(default)]
    pub level: Option<String>,
    used_at: Timestamp,
    #[serde(default)]
    calls: BTreeMap<u64, Call>,
    #[serde(default)]
    last_call: u64,
    /// Streams by GET so far: the last is the one that is told.
    #[serde(default)]
    listening: u64,
    /// Resources that are watched, by their URIs.
    #[serde(default)]
    watched: BTreeSet<String>,
    /// What has changed, by services, and was not told yet.
    #[serde(default)]
    noted: BTreeSet<(String, String)>,
    /// By services.
    #[serde(default)]
    upstreams: BTreeMap<String, Upstream>,
}

/// What of a call does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The id of the JSON-RPC request, as it was written.
    pub request: String,
    pub context: String,
    /// What progress is reported under, as it was written.
    #[serde(default)]
    pub token: Option<String>,
    /// All that is said of it names the task.
    #[serde(default)]
    pub related: bool,
}

/// How far a call's stream has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// The number of the event of the last progress that was told.
    #[serde(default)]
    pub event: u64,
    /// The progress itself, which only grows.
    #[serde(default)]
    pub progress: f64,
    /// Questions that were asked.
    #[serde(default)]
    pub asked: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Call {
    begun: Begun,
    turn: u64,
    /// The number of the last event.
    last: u64,
    #[serde(default)]
    reached: Reached,
    /// Numbers and sizes of what is kept.
    #[serde(default)]
    kept: VecDeque<(u64, usize)>,
    /// What the client was asked last.
    #[serde(default)]
    requests: Vec<Request>,
}

impl Call {
    /// Bytes of responses that wait for the others of their question.
    fn held(&self) -> usize {
        let responses = self.requests.iter().filter_map(|request| request.response.as_ref());
        responses.map(|response| response.get().len()).sum()
    }
}

/// A request to the client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub name: String,
    /// Its user is asked, who may decline.
    pub elicits: bool,
    #[serde(default)]
    pub response: Option<Box<RawValue>>,
}

/// What a response to a request came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Responded {
    /// It answers nothing that is open.
    Nothing,
    /// Other requests of the question are open.
    Waits,
    /// The whole question: the text of an object, by names.
    Answered { context: String, question: usize, responses: String },
    /// The client cannot do what the work needs.
    Refused { context: String },
}

/// A session's name, which nobody guesses.
pub fn name(random: [u8; 24]) -> String {
    URL_SAFE_NO_PAD.encode(random)
}

/// The id of a request to the client: it says which question it belongs to.
pub fn request_id(call: u64, question: usize, at: usize) -> String {
    format!("q{call}.{question}.{at}")
}

/// The id of an event: of which stream, and its number there; the response has none.
pub fn event_id(call: u64, number: Option<u64>) -> String {
    number.map_or_else(|| format!("{call}.end"), |number| format!("{call}.{number}"))
}

/// Where a stream of a call was left.
pub fn read_event_id(text: &str) -> Option<(u64, Option<u64>)> {
    let (call, number) = text.trim().split_once('.')?;
    let call = call.parse().ok()?;
    if number == "end" { Some((call, None)) } else { Some((call, Some(number.parse().ok()?))) }
}

impl Session {
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

    /// When it ends, unless it is used.
    pub fn ends_at(&self) -> Timestamp {
        self.used_at.plus_ms(IDLE_MS)
    }

    /// Whether its use is worth to be written down.
    pub fn touch(&mut self, now: Timestamp) -> bool {
        let worth = now.since(self.used_at) >= TOUCH_MS;
        if worth {
            self.used_at = now;
        }
        worth
    }

    /// A call whose answer is a stream: its number, and that of one which is forgotten for it.
    pub fn begin(&mut self, begun: Begun) -> (u64, Option<u64>) {
        self.last_call += 1;
        let call =
            Call { begun, turn: 1, last: 0, reached: Reached::default(), kept: VecDeque::new(), requests: Vec::new() };
        self.calls.insert(self.last_call, call);
        let forgotten = (self.calls.len() > MAX_CALLS).then(|| self.calls.pop_first().map(|(number, _)| number));
        (self.last_call, forgotten.flatten())
    }

    fn in_turn(&mut self, call: u64, turn: u64) -> Option<&mut Call> {
        self.calls.get_mut(&call).filter(|call| call.turn == turn)
    }

    /// Messages of these sizes are sent on a call's stream: the number of the first, and the first that is still kept.
    /// Nothing when somebody else writes there by now.
    pub fn tell(&mut self, call: u64, turn: u64, sizes: &[usize], reached: Reached) -> Option<(u64, u64)> {
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

    /// The client is asked this on the call's stream.
    pub fn ask(&mut self, call: u64, turn: u64, requests: Vec<Request>) {
        if let Some(call) = self.in_turn(call, turn) {
            call.requests = requests;
        }
    }

    /// A stream is taken up again: its turn from now on, and how far it has come.
    pub fn resume(&mut self, call: u64) -> Option<(Begun, u64, Reached)> {
        let call = self.calls.get_mut(&call)?;
        call.turn += 1;
        Some((call.begun.clone(), call.turn, call.reached))
    }

    /// The context of a request that goes on, by the request's id.
    pub fn context_of(&self, request: &str) -> Option<&str> {
        self.calls.values().rev().find(|call| call.begun.request == request).map(|call| call.begun.context.as_str())
    }

    /// The client's response to a request, by the id as it was written; nothing for an error.
    pub fn respond(&mut self, id: &str, response: Option<&RawValue>) -> Responded {
        let Some((call, question, at)) = read_request_id(id) else { return Responded::Nothing };
        let held: usize = self.calls.values().map(Call::held).sum();
        let Some(call) = self.calls.get_mut(&call).filter(|call| call.reached.asked == question) else {
            return Responded::Nothing;
        };
        let (context, given) = (call.begun.context.clone(), call.held());
        let Some(request) = call.requests.get_mut(at).filter(|request| request.response.is_none()) else {
            return Responded::Nothing;
        };
        let declined = || RawValue::from_string(r#"{"action":"cancel"}"#.into()).ok().filter(|_| request.elicits);
        // No more of it could be passed on, nor kept.
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
                return Responded::Refused { context };
            }
        };
        let given: Option<BTreeMap<&str, &RawValue>> =
            call.requests.iter().map(|request| Some((request.name.as_str(), request.response.as_deref()?))).collect();
        match given.and_then(|given| serde_json::to_string(&given).ok()) {
            Some(responses) => {
                call.requests.clear();
                Responded::Answered { context, question, responses }
            }
            None => Responded::Waits,
        }
    }

    /// Another stream by GET, which is told from now on; the one before is over.
    pub fn listen(&mut self) -> u64 {
        self.listening += 1;
        self.listening
    }

    pub fn listens(&self, number: u64) -> bool {
        self.listening == number
    }

    /// Something of a service has changed, which the stream by GET is to tell. False when that is known.
    pub fn note(&mut self, service: String, method: String) -> bool {
        self.noted.len() < MAX_NOTED && self.noted.insert((service, method))
    }

    pub fn take_noted(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.noted).into_iter().collect()
    }

    /// The session at a server, if one was begun with this configuration of it.
    pub fn upstream(&self, service: &str, place: &str) -> Option<Upstream> {
        self.upstreams.get(service).filter(|known| known.place == place).cloned()
    }

    /// Remembers one that was begun, unless there is one: gives the one that counts.
    pub fn keep_upstream(&mut self, service: String, begun: Upstream) -> Upstream {
        if let Some(known) = self.upstream(&service, &begun.place) {
            return known;
        }
        if self.upstreams.len() < MAX_UPSTREAMS || self.upstreams.contains_key(&service) {
            self.upstreams.insert(service, begun.clone());
        }
        begun
    }

    /// The server does not know it any more. False where another has taken its place.
    pub fn forget_upstream(&mut self, service: &str, gone: &str) -> bool {
        let is_it = self.upstreams.get(service).is_some_and(|known| known.session == gone);
        is_it && self.upstreams.remove(service).is_some()
    }

    /// The services whose servers it has sessions at.
    pub fn upstream_services(&self) -> Vec<String> {
        self.upstreams.keys().cloned().collect()
    }

    pub fn take_upstreams(&mut self) -> Vec<(String, Upstream)> {
        std::mem::take(&mut self.upstreams).into_iter().collect()
    }

    /// A resource is watched from now on. False when there are too many.
    pub fn watch(&mut self, uri: String) -> bool {
        let room = self.watched.len() < MAX_WATCHED || self.watched.contains(&uri);
        if room {
            self.watched.insert(uri);
        }
        room
    }

    pub fn unwatch(&mut self, uri: &str) {
        self.watched.remove(uri);
    }

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
