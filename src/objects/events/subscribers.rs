//! The sockets of a hub or a shard, as the core decides about them (`narthex_core::events::subscribers`): sends, closes
//! and stores their attachments.

use std::cell::RefCell;

use wasm_bindgen::prelude::*;

use crate::objects::registry::snapshot::Snapshot;
use crate::platform::clock;
use crate::platform::http::{Headers, answer};
use crate::platform::sockets::Sockets;
use narthex_core::access::revocation::Revocation;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::events::bundle::{EventKind, RegistryEvent};
use narthex_core::events::close_code::StreamCloseCode;
use narthex_core::events::cloud_event::{frame, gap_event};
use narthex_core::events::sequence::Sequence;
use narthex_core::events::subscribers::{self as core, FeedResult, Form, MessageResult, Span, Subscription};

use super::log::Batch;
use super::messages::sockets::Open;

/// The platform's limit is 32,768; beyond this number a new socket is closed with 4429.
pub const MAX_SOCKETS: usize = 20_000;
/// Pause before more events are sent to a reader that has fallen behind, in milliseconds.
pub const SLOW_READER_PAUSE_MS: u64 = 250;

/// A span of the log, read for a socket that catches up.
pub struct LogSpan {
    pub batches: Vec<Batch>,
    /// The first sequence in the log.
    pub first_kept: Sequence,
}

pub struct Subscribers {
    sockets: Sockets,
    core: RefCell<core::Subscribers>,
}

impl Subscribers {
    /// Restores the sockets that survived the last instance.
    pub fn restore(state: &JsValue) -> Self {
        let (sockets, restored) = Sockets::restore(state);
        let (core, unreadable) = core::Subscribers::restore(restored);
        let subscribers = Self { sockets, core: RefCell::new(core) };
        for slot in unreadable {
            subscribers.close(slot, StreamCloseCode::Internal);
        }
        subscribers
    }

    pub fn len(&self) -> usize {
        self.core.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.core.borrow().is_empty()
    }

    pub fn slot(&self, socket: &JsValue) -> Option<u32> {
        self.sockets.slot(socket)
    }

    pub fn tenant(&self) -> Option<TenantId> {
        self.core.borrow().tenant().cloned()
    }

