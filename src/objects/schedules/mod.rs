//! `Scheduler`: the next runs of a tenant's schedules, and the outcomes of past ones.
//!
//! A shell around `narthex_core::schedules::run_state`. Its alarm stores due runs and notifies a queue of its own; a
//! Worker creates the contexts, each under an idempotency key made from the schedule and the planned time, and reports
//! the outcomes.

pub mod messages;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use wasm_bindgen::JsValue;

use crate::objects::alarm::ObjectAlarm;
use crate::objects::protocol::Done;
use crate::objects::shell::{Handle, Outcome, Shell, WrittenAnswer, durable_object};
use crate::platform::objects::{self, Kind};
use crate::platform::sql::Sql;
use crate::platform::{Failure, clock, log_event, settings, tasks, zones};
use narthex_core::base::later_states::LaterStates;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::registry::revision::Revision;
use narthex_core::schedules::run_state::{ClaimedRun, RunState};

use messages::{Ask, ClaimRuns, Configure, DueRuns, Past, ReadPast, Run, RunReport, ScheduleConfig};

const CREATE: &str = "CREATE TABLE IF NOT EXISTS schedules (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, \
                      book TEXT NOT NULL) STRICT, WITHOUT ROWID";

struct Inner {
    sql: Sql,
    states: RefCell<BTreeMap<String, RunState>>,
    /// Set once a schedule was configured.
    tenant: RefCell<Option<TenantId>>,
    /// Schedules whose states a later version has written: they stay for that version, unless they are written anew.
    unreadable: RefCell<LaterStates>,
    /// Schedules whose documents the Workers of this version cannot read: they keep their states, and do not run.
    set_aside: RefCell<Vec<String>>,
    revision: Cell<Revision>,
    alarm: ObjectAlarm,
}

durable_object!(Scheduler: Inner);

impl Shell for Inner {
    type Message = Ask;

    fn open(state: &JsValue, _env: &JsValue) -> Result<Rc<Self>, Failure> {
        let sql = Sql::of(state, Kind::Schedules);
        sql.run(CREATE, &[])?;
        let (mut states, mut tenant, mut unreadable) = (BTreeMap::new(), None, LaterStates::default());
        for row in sql.rows("SELECT id, tenant, book FROM schedules", &[])? {
            tenant = row.text(1).map(TenantId::from_stored);
            let id = row.text(0).unwrap_or_default();
            let text = row.text(2).unwrap_or_default();
            match serde_json::from_str(&text) {
                Ok(state) => drop(states.insert(id, state)),
                Err(_) => unreadable.add(id, &text),
            }
        }
        Ok(Rc::new(Self {
            sql,
            states: RefCell::new(states),
            unreadable: RefCell::new(unreadable),
            set_aside: RefCell::default(),
            tenant: RefCell::new(tenant),
            revision: Cell::new(Revision::INITIAL),
            alarm: ObjectAlarm::default(),
        }))
    }

    fn answer(self: &Rc<Self>, ask: Ask) -> WrittenAnswer {
        ask.dispatch(&**self)
    }

    fn alarm(self: &Rc<Self>) -> Outcome<()> {
        self.alarm.fired();
        Outcome::Now(self.settle())
    }
}

impl Handle<Configure> for &Inner {
    fn handle(self, Configure { tenant, revision, schedules, unreadable }: Configure) -> Result<Done, Failure> {
        if revision >= self.revision.get() {
            self.revision.set(revision);
            *self.tenant.borrow_mut() = Some(tenant);
            self.configure(schedules, unreadable)?;
        }
        self.settle()?;
        Ok(Done::Done)
    }
}

impl Handle<ClaimRuns> for &Inner {
    fn handle(self, ClaimRuns { ran }: ClaimRuns) -> Result<DueRuns, Failure> {
        self.record_reports(ran)?;
        let runs = self.claim()?;
        self.settle()?;
        Ok(DueRuns::Runs(runs))
    }
}

impl Handle<ReadPast> for &Inner {
    fn handle(self, ReadPast { schedule }: ReadPast) -> Result<Past, Failure> {
        let states = self.states.borrow();
        Ok(Past::Past(states.get(&schedule).map(|state| state.past.clone()).unwrap_or_default()))
    }
}

