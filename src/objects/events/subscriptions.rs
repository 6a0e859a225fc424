//! The hub's own sockets, fed from its log.

use std::rc::Rc;

use wasm_bindgen::JsValue;

use crate::objects::registry::snapshot;
use crate::objects::shell::{Outcome, SocketShell};
use crate::platform::http::{Headers, answer};
use crate::platform::{Failure, clock, tasks};
use narthex_core::events::fanout::Placement;
use narthex_core::events::subscribers::FeedResult;

use super::Hub;
use super::messages::shards::{Page, StoredBatch};
use super::messages::sockets::{Open, Redirection};
use super::subscribers::{LogSpan, SLOW_READER_PAUSE_MS};

/// The status that sends the caller to a shard (RFC 9110 §15.5.20).
const MISDIRECTED: u16 = 421;
/// Batches that one message may append: it may disable a webhook, which is another event.
const MAX_APPENDED: u64 = 100;

impl Page {
    pub(super) fn span(&self) -> Result<LogSpan, Failure> {
        let batches = self.batches.iter().map(StoredBatch::batch).collect::<Result<_, _>>()?;
        Ok(LogSpan { batches, first_kept: self.first_kept })
    }
}

impl SocketShell for Hub {
    type Open = Open;

    fn open_socket(self: &Rc<Self>, open: Open) -> Outcome<JsValue> {
        Outcome::Now(Ok(self.accept(open)))
    }

    fn slot(&self, socket: &JsValue) -> Option<u32> {
        self.subscribers.slot(socket)
    }

    fn handle_message(self: &Rc<Self>, slot: u32, text: Option<&str>) {
        self.subscribers.message(slot, text);
    }

    fn handle_close(self: &Rc<Self>, slot: u32) {
        self.subscribers.closed(slot);
    }
}

impl Hub {
    fn accept(self: &Rc<Self>, open: Open) -> JsValue {
        let last = self.sent_up_to.get();
        let place = self.shards.borrow_mut().place(self.subscribers.len());
        if let Placement::Shard(shard) = place {
            let mut headers = Headers::default();
            headers.set("x-elsewhere", &Redirection { shard, last }.to_string());
            return answer(MISDIRECTED, &headers, None);
        }
        // A sequence in the future cannot be resumed from: such a client starts at the end.
        let sent = open.after.filter(|after| *after < last);
        let response = self.subscribers.accept(open, sent, place == Placement::Hub);
        self.feed_all();
        self.arm();
        response
    }

    /// Feeds the sockets that are catching up.
    pub(super) fn feed_all(self: &Rc<Self>) {
        for slot in self.subscribers.start_feeding() {
            let hub = self.clone();
            tasks::spawn(async move {
                hub.catch_up(slot).await;
                hub.subscribers.finish_feeding(slot);
            });
        }
    }

    async fn catch_up(&self, slot: u32) {
        while let Some(sent) = self.subscribers.sent(slot) {
            let span = self.log.borrow().page(sent).and_then(|page| page.span());
            let Ok(span) = span else {
                self.subscribers.fail(slot);
                return;
            };
            match self.subscribers.feed(slot, &span, self.sent_up_to.get()) {
                // Lets other sockets in between two spans.
                FeedResult::More => clock::pause(0).await,
                FeedResult::Wait => clock::pause(SLOW_READER_PAUSE_MS).await,
                FeedResult::Done => return,
            }
        }
    }

    /// Sends appended events to live sockets, here and at the shards.
    pub(super) fn broadcast(self: &Rc<Self>) -> Result<(), Failure> {
        if !self.subscribers.is_empty() {
            self.subscribers.close_expired(clock::now());
            let sent_up_to = self.sent_up_to.get();
            self.subscribers.broadcast(&self.log.borrow().after(sent_up_to, MAX_APPENDED)?, sent_up_to);
            self.check_again();
        }
        self.sent_up_to.set(self.log.borrow().last());
        self.push_out();
        Ok(())
    }

    /// Checks from time to time whether all viewers still have their permissions.
    fn check_again(self: &Rc<Self>) {
        let now = clock::now();
        if now.since(self.checked_at.get()) < self.check_ms {
            return;
        }
        self.checked_at.set(now);
        let hub = self.clone();
        tasks::spawn(async move {
            let Some(tenant) = hub.subscribers.tenant() else { return };
            if let Ok(snapshot) = snapshot::refreshed(&tenant).await {
                hub.subscribers.check(&snapshot);
            }
        });
    }
}
