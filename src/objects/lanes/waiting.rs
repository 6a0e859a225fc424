//! Who waits for a permit in a request of its own, and is told when its turn has come.

use std::rc::Rc;

use futures_channel::oneshot;
use futures_util::future::{Either, select};

use crate::platform::{Failure, clock};
use narthex_core::base::id::ContextId;
use narthex_core::lane::PermitDecision;
use narthex_core::lane::queue::Waiter;

use super::Inner;

impl Inner {
    /// Asks for a permit and waits until there is one, or the wait is over.
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
                // In the same turn as the end of the wait its turn may have come.
                if let Ok(Some(entered)) = receiver.try_recv() {
                    return Ok(entered);
                }
                drop(receiver);
                self.stop_waiting(&context);
                Ok(PermitDecision::Waiting)
            }
        }
    }

    /// One who waited does so no longer; the context has its place as long as anybody waits for it.
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
                // Who went away needs no word.
                let _ = waiter.send(entered);
            }
            return;
        }
        // The newest makes the call: who asked before may be gone. The others are told that they wait, by the end of
        // their channel, and ask again or hear from the store that somebody has begun. A permit whose taker went away
        // comes back with its lease.
        while waiters.pop().is_some_and(|waiter| waiter.send(entered).is_err()) {}
    }
}
