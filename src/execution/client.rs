//! The client that created a context, as far as it takes part in the work.
//!
//! The work continues whether or not a client waits. It answers the client once: the context has ended, or the client's
//! wait is over.

use std::cell::RefCell;
use std::rc::Rc;

use futures_channel::oneshot;

use narthex_core::base::time::Timestamp;

use super::Completion;
use super::client_stream::ClientStream;
use super::notifications::Notifications;

/// What a waiting client learns.
pub enum WaitOutcome {
    Ended(Completion),
    /// The wait is over, or another worker has the context now.
    Continues,
}

/// The end of the wait, and the channel to the client.
type PendingWait = Option<(Timestamp, oneshot::Sender<WaitOutcome>)>;

/// The connections of a context's work to the client that created it.
#[derive(Default, Clone)]
pub struct Client {
    wait: Rc<RefCell<PendingWait>>,
    pub stream: Option<Rc<ClientStream>>,
    pub notifications: Notifications,
}

impl Client {
    pub fn waiting_until(time: Timestamp) -> (Self, oneshot::Receiver<WaitOutcome>) {
        let (sender, receiver) = oneshot::channel();
        let wait = Rc::new(RefCell::new(Some((time, sender))));
        (Self { wait, ..Self::default() }, receiver)
    }

    /// For work without a waiting client.
    pub fn none() -> Self {
        Self::default()
    }

    /// The same client, with an event stream.
    #[must_use]
    pub fn with_stream(mut self, stream: Rc<ClientStream>) -> Self {
        self.stream = Some(stream);
        self
    }

    /// The same client, able to subscribe to the notifications of the calls.
    #[must_use]
    pub fn with_notifications(mut self, notifications: &Notifications) -> Self {
        self.notifications = notifications.clone();
        self
    }

    /// Whether the client still waits.
    pub fn waits(&self) -> bool {
        self.wait.borrow().is_some()
    }

    /// Until when the client waits.
    pub fn waits_until(&self) -> Option<Timestamp> {
        self.wait.borrow().as_ref().map(|(until, _)| *until)
    }

    /// Answers the client, unless that happened before.
    pub fn answer(&self, outcome: WaitOutcome) {
        if let Some((_, sender)) = self.wait.take() {
            // A client that went away needs no answer.
            let _ = sender.send(outcome);
        }
    }
}