    /// Opens a socket that has everything up to `sent`, or is live. Without room, it is closed at once.
    pub fn accept(&self, open: Open, sent: Option<Sequence>, has_room: bool) -> JsValue {
        let mut headers = Headers::default();
        let mut lines = open.headers.split('\n');
        while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
            headers.set(name, value);
        }
        let Open { viewer, filter, bound_to, form, .. } = open;
        let subscription = Subscription { viewer, filter, bound_to, form, sent };
        let Ok(attachment) = serde_json::to_string(&subscription) else {
            return answer(500, &headers, None);
        };
        let (response, slot) = self.sockets.accept(&attachment, &headers);
        if has_room {
            self.core.borrow_mut().add(slot, subscription);
        } else {
            self.sockets.close(slot, StreamCloseCode::TooMany.code(), StreamCloseCode::TooMany.reason());
        }
        response
    }

    /// Sends the events after `after` to live sockets.
    pub fn broadcast(&self, batches: &[Batch], after: Sequence) {
        for batch in batches {
            for (sequence, bundle, item, before) in batch.events().filter(|(at, ..)| *at > after) {
                // The message that closes a revoked key's sockets may be lost; this event is not.
                if let EventKind::Registry { kind: RegistryEvent::KeyRevoked, .. } = item.kind {
                    self.revoke(&PrincipalId::of_key(&bundle.subject));
                }
                let core::Recipients { messages, frames } = self.core.borrow().recipients(bundle, item);
                if !messages.is_empty() || !frames.is_empty() {
                    let event = batch.event(bundle, item, before, sequence);
                    self.send(&messages, &event);
                    if !frames.is_empty() {
                        self.send(&frames, &frame(&event, sequence));
                    }
                }
            }
        }
    }

    /// Sends to these sockets, and closes those that do not read.
    fn send(&self, slots: &[u32], text: &str) {
        if slots.is_empty() {
            return;
        }
        self.sockets.send(slots, text);
        let pinged = |slot| self.sockets.pinged_at(slot);
        let slow = self.core.borrow_mut().sent(slots, text.len() as u64, clock::now(), pinged);
        self.close_all(slow, StreamCloseCode::TooSlow);
    }

    /// Handles a client's message.
    pub fn message(&self, slot: u32, text: Option<&str>) {
        let result = self.core.borrow_mut().message(slot, text);
        match result {
            MessageResult::Subscribed(attachment) => self.sockets.attach(slot, &attachment),
            MessageResult::Faults(reply) => self.sockets.send(&[slot], &reply),
            MessageResult::Close(why) => self.close(slot, why),
            MessageResult::Nothing => {}
        }
    }

    pub fn closed(&self, slot: u32) {
        self.core.borrow_mut().remove(slot);
    }

    fn close(&self, slot: u32, why: StreamCloseCode) {
        self.sockets.close(slot, why.code(), why.reason());
        self.closed(slot);
    }

    fn close_all(&self, slots: Vec<u32>, why: StreamCloseCode) {
        for slot in slots {
            self.close(slot, why);
        }
    }

    /// Closes the sockets of ended credentials.
    pub fn revoke(&self, principal: &PrincipalId) {
        let ended = self.core.borrow().of_principal(principal);
        self.close_all(ended, StreamCloseCode::CredentialsEnded);
    }

    /// Closes the sockets whose credentials depend on what was revoked.
    pub fn revoke_dependents(&self, revocation: &Revocation) {
        let ended = self.core.borrow().dependents(revocation);
        self.close_all(ended, StreamCloseCode::CredentialsEnded);
    }

    /// Closes the sockets whose credentials have expired.
    pub fn close_expired(&self, now: Timestamp) {
        let ended = self.core.borrow().expired(now);
        self.close_all(ended, StreamCloseCode::CredentialsEnded);
    }

    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.core.borrow().next_expiry()
    }

    /// Closes the sockets whose viewers have lost their permissions.
    pub fn check(&self, snapshot: &Snapshot) {
        let ended = self.core.borrow().unpermitted(|viewer| snapshot.principal(&viewer.tenant, &viewer.principal));
        self.close_all(ended, StreamCloseCode::CredentialsEnded);
    }

    /// The sockets that catch up without a task feeding them; the caller feeds them from now on.
    pub fn start_feeding(&self) -> Vec<u32> {
        self.core.borrow_mut().start_feeding()
    }

    pub fn finish_feeding(&self, slot: u32) {
        self.core.borrow_mut().finish_feeding(slot);
    }

    /// Up to where a socket that catches up was sent events; `None` if it is live or closed.
    pub fn sent(&self, slot: u32) -> Option<Sequence> {
        self.core.borrow().position(slot)
    }

    /// Closes a socket because the log could not be read.
    pub fn fail(&self, slot: u32) {
        self.close(slot, StreamCloseCode::Internal);
    }

    /// Sends a socket the matching events of a span, up to `end`, the position of the live sockets; there, it becomes
    /// live.
    pub fn feed(&self, slot: u32, span: &LogSpan, end: Sequence) -> FeedResult {
        let all: Vec<_> =
            span.batches.iter().flat_map(|batch| batch.events().map(move |event| (batch, event))).collect();
        let events = all.iter().map(|(_, (sequence, bundle, item, _))| (*sequence, *bundle, *item));
        let found = self.core.borrow().span(slot, span.first_kept, events, end);
        let (events, reached) = match found {
            Span::Send { events, reached } => (events, reached),
            Span::Gap(sent) => {
                self.send_gap(slot, sent, span.first_kept);
                return FeedResult::Done;
            }
            Span::Nothing => return FeedResult::Done,
        };
        for (batch, (sequence, bundle, item, before)) in events.into_iter().filter_map(|index| all.get(index)) {
            let Some(form) = self.core.borrow().get(slot).map(|subscription| subscription.form) else {
                // It was closed, as it reads too slowly.
                return FeedResult::Done;
            };
            let event = batch.event(bundle, item, *before, *sequence);
            self.send(&[slot], &in_form(&event, form, *sequence));
        }
        let (result, attachment) = self.core.borrow_mut().fed(slot, reached, end);
        if let Some(attachment) = attachment {
            self.sockets.attach(slot, &attachment);
        }
        result
    }

    fn send_gap(&self, slot: u32, sent: Sequence, first_kept: Sequence) {
        let known = self.core.borrow().get(slot).map(|known| (known.viewer.tenant.clone(), known.form));
        let Some((tenant, form)) = known else { return };
        let event = gap_event(&tenant, clock::now(), sent, first_kept);
        self.sockets.send(&[slot], &in_form(&event, form, first_kept.previous()));
        let gap = StreamCloseCode::Gap;
        let reason = format!("{} {}", gap.reason(), first_kept.previous().text());
        self.sockets.close(slot, gap.code(), &reason);
        self.closed(slot);
    }

    /// Closes the live sockets, whose next events are no longer in the log.
    pub fn report_gap(&self, reached: Sequence, first_kept: Sequence) {
        let live = self.core.borrow().live();
        for slot in live {
            self.send_gap(slot, reached, first_kept);
        }
    }
}

fn in_form(event: &str, form: Form, sequence: Sequence) -> String {
    match form {
        Form::Message => event.to_string(),
        Form::Frame => frame(event, sequence),
    }
}
