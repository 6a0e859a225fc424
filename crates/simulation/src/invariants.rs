//! The invariants, checked after every step and at the end.
//!
//! The checker reads only what is on disk, what the hub has logged and what services ran. It does not depend on how the
//! core makes its decisions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use narthex_core::base::id::{ContextId, row_key};
use narthex_core::base::storage_error::StorageError;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context::status::Status;
use narthex_core::context::{Admission, Head, HistoryEntry};
use narthex_core::context_store::{ContextStore, Effects, Storage, StoredContext};

use narthex_core::context_store::memory::{LiveRow, MemoryStorage};
use narthex_core::context_store::messages::{CallBack, Commit};
use narthex_core::context_store::replies::Work;

use crate::messages::Ask;
use crate::store::{LEASE_MS, RETENTION_MS};
use crate::world::{PARAMETERS, World, given};

/// Within this time something must be done about a context that is due; the offer of a retry takes longest.
const RECOVERY_MS: u64 = 15_200;
/// The tolerance for clock differences and rounding.
const SLACK_MS: u64 = 600;
/// A context must have ended at most this long after its deadline.
const GRACE_MS: u64 = 10_000;

/// A context as it was last seen on disk.
struct KnownContext {
    store: usize,
    text: String,
    head: Head,
    has_ended: bool,
}

/// A call that reached a service.
struct Execution {
    lease: LeaseNumber,
    did: bool,
}

struct Expected {
    idempotent: bool,
    run_at: Option<Timestamp>,
    expires_at: Timestamp,
    write_behind: bool,
}

#[derive(Default)]
pub struct InvariantChecker {
    known: BTreeMap<ContextId, KnownContext>,
    expected: BTreeMap<ContextId, Expected>,
    acknowledged: BTreeSet<ContextId>,
    /// The context of each idempotency key of a store.
    keys: BTreeMap<(usize, u64), (u64, ContextId)>,
    executions: BTreeMap<ContextId, Vec<Execution>>,
    highest: BTreeMap<usize, u64>,
    /// When each context was first cancelled by its client.
    pub cancelled: BTreeMap<ContextId, Timestamp>,
    /// Contexts that a service has accepted for the background.
    pub accepted: BTreeSet<ContextId>,
    /// The numbers of the deliveries whose hand-over has ended because no connection had room.
    pub refused: BTreeSet<String>,
}

impl InvariantChecker {
    pub fn expect(&mut self, admission: &Admission) {
        let Admission { idempotent, run_at, expires_at, .. } = *admission;
        let expected = Expected { idempotent, run_at, expires_at, write_behind: false };
        self.expected.insert(admission.id.clone(), expected);
    }

    pub fn expect_write_behind(&mut self, id: &ContextId) {
        if let Some(expected) = self.expected.get_mut(id) {
            expected.write_behind = true;
        }
    }

    pub fn acknowledge(&mut self, id: &ContextId) {
        self.acknowledged.insert(id.clone());
    }

    fn is_acknowledged(&self, id: &ContextId) -> bool {
        self.acknowledged.contains(id)
    }

    /// Whether the context was stored before it ran, so that it must always be found.
    pub fn was_stored_first(&self, id: &ContextId) -> bool {
        self.is_acknowledged(id) && self.expected.get(id).is_some_and(|expected| !expected.write_behind)
    }

    pub fn knows(&self, id: &ContextId) -> bool {
        self.known.contains_key(id)
    }

    /// The state of a context as it was last seen on disk.
    pub fn head(&self, id: &ContextId) -> Option<&Head> {
        self.known.get(id).map(|known| &known.head)
    }

    pub fn has_ended(&self, id: &ContextId) -> bool {
        self.known.get(id).is_some_and(|known| known.has_ended)
    }

    pub fn completed(&self, id: &ContextId) -> bool {
        self.head(id).is_some_and(|head| head.status == Status::Completed)
    }

    /// The number of the current lease.
    pub fn lease(&self, id: &ContextId) -> Option<LeaseNumber> {
        self.known.get(id).and_then(|known| known.head.lease).map(|lease| lease.number)
    }

    /// A request with this key was answered with this context.
    pub fn check_claim(&mut self, key: (usize, u64), body: u64, id: &ContextId) -> Result<(), String> {
        let (said, stands) = self.keys.entry(key).or_insert_with(|| (body, id.clone()));
        if stands != id || *said != body {
            return Err(format!("key {key:?} belongs to {stands} with body {said}, and to {id} with body {body}"));
        }
        Ok(())
    }

