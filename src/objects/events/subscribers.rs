//! The sockets of one object: what each may see, which are live, which are catching up, and which read too slowly.
//!
//! A live socket has every event up to its object's position. A socket that catches up is fed spans of the log and
//! becomes live at the moment it reaches that position. The state of a socket is stored in its attachment, so that it
//! survives hibernation.

mod catch_up;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::objects::registry::snapshot::Snapshot;
use crate::platform::clock;
use crate::platform::http::{Headers, answer};
use crate::platform::sockets::Sockets;
use narthex_core::access::revocation::Revocation;
use narthex_core::base::json::{MAX_DEPTH, check};
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::events::backpressure::Backpressure;
use narthex_core::events::bundle::{EventKind, RegistryEvent};
use narthex_core::events::close_code::StreamCloseCode;
use narthex_core::events::cloud_event::frame;
use narthex_core::events::filter::Filter;
use narthex_core::events::sequence::Sequence;

use super::log::Batch;
use super::messages::Viewer;
use super::messages::sockets::{Form, Open};

pub use catch_up::{FeedResult, LogSpan};

/// The platform's limit is 32,768; beyond this number a new socket is closed with 4429.
pub const MAX_SOCKETS: usize = 20_000;
/// Pause before more events are sent to a reader that has fallen behind, in milliseconds.
pub const SLOW_READER_PAUSE_MS: u64 = 250;
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The part of a socket's state that survives hibernation.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Subscription {
    viewer: Viewer,
    filter: Filter,
    /// The one subject that the socket may see, whatever it subscribes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound_to: Option<String>,
    #[serde(default)]
    form: Form,
    /// While catching up: everything up to this sequence was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent: Option<Sequence>,
}

/// Live sockets with the same filter.
#[derive(Default)]
struct LiveSockets {
    messages: Vec<u32>,
    frames: Vec<u32>,
}

impl LiveSockets {
    fn of_form(&mut self, form: Form) -> &mut Vec<u32> {
        match form {
            Form::Message => &mut self.messages,
            Form::Frame => &mut self.frames,
        }
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.frames.is_empty()
    }
}

pub struct Subscribers {
    sockets: Sockets,
    subscriptions: RefCell<HashMap<u32, Subscription>>,
    /// Each event is matched once per filter, however many sockets share it.
    live: RefCell<HashMap<Filter, LiveSockets>>,
    /// Sockets that a task is feeding.
    feeding: RefCell<HashSet<u32>>,
    backpressure: RefCell<Backpressure>,
}

impl Subscribers {
    /// Restores the sockets that survived the last instance.
    pub fn restore(state: &JsValue) -> Self {
        let (sockets, restored) = Sockets::restore(state);
        let subscribers = Self {
            sockets,
            subscriptions: RefCell::default(),
            live: RefCell::default(),
            feeding: RefCell::default(),
            backpressure: RefCell::default(),
        };
        for (slot, attachment) in restored {
            if let Ok(subscription) = serde_json::from_str::<Subscription>(&attachment) {
                subscribers.add(slot, subscription);
            }
        }
        subscribers
    }

    pub fn len(&self) -> usize {
        self.subscriptions.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn slot(&self, socket: &JsValue) -> Option<u32> {
        self.sockets.slot(socket)
    }

    /// The tenant of these sockets; all belong to the same one.
    pub fn tenant(&self) -> Option<TenantId> {
        self.subscriptions.borrow().values().next().map(|subscription| subscription.viewer.tenant.clone())
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
            self.add(slot, subscription);
        } else {
            self.sockets.close(slot, StreamCloseCode::TooMany.code(), StreamCloseCode::TooMany.reason());
        }
        response
    }

    fn add(&self, slot: u32, subscription: Subscription) {
        if subscription.sent.is_none() {
            self.live
                .borrow_mut()
                .entry(subscription.filter.clone())
                .or_default()
                .of_form(subscription.form)
                .push(slot);
        }
        self.subscriptions.borrow_mut().insert(slot, subscription);
    }

