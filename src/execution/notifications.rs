//! The notifications of an MCP server about a running call, for the client that made the call and waits in the same
//! request: they pass straight from one stream to the other. Clients that wait elsewhere see the progress of the
//! context.

use std::cell::RefCell;
use std::rc::Rc;

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};

use crate::transport::observer::Notification;

/// The maximum number of notifications that are kept until the client subscribes.
const MAX_KEPT: usize = 64;

/// The channel of the call that runs now.
struct Channel {
    sender: UnboundedSender<Notification>,
    /// Until the client subscribes.
    receiver: Option<UnboundedReceiver<Notification>>,
    kept: usize,
}

/// Connects the calls of a context with the client that created it: empty while no call publishes.
#[derive(Default, Clone)]
pub struct Notifications(Rc<RefCell<Option<Channel>>>);

impl Notifications {
    /// Lets the client subscribe for as long as the publisher exists.
    pub fn publisher(&self) -> Publisher {
        let (sender, receiver) = unbounded();
        self.0.replace(Some(Channel { sender, receiver: Some(receiver), kept: 0 }));
        Publisher(self.clone())
    }

    /// Receives the notifications of the call that publishes now, beginning with those that were kept. None while no
    /// call publishes, and for a second subscriber.
    pub fn subscribe(&self) -> Option<UnboundedReceiver<Notification>> {
        self.0.borrow_mut().as_mut()?.receiver.take()
    }
}

pub struct Publisher(Notifications);

impl Publisher {
    /// Returns whether the client has subscribed and still reads.
    pub fn publish(&self, notification: Notification) -> bool {
        let mut slot = self.0.0.borrow_mut();
        let Some(channel) = slot.as_mut() else { return false };
        if channel.receiver.is_some() {
            channel.kept += 1;
            if channel.kept > MAX_KEPT {
                return false;
            }
        }
        let is_received = channel.receiver.is_none() && !channel.sender.is_closed();
        let _ = channel.sender.unbounded_send(notification);
        is_received
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.0.0.take();
    }
}
