//! `ContextStore`: the truth about the contexts of one tenant, region and shard.
//!
//! It admits, leases, takes in how attempts ended, remembers, and tells the hub; it never calls a service.
//! Every reply means "on disk": the platform holds a reply back until what was written before it is safe.
//! A change is one statement, so a crash keeps all of it or nothing.

mod alarm;
pub mod messages;
mod outbox;
mod tables;
pub mod view;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use serde_json::value::RawValue;
use wasm_bindgen::prelude::*;

use crate::core::context::{Admission, Cancelled, Head, Refused, Report, Verdict};
use crate::core::event;
use crate::core::id::{ContextId, StoreId, row_key, ulid};
use crate::core::idempotency::{Claim, WINDOW_MS};
use crate::core::time::Timestamp;
use crate::objects::{events, registry, reply};
use crate::platform::objects::{self, Kind};
use crate::platform::{Failure, clock, die, log, random, settings, tasks};

use messages::{Ask, CancelOutcome, Found, Listed, Message, Origin, Query, Reply, Work};
use outbox::Outbox;
use tables::{Tables, Whole};

/// A store that has not heard from its registry for this long asks before it admits.
const TRUST_MS: u64 = 30_000;
/// Events are gathered this long before they go out together: one row at the hub for all of them.
const GATHER_MS: u64 = 40;
/// Heads remembered at most.
const MOST_HELD: usize = 2_000;
/// Events of one context at most, between two writes.
const MOST_EVENTS: u64 = 8;

#[derive(Debug, Clone)]
struct Identity {
    tenant: String,
    store: StoreId,
}

struct Store {
    tables: Tables,
    outbox: Outbox,
    identity: RefCell<Option<Identity>>,
    /// Ended contexts whose live rows are not cleaned yet.
    ended: RefCell<HashSet<String>>,
    /// Leases kept alive beyond what is on disk.
    renewed: RefCell<HashMap<String, Timestamp>>,
    /// Heads of leased contexts as they are on disk.
    held: RefCell<HashMap<String, Head>>,
    waiters: RefCell<HashMap<String, Vec<oneshot::Sender<()>>>>,
    revision: Cell<u64>,
    heard_at: Cell<Timestamp>,
    woke_at: Timestamp,
    alarm_at: Cell<Option<Timestamp>>,
    rang_at: Cell<Timestamp>,
    looked_at: Cell<Timestamp>,
    may_die: bool,
    dies_in_alarm: Cell<bool>,
}

#[wasm_bindgen]
pub struct ContextStore(Rc<Store>);

#[wasm_bindgen]
impl ContextStore {
    #[wasm_bindgen(constructor)]
    pub fn new(state: &JsValue, env: &JsValue) -> Result<ContextStore, JsValue> {
        let store = Store::open(state, env).map_err(|failure| js_sys::Error::new(&failure.0))?;
        let store = Rc::new(store);
        store.flush_soon();
        Ok(Self(store))
    }

    /// One message, one reply: at once where no waiting is needed.
    pub fn call(&self, message: &str) -> Result<JsValue, JsValue> {
        let message: Message = serde_json::from_str(message).map_err(|e| js_sys::Error::new(&e.to_string()))?;
        let store = self.0.clone();
        if store.is_current(&message) && !matches!(message.ask, Ask::Wait { .. } | Ask::Flush) {
            return tasks::turn(|| reply(store.answer(message)));
        }
        let answer = tasks::promise(async move { reply(store.answer_later(message).await) });
        Ok(answer)
    }

    pub fn alarm(&self) -> JsValue {
        let store = self.0.clone();
        tasks::promise(async move {
            if store.dies_in_alarm.get() {
                die();
            }
            store.alarm_at.set(None);
            store.sweep();
            // Before anything is waited for: whatever happens to this run, there is a next one.
            store.arm();
            store.flush().await;
            store.arm();
            Ok(JsValue::UNDEFINED)
        })
    }
}

