//! `Registry`: the configuration of one tenant, under one revision.
//!
//! The core (`narthex_core::registry`) decides; this module passes requests to it, encrypts secrets before, and carries
//! out its effects. A write is answered once its effects hold, as the core defines it.

pub mod client;
mod compiled_schemas;
mod effects;
mod encryption;
mod handlers;
pub mod messages;
mod notifications;
pub mod snapshot;
mod tables;
mod versions;
mod writes;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_channel::oneshot;
use wasm_bindgen::JsValue;

use crate::objects::shell::{Outcome, Shell, WrittenAnswer, durable_object};
use crate::platform::{Failure, clock, random, settings};
use narthex_core::access::audit::Actor;
use narthex_core::access::oauth::registrations::Lifetimes;
use narthex_core::base::time::Timestamp;
use narthex_core::registry::{Config, Receipt, Turn, WriteError};

use handlers::Received;
use messages::{Ask, Message};
pub use notifications::target;
use tables::Tables;
use writes::{Decided, Written};

const DAY_MS: u64 = 86_400_000;

struct Inner {
    registry: RefCell<narthex_core::registry::Registry<Tables>>,
    /// Answers that wait until their writes hold.
    waiting: RefCell<Vec<oneshot::Sender<()>>>,
    /// The next time at which the core is asked for what has become due.
    timer_at: Cell<Option<Timestamp>>,
}

durable_object!(Registry: Inner);

impl Shell for Inner {
    type Message = Message<Ask>;

    fn open(state: &JsValue, env: &JsValue) -> Result<Rc<Self>, Failure> {
        let settings = settings::of(env);
        let config = Config {
            audit_retention_ms: settings.audit_retention_days * DAY_MS,
            registrations: Lifetimes {
                unused_ms: settings.registration_unused_ms,
                idle_ms: settings.registration_idle_ms,
            },
            timing: settings.timing,
        };
        let registry = narthex_core::registry::Registry::open(Tables::open(state)?, config, clock::now())?;
        let inner =
            Rc::new(Self { registry: RefCell::new(registry), waiting: RefCell::default(), timer_at: Cell::default() });
        inner.decide(|_| ());
        Ok(inner)
    }

    fn answer(self: &Rc<Self>, message: Message<Ask>) -> WrittenAnswer {
        let Message { tenant, ask, by } = message;
        ask.dispatch(Received { inner: self.clone(), tenant, by })
    }

    /// Does not wait: a slow recipient must not delay the next alarm.
    fn alarm(self: &Rc<Self>) -> Outcome<()> {
        self.decide(|registry| registry.alarm(clock::now()));
        Outcome::Now(Ok(()))
    }
}

impl Inner {
    /// Lets the core decide, then carries out the effects.
    fn decide<T>(self: &Rc<Self>, decide: impl FnOnce(&mut narthex_core::registry::Registry<Tables>) -> T) -> T {
        let now = clock::now();
        let (decided, effects, wake_at) = {
            let mut registry = self.registry.borrow_mut();
            let decided = decide(&mut registry);
            (decided, registry.take_effects(now), registry.wake_at(now))
        };
        self.carry_out(effects);
        self.wake_later(wake_at);
        for waiting in self.waiting.take() {
            // The answer may not be needed any longer.
            let _ = waiting.send(());
        }
        decided
    }

    /// As [`Inner::decide`], for a write: also when it may be answered.
    fn decide_write<T>(
        self: &Rc<Self>,
        by: &Actor,
        write: impl FnOnce(&mut narthex_core::registry::Registry<Tables>, &Turn<'_>) -> Result<T, WriteError>,
    ) -> Decided<T>
    where
        T: Written,
    {
        self.decide(|registry| {
            registry.begin_write();
            let outcome = write(registry, &Turn::new(by, clock::now(), random::bytes()));
            let receipt = !matches!(&outcome, Ok(written) if !written.shows_a_write());
            (outcome, receipt.then(|| registry.receipt()))
        })
    }

    /// Waits until a write may be answered.
    async fn settle(&self, receipt: &Receipt) {
        while !self.registry.borrow().is_settled(receipt, clock::now()) {
            let (sender, receiver) = oneshot::channel();
            self.waiting.borrow_mut().push(sender);
            // A sender that is dropped was used.
            let _ = receiver.await;
        }
    }
}
