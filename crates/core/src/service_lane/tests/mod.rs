mod any_operations;
mod connections;
mod stored_forms;

use super::memory::MemoryStorage;
use super::*;
use crate::access::encrypted_secret::EncryptedSecret;
use crate::base::id::{ContextId, Region, StoreId};
use crate::base::principal_id::PrincipalId;
use crate::calling::connection::close_code::ConnectionCloseCode;
use crate::calling::connection::pool::Delivery;
use crate::context::fixtures::lease_number;
use crate::context::status::Priority;
use crate::lane::PermitDecision;
use crate::lane::call_outcome::{CallOutcome, Signal};
use crate::lane::observed::HealthStatus;
use crate::lane::permit_number::PermitNumber;
use crate::lane::queue::Waiter;
use crate::registry::notifications::LaneSettings;
use crate::registry::replies::StatusReply;
use effects::SocketAction;
use probing::ProbeError;
use semver::Version;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
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

fn context(number: u64) -> ContextId {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    ContextId::new(StoreId { region: Region::default(), shard: 0 }, NOW, bytes)
}

fn waiter(number: u64) -> Waiter {
    let deadline = NOW.plus_ms(3_600_000);
    let (principal, priority) = (PrincipalId::of_key("a"), Priority::Normal);
    Waiter { context: context(number), principal, priority, deadline, admitted: false }
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

#[test]
fn a_status_is_stored_before_it_is_reported_and_reported_until_the_registry_has_it() {
    let mut fixture = Fixture::new(settings(None));
    assert_eq!((fixture.lane.status_report(), fixture.storage.writes()), (None, 0), "nothing is known yet");
    fixture.succeed(at(1));
    assert!(fixture.effects.must_report);
    let report = fixture.lane.status_report().unwrap();
    assert_eq!((report.measured.status, report.moved_at), (HealthStatus::Online, Some(NOW)));
    fixture.answered(None, at(5));
    assert_eq!(fixture.alarm, Some(at(1 + TIMING.status_retry_ms)));
    fixture.restart(at(10));
    assert_eq!(fixture.lane.status_report(), Some(report));
    fixture.ring(at(2_001));
    assert!(fixture.effects.must_report);
    fixture.answered(Some(StatusReply::Recorded), at(2_010));
    fixture.restart(at(2_020));
    assert_eq!(fixture.lane.status_report(), None);
}

#[test]
fn a_status_that_cannot_be_stored_is_not_reported() {
    let mut fixture = Fixture::new(settings(None));
    fixture.storage.set_full(true);
    fixture.succeed(at(1));
    assert!(!fixture.effects.must_report);
    assert!(matches!(fixture.effects.failures[..], [(Unsaved::State, _), ..]));
    fixture.ring(at(2_001));
    assert!(!fixture.effects.must_report, "a restarted lane would not know that the registry has it");
    let again = fixture.alarm.unwrap();
    fixture.storage.set_full(false);
    fixture.ring(again);
    assert!(fixture.effects.must_report);
}

#[test]
fn a_status_that_changed_while_it_was_reported_is_reported_again() {
    let mut fixture = Fixture::new(settings(None));
    fixture.succeed(at(1));
    let first = fixture.lane.status_report().unwrap();
    fixture.fail(at(2));
    assert!(fixture.lane.observed().version > first.measured.version);
    fixture.turn(at(3), |lane| lane.status_reported(&first, Some(&StatusReply::Recorded), at(3)));
    assert_eq!(fixture.lane.status_report().unwrap().measured.status, HealthStatus::Offline);
}

#[test]
fn a_service_at_another_address_is_not_judged_by_the_previous_one() {
    let mut fixture = Fixture::new(settings(None));
    fixture.turn(NOW, |lane| lane.configure(target(Some(10_000)), NOW)).unwrap();
    fixture.succeed(at(1));
    fixture.answered(Some(StatusReply::Recorded), at(2));
    let before = fixture.lane.begin_probe();
    fixture.settings.moved_at = at(5);
    fixture.learn(at(3_000));
    assert!(fixture.effects.must_report, "the registry may have registered the service anew");
    assert_eq!(fixture.lane.observed().status, HealthStatus::Unknown);
    let report = ProbeReport::failed(ProbeError::Unreachable, 5, at(3_001));
    fixture.turn(at(3_001), |lane| lane.probed(before, &report, at(3_001))).unwrap();
    assert_eq!(fixture.lane.recent_probe(at(3_001)), None);
    fixture.restart(at(3_002));
    let writes = fixture.storage.writes();
    fixture.learn(at(3_003));
    assert_eq!(fixture.storage.writes(), writes, "the move is known");
}

#[test]
fn an_unchanged_status_of_a_service_that_was_registered_anew_is_reported() {
    let mut fixture = Fixture::new(settings(None));
    fixture.succeed(at(1));
    fixture.answered(Some(StatusReply::Recorded), at(2));
    fixture.settings.moved_at = at(5);
    fixture.lane.learn(&TenantId::first(), &fixture.settings, at(10)).unwrap();
    fixture.succeed(at(10));
    assert_eq!(fixture.lane.observed().status, HealthStatus::Online);
    assert!(fixture.effects.must_report);
    fixture.restart(at(11));
    assert_eq!(fixture.lane.status_report().unwrap().moved_at, Some(at(5)));
}

#[test]
fn a_deleted_service_is_forgotten_once_its_calls_have_ended() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let permit = fixture.permit(1, at(1));
    fixture.forget(at(2)).unwrap();
    assert!(matches!(fixture.acquire(2, at(3)), PermitDecision::Waiting), "the limit still holds");
    fixture.restart(at(10));
    fixture.turn(at(11), |lane| lane.renew(permit, &PrincipalId::of_key("a"), at(11))).unwrap();
    assert!(fixture.lane.identity().is_some() && fixture.alarm.is_some());
    fixture.turn(at(9_000), |lane| lane.release(permit, sample(Signal::Success, at(9_000)), at(9_000), 0));
    assert!(fixture.lane.identity().is_some(), "another permit of the previous instance may be in use");
    let ends = at(10 + TIMING.permit_ms);
    fixture.ring(ends);
    assert_eq!((fixture.lane.identity(), fixture.storage.snapshot()), (None, memory::Disk::default()));
    assert_eq!(fixture.alarm, None);
}