impl Store {
    fn open(state: &JsValue, env: &JsValue) -> Result<Self, Failure> {
        let tables = Tables::open(state)?;
        let identity = match (tables.meta("tenant")?, tables.meta("store")?.as_deref().and_then(StoreId::parse)) {
            (Some(tenant), Some(store)) => Some(Identity { tenant, store }),
            _ => None,
        };
        let outbox = Outbox::default();
        outbox.start(tables.meta("numbers")?.and_then(|n| n.parse().ok()).unwrap_or(0));
        let store = Self {
            tables,
            outbox,
            identity: RefCell::new(identity),
            ended: RefCell::default(),
            renewed: RefCell::default(),
            held: RefCell::default(),
            waiters: RefCell::default(),
            revision: Cell::new(0),
            heard_at: Cell::new(Timestamp(0)),
            woke_at: clock::now(),
            alarm_at: Cell::new(None),
            rang_at: Cell::new(Timestamp(0)),
            looked_at: Cell::new(Timestamp(0)),
            may_die: settings::of(env).panic_routes,
            dies_in_alarm: Cell::new(false),
        };
        store.recover()?;
        Ok(store)
    }

    /// Takes up what the last instance had not told yet: all of it lies in `live`.
    fn recover(&self) -> Result<(), Failure> {
        let mut untold = Vec::new();
        for (head, result) in self.tables.untold()? {
            self.ended.borrow_mut().insert(head.id().to_string());
            untold.push((head, result, true));
        }
        for head in self.tables.live_heads()? {
            if !self.ended.borrow().contains(head.id().as_str()) {
                untold.push((head, None, false));
            }
        }
        // Each item on its own, in the order of the numbers: the hub takes them only so.
        let mut bundles: Vec<event::Bundle> = Vec::new();
        untold.sort_by_key(|(head, ..)| last_number(head));
        for (head, result, has_ended) in &untold {
            let whole = event::bundle(head, result.as_deref(), 0);
            let mut after = None;
            for item in &whole.items {
                bundles.push(event::Bundle { items: vec![item.clone()], after, ..whole.clone() });
                after = Some(item.number);
            }
            if *has_ended {
                self.outbox.ended(last_number(head), head.id().clone());
            }
        }
        bundles.sort_by_key(|bundle| bundle.items.first().map(|item| item.number));
        for bundle in bundles {
            self.outbox.push(&bundle)?;
        }
        Ok(())
    }

    fn is_current(&self, message: &Message) -> bool {
        matches!(message.ask, Ask::Revision | Ask::Commit { .. } | Ask::Renew { .. } | Ask::Die { .. })
            || (self.identity.borrow().is_some() && clock::now().since(self.heard_at.get()) < TRUST_MS)
    }

    fn heard(&self, revision: u64) {
        self.revision.set(revision.max(self.revision.get()));
        self.heard_at.set(clock::now());
    }

    /// Asks the registry what it is at, and makes this store known to it.
    async fn ask_registry(&self) -> Result<(), Failure> {
        let Some(Identity { tenant, store }) = self.identity.borrow().clone() else {
            return Ok(());
        };
        let ask = registry::messages::Ask::Hello { store };
        let hello = registry::messages::Message { tenant: tenant.clone(), ask };
        match objects::send(Kind::Registry, &tenant, "", &hello, objects::PATIENCE_MS).await? {
            registry::messages::Reply::Revision { revision } => self.heard(revision),
            _ => return Err(Failure("the registry answered something else".into())),
        }
        Ok(())
    }

    async fn answer_later(self: &Rc<Self>, message: Message) -> Result<Reply, Failure> {
        if let Ask::Admit { admission, .. } | Ask::Record { admission, .. } = &message.ask {
            self.know_itself(admission)?;
        }
        if !self.is_current(&message) {
            let asked = self.ask_registry().await;
            // What has been executed is kept, whether or not the registry can be reached.
            if !matches!(message.ask, Ask::Record { .. }) {
                asked?;
            }
        }
        match message.ask {
            Ask::Flush => {
                self.flush().await;
                Ok(Reply::Done)
            }
            Ask::Wait { ref id, milliseconds } if message.revision >= self.revision.get() => {
                self.wait(id, milliseconds).await?;
                let get = Ask::Get { id: id.clone() };
                // Who waits was let in when the wait began.
                let revision = self.revision.get();
                self.answer(Message { revision, ask: get })
            }
            _ => self.answer(message),
        }
    }

