//! What is read of a response while it passes, and what its client gets of it.

use std::cell::{Cell, RefCell};

use super::super::kept_result::KeptResult;
use crate::platform::clock;
use crate::platform::relay::{Closing, Next, Observer, Passing, Piece, RelayEnd, Seen};
use narthex_core::http::sse::{Event, EventReader};
use narthex_core::models::convert::{Echo, StreamConverter};
use narthex_core::models::endpoint::Endpoint;
use narthex_core::models::refusal;
use narthex_core::models::response_body::ResponseReader;
use narthex_core::models::stream::{Passed, ShowsSecrets, StreamError, StreamReader};

/// For how many responses at once the rest is read once their clients have left.
const MAX_DRAINED: usize = 50;

thread_local! {
    /// How many responses are read for their usage only.
    static DRAINING: Cell<usize> = const { Cell::new(0) };
}

/// A response that is read for its usage only.
struct Draining;

impl Draining {
    /// `None`: there are too many.
    fn begin() -> Option<Self> {
        let count = DRAINING.get();
        (count < MAX_DRAINED).then(|| {
            DRAINING.set(count + 1);
            Self
        })
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        DRAINING.set(DRAINING.get().saturating_sub(1));
    }
}

/// What a relayed response has reported.
pub enum Reading {
    Document(ResponseReader),
    Events(Box<Events>),
}

/// A streamed response.
pub struct Events {
    pub reader: StreamReader,
    /// `None`: the client's format is the provider's.
    conversion: Option<Conversion>,
}

/// Makes the client's events of the provider's.
struct Conversion {
    splitter: EventReader,
    converter: StreamConverter,
    /// How many events the client got.
    events: u64,
}

impl Conversion {
    fn convert(&mut self, events: impl IntoIterator<Item = Event>) -> String {
        let text: String = events.into_iter().map(|event| self.converter.event(&event.name, &event.data)).collect();
        self.events += text.matches("\n\n").count() as u64;
        text
    }
}

impl Events {
    /// In the client's format. `drops_usage`: the client did not ask for usage.
    pub fn passed(endpoint: Endpoint, drops_usage: bool, shows_secrets: Option<ShowsSecrets>) -> Self {
        let reader = StreamReader::new(endpoint, drops_usage).hiding(shows_secrets);
        Self { reader, conversion: None }
    }

    /// For a client of `from`, of a provider's `to`.
    pub fn converted(from: Endpoint, to: Endpoint, echo: Echo, shows_secrets: Option<ShowsSecrets>) -> Self {
        let converter = StreamConverter::new(from, to, echo, clock::now().seconds());
        let conversion = Conversion { splitter: EventReader::default(), converter, events: 0 };
        let reader = StreamReader::new(to, false).hiding(shows_secrets);
        Self { reader, conversion: Some(conversion) }
    }

    /// Whether the provider's error is not for the client.
    fn has_secret_error(&self) -> bool {
        self.reader.error.as_ref().is_some_and(|error| error.is_secret)
    }

    fn piece(&mut self, piece: &Piece) -> Seen {
        let passing = match &mut self.conversion {
            None => passed(&mut self.reader, piece),
            Some(conversion) => {
                let mut text = String::new();
                let _ = piece.read(|bytes| {
                    self.reader.push(bytes);
                    let events = conversion.splitter.push(bytes);
                    text.push_str(
                        &conversion.convert(events.into_iter().filter(|event| !self.reader.hides(&event.data))),
                    );
                    if is_over(&self.reader) { Err(()) } else { Ok(()) }
                });
                if conversion.converter.is_unreadable() && self.reader.error.is_none() {
                    self.reader.error = Some(StreamError::unreadable());
                    return Seen { passing: Passing::Text(text), next: Next::Ends };
                }
                Passing::Text(text)
            }
        };
        let next = match &self.reader {
            reader if reader.is_too_long => Next::TooLong,
            reader if reader.is_done() => Next::Ends,
            _ => Next::GoesOn,
        };
        Seen { passing, next }
    }

    /// The provider's stream has ended by itself.
    fn finish(&mut self) -> Closing {
        let is_last = self.reader.finish();
        let Some(conversion) = &mut self.conversion else {
            return Closing { passes_held: is_last, text: String::new() };
        };
        let last = if is_last { conversion.splitter.take_unfinished() } else { None };
        let mut text = conversion.convert(last.filter(|event| !self.reader.hides(&event.data)));
        if self.reader.is_whole() {
            text.push_str(&conversion.converter.end());
        }
        Closing { passes_held: false, text }
    }

    /// The number of the next event of the client's.
    fn next_number(&self) -> u64 {
        self.conversion.as_ref().map_or(self.reader.events, |conversion| conversion.events)
    }
}

/// Whether nothing that follows is read.
fn is_over(reader: &StreamReader) -> bool {
    reader.is_done() || reader.is_too_long
}

