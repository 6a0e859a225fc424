//! Who waits for a context's end, and until when.
//!
//! The work goes on whether or not somebody waits. It carries the waiter along and tells it once: that the
//! context has ended, or that the wait is over: the timer that keeps the lease alive serves the waiter too.

use std::cell::RefCell;
use std::rc::Rc;

use futures_channel::oneshot;

use crate::platform::clock;
use narthex_core::base::time::Timestamp;

use super::Worked;
use super::live::Live;

pub enum News {
    Ended(Worked),
    /// The wait is over, or another worker has the context now.
    GoesOn,
}

/// Until when somebody waits, and where they hear.
type Waiting = Option<(Timestamp, oneshot::Sender<News>)>;

/// Tells whoever waits, once, whoever of those who know it comes first.
#[derive(Default, Clone)]
pub struct Teller(Rc<RefCell<Waiting>>);

impl Teller {
    /// Whether somebody waits still.
    pub fn waits(&self) -> bool {
        self.0.borrow().is_some()
    }

    pub fn tell(&self, news: News) {
        if let Some((_, sender)) = self.0.take() {
            // Who went away needs no word.
            let _ = sender.send(news);
        }
    }
}

#[derive(Default)]
pub struct Waiter {
    told: Teller,
    live: Option<Rc<Live>>,
}

impl Waiter {
    pub fn until(time: Timestamp) -> (Self, oneshot::Receiver<News>) {
        let (sender, receiver) = oneshot::channel();
        (Self { told: Teller(Rc::new(RefCell::new(Some((time, sender))))), live: None }, receiver)
    }

    pub fn nobody() -> Self {
        Self::default()
    }

    /// The same, who listens meanwhile.
    pub fn listening(self, live: Rc<Live>) -> Self {
        Self { live: Some(live), ..self }
    }

    /// Who listens to the work itself.
    pub fn live(&self) -> Option<Rc<Live>> {
        self.live.clone()
    }

    /// For the work itself, which may know sooner that the wait is in vain.
    pub fn teller(&self) -> Teller {
        self.told.clone()
    }

    /// Whether somebody waits still.
    pub fn waits(&self) -> bool {
        self.told.waits()
    }

    /// Milliseconds until it must be told that the wait is over.
    fn left(&self, now: Timestamp) -> u64 {
        self.told.0.borrow().as_ref().map_or(u64::MAX, |(until, _)| until.since(now))
    }

    pub fn tell(&mut self, news: News) {
        self.told.tell(news);
    }

    /// Passes when the wait is over; the waiter is not told.
    pub async fn time(&self) {
        clock::pause(self.left(clock::now())).await;
    }

    /// Lets time pass, at most until this waiter's wait is over; then it is told.
    pub async fn pause(&mut self, milliseconds: u64) {
        let left = self.left(clock::now());
        clock::pause(milliseconds.min(left)).await;
        if left <= milliseconds && self.left(clock::now()) == 0 {
            self.tell(News::GoesOn);
        }
    }

    /// As [`Waiter::pause`], for all of the time, whoever is told meanwhile.
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
