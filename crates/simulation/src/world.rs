//! A world: its clock, event queue, actors and faults, all from one seed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use serde_json::value::RawValue;

use narthex_core::calling::response::CallResult;
use narthex_core::context::ReportedOutcome;
use narthex_core::lane::queue::QueueLimits;

use crate::client::Request;
use crate::consumer::Consumer;
use crate::dice::Dice;
use crate::faults::{Faults, Statistics, faults};
use crate::hub::Hub;
use crate::invariants::InvariantChecker;
use crate::messages::{Actor, Ask, Call, Event, Reply};
use crate::mutants::Mutant;
use crate::service::{Job, Service};
use crate::store::Store;
use crate::worker::Worker;

pub const PARAMETERS: &str = r#"{"n":1}"#;
/// The start time of every world.
const BEGINNING: u64 = 1_700_000_000_000;
/// How long a caller waits for a reply.
const REPLY_TIMEOUT_MS: u64 = 10_000;
/// A world with more events than this does not settle.
const MAX_STEPS: u64 = 20_000;

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
    pub jobs: Vec<Job>,
    pub workers: BTreeMap<u64, Worker>,
    pub consumers: BTreeMap<u64, Consumer>,
    pub requests: Vec<Request>,
    pub checker: InvariantChecker,
    pub statistics: Statistics,
    pub mutant: Option<Mutant>,
    /// From then on there are no faults.
    pub calm_at: u64,
    ends_at: u64,
    violation: Option<String>,
    traces: bool,
    queue: BinaryHeap<TimedEvent>,
    numbers: u64,
}

pub fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.into()).unwrap()
}

/// The result of every service: longer than a row of the test storage, with characters of every length.
pub const GIVEN: &str = r#""a résult: 1 € to the 🌊""#;

