//! A world: its clock, event queue, actors and faults, all from one seed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use serde_json::value::RawValue;

use narthex_core::base::id::ContextId;
use narthex_core::context::ReportedOutcome;
use narthex_core::context::lease::LeaseNumber;

use narthex_core::registry::revision::Revision;

use crate::administrator::{Acknowledgements, Change};
use crate::client::Request;
use crate::consumer::Consumer;
use crate::dice::Dice;
use crate::faults::{Faults, Statistics, faults};
use crate::hub::Hub;
use crate::invariants::InvariantChecker;
use crate::isolate::{Isolate, Read};
use crate::messages::{Actor, Ask, Event, RegistryEvent};
use crate::mutants::Mutant;
use crate::network::REPLY_TIMEOUT_MS;
use crate::recipients::Recipients;
use crate::registry_object::{RegistryAsk, RegistryObject};
use crate::service::{Job, Service};
use crate::store::Store;
use crate::worker::Worker;
use crate::worker_invariants::{AttemptCounts, Grants};

pub const PARAMETERS: &str = r#"{"n":1}"#;
/// The start time of every world.
pub const BEGINNING: u64 = 1_700_000_000_000;
/// A world with more events than this does not settle.
const MAX_STEPS: u64 = 300_000;

struct TimedEvent {
    at: u64,
    number: u64,
    event: Event,
}

