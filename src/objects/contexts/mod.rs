//! `ContextStore`: the authoritative state of the contexts of one tenant, region and shard.
//!
//! It admits and leases contexts, records the outcomes of attempts, and publishes events to the hub; it never calls a
//! service. Every reply means "on disk": the platform holds a reply back until the writes before it are durable. The
//! core (`narthex_core::context_store`) decides; this module passes messages to it and carries out its effects.

pub mod client;
mod handlers;
mod list;
pub mod messages;
pub mod preconditions;
mod publish;
mod replies;
mod result_rows;
mod tables;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use wasm_bindgen::JsValue;

use crate::objects::registry;
use crate::objects::shell::{Outcome, Shell, WrittenAnswer, durable_object};
use crate::platform::objects;
use crate::platform::{Failure, clock, log_event, random, settings, tasks};
use narthex_core::base::id::{ContextId, StoreId};
use narthex_core::base::retries::Retries;
use narthex_core::base::storage_error::StorageError;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::context::Admission;
use narthex_core::context_store::{self, Effects};
use narthex_core::registry::known_revision::KnownRevision;
use narthex_core::registry::revision::Revision;

use handlers::Turn;
use messages::{Admit, Ask, Message, Record, Stale};
use preconditions::{Fence, Freshness};
use tables::Tables;

/// How many times a store retries to register with its registry after it stored a context.
const MAX_REGISTRATION_RETRIES: u32 = 4;
/// The pause before it registers, in milliseconds; the pauses before it retries are longer.
const REGISTRATION_PAUSE_MS: u64 = 1_000;
const DAY_MS: u64 = 86_400_000;
const RETENTION: &str = "retention_days";
/// The revision of the registry that has set it.
const RETAINED_BY: &str = "retention_revision";

#[derive(Debug, Clone)]
struct Identity {
    tenant: TenantId,
    store: StoreId,
}

struct Store {
    tables: Tables,
    contexts: RefCell<context_store::ContextStore<Tables>>,
    identity: RefCell<Option<Identity>>,
    waiters: RefCell<HashMap<ContextId, Vec<oneshot::Sender<()>>>>,
    revision: RefCell<KnownRevision>,
    /// Days that ended contexts are kept: the tenant's setting, and the deployment's default.
    own_days: Cell<Option<u64>>,
    /// The newest revision of the registry that has said so.
    retained_by: Cell<Revision>,
    default_days: u64,
}

durable_object!(ContextStore: Store);

impl Shell for Store {
    type Message = Message<Ask>;

    fn open(state: &JsValue, env: &JsValue) -> Result<Rc<Self>, Failure> {
        let tables = Tables::open(state)?;
        let identity = match (tables.meta("tenant")?, tables.meta("store")?.as_deref().and_then(StoreId::parse)) {
            (Some(tenant), Some(store)) => Some(Identity { tenant: TenantId::from_stored(tenant), store }),
            _ => None,
        };
        let settings = settings::of(env);
        let own_days = tables.meta(RETENTION)?.and_then(|days| days.parse().ok());
        let retained_by = tables.meta(RETAINED_BY)?.as_deref().and_then(Revision::parse).unwrap_or_default();
        let retention_ms = own_days.unwrap_or(settings.context_retention_days) * DAY_MS;
        let contexts = context_store::ContextStore::open(tables.clone(), retention_ms, settings.timing, clock::now())?;
        let store = Rc::new(Self {
            contexts: RefCell::new(contexts),
            tables,
            identity: RefCell::new(identity),
            waiters: RefCell::default(),
            revision: RefCell::default(),
            own_days: Cell::new(own_days),
            retained_by: Cell::new(retained_by),
            default_days: settings.context_retention_days,
        });
        store.decide(|_| ());
        Ok(store)
    }

    /// Answers at once unless the reply must wait or the registry must be asked first.
    fn answer(self: &Rc<Self>, message: Message<Ask>) -> WrittenAnswer {
        if self.is_current(&message.ask) {
            return self.answer_now(message);
        }
        let store = self.clone();
        WrittenAnswer::later(async move {
            store.become_current(&message.ask).await?;
            store.answer_now(message).get().await
        })
    }

    /// Does not wait: a slow publication must not delay the next alarm.
    fn alarm(self: &Rc<Self>) -> Outcome<()> {
        self.handle_due(true);
        Outcome::Now(Ok(()))
    }
}

impl Store {
    /// Answers a message with the revision that the store knows.
    fn answer_now(self: &Rc<Self>, Message { revision, ask }: Message<Ask>) -> WrittenAnswer {
        match ask.fence() {
            Fence::AnyRevision | Fence::Pushed => {}
            Fence::KnownRevision => {
                if let Err(newer) = self.revision.borrow_mut().accept(revision) {
                    return Ok(Stale::Stale { revision: newer }).into();
                }
            }
        }
        ask.dispatch(Turn { store: self, revision, now: clock::now() })
    }

    /// Lets the core decide, then carries out the effects.
    fn decide<T>(self: &Rc<Self>, decide: impl FnOnce(&mut context_store::ContextStore<Tables>) -> T) -> T {
        let (decided, effects) = {
            let mut contexts = self.contexts.borrow_mut();
            let decided = decide(&mut contexts);
            (decided, contexts.take_effects())
        };
        self.carry_out(effects);
        decided
    }

    fn carry_out(self: &Rc<Self>, Effects { alarm, wakeups, publish, settled }: Effects) {
        if let Some(at) = alarm {
            self.tables.set_alarm(at);
        }
        if wakeups > 0 {
            self.enqueue_wakeups(wakeups);
        }
        for id in settled {
            self.wake(&id);
        }
        if publish {
            self.flush_soon();
        }
    }

