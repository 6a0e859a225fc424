//! The hub's own sockets, fed from its log.

use std::rc::Rc;

use wasm_bindgen::prelude::*;

use crate::objects::registry::snapshot;
use crate::platform::http::{Headers, answer};
use crate::platform::{Failure, clock, tasks};
use narthex_core::events::fanout::Placement;

use super::Hub;
use super::messages::{Open, Page};
use super::subscribers::{Fed, Stretch, WAIT_MS};

/// The status that sends the caller to a shard (RFC 9110 §15.5.20).
const MISDIRECTED: u16 = 421;
/// Batches that one message may append: it may disable a webhook, which is another event.
const MAX_APPENDED: u64 = 100;

impl Page {
    pub(super) fn stretch(&self) -> Result<Stretch, Failure> {
        let batches = self.batches.iter().map(super::messages::Piece::batch).collect::<Result<_, _>>()?;
        Ok(Stretch { batches, first_kept: self.first_kept })
    }
}

impl Hub {
    pub(super) fn open(self: &Rc<Self>, open: Open) -> JsValue {
        let last = self.told.get();
        let place = self.shards.borrow_mut().place(self.audience.len());
        if let Placement::Shard(number) = place {
            let mut headers = Headers::default();
            headers.set("x-elsewhere", &format!("{number} {last}"));
            return answer(MISDIRECTED, &headers, None);
        }
        // A sequence in the future cannot be resumed from: such a client starts at the end.
        let sent = open.after.filter(|after| *after < last);
        let response = self.audience.accept(open, sent, place == Placement::Hub);
        self.feed_all();
        self.arm();
        response
    }

    /// Feeds the sockets that are catching up.
    pub(super) fn feed_all(self: &Rc<Self>) {
        for slot in self.audience.to_be_fed() {
            let hub = self.clone();
            tasks::spawn(async move {
                hub.catch_up(slot).await;
                hub.audience.fed(slot);
            });
        }
    }

    async fn catch_up(&self, slot: u32) {
        while let Some(sent) = self.audience.sent(slot) {
            let stretch = self.log.borrow().page(sent).and_then(|page| page.stretch());
            let Ok(stretch) = stretch else {
                self.audience.fail(slot);
                return;
            };
            match self.audience.feed(slot, &stretch, self.told.get()) {
                // Lets other sockets in between two spans.
                Fed::More => clock::pause(0).await,
                Fed::Wait => clock::pause(WAIT_MS).await,
                Fed::Done => return,
            }
        }
    }

    /// Sends appended events to live sockets, here and at the shards.
    pub(super) fn broadcast(self: &Rc<Self>) -> Result<(), Failure> {
        if !self.audience.is_empty() {
            self.audience.end_until(clock::now());
            let told = self.told.get();
            self.audience.broadcast(&self.log.borrow().after(told, MAX_APPENDED)?, told);
            self.check_again();
        }
        self.told.set(self.log.borrow().last());
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
            let Some(tenant) = hub.audience.tenant() else { return };
            if let Ok(snapshot) = snapshot::refreshed(&tenant).await {
                hub.audience.check(&snapshot);
            }
        });
    }
}
