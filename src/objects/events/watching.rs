//! Sockets that watch the stream: opened, fed from the log until they have everything, then told as it happens.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::core::event::{cloud_event, gap_event, sequence_text};
use crate::core::filter::Filter;
use crate::core::json::{MAX_DEPTH, check};
use crate::platform::http::{Headers, answer};
use crate::platform::{Failure, clock, die, tasks};

use super::Hub;
use super::messages::{Open, Viewer};

/// Batches read at a time while a socket catches up.
const PIECE: u64 = 32;
/// The platform's bound is 32,768; beyond this a newcomer is turned away with 4429.
const MOST_SOCKETS: usize = 20_000;
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

const CREDENTIALS_ENDED: u16 = 4401;
const GAP: u16 = 4410;
const TOO_MANY: u16 = 4429;
const BAD_MESSAGE: u16 = 1008;
const TOO_LARGE: u16 = 1009;
const LOG_UNREADABLE: u16 = 1011;

/// What outlives hibernation of a socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Subscription {
    pub(super) viewer: Viewer,
    filter: Filter,
    /// The one subject it is for, whatever it subscribes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound_to: Option<String>,
    /// Catching up: everything up to this sequence was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent: Option<u64>,
}

impl Hub {
    pub(super) fn open(self: &Rc<Self>, open: Open) -> JsValue {
        let mut headers = Headers::default();
        let mut lines = open.headers.split('\n');
        while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
            headers.set(name, value);
        }
        let next = self.log.borrow().next();
        // From the future there is nothing to resume: such a client starts at the end.
        let sent = open.after.filter(|after| after + 1 < next);
        let subscription = Subscription { viewer: open.viewer, filter: open.filter, bound_to: open.bound_to, sent };
        let Ok(attachment) = serde_json::to_string(&subscription) else {
            return answer(500, &headers, None);
        };
        let full = self.subscriptions.borrow().len() >= MOST_SOCKETS;
        let (response, slot) = self.sockets.accept(&attachment, &headers);
        if full {
            self.sockets.close(slot, TOO_MANY, "too many sockets; try again later");
        } else {
            self.take_up(slot, subscription);
        }
        response
    }

    pub(super) fn take_up(self: &Rc<Self>, slot: u32, subscription: Subscription) {
        let catching_up = subscription.sent.is_some();
        if !catching_up {
            self.live.borrow_mut().entry(subscription.filter.clone()).or_default().push(slot);
        }
        self.subscriptions.borrow_mut().insert(slot, subscription);
        if catching_up {
            let hub = self.clone();
            tasks::spawn(async move { hub.catch_up(slot).await });
        }
    }

    /// Feeds a socket from the log, piece by piece, until it has everything.
    async fn catch_up(self: Rc<Self>, slot: u32) {
        while self.feed(slot) {
            // Others get their turn between two pieces.
            clock::pause(0).await;
        }
    }

    /// Sends a socket one piece of the log; true when more is to come. At the log's end it becomes live.
    fn feed(&self, slot: u32) -> bool {
        let known = self.subscriptions.borrow().get(&slot).cloned();
        let Some(Subscription { viewer, filter, bound_to, sent: Some(sent) }) = known else {
            return false;
        };
        let log = self.log.borrow();
        let first_kept = log.first_kept().ok().flatten().unwrap_or_else(|| log.next());
        if sent + 1 < first_kept {
            let text = gap_event(&viewer.tenant, clock::now(), sent, first_kept);
            self.sockets.send(&[slot], &text);
            self.close(slot, GAP, &format!("resume after {}", sequence_text(first_kept - 1)));
            return false;
        }
        let Ok(piece) = log.after(sent, PIECE) else {
            self.close(slot, LOG_UNREADABLE, "the log could not be read");
            return false;
        };
        let mut reached = None;
        for batch in &piece {
            for (sequence, bundle, item, before) in batch.events().filter(|(at, ..)| *at > sent) {
                reached = Some(sequence);
                if filter.matches(bundle, item) {
                    let text = cloud_event(&viewer.tenant, &batch.teller, bundle, item, before, sequence);
                    self.sockets.send(&[slot], &text);
                }
            }
        }
        let sent = reached.filter(|reached| reached + 1 < log.next());
        let subscription = Subscription { viewer, filter, bound_to, sent };
        if let Ok(attachment) = serde_json::to_string(&subscription) {
            self.sockets.attach(slot, &attachment);
        }
        if sent.is_none() {
            self.live.borrow_mut().entry(subscription.filter.clone()).or_default().push(slot);
        }
        self.subscriptions.borrow_mut().insert(slot, subscription);
        sent.is_some()
    }

    /// Sends what was appended from this sequence on to whoever is live.
    pub(super) fn broadcast(self: &Rc<Self>, from: u64) -> Result<(), Failure> {
        if self.subscriptions.borrow().is_empty() {
            return Ok(());
        }
        let now = clock::now();
        self.close_all(|viewer| viewer.until.is_some_and(|until| until <= now));
        let live = self.live.borrow();
        let appended = self.log.borrow().after(from - 1, 1)?;
        let events = appended.iter().flat_map(|batch| batch.events().map(move |event| (batch, event)));
        for (batch, (sequence, bundle, item, before)) in events {
            let slots: Vec<u32> = live
                .iter()
                .filter(|(filter, _)| filter.matches(bundle, item))
                .flat_map(|(_, slots)| slots.iter().copied())
                .collect();
            if !slots.is_empty() {
                let text = cloud_event(&batch.tenant, &batch.teller, bundle, item, before, sequence);
                self.sockets.send(&slots, &text);
            }
        }
        Ok(())
    }

    pub(super) fn message(self: &Rc<Self>, slot: u32, text: Option<&str>) {
        let Some(subscription) = self.subscriptions.borrow().get(&slot).cloned() else {
            return;
        };
        let text = match text {
            Some(text) if text.len() <= MAX_MESSAGE_BYTES => text,
            Some(_) => return self.close(slot, TOO_LARGE, "messages have at most 64 KiB"),
            None => return self.close(slot, BAD_MESSAGE, "messages are text"),
        };
        if self.may_die && text == "die" {
            die();
        }
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
                self.leave(slot);
                if let Ok(attachment) = serde_json::to_string(&changed) {
                    self.sockets.attach(slot, &attachment);
                }
                let catching_up = changed.sent.is_some();
                if catching_up {
                    // Whoever feeds it reads the new filter with the next piece.
                    self.subscriptions.borrow_mut().insert(slot, changed);
                } else {
                    self.take_up(slot, changed);
                }
            }
            Err(faults) => {
                let problem = BTreeMap::from([("errors", faults)]);
                self.sockets.send(&[slot], &serde_json::to_string(&problem).unwrap_or_default());
            }
        }
    }

    fn leave(&self, slot: u32) {
        let mut live = self.live.borrow_mut();
        for slots in live.values_mut() {
            slots.retain(|other| *other != slot);
        }
        live.retain(|_, slots| !slots.is_empty());
    }

    pub(super) fn forget_socket(&self, slot: u32) {
        self.leave(slot);
        self.subscriptions.borrow_mut().remove(&slot);
    }

    fn close(&self, slot: u32, code: u16, reason: &str) {
        self.sockets.close(slot, code, reason);
        self.forget_socket(slot);
    }

    pub(super) fn close_all(&self, whose: impl Fn(&Viewer) -> bool) {
        let ended: Vec<u32> = {
            let subscriptions = self.subscriptions.borrow();
            subscriptions.iter().filter(|(_, sub)| whose(&sub.viewer)).map(|(slot, _)| *slot).collect()
        };
        for slot in ended {
            self.close(slot, CREDENTIALS_ENDED, "the credentials have ended");
        }
    }
}