    /// A call reached its service.
    pub fn execute(&mut self, work: &Work, lease: LeaseNumber, did: bool, now: u64) -> Result<(), String> {
        let id = &work.admission.id;
        let Some(expected) = self.expected.get(id) else { return Err(format!("{id} runs and was never created")) };
        if !expected.write_behind && !self.known.contains_key(id) {
            return Err(format!("{id} runs and is not on disk"));
        }
        if work.parameters.get() != PARAMETERS {
            return Err(format!("{id} runs with the parameters {}", work.parameters));
        }
        if expected.run_at.is_some_and(|at| now + SLACK_MS < at.0) {
            return Err(format!("{id} runs before its start time"));
        }
        let before = self.executions.entry(id.clone()).or_default();
        if before.iter().any(|execution| execution.lease == lease) {
            return Err(format!("{id} runs twice under lease {lease}"));
        }
        if !expected.idempotent && before.iter().any(|execution| execution.did) {
            return Err(format!("{id} is not idempotent and runs a second time"));
        }
        before.push(Execution { lease, did });
        Ok(())
    }

    /// The service did not do the work: it asked for input.
    pub fn did_only_ask(&mut self, id: &ContextId, lease: LeaseNumber) {
        for execution in self.executions.get_mut(id).into_iter().flatten() {
            execution.did &= execution.lease != lease;
        }
    }

    /// Compares the present state of a context on disk with the previous one.
    fn see(&mut self, store: usize, text: &str, has_ended: bool) -> Result<(), String> {
        let head: Head = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let id = head.id().clone();
        let before = self.known.get(&id);
        if let Some(before) = before.filter(|before| before.has_ended) {
            return if before.text == text { Ok(()) } else { Err(format!("{id} has ended and was changed")) };
        }
        if has_ended != head.status.is_final() {
            return Err(format!("{id} is in the wrong table: {:?}", head.status));
        }
        let steps = before.map_or(&[] as &[HistoryEntry], |before| &before.head.history);
        let attempts = before.map_or(0, |before| before.head.attempts.len());
        if !head.history.starts_with(steps) || head.attempts.len() < attempts {
            return Err(format!("the history of {id} has changed"));
        }
        for pair in head.history.windows(2) {
            if !pair[0].status.may_become(pair[1].status) || pair[0].at > pair[1].at {
                return Err(format!("{id} went from {:?} to {:?}", pair[0], pair[1]));
            }
        }
        if head.history.last().is_none_or(|last| last.status != head.status) {
            return Err(format!("{id} is {:?}, unlike the end of its history", head.status));
        }
        let old: BTreeSet<u64> = before.map(|before| numbers(&before.head)).unwrap_or_default().into_iter().collect();
        let highest = self.highest.entry(store).or_default();
        let last = *highest;
        for number in numbers(&head).into_iter().filter(|number| !old.contains(number)) {
            if number <= last {
                return Err(format!("{id} has event {number}, and {last} was assigned before"));
            }
            *highest = number.max(*highest);
        }
        self.known.insert(id, KnownContext { store, text: text.into(), head, has_ended });
        Ok(())
    }
}

/// The numbers of steps, attempts and progress.
fn numbers(head: &Head) -> Vec<u64> {
    let progress = head.progress.iter().map(|progress| progress.event);
    published(head).into_iter().chain(progress).collect()
}

/// The numbers of steps and attempts, in order.
fn published(head: &Head) -> Vec<u64> {
    let steps = head.history.iter().map(|step| step.event);
    let mut numbers: Vec<u64> = steps.chain(head.attempts.iter().map(|attempt| attempt.event)).collect();
    numbers.sort_unstable();
    numbers
}

/// What is stored of a context whose content is not kept has none.
fn check_content(storage: &MemoryStorage, id: &ContextId) -> Result<(), String> {
    let read = |found: Result<Option<StoredContext>, StorageError>| found.map_err(|error| format!("{id}: {error}"));
    for StoredContext { head, parameters, result } in read(storage.live(id))?.into_iter().chain(read(storage.done(id))?)
    {
        let parts = [result, head.input_request, head.input, head.progress.map(|progress| progress.data)];
        let has_any = parameters.get() != "null" || parts.iter().any(Option::is_some);
        if !head.admission.content.is_full() && has_any {
            return Err(format!("the content of {id} is stored"));
        }
    }
    Ok(())
}

