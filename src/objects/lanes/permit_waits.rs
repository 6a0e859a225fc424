//! Requests that wait for a permit in the lane.

use std::rc::Rc;

use futures_channel::oneshot;
use futures_util::future::{Either, select};

use crate::platform::{Failure, clock};
use narthex_core::base::id::ContextId;
use narthex_core::lane::PermitDecision;
use narthex_core::lane::queue::Waiter;

use super::Inner;

impl Inner {
    /// Requests a permit and waits until it is granted or the wait is over.
    pub(super) async fn wait_for_permit(
        self: &Rc<Self>,
        waiter: Waiter,
        wait_ms: u64,
    ) -> Result<PermitDecision, Failure> {
        let context = waiter.context.clone();
        let decision = self.acquire(waiter)?;
        if decision != PermitDecision::Waiting {
            return Ok(decision);
        }
        let (sender, receiver) = oneshot::channel();
        self.state.waiters.borrow_mut().entry(context.to_string()).or_default().push(sender);
        self.lane.borrow_mut().set_present(&context, true);
        if self.settle() {
            self.notify_registry().await;
        }
        self.start_ticking();
        match select(receiver, std::pin::pin!(clock::pause(wait_ms))).await {
            Either::Left((Ok(decision), _)) => Ok(decision),
            Either::Left((Err(_), _)) => Ok(PermitDecision::Waiting),
            Either::Right((_, mut receiver)) => {
                // The permit may have been granted at the very end of the wait.
                if let Ok(Some(decision)) = receiver.try_recv() {
                    return Ok(decision);
                }
                drop(receiver);
                self.stop_waiting(&context);
                Ok(PermitDecision::Waiting)
            }
        }
    }

    /// Removes a request that has stopped waiting; the context keeps its place while others wait for it.
    fn stop_waiting(&self, context: &ContextId) {
        let mut all = self.state.waiters.borrow_mut();
        if let Some(waiters) = all.get_mut(context.as_str()) {
            waiters.retain(|waiter| !waiter.is_canceled());
            if waiters.is_empty() {
                all.remove(context.as_str());
                self.lane.borrow_mut().set_present(context, false);
            }
        }
    }

    pub(super) fn deliver_decision(&self, context: &ContextId, decision: PermitDecision) {
        let Some(mut waiters) = self.state.waiters.borrow_mut().remove(context.as_str()) else { return };
        if !matches!(decision, PermitDecision::Permit { .. }) {
            for waiter in waiters {
                // The waiting request may have ended.
                let _ = waiter.send(decision);
            }
            return;
        }
        // The newest request makes the call: earlier ones may have ended. Their channels close, which makes them
        // keep waiting; they ask again, or learn from the store that the attempt has started. A permit whose recipient
        // has gone expires with its lease.
        while waiters.pop().is_some_and(|waiter| waiter.send(decision).is_err()) {}
    }
}
