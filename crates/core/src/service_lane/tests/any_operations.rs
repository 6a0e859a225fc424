//! Whatever happens in whatever order, with failing writes and restarts between any two turns.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// One step: what happens, about which context or connection, and how long after the one before.
type Step = (u8, u8, u64);

struct Model {
    fixture: Fixture,
    now: Timestamp,
    /// Permits that are out, and until when each is valid at least.
    permits: BTreeMap<PermitNumber, Timestamp>,
    /// The sockets that the platform has, with their attachments.
    sockets: BTreeMap<u32, String>,
    last_slot: u32,
    /// Whether all writes fail, or one for each turn; `None`: none.
    fails: Option<bool>,
    /// What the registry has of the present registration.
    known: ObservedStatus,
    lease: u64,
}

impl Model {
    fn new(settings: LaneSettings) -> Self {
        Self {
            fixture: Fixture::new(settings),
            now: NOW,
            permits: BTreeMap::new(),
            sockets: BTreeMap::new(),
            last_slot: 0,
            fails: None,
            known: ObservedStatus::default(),
            lease: 0,
        }
    }

    fn turn<T>(&mut self, turn: impl FnOnce(&mut ServiceLane<MemoryStorage>, Timestamp) -> T) -> T {
        let now = self.now;
        // Sometimes the first write fails, sometimes all do.
        match self.fails {
            Some(true) => self.fixture.storage.set_full(true),
            fails => self.fixture.storage.fail_write(fails.map(|_| 0)),
        }
        let settings = self.fixture.settings.clone();
        let _ = self.fixture.lane.learn(&TenantId::first(), &settings, now);
        let done = self.fixture.turn(now, |lane| turn(lane, now));
        self.fixture.storage.set_full(false);
        self.follow();
        done
    }

    /// Carries out the effects of a turn.
    fn follow(&mut self) {
        for action in std::mem::take(&mut self.fixture.effects.sockets) {
            match action {
                SocketAction::Attach(slot, text) if self.sockets.contains_key(&slot) => {
                    self.sockets.insert(slot, text);
                }
                SocketAction::Close(slot, _) => drop(self.sockets.remove(&slot)),
                SocketAction::Attach(..) | SocketAction::Send(..) => {}
            }
        }
        if self.fixture.effects.must_report && self.fails.is_none() {
            self.report();
        }
    }

    /// The registry receives a status.
    fn report(&mut self) {
        let Some(report) = self.fixture.lane.status_report() else { return };
        let stored = self.fixture.storage.read(|disk| disk.stored_state()).unwrap();
        // All but its latency, which is reported from time to time and not stored for itself.
        let of = |status: ObservedStatus| (status.status, status.evidence, status.breaker, status.breaker_until);
        assert_eq!(of(stored.record.measured), of(report.measured), "it is stored before it is reported");
        if report.measured.version > self.known.version {
            self.known = report.measured;
        }
        let now = self.now;
        self.fixture.turn(now, |lane| lane.status_reported(&report, Some(&StatusReply::Recorded), now));
    }

    fn step(&mut self, (what, which, after): Step) {
        self.now = self.now.plus_ms(after);
        while let Some(alarm) = self.fixture.alarm.filter(|alarm| *alarm <= self.now) {
            let now = std::mem::replace(&mut self.now, alarm);
            self.fixture.alarm = None;
            self.turn(|lane, now| drop(lane.alarm(now, 3, |_| None)));
            self.now = now;
        }
        let number = u64::from(which % 6);
        match what % 14 {
            0 | 1 => self.acquire(number),
            2 => self.release(which),
            3 => self.renew(which),
            4 => self.call(if which % 3 == 0 { Signal::Failure } else { Signal::Success }),
            5 => self.restart(),
            6 => self.connect(),
            7 => self.fails = [None, Some(false), Some(true)][usize::from(which % 3)],
            8 => self.dispatch(number),
            9 => self.disconnect(),
            10 => self.turn(|lane, now| drop(lane.configure(target(Some(5_000)), now))),
            12 => self.delete(),
            13 => self.register_anew(),
            _ => self.turn(|lane, now| drop(lane.withdraw(&context(number), None, true, now))),
        }
        self.check();
    }

    fn acquire(&mut self, number: u64) {
        let decision = self.turn(|lane, now| lane.acquire(waiter(number), None, now, 1));
        if let Ok(PermitDecision::Permit { number, .. }) = decision {
            self.permits.insert(number, self.now.plus_ms(TIMING.permit_ms));
        }
    }

    fn nth_permit(&self, which: u8) -> Option<PermitNumber> {
        self.permits.keys().nth(usize::from(which) % self.permits.len().max(1)).copied()
    }

    fn release(&mut self, which: u8) {
        let Some(permit) = self.nth_permit(which) else { return };
        self.permits.remove(&permit);
        self.turn(|lane, now| lane.release(permit, sample(Signal::Success, now), now, 1));
    }

