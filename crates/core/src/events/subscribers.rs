//! The sockets of one hub or shard: what each may see, which are live, which catch up, and which read too slowly.
//!
//! A live socket has every event up to the position of its object. A socket that catches up is fed spans of the log; at
//! the moment it has reached that position it becomes live, so no event is missed or repeated. What survives
//! hibernation is in its attachment.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::backpressure::Backpressure;
use super::bundle::{Bundle, Item};
use super::close_code::StreamCloseCode;
use super::filter::Filter;
use super::sequence::Sequence;
use super::viewer::Viewer;
use crate::access::principal::Principal;
use crate::access::revocation::Revocation;
use crate::base::json::{MAX_DEPTH, check};
use crate::base::principal_id::PrincipalId;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;

const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The form in which a socket receives events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// One event per message.
    #[default]
    Message,
    /// One frame of `text/event-stream` per message, for a Worker that forwards it.
    Frame,
}

/// The part of a socket's state that survives hibernation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    pub viewer: Viewer,
    pub filter: Filter,
    /// The one subject that the socket may see, whatever it subscribes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<String>,
    #[serde(default)]
    pub form: Form,
    /// While catching up: everything up to this sequence was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sequence>,
}

/// Live sockets that receive an event, by the form in which they do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recipients {
    pub messages: Vec<u32>,
    pub frames: Vec<u32>,
}

impl Recipients {
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

/// What a client's message leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum MessageResult {
    /// The socket has another filter; its new attachment.
    Subscribed(String),
    /// A reply: the message has these faults.
    Faults(String),
    Close(StreamCloseCode),
    /// The socket is closed already.
    Nothing,
}

/// What a span of the log means for a socket that catches up.
#[derive(Debug, PartialEq, Eq)]
pub enum Span {
    /// Events after this one are no longer in the log.
    Gap(Sequence),
    /// The indexes of the events to send, and the sequence that the socket has then reached.
    Send { events: Vec<usize>, reached: Sequence },
    /// The socket is live or closed.
    Nothing,
}

/// The result of feeding a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedResult {
    /// There are more events; other sockets go first.
    More,
    /// There are more events; the reader needs time to read.
    Wait,
    /// The socket is live, ahead of its object, or closed.
    Done,
}

#[derive(Default)]
pub struct Subscribers {
    all: HashMap<u32, Subscription>,
    /// Each event is matched once per filter, however many sockets share it.
    live: HashMap<Filter, Recipients>,
    /// Sockets that a task is feeding.
    feeding: HashSet<u32>,
    backpressure: Backpressure,
}

fn attachment(subscription: &Subscription) -> String {
    serde_json::to_string(subscription).unwrap_or_default()
}

impl Subscribers {
    /// Restores the sockets that survived the last instance, by their attachments. Returns those that this version
    /// cannot read: they must be closed, so that their clients connect again.
    pub fn restore(attachments: impl IntoIterator<Item = (u32, String)>) -> (Self, Vec<u32>) {
        let (mut subscribers, mut unreadable) = (Self::default(), Vec::new());
        for (slot, text) in attachments {
            match serde_json::from_str(&text) {
                Ok(subscription) => subscribers.add(slot, subscription),
                Err(_) => unreadable.push(slot),
            }
        }
        (subscribers, unreadable)
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn get(&self, slot: u32) -> Option<&Subscription> {
        self.all.get(&slot)
    }

    /// The tenant of these sockets; all belong to the same one.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.all.values().next().map(|subscription| &subscription.viewer.tenant)
    }

    /// Adds a socket, which is live unless it has a position.
    pub fn add(&mut self, slot: u32, subscription: Subscription) {
        if subscription.sent.is_none() {
            self.live.entry(subscription.filter.clone()).or_default().of_form(subscription.form).push(slot);
        }
        self.all.insert(slot, subscription);
    }

    pub fn remove(&mut self, slot: u32) {
        self.remove_from_live(slot);
        self.all.remove(&slot);
        self.backpressure.forget(slot);
    }

    fn remove_from_live(&mut self, slot: u32) {
        let Some(Subscription { filter, form, .. }) = self.all.get(&slot) else { return };
        if let Some(sockets) = self.live.get_mut(filter) {
            sockets.of_form(*form).retain(|other| *other != slot);
            if sockets.is_empty() {
                self.live.remove(filter);
            }
        }
    }

    /// The live sockets that receive an event.
    pub fn recipients(&self, bundle: &Bundle, item: &Item) -> Recipients {
        let matching = self.live.iter().filter(|(filter, _)| filter.matches(bundle, item));
        matching.fold(Recipients::default(), |mut all, (_, sockets)| {
            all.messages.extend_from_slice(&sockets.messages);
            all.frames.extend_from_slice(&sockets.frames);
            all
        })
    }

    /// Counts what these sockets were sent, each `bytes`. Returns the sockets that read too slowly. `pinged`: when a
    /// socket's last ping was answered.
    pub fn sent(
        &mut self,
        slots: &[u32],
        bytes: u64,
        now: Timestamp,
        pinged: impl Fn(u32) -> Option<Timestamp>,
    ) -> Vec<u32> {
        let backpressure = &mut self.backpressure;
        let is_slow = |slot: &&u32| backpressure.record_sent(**slot, bytes, now, || pinged(**slot));
        let mut slow: Vec<u32> = slots.iter().filter(is_slow).copied().collect();
        slow.extend(self.backpressure.furthest_behind());
        slow
    }