/// Reads a piece of a stream whose events pass as they come.
fn passed(reader: &mut StreamReader, piece: &Piece) -> Passing {
    let held = reader.held();
    let mut all = Passed::default();
    let mut begins = held;
    let _ = piece.read(|bytes| {
        // Places count from what was held before the window.
        let base = begins - reader.held();
        let Passed { ranges, to } = reader.push(bytes);
        for (from, end) in ranges {
            match all.ranges.last_mut() {
                Some((_, last)) if *last == base + from => *last = base + end,
                _ => all.ranges.push((base + from, base + end)),
            }
        }
        if to > 0 {
            all.to = base + to;
        }
        begins += bytes.len();
        if is_over(reader) { Err(()) } else { Ok(()) }
    });
    if is_over(reader) {
        // Nothing more is held.
        all.to = held + piece.bytes();
    }
    let is_whole = held == 0 && all.ranges == [(0, piece.bytes())];
    if is_whole { Passing::Whole } else { Passing::Ranges(all) }
}

/// Watches a response as it is relayed.
pub struct Watch {
    reading: RefCell<Reading>,
    /// The response in the client's format, if it is kept.
    kept: RefCell<Option<KeptResult>>,
    endpoint: Endpoint,
    request_id: String,
    /// The credentials of the client have ended.
    pub is_revoked: Cell<bool>,
    /// The context was cancelled.
    pub is_cancelled: Cell<bool>,
    /// The rest is read once the client has left.
    drains: bool,
    draining: RefCell<Option<Draining>>,
}

impl Observer for Watch {
    fn piece(&self, piece: &Piece) -> Seen {
        let seen = match &mut *self.reading.borrow_mut() {
            Reading::Document(reader) => {
                piece.each(|bytes| reader.push(bytes));
                Seen { passing: Passing::Whole, next: Next::GoesOn }
            }
            Reading::Events(events) => events.piece(piece),
        };
        if let Some(kept) = &mut *self.kept.borrow_mut() {
            match &seen.passing {
                Passing::Text(text) => kept.push(text.as_bytes()),
                Passing::Whole | Passing::Ranges(_) => {
                    piece.each(|bytes| kept.push(bytes));
                }
            }
        }
        seen
    }

    fn end(&self, how: RelayEnd) -> Option<Closing> {
        match &mut *self.reading.borrow_mut() {
            Reading::Document(reader) => (how == RelayEnd::Done && reader.is_whole()).then(Closing::default),
            Reading::Events(events) => self.closing(events, how),
        }
    }

    fn may_drain(&self) -> bool {
        let draining = if self.drains { Draining::begin() } else { None };
        let may = draining.is_some();
        self.draining.replace(draining);
        may
    }
}

impl Watch {
    /// `endpoint`: the client's. `drains`: the rest is read once the client has left.
    pub fn new(
        (reading, kept): (Reading, Option<KeptResult>),
        endpoint: Endpoint,
        request_id: &str,
        drains: bool,
    ) -> Self {
        Self {
            reading: RefCell::new(reading),
            kept: RefCell::new(kept),
            endpoint,
            request_id: request_id.into(),
            is_revoked: Cell::new(false),
            is_cancelled: Cell::new(false),
            drains,
            draining: RefCell::new(None),
        }
    }

    /// The response has ended: what it has reported, and what is kept of it.
    pub fn ended(&self) -> (Reading, Option<KeptResult>) {
        drop(self.draining.take());
        let reading = self.reading.replace(Reading::Document(ResponseReader::new(self.endpoint.format())));
        (reading, self.kept.take())
    }

    fn closing(&self, events: &mut Events, how: RelayEnd) -> Option<Closing> {
        let mut closing = if how == RelayEnd::Done { events.finish() } else { Closing::default() };
        if let Some(kept) = &mut *self.kept.borrow_mut() {
            kept.push(closing.text.as_bytes());
        }
        let is_secret = events.has_secret_error();
        let has_error = events.reader.error.is_some() && !is_secret;
        let is_known = has_error || (how == RelayEnd::Done && events.reader.is_whole());
        let (status, code, message) = match how {
            RelayEnd::Gone => return None,
            _ if self.is_revoked.get() && how != RelayEnd::Done => {
                (401, "unauthenticated", "The credentials have ended.")
            }
            _ if self.is_cancelled.get() && how != RelayEnd::Done => (409, "cancelled", "The context was cancelled."),
            // The client has its end, or the provider's error.
            RelayEnd::Done | RelayEnd::Broke | RelayEnd::Idle if is_known => return Some(closing),
            RelayEnd::Done | RelayEnd::Broke | RelayEnd::Idle if is_secret => {
                (502, "upstream_error", "The provider reported an error.")
            }
            RelayEnd::Idle => (504, "upstream_timeout", "The provider's stream was silent for too long."),
            RelayEnd::Overdue => (504, "deadline_exceeded", "The deadline of the request has passed."),
            RelayEnd::TooLong => (502, "upstream_error", "An event of the provider's stream is too long."),
            RelayEnd::Done | RelayEnd::Broke => (502, "upstream_error", "The provider's stream ended before its end."),
        };
        if closing.passes_held {
            // It has no empty line.
            closing.text.push_str("\n\n");
        }
        let place = (self.request_id.as_str(), events.next_number());
        closing.text.push_str(&refusal::event(self.endpoint, status, code, message, place));
        Some(closing)
    }
}