    /// Remembers, once, whose contexts these are.
    fn know_itself(&self, admission: &Admission) -> Result<(), Failure> {
        if self.identity.borrow().is_some() {
            return Ok(());
        }
        let store = admission.id.store().ok_or_else(|| Failure("a context without a store".into()))?;
        self.tables.set_meta("tenant", &admission.tenant)?;
        self.tables.set_meta("store", &store.code())?;
        *self.identity.borrow_mut() = Some(Identity { tenant: admission.tenant.clone(), store });
        Ok(())
    }

    fn answer(self: &Rc<Self>, message: Message) -> Result<Reply, Failure> {
        let Message { revision, ask } = message;
        match ask {
            Ask::Revision => {
                self.heard(revision);
                return Ok(Reply::Done);
            }
            // What has been executed is kept whatever the registry says meanwhile.
            Ask::Commit { id, report, result, stays_ms } => return self.commit(&id, report, result, stays_ms),
            Ask::Record { admission, parameters, report, result } => {
                return self.record(*admission, &parameters, report, result);
            }
            Ask::Renew { id, lease, lease_ms } => return self.renew(&id, lease, lease_ms),
            Ask::Die { in_alarm } if self.may_die => {
                if !in_alarm {
                    die();
                }
                self.dies_in_alarm.set(true);
                self.tables.set_alarm(clock::now().plus_ms(100));
                return Ok(Reply::Done);
            }
            Ask::Sweep => {
                self.sweep();
                self.arm();
                self.flush_soon();
                return Ok(Reply::Done);
            }
            _ if revision < self.revision.get() => {
                return Ok(Reply::Stale { revision: self.revision.get() });
            }
            _ => self.revision.set(revision.max(self.revision.get())),
        }
        match ask {
            Ask::Admit { admission, parameters, lease_ms, show, claim } => {
                match self.replayed(claim.as_ref(), Some(&admission.id))? {
                    Some(reply) => Ok(reply),
                    None => self.admit(*admission, &parameters, lease_ms, show, claim),
                }
            }
            Ask::Recall { claim } => Ok(self.replayed(Some(&claim), None)?.unwrap_or(Reply::Nothing)),
            Ask::Lease { id, lease_ms } => self.lease(&id, lease_ms),
            Ask::Claim { lease_ms } => self.claim(lease_ms),
            Ask::Get { id } => self.get(&id),
            Ask::Origin { id } => self.origin(&id),
            Ask::Cancel { id } => self.cancel(&id),
            Ask::List(query) => self.list(&query),
            _ => Ok(Reply::Done),
        }
    }

    fn admit(
        self: &Rc<Self>,
        admission: Admission,
        parameters: &RawValue,
        lease_ms: Option<u64>,
        show: bool,
        claim: Option<Claim>,
    ) -> Result<Reply, Failure> {
        let now = clock::now().max(admission.created_at);
        let id = admission.id.clone();
        let mut head = Head::admit(admission, now);
        if let Some(ms) = lease_ms {
            // A start in the future is not leased but waits for its time.
            let _ = head.lease(now, now.plus_ms(ms));
        }
        self.number(&mut head)?;
        let inserted = match &claim {
            None => self.tables.insert(&head, parameters)?,
            // The key and what it stands for are one write.
            Some(claim) => self.tables.transaction(|| {
                let inserted = self.tables.insert(&head, parameters)?;
                if inserted {
                    self.tables.claim(claim, &id, now.plus_ms(WINDOW_MS))?;
                }
                Ok(inserted)
            })?,
        };
        if !inserted {
            // Asked twice, because the first reply was lost: it exists, and its first lease is the asker's.
            return Ok(match self.tables.live_head(&id)? {
                Some(known) => {
                    let lease = known.lease.map(|lease| lease.number).filter(|number| *number == 1);
                    Reply::Admitted { lease, view: Some(view::of(&known)?) }
                }
                None => Reply::Taken,
            });
        }
        self.tell(&head, None, 0);
        self.wake_for(&head, now);
        let lease = head.lease.map(|lease| lease.number);
        let view = if show || lease.is_none() { Some(view::of(&head)?) } else { None };
        if lease.is_some() {
            self.hold(head);
        }
        Ok(Reply::Admitted { lease, view })
    }