impl Inner {
    fn store_state(&self, id: &str, state: &RunState) -> Result<(), Failure> {
        self.sql.run(
            "INSERT INTO schedules (id, tenant, book) VALUES (?, ?, ?) \
             ON CONFLICT (id) DO UPDATE SET book = excluded.book",
            &[id.into(), self.tenant.borrow().as_ref().into(), (&serde_json::to_string(state)?).into()],
        )
    }

    fn configure(&self, schedules: Vec<ScheduleConfig>, set_aside: Vec<String>) -> Result<(), Failure> {
        let (mut states, mut unreadable) = (self.states.borrow_mut(), self.unreadable.borrow_mut());
        let is_known = |id: &String| schedules.iter().any(|schedule| schedule.id == *id) || set_aside.contains(id);
        let removed: Vec<String> = states.keys().chain(unreadable.ids()).filter(|id| !is_known(id)).cloned().collect();
        for id in removed {
            states.remove(&id);
            unreadable.remove(&id);
            self.sql.run("DELETE FROM schedules WHERE id = ?", &[(&id).into()])?;
        }
        self.set_aside.replace(set_aside);
        for ScheduleConfig { id, generation, plan, missed, enabled } in schedules {
            if unreadable.keeps(&id, generation) {
                continue;
            }
            let known = states.remove(&id);
            let state = match known {
                Some(known) if known.generation == generation => known,
                known => {
                    let state = RunState::new(generation, plan, missed, enabled, clock::now(), known);
                    self.store_state(&id, &state)?;
                    state
                }
            };
            states.insert(id, state);
        }
        Ok(())
    }

    fn record_reports(&self, ran: Vec<RunReport>) -> Result<(), Failure> {
        let mut states = self.states.borrow_mut();
        for RunReport { run, outcome, later } in ran {
            if let Some(state) = states.get_mut(&run.schedule) {
                state.report(run.planned_at, outcome, later, clock::now());
                self.store_state(&run.schedule, state)?;
            }
        }
        Ok(())
    }

    /// Claims are in memory only: after a restart a run may be claimed twice, which still creates one context.
    fn claim(&self) -> Result<Vec<Run>, Failure> {
        let (mut runs, late_ms) = (Vec::new(), settings::current().schedule_late_ms);
        let set_aside = self.set_aside.borrow();
        for (id, state) in self.states.borrow_mut().iter_mut().filter(|(id, _)| !set_aside.contains(id)) {
            let due = state.claim(clock::now(), late_ms).into_iter();
            runs.extend(due.map(|ClaimedRun { planned_at, late_ms }| Run {
                schedule: id.clone(),
                planned_at,
                late_ms,
            }));
        }
        Ok(runs)
    }

    /// Advances due schedules, notifies consumers, and sets the alarm.
    fn settle(&self) -> Result<(), Failure> {
        let now = clock::now();
        // A zone's offset changes only at a quarter of an hour.
        let known: RefCell<HashMap<(String, u64), i64>> = RefCell::default();
        let offsets = |zone: &str, at: Timestamp| {
            let quarter = at.0 / 900_000;
            *known
                .borrow_mut()
                .entry((zone.into(), quarter))
                .or_insert_with(|| zones::offset(zone, Timestamp(quarter * 900_000)).unwrap_or(0))
        };
        let late_ms = settings::current().schedule_late_ms;
        let (mut states, set_aside) = (self.states.borrow_mut(), self.set_aside.borrow());
        for (id, state) in states.iter_mut().filter(|(id, _)| !set_aside.contains(id)) {
            if state.advance(now, late_ms, &offsets) {
                self.store_state(id, state)?;
            }
        }
        let running = || states.iter().filter(|(id, _)| !set_aside.contains(id)).map(|(_, state)| state);
        let is_due = running().any(|state| state.is_due(now));
        let next = running().filter_map(|state| state.next_wakeup(&offsets)).filter(|at| *at > now).min();
        let again = is_due.then(|| now.plus_ms(settings::timing().batch_wakeup_retry_ms));
        drop(states);
        if is_due {
            self.notify_consumers();
        }
        let due = [next, again].into_iter().flatten().min();
        self.alarm.arm(due, |at| self.sql.set_alarm(at));
        Ok(())
    }

    fn notify_consumers(&self) {
        let Some(tenant) = self.tenant.borrow().clone() else { return };
        tasks::spawn(async move {
            if let Err(failure) = objects::enqueue_schedule_wakeup(&tenant).await {
                // The alarm enqueues another one.
                log_event!(QueueMessageNotSent, tenant = &tenant, queue = "schedules", detail = &failure);
            }
        });
    }
}
