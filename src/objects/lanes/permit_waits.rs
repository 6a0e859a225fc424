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
    pub(super) async fn wait_for_turn(self: &Rc<Self>, who: Waiter, wait_ms: u64) -> Result<PermitDecision, Failure> {
        let context = who.context.clone();
        let entered = self.enter(who)?;
        if entered != PermitDecision::Waiting {
            return Ok(entered);
        }
        let (sender, receiver) = oneshot::channel();
        self.waiters.borrow_mut().entry(context.to_string()).or_default().push(sender);
        self.lane.borrow_mut().set_present(&context, true);
        if self.settle() {
            self.tell().await;
        }
        self.tick_soon();
        match select(receiver, std::pin::pin!(clock::pause(wait_ms))).await {
            Either::Left((Ok(entered), _)) => Ok(entered),
            Either::Left((Err(_), _)) => Ok(PermitDecision::Waiting),
            Either::Right((_, mut receiver)) => {
                // The permit may have been granted at the very end of the wait.
                if let Ok(Some(entered)) = receiver.try_recv() {
                    return Ok(entered);
                }
                drop(receiver);
                self.stop_waiting(&context);
                Ok(PermitDecision::Waiting)
            }
        }
    }

    /// Removes a request that has stopped waiting; the context keeps its place while others wait for it.
    fn stop_waiting(&self, context: &ContextId) {
        let mut all = self.waiters.borrow_mut();
        if let Some(waiters) = all.get_mut(context.as_str()) {
            waiters.retain(|waiter| !waiter.is_canceled());
            if waiters.is_empty() {
                all.remove(context.as_str());
                self.lane.borrow_mut().set_present(context, false);
            }
        }
    }

    pub(super) fn take_turn(&self, context: &ContextId, entered: PermitDecision) {
        let Some(mut waiters) = self.waiters.borrow_mut().remove(context.as_str()) else { return };
        if !matches!(entered, PermitDecision::Permit { .. }) {
            for waiter in waiters {
                // The waiting request may have ended.
                let _ = waiter.send(entered);
            }
            return;
        }
        // The newest request makes the call: earlier ones may have ended. Their channels close, which tells them to
        // keep waiting; they ask again, or learn from the store that the attempt has started. A permit whose recipient
        // has gone expires with its lease.
        while waiters.pop().is_some_and(|waiter| waiter.send(entered).is_err()) {}
    }
}
