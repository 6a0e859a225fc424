//! What an MCP server says while a call runs, for whoever made the call and waits in this very request: straight from the
//! one stream to the other. Somebody who waits elsewhere has the context's progress.

use std::cell::RefCell;
use std::collections::HashMap;

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};

use crate::platform::tasks;
use crate::transport::observer::Notice;
use narthex_core::base::id::ContextId;

/// Notices that are kept for who does not listen yet.
const MAX_KEPT: usize = 64;

/// A call that runs here.
struct Speaking {
    /// The request it runs in: only there may somebody be woken.
    family: u32,
    sender: UnboundedSender<Notice>,
    /// Until somebody takes it.
    receiver: Option<UnboundedReceiver<Notice>>,
    kept: usize,
}

thread_local! {
    static SPEAKING: RefCell<HashMap<ContextId, Speaking>> = RefCell::new(HashMap::new());
}

/// While it is held, the call may be listened to.
pub struct Voice {
    id: ContextId,
}

/// Begins to speak for a call.
pub fn speak(id: &ContextId) -> Voice {
    let (sender, receiver) = unbounded();
    let speaking = Speaking { family: tasks::family(), sender, receiver: Some(receiver), kept: 0 };
    SPEAKING.with_borrow_mut(|all| all.insert(id.clone(), speaking));
    Voice { id: id.clone() }
}

impl Voice {
    /// Gives whether somebody here hears it.
    pub fn say(&self, notice: Notice) -> bool {
        SPEAKING.with_borrow_mut(|all| {
            let Some(speaking) = all.get_mut(&self.id) else { return false };
            if speaking.receiver.is_some() {
                speaking.kept += 1;
                if speaking.kept > MAX_KEPT {
                    return false;
                }
            }
            let is_heard = speaking.receiver.is_none() && !speaking.sender.is_closed();
            let _ = speaking.sender.unbounded_send(notice);
            is_heard
        })
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        SPEAKING.with_borrow_mut(|all| all.remove(&self.id));
    }
}

/// Listens to a call, if it runs in this request and nobody else listens.
pub fn listen(id: &ContextId) -> Option<UnboundedReceiver<Notice>> {
    SPEAKING.with_borrow_mut(|all| {
        let speaking = all.get_mut(id).filter(|speaking| speaking.family == tasks::family())?;
        speaking.receiver.take()
    })
}