    /// What there is to say of an idempotency key that is known; nothing when it is new, or stands for `own`.
    fn replayed(&self, claim: Option<&Claim>, own: Option<&ContextId>) -> Result<Option<Reply>, Failure> {
        let Some(claim) = claim else { return Ok(None) };
        Ok(match self.tables.claimed(&claim.scope, clock::now())? {
            Some((id, _)) if Some(&id) == own => None,
            Some((id, fingerprint)) if fingerprint == claim.fingerprint => Some(Reply::Replayed { id }),
            Some(_) => Some(Reply::KeyReused),
            None => None,
        })
    }

    /// Remembers the head of a leased context, which will be asked for next.
    fn hold(&self, head: Head) {
        let mut held = self.held.borrow_mut();
        if held.len() >= MOST_HELD {
            held.clear();
        }
        held.insert(head.id().to_string(), head);
    }

    /// A live context's head, to be changed: what was remembered of it no longer holds.
    fn take_live(&self, id: &ContextId) -> Result<Option<Head>, Failure> {
        if let Some(head) = self.held.borrow_mut().remove(id.as_str()) {
            return Ok(Some(head));
        }
        if self.ended.borrow().contains(id.as_str()) {
            return Ok(None);
        }
        self.tables.live_head(id)
    }

    fn lease(self: &Rc<Self>, id: &ContextId, lease_ms: u64) -> Result<Reply, Failure> {
        self.held.borrow_mut().remove(id.as_str());
        if self.ended.borrow().contains(id.as_str()) {
            return Ok(Reply::Nothing);
        }
        let Some(Whole { mut head, parameters, .. }) = self.tables.live(id)? else {
            return Ok(Reply::Nothing);
        };
        let now = clock::now();
        let known = last_number(&head);
        let Ok(lease) = head.lease(now, now.plus_ms(lease_ms)) else {
            return Ok(Reply::Nothing);
        };
        self.number(&mut head)?;
        self.tables.update(&head)?;
        self.tell(&head, None, known);
        self.wake_for(&head, now);
        let attempt = head.attempts.len() as u64 + 1;
        let tried = head.attempts.iter().map(|attempt| attempt.service.clone()).collect();
        Ok(Reply::Leased(Box::new(Work { admission: head.admission, parameters, lease: lease.number, attempt, tried })))
    }

    fn claim(self: &Rc<Self>, lease_ms: u64) -> Result<Reply, Failure> {
        for id in self.tables.ready(clock::now(), 8)? {
            let Some(id) = ContextId::parse(&id) else { continue };
            let leased = self.lease(&id, lease_ms)?;
            if matches!(leased, Reply::Leased(_)) {
                return Ok(leased);
            }
        }
        Ok(Reply::Nothing)
    }

    fn renew(&self, id: &ContextId, lease: u64, lease_ms: u64) -> Result<Reply, Failure> {
        let head = if self.ended.borrow().contains(id.as_str()) { None } else { self.tables.live_head(id)? };
        let Some(head) = head.filter(|head| head.lease.is_some_and(|held| held.number == lease)) else {
            return Ok(Reply::Nothing);
        };
        self.renewed.borrow_mut().insert(id.to_string(), clock::now().plus_ms(lease_ms));
        Ok(Reply::Renewed { cancel: head.cancel_requested })
    }

    fn commit(
        self: &Rc<Self>,
        id: &ContextId,
        report: Report,
        result: Option<Box<RawValue>>,
        stays_ms: u64,
    ) -> Result<Reply, Failure> {
        let Some(mut head) = self.take_live(id)? else {
            let ended = self.tables.done_head(id)?.ok_or_else(|| Failure(format!("{id} is not here")))?;
            return Ok(Reply::Refused { view: view::of(&ended)? });
        };
        let now = clock::now();
        let known = last_number(&head);
        let verdict = match head.report(report, now, random::number()) {
            Ok(verdict) => verdict,
            Err(Refused::Ended | Refused::LeaseLost | Refused::NotNow) => {
                return Ok(Reply::Refused { view: view::of(&head)? });
            }
        };
        self.renewed.borrow_mut().remove(id.as_str());
        let result = result.filter(|_| head.error.is_none());
        self.keep(&mut head, verdict, result.as_deref(), known)?;
        let retry_ms = match verdict {
            Verdict::Waits(at) => Some(at.since(now)).filter(|ms| *ms <= stays_ms),
            Verdict::Ended | Verdict::Unchanged => None,
        };
        if retry_ms.is_none() && !head.status.is_final() {
            self.ring_for(&head, now);
        }
        Ok(Reply::Committed { view: view::of(&head)?, ended: head.status.is_final(), retry_ms })
    }