    /// Only a permit that is still valid is renewed.
    fn renew(&mut self, which: u8) {
        let (permit, now) = (self.nth_permit(which), self.now);
        let Some(until) = permit.and_then(|permit| self.permits.get_mut(&permit)).filter(|until| **until > now) else {
            return;
        };
        *until = now.plus_ms(TIMING.permit_ms);
        let permit = permit.unwrap();
        let _ = self.turn(|lane, now| lane.renew(permit, &PrincipalId::of_key("a"), now));
    }

    fn call(&mut self, outcome: Signal) {
        self.turn(|lane, now| lane.report_calls(0, sample(outcome, now), now, 1));
    }

    fn restart(&mut self) {
        let sockets = self.sockets.clone();
        self.fixture.lane = ServiceLane::open(self.fixture.storage.clone(), sockets, TIMING, self.now).unwrap();
        self.turn(|_, _| ());
    }

    fn connect(&mut self) {
        if self.fixture.settings.grace_ms.is_none() {
            return;
        }
        self.last_slot += 1;
        let (slot, viewer) = (self.last_slot, connections::viewer("bot", None));
        let connection = Connection::new(format!("con_{slot}"), viewer, self.now);
        self.sockets.insert(slot, connection.attachment());
        self.turn(|lane, now| lane.connect(slot, connection, now));
        let ready = json!({"type": "ready", "credit": 2}).to_string();
        self.turn(|lane, now| lane.message(slot, Some(&ready), now));
    }

    fn disconnect(&mut self) {
        let Some(slot) = self.sockets.keys().next().copied() else { return };
        self.sockets.remove(&slot);
        self.turn(|lane, now| lane.closed(slot, now));
    }

    /// The registry repeats a deletion that failed.
    fn delete(&mut self) {
        let settings = self.fixture.settings.clone();
        let forgotten = self.turn(|lane, now| lane.forget(&TenantId::first(), &settings, now));
        self.known = ObservedStatus::default();
        if forgotten.is_ok() && self.fixture.lane.identity().is_none() {
            let disk = self.fixture.storage.snapshot();
            assert_eq!(disk, memory::Disk::default());
        }
    }

    fn register_anew(&mut self) {
        self.fixture.settings.moved_at = self.now.plus_ms(1);
        self.now = self.fixture.settings.moved_at;
        self.known = ObservedStatus::default();
        self.turn(|_, _| ());
    }

    fn dispatch(&mut self, number: u64) {
        self.lease += 1;
        let delivery = Delivery { deadline: self.now.plus_ms(30_000), ..delivery(number, self.lease) };
        let work = serde_json::value::RawValue::NULL.to_owned();
        let _ = self.turn(|lane, now| lane.dispatch(delivery, None, &work, now));
    }

    fn check(&self) {
        let (lane, now) = (&self.fixture.lane, self.now);
        // What falls due soon has an alarm. Evidence that is not stored may postpone what is due later.
        if let Some(due) = lane.due(now).filter(|due| lane.identity().is_some() && due.since(now) < 60_000) {
            let latest = due.max(now).plus_ms(3 * SLACK_MS);
            assert!(self.fixture.alarm.is_some_and(|alarm| alarm <= latest), "due {due:?} {:?}", self.fixture.alarm);
        }
        // The limit holds across restarts, unless it could not be stored that permits are out.
        let valid = self.permits.values().filter(|until| **until > now).count() as u64;
        if let Some(most) = self.fixture.settings.max_concurrency {
            assert!(valid <= most, "{valid} permits are valid");
        }
        // The disk knows each delivery in progress.
        let deliveries = self.fixture.storage.read(|disk| disk.deliveries.clone());
        for number in (0..6).flat_map(|number| lane.connections.pool.of_context(&context(number), None)) {
            assert!(deliveries.get(&number).is_some_and(|delivery| delivery.ended_at.is_none()), "{number}");
        }
    }
}

proptest! {
    #[test]
    fn alarms_limits_reports_and_deliveries_hold(
        steps in proptest::collection::vec((0u8..14, any::<u8>(), 0u64..4_000), 1..60),
        max_concurrency in proptest::option::of(1u64..3),
        connects in any::<bool>(),
    ) {
        // A permit whose restart could not be prepared for is another matter: writes fail only where none is limited.
        let grace_ms = connects.then_some(5_000);
        let max_concurrency = max_concurrency.filter(|_| !connects);
        let mut model = Model::new(LaneSettings { grace_ms, ..settings(max_concurrency) });
        for step in steps {
            if max_concurrency.is_none() || step.0 != 7 {
                model.step(step);
            }
        }
        // Once writes succeed again, the registry learns of the status, of a service that is registered.
        model.fails = None;
        model.register_anew();
        for _ in 0..4 {
            model.step((4, 1, 3_000));
        }
        let observed = model.fixture.lane.observed();
        prop_assert_eq!(
            (model.known.status, model.known.breaker, model.known.evidence),
            (observed.status, observed.breaker, observed.evidence)
        );
    }
}