#[test]
fn a_deletion_that_cannot_be_stored_is_repeated() {
    let mut fixture = Fixture::new(settings(None));
    fixture.succeed(at(1));
    fixture.storage.fail_write(Some(0));
    assert!(fixture.forget(at(2)).is_err());
    assert!(fixture.lane.identity().is_some() && fixture.storage.snapshot().state.is_some());
    fixture.forget(at(3)).unwrap();
    assert_eq!(fixture.storage.snapshot(), memory::Disk::default());
}

#[test]
fn a_lane_that_is_no_longer_needed_is_deleted_by_its_alarm_until_that_succeeds() {
    let mut fixture = Fixture::new(settings(Some(1)));
    fixture.permit(1, at(1));
    fixture.forget(at(2)).unwrap();
    fixture.storage.fail_write(Some(0));
    fixture.ring(at(1 + TIMING.permit_ms));
    assert!(matches!(fixture.effects.failures[..], [(Unsaved::Deletion, _)]));
    let again = fixture.alarm.unwrap();
    fixture.ring(again);
    assert_eq!(fixture.storage.snapshot(), memory::Disk::default());
}

#[test]
fn a_deletion_deletes_also_what_a_lane_without_a_state_has_stored() {
    let mut fixture = Fixture::new(settings(Some(1)));
    fixture.permit(1, at(1));
    fixture.restart(at(2));
    assert!(fixture.lane.identity().is_none() && fixture.storage.snapshot().busy_until > at(2));
    fixture.forget(at(3)).unwrap();
    let ends = fixture.alarm.unwrap();
    fixture.ring(ends);
    assert_eq!(fixture.storage.snapshot(), memory::Disk::default());
}

#[test]
fn a_leaving_lane_lets_no_request_wait_and_reports_nothing() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let permit = fixture.permit(1, at(1));
    fixture.turn(at(2), |lane| lane.acquire(waiter(2), Some(7), at(2), 0)).unwrap();
    fixture.forget(at(3)).unwrap();
    assert_eq!(fixture.effects.decisions, [(7, PermitDecision::Waiting)], "its worker looks for another service");
    fixture.turn(at(4), |lane| lane.acquire(waiter(2), Some(8), at(4), 0)).unwrap();
    fixture.turn(at(500), |_| ());
    assert!(fixture.effects.decisions.is_empty(), "workers that do not know it yet must not ask all the time");
    fixture.turn(at(1_004), |_| ());
    assert_eq!(fixture.effects.decisions, [(8, PermitDecision::Waiting)]);
    fixture.fail(at(1_100));
    assert!(!fixture.effects.must_report && fixture.lane.status_report().is_none());
    fixture.turn(at(1_200), |lane| lane.release(permit, sample(Signal::Success, at(1_200)), at(1_200), 0));
    assert_eq!(fixture.lane.identity(), None);
}