    /// Wakes the requests that wait for this context, so that they check it again.
    fn wake(&self, id: &ContextId) {
        for waiter in self.waiters.borrow_mut().remove(id).unwrap_or_default() {
            // The waiting request may have ended.
            let _ = waiter.send(());
        }
    }

    fn enqueue_wakeups(&self, count: u64) {
        let Some(Identity { tenant, store }) = self.identity.borrow().clone() else {
            return;
        };
        let name = store.object_name(&tenant);
        tasks::spawn(async move {
            for _ in 0..count {
                if let Err(failure) = objects::enqueue_wakeup(&name).await {
                    // The alarm enqueues another one.
                    log_event!(QueueMessageNotSent, tenant = &tenant, store = store, queue = "work", detail = &failure,);
                }
            }
        });
    }

    /// Handles everything that is due and sets the next alarm; `woken` when called by the alarm.
    fn handle_due(self: &Rc<Self>, woken: bool) {
        let now = clock::now();
        let failures =
            self.decide(
                |contexts| {
                    if woken { contexts.alarm(now, random::number) } else { contexts.sweep(now, random::number) }
                },
            );
        for (id, StorageError(detail)) in failures {
            let identity = self.identity.borrow();
            let tenant = identity.as_ref().map(|own| &own.tenant);
            log_event!(SweepFailed, tenant = tenant, context = id.as_ref(), detail = detail);
        }
        self.flush_soon();
    }

    fn is_current(&self, ask: &Ask) -> bool {
        ask.freshness() == Freshness::None
            || (self.identity.borrow().is_some()
                && self.revision.borrow().is_current(clock::now(), settings::timing().registry_silence_ms))
    }

    /// Learns what the store must know before it answers a request.
    async fn become_current(self: &Rc<Self>, ask: &Ask) -> Result<(), Failure> {
        if let Ask::Admit(Admit { admission, .. }) | Ask::Record(Record { admission, .. }) = ask {
            self.remember_identity(admission)?;
        }
        if !self.is_current(ask) {
            match (self.check_revision().await, ask.freshness()) {
                (Err(_), Freshness::Wanted) => self.register_later(),
                (checked, _) => checked?,
            }
        }
        Ok(())
    }

    /// Gets the registry's revision and registers this store with it.
    async fn check_revision(&self) -> Result<(), Failure> {
        let Some(Identity { tenant, store }) = self.identity.borrow().clone() else {
            return Ok(());
        };
        let (hello, asked_at) = (registry::messages::Hello { store }, clock::now());
        let registry::messages::HelloReply::Revision { revision, context_retention_days } =
            registry::client::ask(&tenant, &hello).await?;
        self.retain(context_retention_days, revision)?;
        self.revision.borrow_mut().answered(revision, asked_at);
        Ok(())
    }

    /// A store that its registry does not know cannot be found, so it registers as soon as possible.
    fn register_later(self: &Rc<Self>) {
        let store = self.clone();
        tasks::spawn(async move {
            let mut retries = Retries::up_to(MAX_REGISTRATION_RETRIES);
            clock::pause(REGISTRATION_PAUSE_MS).await;
            while store.check_revision().await.is_err() {
                // Whatever the error: nothing else makes the store known, and the pauses are long.
                if !retries.allow_another() {
                    let identity = store.identity.borrow();
                    let (tenant, own) = identity.as_ref().map(|own| (&own.tenant, own.store)).unzip();
                    log_event!(StoreNotRegistered, tenant = tenant, store = own);
                    return;
                }
                clock::pause(10 * retries.pause_ms()).await;
            }
        });
    }

    /// Sets the retention of ended contexts, also for the time after a restart, unless a newer revision of the registry
    /// has set it. An earlier version of the gateway does not send the revision.
    fn retain(&self, days: Option<u64>, revision: Revision) -> Result<(), Failure> {
        let known = self.retained_by.get();
        if revision < known && revision != Revision::INITIAL {
            return Ok(());
        }
        self.retained_by.set(revision.max(known));
        if self.own_days.get() == days {
            return Ok(());
        }
        self.tables.set_meta(RETAINED_BY, &revision.to_string())?;
        self.tables.set_meta(RETENTION, &days.map_or_else(String::new, |days| days.to_string()))?;
        self.own_days.set(days);
        self.contexts.borrow_mut().retain(days.unwrap_or(self.default_days) * DAY_MS);
        Ok(())
    }

    /// Stores the tenant and the store's id on first use.
    fn remember_identity(&self, admission: &Admission) -> Result<(), Failure> {
        if self.identity.borrow().is_some() {
            return Ok(());
        }
        let store = admission.id.store().ok_or_else(|| Failure("a context without a store".into()))?;
        self.tables.set_meta("tenant", admission.tenant.as_str())?;
        self.tables.set_meta("store", &store.code())?;
        *self.identity.borrow_mut() = Some(Identity { tenant: admission.tenant.clone(), store });
        Ok(())
    }

    async fn wait(
        &self,
        id: &ContextId,
        milliseconds: u64,
        should_wait: impl Fn(&context_store::ContextStore<Tables>) -> Result<bool, StorageError>,
    ) -> Result<(), Failure> {
        let until = clock::now().plus_ms(milliseconds);
        loop {
            let left = until.since(clock::now());
            if left == 0 || !should_wait(&self.contexts.borrow())? {
                return Ok(());
            }
            let (sender, receiver) = oneshot::channel();
            self.waiters.borrow_mut().entry(id.clone()).or_default().push(sender);
            let pause = std::pin::pin!(clock::pause(left));
            if let Either::Right(_) = select(receiver, pause).await
                && let Some(waiting) = self.waiters.borrow_mut().get_mut(id)
            {
                waiting.retain(|sender| !sender.is_canceled());
            }
        }
    }
}