/// A completed context has its complete result, and no other context has one.
fn check_result(storage: &MemoryStorage, id: &ContextId) -> Result<(), String> {
    let Some(done) = storage.done(id).map_err(|error| format!("{id} cannot be read: {error}"))? else {
        return Ok(());
    };
    let is_kept = done.head.admission.content.is_full();
    let lease = done.head.latest_lease.filter(|_| done.head.status == Status::Completed && is_kept);
    let expected = lease.map(|lease| given(id, lease));
    let result = done.result.as_deref().map(RawValue::get);
    if result != expected.as_deref() {
        return Err(format!("{id} is {:?}, and its result is {result:?}", done.head.status));
    }
    Ok(())
}

impl World {
    /// After a turn of a store: everything that was written.
    ///
    /// `settled` are the contexts whose waiting clients are notified.
    pub fn observe(&mut self, store: usize, settled: &[ContextId]) {
        let storage = self.stores[store].storage.clone();
        let (touched, cleaned) = storage.take_touched();
        for id in touched {
            let before = self.checker.head(&id).map(|head| head.status);
            let key = row_key(id.sort_key());
            let seen = storage.read(|disk| match (disk.done.get(&key), disk.live.get(&key)) {
                (Some(done), _) => self.checker.see(store, &done.head, true),
                (None, Some(live)) => self.checker.see(store, &live.head, false),
                (None, None) => Ok(()),
            });
            if let Err(violation) =
                seen.and_then(|()| check_result(&storage, &id)).and_then(|()| check_content(&storage, &id))
            {
                self.violate(violation);
            }
            let after = self.checker.head(&id).map(|head| head.status).filter(|status| before != Some(*status));
            let answers = after.is_some_and(|status| status.is_final() || status == Status::InputRequired);
            if answers && before.is_some() && !settled.contains(&id) {
                self.violate(format!("{id} is {after:?}, and those who wait for it are not notified"));
            }
        }
        for id in cleaned {
            let last = self.checker.known.get(&id).filter(|known| known.has_ended).map(|known| numbers(&known.head));
            let last = last.and_then(|numbers| numbers.into_iter().max());
            if last.is_none_or(|last| last > self.hub.head(store)) {
                self.violate(format!("the live row of {id} is gone before the hub has its last event"));
            }
        }
        self.check_alarm(store);
    }

    /// Every live context has an alarm that is set early enough, and one that has ended has any until the hub knows it.
    pub fn check_alarm(&mut self, store: usize) {
        if self.stores[store].asleep.is_some() {
            return;
        }
        let storage = &self.stores[store].storage;
        let now = self.clock(store);
        let alarm = storage.alarm();
        let last_event =
            |id: &ContextId| self.checker.known.get(id).and_then(|known| numbers(&known.head).into_iter().max());
        let unpublished = storage.read(|disk| {
            let mut ended = disk.live.iter().filter(|(key, _)| disk.done.contains_key(key));
            ended.find(|(_, row)| last_event(&row.id) > Some(self.hub.head(store))).map(|(_, row)| row.id.clone())
        });
        if let Some(id) = unpublished.filter(|_| alarm.is_none()) {
            return self.violate(format!("the hub lacks an event of {id}, and no alarm is set"));
        }
        let violation = storage.read(|disk| {
            disk.live.iter().filter(|(key, _)| !disk.done.contains_key(key)).find_map(|(_, row)| {
                let known = self.checker.known.get(&row.id);
                let is_the_services = known.is_some_and(|known| known.head.background.is_some());
                let soon = now.plus_ms(if is_the_services { LEASE_MS } else { RECOVERY_MS });
                let bound = row.due.max(soon.min(row.expires)).max(now).plus_ms(SLACK_MS);
                alarm.is_none_or(|alarm| alarm > bound).then(|| {
                    let LiveRow { id, due, expires, .. } = &**row;
                    format!("{id} is due at {due:?} and ends at {expires:?}, and the alarm is set for {alarm:?}")
                })
            })
        });
        if let Some(violation) = violation {
            self.violate(violation);
        }
    }

    /// If this message has a lost lease: the context as it is now, which the message must not change.
    pub fn late(&mut self, _store: usize, ask: &Ask) -> Option<(ContextId, String)> {
        let (id, lease) = match ask {
            Ask::Commit(Commit { id, report, .. }) => (id, report.lease),
            Ask::CallBack(CallBack { id, lease, .. }) => (id, *lease),
            _ => return None,
        };
        let known = self.checker.known.get(id)?;
        if known.head.lease.is_some_and(|held| held.number == lease) {
            return None;
        }
        self.statistics.late += 1;
        Some((id.clone(), known.text.clone()))
    }

