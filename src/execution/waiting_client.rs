//! The client that waits for a context to end, and how long it waits.
//!
//! The work continues whether or not a client waits. It carries the client along and answers it once: the context has
//! ended, or the wait is over. The timer that renews the lease serves the wait too.

use std::cell::RefCell;
use std::rc::Rc;

use futures_channel::oneshot;

use crate::platform::clock;
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
    /// Whether the client still waits.
    pub fn waits(&self) -> bool {
        self.wait.borrow().is_some()
    }

    /// Answers the client, unless that happened before.
    pub fn answer(&self, outcome: WaitOutcome) {
        if let Some((_, sender)) = self.wait.take() {
            // A client that went away needs no answer.
            let _ = sender.send(outcome);
        }
    }
}

#[derive(Default)]
pub struct WaitingClient {
    client: Client,
}

impl WaitingClient {
    pub fn until(time: Timestamp) -> (Self, oneshot::Receiver<WaitOutcome>) {
        let (sender, receiver) = oneshot::channel();
        let wait = Rc::new(RefCell::new(Some((time, sender))));
        (Self { client: Client { wait, ..Client::default() } }, receiver)
    }

    /// Work without a waiting client.
    pub fn none() -> Self {
        Self::default()
    }

    /// The same client, with an event stream.
    #[must_use]
    pub fn with_stream(mut self, stream: Rc<ClientStream>) -> Self {
        self.client.stream = Some(stream);
        self
    }

    /// The same client, able to subscribe to the notifications of the calls.
    #[must_use]
    pub fn with_notifications(mut self, notifications: &Notifications) -> Self {
        self.client.notifications = notifications.clone();
        self
    }

    /// For the calls themselves, which publish to the client and may know earlier that its wait is in vain.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whether the client still waits.
    pub fn waits(&self) -> bool {
        self.client.waits()
    }

    /// Milliseconds until the wait is over.
    fn left(&self, now: Timestamp) -> u64 {
        self.client.wait.borrow().as_ref().map_or(u64::MAX, |(until, _)| until.since(now))
    }

    pub fn answer(&mut self, outcome: WaitOutcome) {
        self.client.answer(outcome);
    }

    /// Passes when the wait is over, without answering the client.
    pub async fn wait_over(&self) {
        clock::pause(self.left(clock::now())).await;
    }

    /// Lets time pass, at most until the wait is over; then the client is answered.
    pub async fn pause(&mut self, milliseconds: u64) {
        let left = self.left(clock::now());
        clock::pause(milliseconds.min(left)).await;
        if left <= milliseconds && self.left(clock::now()) == 0 {
            self.answer(WaitOutcome::Continues);
        }
    }

    /// As [`WaitingClient::pause`], for the whole time even when the client is answered before.
    pub async fn pause_all(&mut self, milliseconds: u64) {
        let end = clock::now().plus_ms(milliseconds);
        loop {
            let left = end.since(clock::now());
            if left == 0 {
                return;
            }
            self.pause(left).await;
        }
    }
}
