//! Sockets that catch up: they are fed spans of the log until they reach the live ones.

use crate::platform::clock;
use narthex_core::events::close_code::StreamCloseCode;
use narthex_core::events::cloud_event::gap_event;
use narthex_core::events::sequence::Sequence;

use super::{Subscribers, Subscription, in_form};
use crate::objects::events::log::Batch;

/// A span of the log, read for a socket that catches up.
pub struct LogSpan {
    pub batches: Vec<Batch>,
    /// The first sequence in the log.
    pub first_kept: Sequence,
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

impl Subscribers {
    /// The sockets that catch up without a task feeding them; the caller feeds them from now on.
    pub fn start_feeding(&self) -> Vec<u32> {
        let mut feeding = self.feeding.borrow_mut();
        let subscriptions = self.subscriptions.borrow();
        let behind = subscriptions.iter().filter(|(_, subscription)| subscription.sent.is_some());
        behind.map(|(slot, _)| *slot).filter(|slot| feeding.insert(*slot)).collect()
    }

    pub fn finish_feeding(&self, slot: u32) {
        self.feeding.borrow_mut().remove(&slot);
    }

    /// Up to where a socket that catches up was sent events; `None` if it is live or closed.
    pub fn sent(&self, slot: u32) -> Option<Sequence> {
        self.subscriptions.borrow().get(&slot).and_then(|subscription| subscription.sent)
    }

    /// Closes a socket because the log could not be read.
    pub fn fail(&self, slot: u32) {
        self.close(slot, StreamCloseCode::Internal);
    }

    /// Sends a socket the matching events of a span, up to `end`, the position of the live sockets; there, it becomes
    /// live.
    pub fn feed(&self, slot: u32, span: &LogSpan, end: Sequence) -> FeedResult {
        let known = self.subscriptions.borrow().get(&slot).cloned();
        let Some(Subscription { sent: Some(sent), .. }) = &known else { return FeedResult::Done };
        let sent = *sent;
        let Some(mut subscription) = known else { return FeedResult::Done };
        if sent.next() < span.first_kept {
            self.send_gap(slot, &subscription, sent, span.first_kept);
            return FeedResult::Done;
        }
        let mut reached = sent;
        'span: for batch in &span.batches {
            for (sequence, bundle, item, before) in batch.events().filter(|(at, ..)| *at > sent) {
                if sequence > end {
                    break 'span;
                }
                reached = sequence;
                if subscription.filter.matches(bundle, item) {
                    let event = batch.event(bundle, item, before, sequence);
                    self.send(&[slot], &in_form(&event, subscription.form, sequence));
                    if self.sent(slot).is_none() {
                        return FeedResult::Done;
                    }
                }
            }
        }
        if span.batches.is_empty() {
            // The log no longer had these events when it was read.
            reached = reached.max(end);
        }
        let is_live = reached == end;
        subscription.sent = (!is_live).then_some(reached);
        if let Ok(attachment) = serde_json::to_string(&subscription) {
            self.sockets.attach(slot, &attachment);
        }
        self.add(slot, subscription);
        match (is_live || reached > end, self.backpressure.borrow().is_behind(slot)) {
            (true, _) => FeedResult::Done,
            (false, true) => FeedResult::Wait,
            (false, false) => FeedResult::More,
        }
    }

    fn send_gap(&self, slot: u32, subscription: &Subscription, sent: Sequence, first_kept: Sequence) {
        let event = gap_event(&subscription.viewer.tenant, clock::now(), sent, first_kept);
        self.sockets.send(&[slot], &in_form(&event, subscription.form, first_kept.previous()));
        let gap = StreamCloseCode::Gap;
        let reason = format!("{} {}", gap.reason(), first_kept.previous().text());
        self.sockets.close(slot, gap.code(), &reason);
        self.closed(slot);
    }

    /// Closes the live sockets, whose next events are no longer in the log.
    pub fn report_gap(&self, reached: Sequence, first_kept: Sequence) {
        let live: Vec<(u32, Subscription)> = {
            let subscriptions = self.subscriptions.borrow();
            let live = subscriptions.iter().filter(|(_, subscription)| subscription.sent.is_none());
            live.map(|(slot, subscription)| (*slot, subscription.clone())).collect()
        };
        for (slot, subscription) in live {
            self.send_gap(slot, &subscription, reached, first_kept);
        }
    }
}