    /// A client's message: `{"subscribe": {…}}` replaces the filter of its socket. `None`: it is not text.
    pub fn message(&mut self, slot: u32, text: Option<&str>) -> MessageResult {
        let Some(subscription) = self.all.get(&slot).cloned() else { return MessageResult::Nothing };
        let text = match text {
            Some(text) if text.len() <= MAX_MESSAGE_BYTES => text,
            Some(_) => return MessageResult::Close(StreamCloseCode::TooLarge),
            None => return MessageResult::Close(StreamCloseCode::BadMessage),
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
                let attachment = attachment(&changed);
                // A task that feeds the socket uses the new filter from the next span on.
                self.remove_from_live(slot);
                self.add(slot, changed);
                MessageResult::Subscribed(attachment)
            }
            Err(faults) => {
                let problem = BTreeMap::from([("errors", faults)]);
                MessageResult::Faults(serde_json::to_string(&problem).unwrap_or_default())
            }
        }
    }

    /// The sockets that catch up without a task feeding them; the caller feeds them from now on.
    pub fn start_feeding(&mut self) -> Vec<u32> {
        let behind = self.all.iter().filter(|(_, subscription)| subscription.sent.is_some());
        behind.map(|(slot, _)| *slot).filter(|slot| self.feeding.insert(*slot)).collect()
    }

    pub fn finish_feeding(&mut self, slot: u32) {
        self.feeding.remove(&slot);
    }

    /// Up to where a socket that catches up was sent events; `None` if it is live or closed.
    pub fn position(&self, slot: u32) -> Option<Sequence> {
        self.all.get(&slot).and_then(|subscription| subscription.sent)
    }

    /// What a socket is sent of a span of the log that begins with `first_kept`: matching events up to `end`, the
    /// position of the live sockets.
    pub fn span<'e>(
        &self,
        slot: u32,
        first_kept: Sequence,
        events: impl IntoIterator<Item = (Sequence, &'e Bundle, &'e Item)>,
        end: Sequence,
    ) -> Span {
        let Some(subscription) = self.all.get(&slot) else { return Span::Nothing };
        let Some(sent) = subscription.sent else { return Span::Nothing };
        if sent.next() < first_kept {
            return Span::Gap(sent);
        }
        let (mut matching, mut reached, mut is_empty) = (Vec::new(), sent, true);
        for (index, (sequence, bundle, item)) in events.into_iter().enumerate() {
            is_empty = false;
            if sequence > end {
                break;
            }
            if sequence > sent {
                reached = sequence;
                if subscription.filter.matches(bundle, item) {
                    matching.push(index);
                }
            }
        }
        if is_empty {
            // The log no longer had these events when it was read.
            reached = reached.max(end);
        }
        Span::Send { events: matching, reached }
    }

    /// A socket was sent all that it receives up to `reached`. At `end`, it becomes live. Returns its attachment.
    pub fn fed(&mut self, slot: u32, reached: Sequence, end: Sequence) -> (FeedResult, Option<String>) {
        let known = self.all.get(&slot).cloned();
        let Some(subscription) = known.filter(|known| known.sent.is_some()) else { return (FeedResult::Done, None) };
        let is_live = reached == end;
        let subscription = Subscription { sent: (!is_live).then_some(reached), ..subscription };
        let attachment = attachment(&subscription);
        self.add(slot, subscription);
        let result = match (is_live || reached > end, self.backpressure.is_behind(slot)) {
            (true, _) => FeedResult::Done,
            (false, true) => FeedResult::Wait,
            (false, false) => FeedResult::More,
        };
        (result, Some(attachment))
    }

    /// The live sockets.
    pub fn live(&self) -> Vec<u32> {
        self.slots(|subscription| subscription.sent.is_none())
    }

    fn slots(&self, whose: impl Fn(&Subscription) -> bool) -> Vec<u32> {
        self.all.iter().filter(|(_, subscription)| whose(subscription)).map(|(slot, _)| *slot).collect()
    }

    /// The sockets of ended credentials.
    pub fn of_principal(&self, principal: &PrincipalId) -> Vec<u32> {
        self.slots(|subscription| subscription.viewer.principal == *principal)
    }

    /// The sockets whose credentials depend on what was revoked.
    pub fn dependents(&self, revocation: &Revocation) -> Vec<u32> {
        self.slots(|subscription| subscription.viewer.depends_on(revocation))
    }

    /// The sockets whose credentials have expired.
    pub fn expired(&self, now: Timestamp) -> Vec<u32> {
        self.slots(|subscription| subscription.viewer.until.is_some_and(|until| until <= now))
    }

    /// When the next credentials expire.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.all.values().filter_map(|subscription| subscription.viewer.until).min()
    }

    /// The sockets whose viewers have lost their permissions, as far as the registry knows; tokens carry their own
    /// expiry. `principal`: what a key's principal may do now.
    pub fn unpermitted(&self, principal: impl Fn(&Viewer) -> Option<Principal>) -> Vec<u32> {
        self.slots(|Subscription { viewer, bound_to, .. }| {
            let is_known = viewer.principal.key().is_some();
            is_known && principal(viewer).is_none_or(|principal| !viewer.is_allowed(&principal, bound_to.is_some()))
        })
    }
}

#[cfg(test)]
mod tests;
