//! `RateLimiter`: the tokens or permits of one limit and one of its subjects; a single instance worldwide.
//!
//! A shell around `narthex_core::limits::quota_pool` and `narthex_core::limits::concurrency`. Leases are in memory. On
//! disk is one row that is ahead of them by a twentieth of the quota while the pool is busy, and exact when it is idle:
//! what is ahead counts as leased after a restart, so that for one window less may pass, never more. An alarm deletes
//! the row once the whole quota is available again.

pub mod messages;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;

use crate::objects::protocol::Done;
use crate::objects::shell::{Answer, Handle, HandleLater, Outcome, Shell, WrittenAnswer, durable_object};
use crate::platform::objects::Kind;
use crate::platform::sql::Sql;
use crate::platform::{Failure, clock, log_event, settings, tasks};
use narthex_core::base::time::Timestamp;
use narthex_core::limits::concurrency::Permits;
use narthex_core::limits::quota_pool::{QUOTA_LEASE_MS, QuotaPool, QuotaRule, QuotaState, StoredPool};

use messages::{Acquire, AcquireReply, Ask, Message, Release, Renew, Report, Take, TakeReply};

/// A request that finds nothing left waits this long for what others do not use, in milliseconds.
const MAX_WAIT_MS: u64 = QUOTA_LEASE_MS + 1_000;
/// The interval at which it checks, in milliseconds.
const CHECK_INTERVAL_MS: u64 = 50;
/// Further requests do not wait: what is returned goes to these.
const MAX_WAITING: u32 = 64;
/// The interval at which the pool is checked for being idle, in milliseconds.
const IDLE_CHECK_MS: u64 = 1_000;
/// The row is deleted this long after its last use ends, in milliseconds.
const DELETE_AFTER_MS: u64 = 60_000;

const CREATE: &str =
    "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT, WITHOUT ROWID";

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    #[serde(default)]
    tokens: Option<StoredPool>,
    #[serde(default)]
    permits: u64,
}

struct Inner {
    sql: Sql,
    rule: Cell<QuotaRule>,
    configured_at: Cell<Timestamp>,
    pool: RefCell<QuotaPool>,
    permits: RefCell<Permits>,
    /// As stored.
    state: RefCell<State>,
    /// Whether an alarm is set, as far as this instance knows.
    armed: Cell<bool>,
    /// Requests that wait for what others return.
    waiting: Cell<u32>,
    /// Whether a task waits for the pool to become idle.
    is_settling: Cell<bool>,
}

durable_object!(RateLimiter: Inner);

impl Shell for Inner {
    type Message = Message<Ask>;

    fn open(state: &JsValue, _env: &JsValue) -> Result<Rc<Self>, Failure> {
        let sql = Sql::of(state, Kind::Limits);
        sql.run(CREATE, &[])?;
        let row = sql.first("SELECT document FROM kept WHERE name = 'state'", &[])?;
        let text = row.and_then(|row| row.text(0));
        let known: Option<State> = text.map(|text| serde_json::from_str(&text)).transpose()?;
        let armed = Cell::new(known.is_some());
        let (state, now) = (known.unwrap_or_default(), clock::now());
        // The rule comes with the first request.
        let rule = QuotaRule { quota: 0, window_ms: 1 };
        let pool = match &state.tokens {
            Some(stored) => QuotaPool::restore(stored, QuotaRule { quota: 0, window_ms: stored.window_ms.max(1) }, now),
            None => QuotaPool::new(rule, now),
        };
        let permits = Permits::restore(state.permits, now, &settings::timing());
        Ok(Rc::new(Self {
            sql,
            rule: Cell::new(rule),
            configured_at: Cell::default(),
            pool: RefCell::new(pool),
            permits: RefCell::new(permits),
            state: RefCell::new(state),
            armed,
            waiting: Cell::new(0),
            is_settling: Cell::new(false),
        }))
    }

    fn answer(self: &Rc<Self>, Message { rule, configured_at, ask }: Message<Ask>) -> WrittenAnswer {
        self.learn_rule(rule, configured_at);
        ask.dispatch(self)
    }

    fn alarm(self: &Rc<Self>) -> Outcome<()> {
        Outcome::Now(self.delete_idle())
    }
}

impl HandleLater<Take> for &Rc<Inner> {
    fn handle(self, Take { wanted, reports }: Take) -> Answer<TakeReply> {
        let now = clock::now();
        for report in reports {
            self.pool.borrow_mut().report(report, now);
        }
        match self.take(wanted, now) {
            Ok(TakeReply::Refused { .. }) if self.is_worth_waiting() => self.take_later(),
            reply => Answer::now(reply),
        }
    }
}

impl Handle<Report> for &Rc<Inner> {
    fn handle(self, Report(report): Report) -> Result<Done, Failure> {
        self.pool.borrow_mut().report(report, clock::now());
        Ok(Done::Done)
    }
}

