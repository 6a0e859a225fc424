mod any_operations;
mod connections;
mod deletion;
mod permits;
mod probes;
mod status;
mod stored_forms;

use super::memory::MemoryStorage;
use super::probing::ProbeError;
use super::*;
use crate::access::encrypted_secret::EncryptedSecret;
use crate::base::principal_id::PrincipalId;
use crate::calling::connection::close_code::ConnectionCloseCode;
use crate::calling::connection::pool::Delivery;
use crate::context::fixtures::lease_number;
use crate::lane::PermitDecision;
use crate::lane::call_outcome::{CallOutcome, Signal};
use crate::lane::fixtures::{NOW, context, waiter};
use crate::lane::observed::HealthStatus;
use crate::lane::permit_number::PermitNumber;
use crate::registry::notifications::LaneSettings;
use crate::registry::replies::StatusReply;
use effects::SocketAction;
use semver::Version;

const TIMING: Timing = Timing::DEFAULT;

fn at(ms: u64) -> Timestamp {
    NOW.plus_ms(ms)
}

fn service() -> ServiceId {
    ServiceId::from_stored("search".to_string())
}

fn settings(max_concurrency: Option<u64>) -> LaneSettings {
    let service = service();
    LaneSettings { service, configured_at: NOW, moved_at: NOW, max_concurrency, max_queue: 10, grace_ms: None }
}

fn delivery(number: u64, lease: u64) -> Delivery {
    Delivery {
        context: context(number),
        lease: lease_number(lease),
        capability: "work".into(),
        version: Version::new(1, 0, 0),
        deadline: at(600_000),
        handed_at: Timestamp(0),
        connection: String::new(),
        ended_at: None,
    }
}

fn sample(outcome: Signal, at: Timestamp) -> CallOutcome {
    CallOutcome { outcome, latency_ms: 5, at }
}

fn target(interval_ms: Option<u64>) -> Target {
    Target {
        url: "https://a.example.com/health".into(),
        binding: None,
        interval_ms,
        strict: true,
        lists_models: false,
        credentials: None,
        signing_secret: EncryptedSecret::plaintext("s".into()),
        retiring: None,
    }
}

/// A lane with its storage, and what the platform keeps for it.
struct Fixture {
    storage: MemoryStorage,
    lane: ServiceLane<MemoryStorage>,
    settings: LaneSettings,
    alarm: Option<Timestamp>,
    effects: Effects,
}

impl Fixture {
    fn new(settings: LaneSettings) -> Self {
        let storage = MemoryStorage::default();
        let lane = ServiceLane::open(storage.clone(), [], TIMING, NOW).unwrap();
        let mut fixture = Self { storage, lane, settings, alarm: None, effects: Effects::default() };
        fixture.learn(NOW);
        fixture
    }

    fn learn(&mut self, now: Timestamp) {
        self.lane.learn(&TenantId::first(), &self.settings, now).unwrap();
        self.settle(now);
    }

    /// As its shell does after each turn.
    fn settle(&mut self, now: Timestamp) {
        self.lane.settle(now);
        self.effects = self.lane.take_effects();
        if self.lane.identity().is_none() {
            self.alarm = None;
        }
        self.alarm = self.effects.alarm.or(self.alarm);
    }

    fn turn<T>(&mut self, now: Timestamp, turn: impl FnOnce(&mut ServiceLane<MemoryStorage>) -> T) -> T {
        let done = turn(&mut self.lane);
        self.settle(now);
        done
    }

    fn ring(&mut self, now: Timestamp) -> Option<Target> {
        self.alarm = None;
        self.turn(now, |lane| lane.alarm(now, 10, |_| None))
    }

    fn restart(&mut self, now: Timestamp) {
        self.lane = ServiceLane::open(self.storage.clone(), [], TIMING, now).unwrap();
        self.settle(now);
    }

    fn forget(&mut self, now: Timestamp) -> Result<(), StorageError> {
        let settings = self.settings.clone();
        self.turn(now, |lane| lane.forget(&TenantId::first(), &settings, now))
    }

    fn fail(&mut self, now: Timestamp) {
        for _ in 0..5 {
            self.turn(now, |lane| lane.report_calls(0, sample(Signal::Failure, now), now, 0));
        }
    }

    fn acquire(&mut self, number: u64, now: Timestamp) -> PermitDecision {
        self.turn(now, |lane| lane.acquire(waiter(number), None, now, 0)).unwrap()
    }

    fn permit(&mut self, number: u64, now: Timestamp) -> PermitNumber {
        let PermitDecision::Permit { number, .. } = self.acquire(number, now) else { panic!("no permit") };
        number
    }

    fn succeed(&mut self, now: Timestamp) {
        self.turn(now, |lane| lane.report_calls(0, sample(Signal::Success, now), now, 0));
    }

    fn answered(&mut self, reply: Option<StatusReply>, now: Timestamp) {
        let report = self.lane.status_report().unwrap();
        self.turn(now, |lane| lane.status_reported(&report, reply.as_ref(), now));
    }
}