    pub fn must_be_unchanged(&mut self, _store: usize, id: &ContextId, before: &str) {
        if self.checker.known.get(id).is_none_or(|known| known.text != *before) {
            self.violate(format!("{id} was changed by a report under a lost lease"));
        }
    }

    /// Checks the final state.
    pub fn check_end(&mut self) {
        self.check_workers_at_end();
        let checker = std::mem::take(&mut self.checker);
        self.statistics.contexts += checker.known.len() as u64;
        for id in &checker.acknowledged {
            if !checker.known.contains_key(id) {
                self.violate(format!("{id} was acknowledged and is gone"));
            }
        }
        let mut stands: BTreeMap<(usize, &str), &ContextId> = BTreeMap::new();
        for (id, known) in &checker.known {
            let found = self.stores[known.store].storage.read(|disk| {
                let row = disk.done.get(&row_key(id.sort_key()));
                row.is_some_and(|row| row.id == *id && row.head == known.text)
            });
            if !found {
                self.violate(format!("{id} is {:?} and never ended", known.head.status));
            }
            if let Some(key) = &known.head.admission.idempotency_key
                && let Some(other) = stands.insert((known.store, key), id)
            {
                self.violate(format!("key {key} made two contexts: {other} and {id}"));
            }
            if let Err(violation) = self.check_ended(id, known, &checker) {
                self.violate(violation);
            }
        }
        for (store, kept) in self.stores.iter().enumerate() {
            let stray = kept.storage.read(|disk| disk.pieces.keys().any(|key| !disk.done.contains_key(key)));
            if stray {
                self.violate(format!("store {store} has pieces without a result"));
                break;
            }
            let left = kept.storage.read(|disk| disk.live.keys().filter(|key| !disk.done.contains_key(key)).count());
            if left > 0 && self.statistics.disk == 0 {
                let text = format!("store {store} has {left} unfinished contexts");
                self.violate(text);
                break;
            }
        }
        if self.statistics.disk == 0 {
            self.check_rest();
        }
    }

    /// A store at rest publishes nothing when it starts, once it has heard from the hub.
    fn check_rest(&mut self) {
        for store in 0..self.stores.len() {
            let (storage, now) = (self.stores[store].storage.clone(), self.clock(store));
            let open = || ContextStore::open(storage.clone(), RETENTION_MS, Timing::DEFAULT, now);
            let rested = open().and_then(|mut contexts| {
                contexts.acknowledge(self.hub.head(store))?;
                open()
            });
            if !rested.is_ok_and(|mut contexts| contexts.take_effects() == Effects::default()) {
                return self.violate(format!("store {store} is at rest, and does something when it starts"));
            }
        }
    }

    fn check_ended(&self, id: &ContextId, known: &KnownContext, checker: &InvariantChecker) -> Result<(), String> {
        let (head, calm) = (&known.head, Timestamp(self.calm_at()));
        let Some(Expected { expires_at, run_at, write_behind, .. }) = checker.expected.get(id) else {
            return Err(format!("{id} is on disk and was never created"));
        };
        // It may have been admitted after its deadline.
        let admitted = head.history.first().map_or(calm, |step| step.at);
        let latest = (*expires_at).max(calm).max(admitted).plus_ms(GRACE_MS + SLACK_MS);
        if head.history.last().is_none_or(|last| last.at > latest) {
            return Err(format!("{id} ended too long after its deadline"));
        }
        let from = run_at.unwrap_or(calm).max(calm).max(admitted);
        let had_time = expires_at.since(from) >= self.start_ms();
        if had_time && head.status == Status::TimedOut && head.attempts.is_empty() {
            return Err(format!("{id} was never started although there was enough time"));
        }
        self.check_promptness(id, head, checker)?;
        let mut logged: Vec<u64> = Vec::new();
        let mut progress = 0;
        for event in self.hub.log.get(&known.store).into_iter().flatten().filter(|event| event.subject == id.as_str()) {
            if event.is_progress { progress = event.number } else { logged.push(event.number) }
        }
        // A context that was never live has no row for a restarted store to find: all of its events are published, or
        // none.
        if *write_behind && logged.is_empty() {
            return Ok(());
        }
        if logged != published(head) {
            return Err(format!("{id} has events {:?}, and the hub has {logged:?}", published(head)));
        }
        if head.progress.as_ref().is_some_and(|last| last.event != progress) {
            return Err(format!("{id} has progress that the hub does not have"));
        }
        Ok(())
    }
}
