//! Requests that wait for a permit in the lane.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use futures_channel::oneshot;
use futures_util::future::{Either, select};

use crate::platform::{Failure, clock, random, tasks};
use narthex_core::lane::PermitDecision;
use narthex_core::lane::queue::Waiter;
use narthex_core::service_lane::RequestNumber;

use super::Inner;

/// The ends of the channels on which waiting requests get their answers.
#[derive(Default)]
pub(super) struct PermitWaits {
    last: Cell<RequestNumber>,
    senders: RefCell<HashMap<RequestNumber, oneshot::Sender<PermitDecision>>>,
}

impl PermitWaits {
    fn begin(&self) -> (RequestNumber, oneshot::Receiver<PermitDecision>) {
        let number = self.last.get() + 1;
        self.last.set(number);
        let (sender, receiver) = oneshot::channel();
        self.senders.borrow_mut().insert(number, sender);
        (number, receiver)
    }

    fn end(&self, request: RequestNumber) {
        self.senders.borrow_mut().remove(&request);
    }

    pub(super) fn answer(&self, request: RequestNumber, decision: PermitDecision) {
        let sender = self.senders.borrow_mut().remove(&request);
        if let Some(sender) = sender {
            // The waiting request may have ended.
            let _ = sender.send(decision);
        }
    }
}

impl Inner {
    /// Requests a permit and waits until it is granted or the wait is over.
    pub(super) async fn wait_for_permit(
        self: &Rc<Self>,
        waiter: Waiter,
        wait_ms: u64,
    ) -> Result<PermitDecision, Failure> {
        let context = waiter.context.clone();
        let (request, receiver) = self.waits.begin();
        let decision = self.lane.borrow_mut().acquire(waiter, Some(request), clock::now(), random::number());
        if !matches!(decision, Ok(PermitDecision::Waiting)) {
            self.waits.end(request);
            return Ok(decision?);
        }
        if self.settle() {
            self.report_status().await;
        }
        self.start_ticking();
        match select(receiver, std::pin::pin!(clock::pause(wait_ms))).await {
            Either::Left((decision, _)) => Ok(decision.unwrap_or(PermitDecision::Waiting)),
            Either::Right((_, mut receiver)) => {
                self.waits.end(request);
                // The permit may have been granted at the very end of the wait.
                if let Ok(Some(decision)) = receiver.try_recv() {
                    return Ok(decision);
                }
                self.lane.borrow_mut().stop_waiting(&context, request);
                Ok(PermitDecision::Waiting)
            }
        }
    }

    /// While requests wait: checks again when a permit expires, and from time to time.
    fn start_ticking(self: &Rc<Self>) {
        if self.is_ticking.replace(true) {
            return;
        }
        let inner = self.clone();
        tasks::spawn(async move {
            while let Some(pause_ms) = inner.next_tick_ms() {
                clock::pause(pause_ms).await;
                if inner.settle() {
                    inner.report_status().await;
                }
            }
            inner.is_ticking.set(false);
        });
    }

    fn next_tick_ms(&self) -> Option<u64> {
        self.lane.borrow().next_tick_ms(clock::now())
    }
}