    /// Writes a decision down and tells of it.
    fn keep(
        self: &Rc<Self>,
        head: &mut Head,
        verdict: Verdict,
        result: Option<&RawValue>,
        known: u64,
    ) -> Result<(), Failure> {
        self.number(head)?;
        match verdict {
            Verdict::Ended => {
                self.tables.finish(head, result)?;
                self.ended.borrow_mut().insert(head.id().to_string());
                self.outbox.ended(last_number(head), head.id().clone());
                for waiter in self.waiters.borrow_mut().remove(head.id().as_str()).unwrap_or_default() {
                    // Who stopped waiting needs no word.
                    let _ = waiter.send(());
                }
            }
            Verdict::Waits(_) | Verdict::Unchanged => {
                self.tables.update(head)?;
                self.wake_at(head.due());
            }
        }
        self.tell(head, result, known);
        Ok(())
    }

    fn record(
        self: &Rc<Self>,
        admission: Admission,
        parameters: &RawValue,
        report: Report,
        result: Option<Box<RawValue>>,
    ) -> Result<Reply, Failure> {
        let mut head =
            Head::recorded(admission, report).map_err(|_| Failure("a record that could not have ended".into()))?;
        self.number(&mut head)?;
        if !self.tables.insert_done(&head, parameters, result.as_deref())? {
            // Asked twice, because the first reply was lost.
            return Ok(Reply::Done);
        }
        self.tell(&head, result.as_deref(), 0);
        Ok(Reply::Done)
    }

    /// A context with all its parts, live or ended.
    fn whole(&self, id: &ContextId) -> Result<Option<Whole>, Failure> {
        let live = if self.ended.borrow().contains(id.as_str()) { None } else { self.tables.live(id)? };
        live.map_or_else(|| self.tables.done(id), |live| Ok(Some(live)))
    }

    fn get(&self, id: &ContextId) -> Result<Reply, Failure> {
        let Some(Whole { head, parameters, result }) = self.whole(id)? else { return Ok(Reply::Nothing) };
        Ok(Reply::Context(Box::new(Found {
            owner: head.admission.owner.clone(),
            ended: head.status.is_final(),
            created_at: head.admission.created_at,
            view: view::of(&head)?,
            parameters,
            result,
        })))
    }

    fn origin(&self, id: &ContextId) -> Result<Reply, Failure> {
        let Some(Whole { head, parameters, .. }) = self.whole(id)? else { return Ok(Reply::Nothing) };
        let ended = head.status.is_final();
        Ok(Reply::Origin(Box::new(Origin { admission: head.admission, parameters, ended })))
    }

    async fn wait(&self, id: &ContextId, milliseconds: u64) -> Result<(), Failure> {
        let lives = !self.ended.borrow().contains(id.as_str()) && self.tables.live_head(id)?.is_some();
        if lives {
            let (sender, receiver) = oneshot::channel();
            self.waiters.borrow_mut().entry(id.to_string()).or_default().push(sender);
            let pause = std::pin::pin!(clock::pause(milliseconds));
            if let Either::Right(_) = select(receiver, pause).await
                && let Some(waiting) = self.waiters.borrow_mut().get_mut(id.as_str())
            {
                waiting.retain(|sender| !sender.is_canceled());
            }
        }
        Ok(())
    }

    fn cancel(self: &Rc<Self>, id: &ContextId) -> Result<Reply, Failure> {
        let Some(mut head) = self.take_live(id)? else {
            return Ok(match self.tables.done_head(id)? {
                Some(head) => Reply::Cancelled { view: view::of(&head)?, outcome: CancelOutcome::Ended },
                None => Reply::Nothing,
            });
        };
        let known = last_number(&head);
        let outcome = match head.cancel(clock::now()) {
            Ok(Cancelled::Now) => {
                self.keep(&mut head, Verdict::Ended, None, known)?;
                CancelOutcome::Now
            }
            Ok(Cancelled::Asked) => {
                self.tables.update(&head)?;
                CancelOutcome::Asked
            }
            Err(_) => CancelOutcome::Ended,
        };
        self.flush_soon();
        Ok(Reply::Cancelled { view: view::of(&head)?, outcome })
    }