/// The result that belongs to an outcome.
pub fn result(outcome: &ReportedOutcome) -> Option<Box<RawValue>> {
    matches!(outcome, ReportedOutcome::Succeeded).then(|| raw(GIVEN))
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>, traces: bool) -> Self {
        let mut dice = Dice::new(seed);
        let faults = faults(&mut dice);
        let stores: Vec<Store> = (0..dice.between(1, 3) as u16).map(Store::new).collect();
        let services = (0..3).map(Service::new).collect();
        let calm_at = BEGINNING + dice.between(5_000, 40_000);
        let mut world = Self {
            now: BEGINNING,
            has_cron: dice.chance(500),
            dice,
            faults,
            stores,
            hub: Hub::default(),
            services,
            jobs: Vec::new(),
            workers: BTreeMap::new(),
            consumers: BTreeMap::new(),
            requests: Vec::new(),
            checker: InvariantChecker::default(),
            statistics: Statistics { worlds: 1, ..Statistics::default() },
            mutant,
            calm_at,
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
        for service in 0..self.services.len() {
            if self.dice.chance(400) {
                let (max_concurrency, max_queue) = (self.dice.between(1, 2), self.dice.below(6));
                self.services[service].lane.limits = Some(QueueLimits { max_concurrency, max_queue });
            }
        }
        for _ in 0..self.dice.between(3, 10) {
            self.plan_request();
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
        }
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
        }
        self.violation.take()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Begin(request) => self.begin(request),
            Event::Poll(request) => self.poll(request),
            Event::Cancel(request) => self.cancel(request),
            Event::ToStore { store, call, ask } => self.reach_store(store, call, ask),
            Event::Replied { call, reply } => self.replied(call, reply),
            Event::Alarm { store, at } => self.alarm(store, at),
            Event::AlarmAgain { store } => self.run_alarm(store, self.now),
            Event::Flush { store, life } => self.flush(store, life),
            Event::ToHub { store, sending, batch } => self.reach_hub(store, sending, &batch),
            Event::HubReplied { store, sending, head } => self.hub_replied(store, sending, head),
            Event::Wakeup { store, tries } => self.deliver_wakeup(store, tries),
            Event::LookAgain { consumer } => self.look_again(consumer),
            Event::Renew { worker, step } => self.renew(worker, step),
            Event::Paused { worker, step } => self.paused(worker, step),
            Event::Called { worker, step, work } => self.called(worker, step, &work),
            Event::Answered { worker, step, answer } => self.answered(worker, step, answer),
            Event::CallBack { job } => self.call_back(job),
            Event::ToLane { service, call, ask } => self.reach_lane(service, call, ask),
            Event::TurnOver { service, life, context, call } => self.turn_over(service, life, &context, call),
            Event::LaneTicks { service, life } => self.lane_ticks(service, life),
            Event::LaneRests { service, life } => self.lane_rests(service, life),
            Event::LaneCrashes { service } => {
                self.statistics.crashes += 1;
                self.note(|| format!("the lane of s{service} crashes at rest"));
                self.lane_crashes(service);
            }
            Event::Sweep => {
                for store in 0..self.stores.len() {
                    self.ask(Actor::None, store, Ask::Sweep);
                }
                self.schedule(self.now + 60_000, Event::Sweep);
            }
            Event::Jump => self.jump(),
            Event::Die { store } => {
                self.statistics.crashes += 1;
                self.note(|| format!("store {store} crashes at rest"));
                self.die(store);
            }
            Event::Calm => {
                self.note(|| "calm".into());
                self.faults = Faults::default();
                // The clock may have jumped over the planned time.
                self.calm_at = self.now;
                self.last_until(self.now + 30_000);
                // A hanging call would block a limited service until its deadline.
                for (worker, step) in self.steps() {
                    let at = self.now + 1_000;
                    self.schedule(at, Event::Answered { worker, step, answer: CallResult::Broken });
                }
                for store in 0..self.stores.len() {
                    self.stores[store].offset = 0;
                    // A store whose alarm was lost is woken only by cron.
                    if self.stores[store].asleep.is_some() {
                        self.ask(Actor::None, store, Ask::Sweep);
                    }
                }
            }
        }
    }

    fn steps(&self) -> Vec<(u64, u64)> {
        self.workers.iter().map(|(key, worker)| (*key, worker.step)).collect()
    }

    /// The clock of the world jumps, or that of one store drifts.
    fn jump(&mut self) {
        self.statistics.jumps += 1;
        if self.dice.chance(500) {
            self.now += self.dice.between(1_000, 20_000);
            self.note(|| "the clock jumps".into());
        } else {
            let store = self.dice.below(self.stores.len() as u64) as usize;
            self.stores[store].offset = self.dice.below(500) as i64 - 250;
            self.note(|| format!("the clock of store {store} is {} ms off", self.stores[store].offset));
        }
    }

    /// The delays of a message's copies: none if it is lost, two if it is duplicated.
    pub fn travel(&mut self) -> Vec<u64> {
        if self.dice.chance(self.faults.lose) {
            self.statistics.lost += 1;
            return Vec::new();
        }
        let copies = if self.dice.chance(self.faults.double) { 2 } else { 1 };
        self.statistics.doubled += copies - 1;
        (0..copies)
            .map(|_| {
                if self.dice.chance(self.faults.delay) {
                    self.statistics.delayed += 1;
                    self.dice.between(30, 14_000)
                } else {
                    self.dice.between(1, 20)
                }
            })
            .collect()
    }

    /// After which time a caller without a reply gives up.
    pub fn patience(&mut self) -> u64 {
        if self.dice.chance(500) { self.dice.between(1, 300) } else { REPLY_TIMEOUT_MS }
    }

    /// Sends a message to a store. Returns the number that identifies the reply.
    pub fn ask(&mut self, actor: Actor, store: usize, ask: Ask) -> u64 {
        let call = Call { actor, number: self.number() };
        let travels = self.travel();
        if travels.iter().min().is_none_or(|delay| *delay > REPLY_TIMEOUT_MS) {
            let patience = self.patience();
            self.schedule(self.now + patience, Event::Replied { call, reply: Reply::Failed });
        }
        for delay in travels {
            self.schedule(self.now + delay, Event::ToStore { store, call, ask: ask.clone() });
        }
        call.number
    }

    /// Sends a reply.
    pub fn reply(&mut self, call: Call, reply: Reply) {
        if call.actor == Actor::None {
            return;
        }
        let travels = self.travel();
        match travels.first() {
            Some(delay) => self.schedule(self.now + (*delay).min(REPLY_TIMEOUT_MS), Event::Replied { call, reply }),
            None => {
                let patience = self.patience();
                self.schedule(self.now + patience, Event::Replied { call, reply: Reply::Failed });
            }
        }
    }

    fn replied(&mut self, call: Call, reply: Reply) {
        match call.actor {
            Actor::Request(request) => self.request_replied(request, call.number, reply),
            Actor::Worker(worker) => self.worker_replied(worker, call.number, reply),
            Actor::Consumer(consumer) => self.consumer_replied(consumer, call.number, reply),
            Actor::Job(job) => self.job_replied(job, call.number, reply),
            Actor::None => {}
        }
    }

    /// Sends a wake-up message; it may be lost, duplicated or late.
    pub fn enqueue_wakeup(&mut self, store: usize) {
        for delay in self.travel() {
            self.schedule(self.now + delay, Event::Wakeup { store, tries: 0 });
        }
    }
}