impl PartialEq for TimedEvent {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for TimedEvent {}

impl PartialOrd for TimedEvent {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TimedEvent {
    /// The earliest event is the greatest; among equals, the one scheduled first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

pub struct World {
    pub now: u64,
    pub dice: Dice,
    pub faults: Faults,
    pub has_cron: bool,
    pub stores: Vec<Store>,
    pub hub: Hub,
    pub services: Vec<Service>,
    pub registry: RegistryObject,
    pub reads: BTreeMap<u64, Read>,
    pub changes: Vec<Change>,
    pub acknowledged: Acknowledgements,
    pub recipients: Recipients,
    /// From when until when the registry is cut off from others.
    pub cut: (u64, u64),
    /// The hash of the registry's documents, by revision.
    pub states: BTreeMap<Revision, u64>,
    /// What isolates keep of each of them.
    pub indexes: BTreeMap<Revision, u64>,
    pub isolates: Vec<Isolate>,
    pub jobs: Vec<Job>,
    pub workers: BTreeMap<u64, Worker>,
    pub consumers: BTreeMap<u64, Consumer>,
    pub requests: Vec<Request>,
    pub checker: InvariantChecker,
    pub grants: Grants,
    pub attempts: AttemptCounts,
    pub statistics: Statistics,
    pub mutant: Option<Mutant>,
    /// From then on there are no faults.
    pub calm_at: u64,
    pub is_calm: bool,
    /// Services come and go.
    has_changes: bool,
    /// Many clients use one service that fails.
    is_storm: bool,
    /// It never had faults of messages or machines.
    was_quiet: bool,
    had_disk_faults: bool,
    ends_at: u64,
    violation: Option<String>,
    traces: bool,
    queue: BinaryHeap<TimedEvent>,
    numbers: u64,
}

pub fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.into()).unwrap()
}

/// What a service returns for an attempt: longer than a row of the test storage, with characters of every length.
pub fn given(id: &ContextId, lease: LeaseNumber) -> String {
    format!(r#""a résult: 1 € to the 🌊 of {id} under {lease}""#)
}

/// The result that belongs to an outcome.
pub fn result(outcome: &ReportedOutcome, id: &ContextId, lease: LeaseNumber) -> Option<Box<RawValue>> {
    matches!(outcome, ReportedOutcome::Succeeded).then(|| raw(&given(id, lease)))
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>, traces: bool) -> Self {
        let mut dice = Dice::new(seed);
        let faults = faults(&mut dice);
        let stores: Vec<Store> = (0..dice.between(1, 3) as u16).map(Store::new).collect();
        let connects_per_mille = dice.pick(&[0, 0, 500]);
        let services = (0..3).map(|number| service(&mut dice, number, connects_per_mille)).collect();
        let calm_at = BEGINNING + if faults.cut > 0 { 75_000 } else { dice.between(5_000, 40_000) };
        let cut_at = dice.below(20_000);
        let mut world = Self {
            now: BEGINNING,
            has_cron: dice.chance(500),
            dice,
            faults,
            stores,
            hub: Hub::default(),
            services,
            registry: RegistryObject::default(),
            reads: BTreeMap::new(),
            changes: Vec::new(),
            acknowledged: Acknowledgements::default(),
            recipients: Recipients::default(),
            cut: (BEGINNING + cut_at, BEGINNING + cut_at + 55_000),
            states: BTreeMap::new(),
            indexes: BTreeMap::new(),
            isolates: Vec::from_iter((0..3).map(|_| Isolate::default())),
            jobs: Vec::new(),
            workers: BTreeMap::new(),
            consumers: BTreeMap::new(),
            requests: Vec::new(),
            checker: InvariantChecker::default(),
            grants: Grants::default(),
            attempts: AttemptCounts::default(),
            has_changes: false,
            is_storm: false,
            was_quiet: faults.is_quiet(),
            had_disk_faults: faults.disk > 0,
            statistics: Statistics { worlds: 1, ..Statistics::default() },
            mutant,
            calm_at,
            is_calm: false,
            ends_at: calm_at + 30_000,
            violation: None,
            traces,
            queue: BinaryHeap::new(),
            numbers: 0,
        };
        world.arrange();
        world
    }

    /// Plans the world's own events.
    fn arrange(&mut self) {
        self.sabotage();
        self.arrange_documents();
        for service in 0..self.services.len() {
            let is_connected = self.services[service].lane.connections.is_some();
            if is_connected {
                let first = BEGINNING + self.dice.below(3_000);
                self.schedule(first, Event::ConnectionChanges { service });
                self.has_changes = true;
            }
        }
        self.has_changes |= self.plan_changes();
        self.is_storm = self.faults.service > 0 && self.dice.chance(80);
        let is_busy = self.is_storm || self.faults.cut > 0;
        let requests = if is_busy { self.dice.between(15, 40) } else { self.dice.between(3, 10) };
        for _ in 0..requests {
            self.plan_request();
        }
        if self.is_storm {
            self.faults.service = 950;
            // Otherwise hardly anything else happens.
            self.faults.crash = self.faults.crash.min(30);
        }
        self.schedule(self.calm_at, Event::Calm);
        if self.has_cron {
            let first = BEGINNING + self.dice.below(60_000);
            self.schedule(first, Event::Sweep);
        }
        while self.dice.chance(self.faults.clock) {
            let at = self.dice.between(BEGINNING, self.calm_at);
            self.schedule(at, Event::Jump);
        }
        while self.dice.chance(self.faults.crash * 4) {
            let at = self.dice.between(BEGINNING, self.calm_at);
            let store = self.dice.below(self.stores.len() as u64) as usize;
            self.schedule(at, Event::Die { store });
            let at = self.dice.between(BEGINNING, self.calm_at);
            let service = self.dice.below(self.services.len() as u64) as usize;
            self.schedule(at, Event::LaneCrashes { service });
            let at = self.dice.between(BEGINNING, self.calm_at);
            self.schedule(at, Event::Registry(RegistryEvent::Dies));
        }
    }

    /// From then on there are no faults.
    pub fn calm_at(&self) -> u64 {
        self.calm_at
    }

    /// Whether no message is ever lost or late, and nothing crashes.
    pub fn was_quiet(&self) -> bool {
        self.was_quiet
    }

    /// Whether writes may have failed.
    pub fn had_disk_faults(&self) -> bool {
        self.had_disk_faults
    }

    /// How long a context may wait for its first attempt once there are no faults. Before the queue of a service moves,
    /// a lane that was restarted, and a permit that a dead worker waited for, may each cost the length of a permit. A
    /// service may be away at first.
    pub fn start_ms(&self) -> u64 {
        let away_ms = |service: &Service| Some(service.lane.connections.as_ref()?.away_ms(self.calm_at));
        let away_ms = self.services.iter().filter_map(away_ms).max().unwrap_or_default();
        away_ms + if self.is_storm { 60_000 } else { 25_000 }
    }

    /// Whether services come and go: the registry changes, or some connect.
    pub fn has_changes(&self) -> bool {
        self.has_changes
    }

    pub fn is_storm(&self) -> bool {
        self.is_storm
    }

    pub fn is_calm(&self) -> bool {
        self.is_calm
    }

    pub fn beginning(&self) -> u64 {
        BEGINNING
    }

    /// Extends the world's life to at least `at`.
    pub fn last_until(&mut self, at: u64) {
        self.ends_at = self.ends_at.max(at);
    }

    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn schedule(&mut self, at: u64, event: Event) {
        let number = self.number();
        self.queue.push(TimedEvent { at, number, event });
    }

    pub fn note(&self, text: impl FnOnce() -> String) {
        if self.traces {
            println!("{:>7} {}", self.now - BEGINNING, text());
        }
    }

    pub fn violate(&mut self, text: String) {
        self.note(|| format!("VIOLATED: {text}"));
        self.violation.get_or_insert(text);
    }

    /// Runs to the end. Returns the first violation.
    pub fn run(&mut self) -> Option<String> {
        self.note(|| format!("{:?}, {} stores, cron {}", self.faults, self.stores.len(), self.has_cron));
        while let Some(TimedEvent { at, event, .. }) = self.queue.pop() {
            if at > self.ends_at || self.violation.is_some() {
                break;
            }
            self.now = self.now.max(at);
            self.statistics.steps += 1;
            if self.statistics.steps > MAX_STEPS {
                self.violate("the world does not settle".into());
            }
            self.happen(event);
        }
        if self.violation.is_none() {
            self.now = self.now.max(self.ends_at);
            self.check_end();
            self.check_answers();
            self.check_registry_log();
            self.check_recipients();
            self.check_statuses();
        }
        self.violation.take()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Begin(request) => self.begin(request),
            Event::Poll(request) => self.poll(request),
            Event::Cancel(request) => self.cancel(request),
            Event::ToStore { store, call, revision, ask } => self.reach_store(store, call, revision, ask),
            Event::Replied { call, reply } => self.replied(call, reply),
            Event::Alarm { store, at } => self.alarm(store, at),
            Event::AlarmAgain { store, at } => self.run_alarm(store, at),
            Event::Flush { store, life } => self.flush(store, life),
            Event::ToHub { store, sending, batch } => self.reach_hub(store, sending, &batch),
            Event::HubReplied { store, sending, head } => self.hub_replied(store, sending, head),
            Event::Wakeup { store, tries } => self.deliver_wakeup(store, tries),
            Event::WakeConsumer { consumer, timer } => self.wake_consumer(consumer, timer),
            Event::Wake { worker, timer } => self.wake_worker(worker, timer),
            Event::Repeat { worker, number } => self.repeat(worker, number),
            Event::Registry(event) => self.registry_happens(event),
            Event::Called { worker, call, work, service } => self.called(worker, call, &work, service),
            Event::Piece { worker, call } => self.piece(worker, call),
            Event::AsksForInput { worker, call } => self.asks_for_input(worker, call),
            Event::Answered { worker, call, answer } => self.answered(worker, call, answer),
            Event::ConnectionChanges { service } => self.connection_changes(service),
            Event::ConnectionOpens { service } => self.connection_opens(service),
            Event::LaneAlarm { service, alarm } => self.lane_alarm(service, alarm),
            Event::LaneAlarmAgain { service, alarm } => self.run_lane_alarm(service, alarm),
            Event::LaneRepeats { service, number } => self.repeat_report(service, number),
            Event::CallBack { job } => self.call_back(job),
            Event::ToLane { service, call, settings, ask } => self.reach_lane(service, call, settings, ask),
            Event::TurnOver { service, life, context, request } => self.turn_over(service, life, &context, request),
            Event::LaneTicks { service, life } => self.lane_ticks(service, life),
            Event::LaneRests { service, life } => self.lane_rests(service, life),
            Event::LaneCrashes { service } => {
                self.statistics.crashes += 1;
                self.note(|| format!("the lane of s{service} crashes at rest"));
                self.lane_crashes(service);
            }
            Event::Sweep => {
                for store in 0..self.stores.len() {
                    self.ask(Actor::Sweep(store), store, Revision::INITIAL, Ask::Sweep);
                }
                self.ask_registry(Actor::None, RegistryAsk::Sweep, REPLY_TIMEOUT_MS);
                self.schedule(self.now + 60_000, Event::Sweep);
            }
            Event::Jump => self.jump(),
            Event::Die { store } => {
                self.statistics.crashes += 1;
                self.note(|| format!("store {store} crashes at rest"));
                self.die(store);
            }
            Event::Calm => self.calm(),
        }
    }
}

/// A service of a world: some have a limit; in some worlds, some connect to their lanes.
fn service(dice: &mut Dice, number: u64, connects_per_mille: u64) -> Service {
    let (limited, connects) = (dice.chance(400), dice.chance(connects_per_mille));
    let max_concurrency = limited.then(|| dice.between(1, 2));
    Service::new(number, max_concurrency, dice.below(6), connects)
}