impl Handle<Acquire> for &Rc<Inner> {
    fn handle(self, _: Acquire) -> Result<AcquireReply, Failure> {
        let now = clock::now();
        let mut permits = self.permits.borrow_mut();
        let quota = self.rule.get().quota;
        let Some(permit) = permits.acquire(quota, now) else {
            let state = QuotaState { left: 0, reset_ms: permits.next_end_ms(now) };
            return Ok(AcquireReply::Refused { state });
        };
        let state = QuotaState { left: permits.left(quota, now), reset_ms: 0 };
        if let Some(out) = permits.to_store(quota) {
            self.state.borrow_mut().permits = out;
            self.store(now)?;
        }
        Ok(AcquireReply::Permit { permit, state })
    }
}

impl Handle<Renew> for &Rc<Inner> {
    fn handle(self, Renew { permit }: Renew) -> Result<Done, Failure> {
        self.permits.borrow_mut().renew(permit, clock::now());
        Ok(Done::Done)
    }
}

impl Handle<Release> for &Rc<Inner> {
    fn handle(self, Release { permit }: Release) -> Result<Done, Failure> {
        self.permits.borrow_mut().release(permit);
        Ok(Done::Done)
    }
}

impl Inner {
    fn learn_rule(&self, rule: QuotaRule, configured_at: Timestamp) {
        if configured_at >= self.configured_at.get() {
            self.configured_at.set(configured_at);
            self.rule.set(rule);
            self.pool.borrow_mut().set_rule(rule);
        }
    }

    fn take(self: &Rc<Self>, wanted: u64, now: Timestamp) -> Result<TakeReply, Failure> {
        let (lease, state, stored, all_back) = {
            let mut pool = self.pool.borrow_mut();
            let lease = pool.take(wanted, now);
            (lease, pool.state(now), pool.to_store(), pool.full_at(now))
        };
        let Some(lease) = lease else { return Ok(TakeReply::Refused { state }) };
        if let Some(stored) = stored {
            let is_settling = stored.ahead > 0;
            self.state.borrow_mut().tokens = Some(stored);
            self.store(all_back.unwrap_or(now))?;
            if is_settling {
                self.settle_soon();
            }
        }
        Ok(TakeReply::Given { lease, state })
    }

    /// When the pool has been idle for a while: stores the exact state, so that a restart loses nothing.
    fn settle_soon(self: &Rc<Self>) {
        if self.is_settling.replace(true) {
            return;
        }
        let inner = self.clone();
        tasks::spawn(async move {
            while !inner.pool.borrow().is_idle(clock::now()) {
                clock::pause(IDLE_CHECK_MS).await;
            }
            inner.is_settling.set(false);
            let stored = inner.pool.borrow_mut().to_store_exactly();
            if let Some(stored) = stored {
                inner.state.borrow_mut().tokens = Some(stored);
                if let Err(failure) = inner.store(clock::now()) {
                    log_event!(LimitNotSaved, detail = &failure);
                }
            }
        });
    }

    fn is_worth_waiting(&self) -> bool {
        self.waiting.get() < MAX_WAITING && self.pool.borrow().has_open_leases()
    }

    /// Takes a token when unused ones are returned.
    fn take_later(self: &Rc<Self>) -> Answer<TakeReply> {
        let inner = self.clone();
        inner.waiting.set(inner.waiting.get() + 1);
        Answer::later(async move {
            let reply = inner.wait_for_token().await;
            inner.waiting.set(inner.waiting.get() - 1);
            reply
        })
    }

    async fn wait_for_token(self: &Rc<Self>) -> Result<TakeReply, Failure> {
        let until = clock::now().plus_ms(MAX_WAIT_MS);
        loop {
            clock::pause(CHECK_INTERVAL_MS).await;
            let now = clock::now();
            let reply = self.take(1, now)?;
            let waits = matches!(reply, TakeReply::Refused { .. }) && self.pool.borrow().has_open_leases();
            if !waits || now >= until {
                return Ok(reply);
            }
        }
    }

    /// Writes the row; the platform holds the reply back until it is on disk.
    fn store(&self, all_back: Timestamp) -> Result<(), Failure> {
        let text = serde_json::to_string(&*self.state.borrow())?;
        self.sql.run(
            "INSERT INTO kept (name, document) VALUES ('state', ?) \
             ON CONFLICT (name) DO UPDATE SET document = excluded.document",
            &[(&text).into()],
        )?;
        if !self.armed.replace(true) {
            self.sql.set_alarm(all_back.plus_ms(DELETE_AFTER_MS));
        }
        Ok(())
    }

    /// Deletes the row unless it is still needed.
    fn delete_idle(&self) -> Result<(), Failure> {
        let now = clock::now();
        let all_back = self.pool.borrow_mut().full_at(now);
        let idle = self.permits.borrow_mut().is_idle(now);
        if all_back.is_none() && idle {
            self.sql.run("DELETE FROM kept", &[])?;
            self.armed.set(false);
            *self.state.borrow_mut() = State::default();
            *self.pool.borrow_mut() = QuotaPool::new(self.rule.get(), now);
            *self.permits.borrow_mut() = Permits::restore(0, now, &settings::timing());
        } else {
            self.sql.set_alarm(all_back.unwrap_or(now).plus_ms(DELETE_AFTER_MS));
        }
        Ok(())
    }
}