#[test]
fn calls_and_heartbeats_at_an_earlier_address_say_nothing_about_the_service() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let (permit, before) = (fixture.permit(1, at(1)), fixture.settings.clone());
    fixture.settings.moved_at = at(5);
    fixture.learn(at(6));
    let settings = std::mem::replace(&mut fixture.settings, before);
    fixture.learn(at(7));
    fixture.fail(at(7));
    fixture.succeed(at(7));
    fixture.turn(at(7), |lane| lane.heartbeat(HealthStatus::Degraded, 30_000, at(7))).unwrap();
    fixture.turn(at(7), |lane| lane.release(permit, sample(Signal::Success, at(7)), at(7), 0));
    let observed = fixture.lane.observed();
    assert_eq!((observed.status, observed.version), (HealthStatus::Unknown, 0));
    fixture.settings = settings;
    fixture.learn(at(8));
    fixture.permit(2, at(9));
    fixture.succeed(at(9));
    assert_eq!(fixture.lane.observed().status, HealthStatus::Online);
}

#[test]
fn a_move_that_cannot_be_stored_is_repeated() {
    let mut fixture = Fixture::new(settings(Some(1)));
    fixture.permit(1, at(1));
    fixture.forget(at(2)).unwrap();
    fixture.settings.moved_at = at(5);
    fixture.storage.fail_write(Some(0));
    assert!(fixture.lane.learn(&TenantId::first(), &fixture.settings, at(6)).is_err());
    fixture.settle(at(6));
    fixture.learn(at(7));
    fixture.restart(at(8));
    fixture.turn(at(60_000), |_| ());
    assert!(fixture.lane.identity().is_some(), "it was registered anew");
}

#[test]
fn a_reply_to_a_late_report_does_not_count() {
    let mut fixture = Fixture::new(settings(None));
    fixture.succeed(at(1));
    let report = fixture.lane.status_report().unwrap();
    fixture.settings.moved_at = at(5);
    fixture.lane.learn(&TenantId::first(), &fixture.settings, at(6)).unwrap();
    fixture.succeed(at(6));
    fixture.turn(at(7), |lane| lane.status_reported(&report, Some(&StatusReply::Recorded), at(7)));
    assert_eq!(fixture.lane.status_report().map(|report| report.moved_at), Some(Some(at(5))));
}

#[test]
fn older_settings_change_nothing() {
    let mut fixture = Fixture::new(LaneSettings { configured_at: at(2), ..settings(Some(1)) });
    fixture.settings = settings(None);
    fixture.learn(at(3));
    fixture.permit(1, at(4));
    fixture.settings.configured_at = at(5);
    fixture.learn(at(5));
    assert_eq!(fixture.acquire(2, at(6)), PermitDecision::Free);
}

#[test]
fn a_service_at_another_address_is_probed_once_the_registry_says_how() {
    let mut fixture = Fixture::new(settings(None));
    fixture.turn(NOW, |lane| lane.configure(target(Some(10_000)), NOW)).unwrap();
    assert_eq!(fixture.alarm, Some(at(TIMING.first_probe_ms)));
    fixture.settings.moved_at = at(5);
    fixture.learn(at(6));
    assert_eq!(fixture.ring(at(1_000)), None);
    fixture.restart(at(1_001));
    assert_eq!(fixture.storage.snapshot().target, None);
    fixture.turn(at(1_002), |lane| lane.configure(target(Some(10_000)), at(1_002))).unwrap();
    assert_eq!(fixture.ring(at(2_002)), Some(target(Some(10_000))));
}

#[test]
fn a_lane_that_a_late_message_has_configured_learns_that_its_service_was_deleted() {
    let mut fixture = Fixture::new(settings(None));
    fixture.turn(NOW, |lane| lane.configure(target(None), NOW)).unwrap();
    assert_eq!(fixture.alarm, Some(at(TIMING.status_retry_ms)));
    fixture.ring(at(TIMING.status_retry_ms));
    assert!(fixture.effects.must_report);
    fixture.answered(Some(StatusReply::Absent), at(2_010));
    assert_eq!(fixture.storage.snapshot(), memory::Disk::default());
}