    fn list(&self, query: &Query) -> Result<Reply, Failure> {
        // Keys sort by time, so times are ranges of keys.
        let first_at = |at: Timestamp| row_key(&ulid(at, [0; 10]));
        let from = query.created_after.map_or(0, |at| first_at(at.plus_ms(1)).saturating_sub(1));
        let to = query.created_before.map_or(i64::MAX as u64, first_at);
        let to = query.before.as_deref().map_or(to, |before| to.min(row_key(before)));
        let items = self
            .tables
            .list(query, &from.to_string(), &to.to_string())?
            .into_iter()
            .map(|head| Ok(Listed { id: head.id().clone(), view: view::of(&head)? }))
            .collect::<Result<_, Failure>>()?;
        Ok(Reply::Page { items })
    }

    /// Gives numbers to what has to be told, reserving them on disk first.
    fn number(&self, head: &mut Head) -> Result<(), Failure> {
        if let Some(reserved) = self.outbox.reserve(MOST_EVENTS) {
            self.tables.set_meta("numbers", &reserved.to_string())?;
        }
        event::number(head, || self.outbox.next_number());
        Ok(())
    }

    fn tell(self: &Rc<Self>, head: &Head, result: Option<&RawValue>, known: u64) {
        if let Err(failure) = self.outbox.push(&event::bundle(head, result, known)) {
            // What is on disk is told after the next restart.
            log(&format!(r#"{{"level":"error","message":"event not told","detail":{:?}}}"#, failure.0));
        }
        self.flush_soon();
    }

    fn flush_soon(self: &Rc<Self>) {
        if self.outbox.begin() {
            let store = self.clone();
            tasks::spawn(async move {
                clock::pause(GATHER_MS).await;
                store.send_out().await;
                store.outbox.finish();
                // What came in between `is_empty` and here finds nobody flushing.
                store.flush_soon();
            });
        }
    }

    /// Sends out what waits now, unless somebody is at it; then waits for them.
    async fn flush(self: &Rc<Self>) {
        while !self.outbox.is_empty() {
            if self.outbox.begin() {
                self.send_out().await;
                self.outbox.finish();
                return;
            }
            clock::pause(5).await;
        }
    }

    async fn send_out(&self) {
        let Some(Identity { tenant, store }) = self.identity.borrow().clone() else {
            return;
        };
        let mut patience = 5;
        while let Some(batch) = self.outbox.batch() {
            let Ok(bundles) = RawValue::from_string(batch.bundles) else { return };
            let publish = events::messages::Ask::Publish(events::messages::Publish {
                tenant: tenant.clone(),
                teller: store.code(),
                first: batch.first,
                last: batch.last,
                count: batch.count,
                bundles,
            });
            match objects::send(Kind::Events, &tenant, "", &publish, objects::PATIENCE_MS).await {
                Ok(events::messages::Reply::Published { head }) => {
                    let clean = self.outbox.acknowledged(head);
                    if !clean.is_empty() && self.tables.clean(&clean).is_ok() {
                        let mut ended = self.ended.borrow_mut();
                        for id in &clean {
                            ended.remove(id);
                        }
                    }
                }
                Ok(_) => return,
                Err(failure) => {
                    log(&format!(
                        r#"{{"level":"warn","message":"events wait","store":"{}","detail":{:?}}}"#,
                        store.code(),
                        failure.0
                    ));
                    patience -= 1;
                    if patience == 0 {
                        // The alarm tries again.
                        self.wake_at(clock::now().plus_ms(5_000));
                        return;
                    }
                    clock::pause(200 << (5 - patience)).await;
                }
            }
        }
    }
}

/// The last event that has a number.
fn last_number(head: &Head) -> u64 {
    let steps = head.history.iter().map(|step| step.event);
    steps.chain(head.attempts.iter().map(|attempt| attempt.event)).max().unwrap_or(0)
}