    /// Sends the events after `after` to live sockets.
    pub fn broadcast(&self, batches: &[Batch], after: Sequence) {
        for batch in batches {
            for (sequence, bundle, item, before) in batch.events().filter(|(at, ..)| *at > after) {
                // The message that closes a revoked key's sockets may be lost; this event is not.
                if let EventKind::Registry { kind: RegistryEvent::KeyRevoked, .. } = item.kind {
                    self.revoke(&PrincipalId::of_key(&bundle.subject));
                }
                let (messages, frames) = {
                    let live = self.live.borrow();
                    let matching = live.iter().filter(|(filter, _)| filter.matches(bundle, item));
                    matching.fold((Vec::new(), Vec::new()), |(mut messages, mut frames), (_, sockets)| {
                        messages.extend_from_slice(&sockets.messages);
                        frames.extend_from_slice(&sockets.frames);
                        (messages, frames)
                    })
                };
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
        let (now, bytes) = (clock::now(), text.len() as u64);
        let mut backpressure = self.backpressure.borrow_mut();
        let is_too_slow = |slot: &&u32| backpressure.record_sent(**slot, bytes, now, || self.sockets.pinged_at(**slot));
        let mut slow: Vec<u32> = slots.iter().filter(is_too_slow).copied().collect();
        slow.extend(backpressure.furthest_behind());
        drop(backpressure);
        for slot in slow {
            self.close(slot, StreamCloseCode::TooSlow);
        }
    }

    /// Handles a client's message: `{"subscribe": {…}}` replaces its filter.
    pub fn message(&self, slot: u32, text: Option<&str>) {
        let Some(subscription) = self.subscriptions.borrow().get(&slot).cloned() else {
            return;
        };
        let text = match text {
            Some(text) if text.len() <= MAX_MESSAGE_BYTES => text,
            Some(_) => return self.close(slot, StreamCloseCode::TooLarge),
            None => return self.close(slot, StreamCloseCode::BadMessage),
        };
        let viewer = &subscription.viewer;
        let filter = match check(text.as_bytes(), MAX_DEPTH) {
            Ok(text) => Filter::from_message(text, &viewer.principal, viewer.sees_all),
            Err(invalid) => Err(vec![invalid.fault()]),
        };
        match filter {
            Ok(mut filter) => {
                if subscription.bound_to.is_some() {
                    filter.subject.clone_from(&subscription.bound_to);
                }
                let changed = Subscription { filter, ..subscription };
                self.remove_from_live(slot);
                if let Ok(attachment) = serde_json::to_string(&changed) {
                    self.sockets.attach(slot, &attachment);
                }
                // A task that feeds the socket uses the new filter from the next span on.
                self.add(slot, changed);
            }
            Err(faults) => {
                let problem = BTreeMap::from([("errors", faults)]);
                self.sockets.send(&[slot], &serde_json::to_string(&problem).unwrap_or_default());
            }
        }
    }

    fn remove_from_live(&self, slot: u32) {
        let known = self.subscriptions.borrow().get(&slot).map(|known| (known.filter.clone(), known.form));
        let Some((filter, form)) = known else { return };
        let mut live = self.live.borrow_mut();
        if let Some(sockets) = live.get_mut(&filter) {
            sockets.of_form(form).retain(|other| *other != slot);
            if sockets.is_empty() {
                live.remove(&filter);
            }
        }
    }

    pub fn closed(&self, slot: u32) {
        self.remove_from_live(slot);
        self.subscriptions.borrow_mut().remove(&slot);
        self.backpressure.borrow_mut().forget(slot);
    }

    fn close(&self, slot: u32, why: StreamCloseCode) {
        self.sockets.close(slot, why.code(), why.reason());
        self.closed(slot);
    }

    fn close_revoked(&self, whose: impl Fn(&Viewer, Option<&String>) -> bool) {
        let ended: Vec<u32> = {
            let subscriptions = self.subscriptions.borrow();
            let ended = subscriptions.iter().filter(|(_, sub)| whose(&sub.viewer, sub.bound_to.as_ref()));
            ended.map(|(slot, _)| *slot).collect()
        };
        for slot in ended {
            self.close(slot, StreamCloseCode::CredentialsEnded);
        }
    }

    /// Closes the sockets of ended credentials.
    pub fn revoke(&self, principal: &PrincipalId) {
        self.close_revoked(|viewer, _| viewer.principal == *principal);
    }

    /// Closes the sockets whose credentials depend on what was revoked.
    pub fn revoke_dependents(&self, revocation: &Revocation) {
        self.close_revoked(|viewer, _| viewer.depends_on(revocation));
    }

    /// Closes the sockets whose credentials have expired.
    pub fn close_expired(&self, now: Timestamp) {
        let is_over = |viewer: &Viewer, _: Option<&String>| viewer.until.is_some_and(|until| until <= now);
        self.close_revoked(is_over);
    }

    /// When the next credentials expire.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.subscriptions.borrow().values().filter_map(|subscription| subscription.viewer.until).min()
    }

    /// Closes the sockets whose viewers have lost their permissions, as far as the registry knows; tokens carry their
    /// own expiry.
    pub fn check(&self, snapshot: &Snapshot) {
        self.close_revoked(|viewer, bound_to| {
            let is_known = viewer.principal.key().is_some();
            is_known
                && snapshot.principal(&viewer.tenant, &viewer.principal).is_none_or(|principal| {
                    let may_look = viewer.notify_only
                        || principal.may("events:read")
                        || bound_to.is_some() && principal.may("contexts:read");
                    !may_look || viewer.sees_all && !principal.sees_all_contexts()
                })
        });
    }
}

fn in_form(event: &str, form: Form, sequence: Sequence) -> String {
    match form {
        Form::Message => event.to_string(),
        Form::Frame => frame(event, sequence),
    }
}