#[test]
fn a_response_that_shows_nothing_does_not_change_the_health() {
    let mut fixture = Fixture::new(settings(None));
    let report = Target { strict: false, lists_models: true, ..target(None) }.judge(404, 5, at(1));
    let probed = fixture.lane.begin_probe();
    fixture.turn(at(1), |lane| lane.probed(probed, &report, at(1))).unwrap();
    assert_eq!(fixture.lane.observed().status, HealthStatus::Unknown);
}

#[test]
fn late_messages_do_not_delete_a_service_that_was_registered_anew() {
    let mut fixture = Fixture::new(settings(None));
    fixture.succeed(at(1));
    let report = fixture.lane.status_report().unwrap();
    let earlier = fixture.settings.clone();
    fixture.settings.moved_at = at(5);
    fixture.learn(at(6));
    fixture.turn(at(6), |lane| lane.forget(&TenantId::first(), &earlier, at(6))).unwrap();
    assert!(fixture.lane.identity().is_some());
    fixture.turn(at(7), |lane| lane.status_reported(&report, Some(&StatusReply::Absent), at(7)));
    assert!(fixture.lane.identity().is_some());
    fixture.answered(Some(StatusReply::Absent), at(8));
    assert_eq!(fixture.lane.identity(), None);
}

#[test]
fn a_service_that_is_registered_anew_while_it_leaves_stays() {
    let mut fixture = Fixture::new(settings(Some(1)));
    fixture.permit(1, at(1));
    fixture.forget(at(2)).unwrap();
    fixture.settings.moved_at = at(5);
    fixture.learn(at(6));
    fixture.restart(at(7));
    fixture.turn(at(60_000), |_| ());
    assert!(fixture.lane.identity().is_some());
}

#[test]
fn a_restarted_lane_grants_nothing_while_earlier_permits_may_be_valid() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let permit = fixture.permit(1, at(1));
    assert_eq!(fixture.storage.writes(), 1);
    fixture.restart(at(100));
    fixture.learn(at(100));
    assert_eq!(fixture.acquire(2, at(101)), PermitDecision::Waiting);
    fixture.turn(at(4_000), |lane| lane.renew(permit, &PrincipalId::of_key("a"), at(4_000))).unwrap();
    assert_eq!(fixture.acquire(2, at(10_200)), PermitDecision::Waiting, "that of the previous instance");
    fixture.turn(at(10_300), |lane| lane.release(permit, sample(Signal::Success, at(10_300)), at(10_300), 0));
    fixture.permit(3, at(10_301));
}

#[test]
fn a_lane_that_has_been_idle_for_a_while_may_grant_at_once_after_a_restart() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let permit = fixture.permit(1, at(1));
    fixture.turn(at(2), |lane| lane.release(permit, sample(Signal::Success, at(2)), at(2), 0));
    assert!(fixture.effects.clear_busy);
    fixture.turn(at(3), |_| ());
    assert!(!fixture.effects.clear_busy, "one timer runs");
    fixture.turn(at(2_002), |lane| lane.clear_busy(at(2_002)));
    fixture.restart(at(2_003));
    fixture.learn(at(2_003));
    fixture.permit(2, at(2_004));
}

#[test]
fn there_is_a_single_probe_of_an_open_breaker_even_across_a_restart() {
    let mut fixture = Fixture::new(settings(None));
    fixture.fail(at(1));
    let half_open = fixture.lane.observed().breaker_until.unwrap();
    // Afterwards, nothing but the probe changes the status.
    fixture.turn(half_open, |_| ());
    assert!(matches!(fixture.acquire(1, half_open), PermitDecision::Permit { probe: true, .. }));
    fixture.restart(half_open.plus_ms(1));
    assert!(matches!(fixture.acquire(2, half_open.plus_ms(2)), PermitDecision::Open { .. }));
}

#[test]
fn waiting_requests_are_answered_once_and_the_newest_gets_the_permit() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let permit = fixture.permit(1, at(1));
    let mut wait = |number: u64, request: u64| {
        let decision = fixture.turn(at(2), |lane| lane.acquire(waiter(number), Some(request), at(2), 0));
        assert_eq!(decision.unwrap(), PermitDecision::Waiting);
    };
    wait(2, 21);
    wait(2, 22);
    wait(3, 31);
    assert_eq!(fixture.lane.next_tick_ms(at(2)), Some(TIMING.queue_check_ms));
    fixture.turn(at(3), |lane| lane.release(permit, sample(Signal::Success, at(3)), at(3), 0));
    let [(21, PermitDecision::Waiting), (22, PermitDecision::Permit { .. })] = fixture.effects.decisions[..] else {
        panic!("{:?}", fixture.effects.decisions)
    };
    fixture.turn(at(4), |lane| lane.leave(&context(3)));
    assert_eq!(fixture.effects.decisions, [(31, PermitDecision::Waiting)]);
    assert_eq!(fixture.lane.next_tick_ms(at(5)), None);
}

#[test]
fn a_context_whose_requests_have_all_stopped_waiting_gets_no_permit() {
    let mut fixture = Fixture::new(settings(Some(1)));
    let permit = fixture.permit(1, at(1));
    fixture.turn(at(2), |lane| lane.acquire(waiter(2), Some(7), at(2), 0)).unwrap();
    fixture.turn(at(3), |lane| lane.stop_waiting(&context(2), 7));
    fixture.turn(at(4), |lane| lane.release(permit, sample(Signal::Success, at(4)), at(4), 0));
    assert_eq!((fixture.effects.decisions.len(), fixture.lane.next_tick_ms(at(5))), (0, None));
    fixture.permit(3, at(5));
}

#[test]
fn probes_follow_their_interval_and_a_known_target_changes_nothing() {
    let mut fixture = Fixture::new(settings(None));
    fixture.turn(NOW, |lane| lane.configure(target(Some(10_000)), NOW)).unwrap();
    assert_eq!(fixture.alarm, Some(at(TIMING.first_probe_ms)));
    let writes = fixture.storage.writes();
    fixture.turn(at(1), |lane| lane.configure(target(Some(10_000)), at(1))).unwrap();
    assert_eq!(fixture.storage.writes(), writes);
    fixture.answered(Some(StatusReply::Recorded), at(500));
    assert_eq!(fixture.ring(at(1_000)), Some(target(Some(10_000))));
    assert_eq!(fixture.alarm, Some(at(11_000)), "90% and a tenth of the interval");
    let probed = fixture.lane.begin_probe();
    let report = target(None).judge(200, 8, at(1_010));
    fixture.turn(at(1_010), |lane| lane.probed(probed, &report, at(1_010))).unwrap();
    assert_eq!(fixture.lane.observed().status, HealthStatus::Online);
    assert_eq!(fixture.lane.recent_probe(at(1_500)), Some(&report));
    assert_eq!(fixture.lane.recent_probe(at(2_010)), None);
    fixture.restart(at(2_000));
    assert_eq!(fixture.ring(at(11_000)), Some(target(Some(10_000))));
}

#[test]
fn an_alarm_that_was_missed_is_set_again() {
    let mut fixture = Fixture::new(settings(None));
    fixture.turn(NOW, |lane| lane.configure(target(Some(10_000)), NOW)).unwrap();
    fixture.turn(at(5_000), |_| ());
    assert_eq!(fixture.effects.alarm, None, "it may still fire");
    fixture.turn(at(6_001), |_| ());
    assert_eq!(fixture.effects.alarm, Some(at(6_001 + SLACK_MS)));
}

#[test]
fn a_heartbeat_is_written_only_when_the_stored_one_would_end() {
    let mut fixture = Fixture::new(settings(None));
    let mut beat = |ms: u64| {
        let before = fixture.storage.writes();
        fixture.turn(at(ms), |lane| lane.heartbeat(HealthStatus::Online, 30_000, at(ms))).unwrap();
        fixture.storage.writes() > before
    };
    assert_eq!([beat(0), beat(10_000), beat(20_000), beat(31_000)], [true, false, false, true]);
}

#[test]
fn what_responses_to_probes_show() {
    let strict = target(None);
    let of = |target: &Target, status| {
        let report = target.judge(status, 5, NOW);
        (report.good, report.unmeasured, report.error)
    };
    assert_eq!(of(&strict, 204), (true, false, None));
    assert_eq!(of(&strict, 404), (false, false, None));
    assert_eq!(of(&strict, 401), (false, false, Some(ProbeError::CredentialsRefused)));
    let models = Target { strict: false, lists_models: true, ..target(None) };
    assert_eq!(of(&models, 404), (false, true, Some(ProbeError::NotMeasured)));
    assert_eq!(of(&Target { strict: false, ..target(None) }, 404), (true, false, None));
}
