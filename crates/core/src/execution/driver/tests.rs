mod content;

use super::*;
use crate::calling::response::{CallResult, read};
use crate::context::ReportedOutcome;
use crate::context::lease::LeaseNumber;
use crate::context::status::ErrorCode;
use crate::execution::fixtures::{Known, NOW, known, work};
use crate::lane::PermitDecision;
use crate::lane::call_outcome::Signal;
use crate::lane::permit_number::PermitNumber;

const TIMING: Timing = Timing::DEFAULT;

/// A driver, the services that it knows, and the time.
struct Bench {
    driver: Driver,
    services: Vec<Known>,
    now: Timestamp,
}

impl Bench {
    fn new(work: Work, services: Vec<Known>, waits_ms: Option<u64>) -> Self {
        let client = waits_ms.map(|ms| NOW.plus_ms(ms));
        let driver = Driver::new(work, None, client, TIMING.inline_retry_max_ms, TIMING);
        Self { driver, services, now: NOW }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.driver.on(event, &Moment { services: &self.services, now: self.now, random: 0 })
    }

    /// Lets time pass until the driver wants to be woken.
    fn sleep(&mut self) -> Vec<Action> {
        self.now = self.driver.wake_at().unwrap();
        self.on(Event::TimePassed)
    }

    /// The service answers its call.
    fn respond(&mut self, answer: CallResult) -> Vec<Action> {
        let result = self.result(answer);
        self.on(Event::Responded(Box::new(result)))
    }

    fn result(&self, answer: CallResult) -> AttemptResult {
        let work = self.driver.work();
        let (service, status) = (work.admission.service.clone(), answer.status());
        let verdict = read(&service, answer, None);
        let lease = work.hold.lease().unwrap_or(LeaseNumber::FIRST);
        AttemptResult::of_response(lease, service, (NOW, self.now), status, verdict, 60)
    }
}

fn http(status: u16, body: &str) -> CallResult {
    CallResult::Http { status, is_json: true, retry_after_ms: None, location: None, body: body.into() }
}

fn done() -> CallResult {
    http(200, r#"{"result":1}"#)
}

fn offered() -> Work {
    Work { hold: Hold::Offered, ..work() }
}

fn leased(work: Work) -> Event {
    Event::Leased(Ok(LeaseResult::Leased(Box::new(work))))
}

fn limited(id: &str) -> Known {
    let mut known = known(id);
    known.service.limits.max_concurrency = Some(1);
    known
}

fn granted(probe: bool) -> Event {
    Event::Acquired(Ok(PermitDecision::Permit { number: PermitNumber::of(7), probe }))
}

/// The actions by name, with what matters of each.
fn names(actions: &[Action]) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::Acquire { at, wait_ms } => format!("acquire {at} {wait_ms}"),
        Action::LeaveQueue { at } => format!("leave {at}"),
        Action::Lease => "lease".into(),
        Action::AnnounceAttempt { number } => format!("announce {number}"),
        Action::Call(call) => format!("call {} {}", call.at, call.lease),
        Action::StopCall { withdraw, .. } => format!("stop{}", if withdraw.is_some() { " and withdraw" } else { "" }),
        Action::Renew(renewal) => format!("renew {}", if renewal.hold.is_offered() { "offer" } else { "lease" }),
        Action::RenewPermit(_) => "renew permit".into(),
        Action::Release { outcome, .. } => format!("release {:?}", outcome.outcome),
        Action::ReportCalls { successes, .. } => format!("report {successes}"),
        Action::Admit(_) => "admit".into(),
        Action::Commit(commit) => match &commit.report.outcome {
            ReportedOutcome::Failed { error, .. } => format!("commit {:?}", error.code),
            _ => "commit".into(),
        },
        Action::Record(_) => "record".into(),
        Action::PutBack { until } => format!("put back {:?}", until.map(|until| until.since(NOW))),
        Action::Refuse(error) => format!("refuse {:?}", error.code),
        Action::Refresh => "refresh".into(),
        Action::Answer(answer) => format!("answer {answer:?}"),
    };
    actions.iter().map(name).collect()
}

#[test]
fn a_leased_context_is_called_and_committed_and_its_client_answered() {
    let mut bench = Bench::new(work(), vec![known("one")], Some(30_000));
    assert_eq!(names(&bench.on(Event::Started)), ["call 0 1"]);
    assert_eq!(names(&bench.respond(done())), ["commit"]);
    let last = bench.on(Event::Committed(Ok(CommitReceipt::Ended)));
    assert_eq!(names(&last), ["answer Ended", "report 0"]);
    assert!(bench.driver.is_finished() && bench.driver.wake_at().is_none());
}

#[test]
fn an_offered_context_is_leased_before_its_call() {
    let mut bench = Bench::new(offered(), vec![known("one")], None);
    assert_eq!(names(&bench.on(Event::Started)), ["lease"]);
    assert_eq!(names(&bench.on(leased(work()))), ["call 0 1"]);
}

#[test]
fn a_context_that_another_worker_has_is_left() {
    for reply in [Ok(LeaseResult::Nothing), Err(Unreachable)] {
        let mut bench = Bench::new(offered(), vec![known("one")], Some(1_000));
        bench.on(Event::Started);
        assert_eq!(names(&bench.on(Event::Leased(reply))), ["answer Continues"]);
        assert!(bench.driver.is_finished());
    }
}

#[test]
fn a_service_that_was_moved_during_the_wait_is_called_as_it_is_registered_now() {
    let mut bench = Bench::new(offered(), vec![known("two"), known("one")], None);
    bench.on(Event::Started);
    bench.services = vec![known("one")];
    assert_eq!(names(&bench.on(leased(work()))), ["call 0 1"]);
}

#[test]
fn a_service_that_is_gone_after_the_wait_is_not_called() {
    let mut bench = Bench::new(offered(), vec![limited("one")], None);
    assert_eq!(names(&bench.on(Event::Started)), ["acquire 0 5000"]);
    assert_eq!(names(&bench.on(granted(false))), ["lease"]);
    bench.services = vec![known("two")];
    assert_eq!(names(&bench.on(leased(work()))), ["release Ignored", "call 0 1"]);
    assert_eq!(bench.driver.work().admission.service.as_str(), "two");
}

#[test]
fn an_offer_that_is_older_than_the_last_attempt_does_not_decide_the_next() {
    let mut bench = Bench::new(offered(), vec![known("one"), known("two")], None);
    bench.on(Event::Started);
    let later = Work { attempt: 2, tried: vec!["one".into()], ..work() };
    assert_eq!(names(&bench.on(leased(later))), ["announce 2", "call 1 1"]);
}

#[test]
fn the_lease_and_the_permit_are_renewed_although_replies_are_missing() {
    let mut bench = Bench::new(work(), vec![limited("one")], None);
    bench.on(Event::Started);
    bench.now = NOW.plus_ms(1_000);
    assert_eq!(names(&bench.on(granted(false))), ["refresh"]);
    assert_eq!(names(&bench.on(Event::Refreshed(Ok(())))), ["call 0 1"]);
    for round in 1..4 {
        assert_eq!(names(&bench.sleep()), ["renew lease", "renew permit"]);
        assert_eq!(bench.now, NOW.plus_ms(round * TIMING.renew_ms));
    }
}

#[test]
fn a_reply_about_an_earlier_hold_does_not_stop_the_call() {
    let mut bench = Bench::new(offered(), vec![limited("one")], None);
    bench.on(Event::Started);
    assert_eq!(names(&bench.sleep()), ["renew offer"]);
    bench.on(granted(false));
    assert_eq!(names(&bench.on(leased(work()))), ["call 0 1"]);
    let renewal = Renewal { hold: Hold::Offered, attempt: 1 };
    assert!(bench.on(Event::Renewed(renewal, Ok(RenewResult::Nothing))).is_empty());
}

#[test]
fn a_cancelled_call_is_stopped_and_reported() {
    let mut bench = Bench::new(work(), vec![limited("one").connecting()], None);
    bench.on(Event::Started);
    bench.on(granted(false));
    bench.on(Event::Refreshed(Ok(())));
    let renewal = Renewal { hold: work().hold, attempt: 1 };
    let cancelled = bench.on(Event::Renewed(renewal, Ok(RenewResult::Renewed { cancel: true })));
    assert_eq!(names(&cancelled), ["stop and withdraw", "release Ignored", "commit Cancelled"]);
    // Its response no longer counts.
    assert!(bench.respond(done()).is_empty());
}

#[test]
fn a_lost_lease_ends_the_work_without_a_report() {
    let mut bench = Bench::new(work(), vec![known("one")], Some(60_000));
    bench.on(Event::Started);
    let renewal = Renewal { hold: work().hold, attempt: 1 };
    assert_eq!(names(&bench.on(Event::Renewed(renewal, Ok(RenewResult::Nothing)))), ["stop", "answer Continues"]);
    assert!(bench.driver.is_finished());
}

#[test]
fn a_worker_that_leaves_the_queue_returns_a_permit_that_was_under_way() {
    let mut bench = Bench::new(offered(), vec![limited("one")], None);
    bench.on(Event::Started);
    let renewal = Renewal { hold: Hold::Offered, attempt: 1 };
    assert_eq!(names(&bench.on(Event::Renewed(renewal, Ok(RenewResult::Nothing)))), ["leave 0"]);
    assert_eq!(names(&bench.on(granted(false))), ["release Ignored"]);
}

#[test]
fn waiting_in_the_queue_depends_on_the_client() {
    let mut bench = Bench::new(offered(), vec![limited("one")], Some(30_000));
    assert_eq!(names(&bench.on(Event::Started)), ["acquire 0 25000"]);
    assert_eq!(names(&bench.on(Event::Acquired(Ok(PermitDecision::Waiting)))), ["refresh"]);
    assert_eq!(names(&bench.on(Event::Refreshed(Ok(())))), ["acquire 0 25000"]);
    bench.now = NOW.plus_ms(30_000);
    assert_eq!(names(&bench.on(Event::TimePassed)), ["answer Continues", "renew offer"]);
    assert_eq!(names(&bench.on(Event::Acquired(Ok(PermitDecision::Waiting)))), ["put back None"]);
    assert!(bench.on(Event::PutBack(Ok(()))).is_empty() && bench.driver.is_finished());
}

#[test]
fn another_service_is_selected_if_that_of_the_queue_is_deleted_or_drained() {
    let mut bench = Bench::new(offered(), vec![limited("one"), limited("two")], Some(60_000));
    bench.on(Event::Started);
    bench.on(Event::Acquired(Ok(PermitDecision::Waiting)));
    bench.services.remove(0);
    assert_eq!(names(&bench.on(Event::Refreshed(Ok(())))), ["acquire 0 25000"]);
    bench.on(Event::Acquired(Ok(PermitDecision::Waiting)));
    assert_eq!(names(&bench.on(Event::Refreshed(Err(Unreachable)))), ["acquire 0 25000"]);
    bench.on(Event::Acquired(Ok(PermitDecision::Waiting)));
    bench.services = vec![limited("three"), limited("two").draining()];
    assert_eq!(names(&bench.on(Event::Refreshed(Ok(())))), ["leave 1", "acquire 0 25000"]);
}

#[test]
fn an_open_breaker_refuses_waiting_clients_and_puts_others_back() {
    let until = NOW.plus_ms(9_000);
    let open = || vec![known("one").open(until)];
    let mut waiting = Bench::new(offered(), open(), Some(1_000));
    assert_eq!(names(&waiting.on(Event::Started)), ["refuse CircuitOpen"]);
    assert_eq!(names(&waiting.on(Event::Refused(Ok(RefusalReceipt::Ended)))), ["answer Ended"]);
    let mut leased = Bench::new(work(), open(), None);
    assert_eq!(names(&leased.on(Event::Started)), ["commit CircuitOpen"]);
    let mut queued = Bench::new(offered(), open(), None);
    assert_eq!(names(&queued.on(Event::Started)), ["put back Some(9000)"]);
}

#[test]
fn an_unreachable_lane_matters_only_to_a_limited_service() {
    let mut half_open = Bench::new(work(), vec![known("one").half_open()], None);
    half_open.on(Event::Started);
    assert_eq!(names(&half_open.on(Event::Acquired(Err(Unreachable)))), ["refresh"]);
    assert_eq!(names(&half_open.on(Event::Refreshed(Err(Unreachable)))), ["call 0 1"]);
    let mut bench = Bench::new(work(), vec![limited("one")], None);
    bench.on(Event::Started);
    let pauses = [(); 3].map(|()| {
        assert!(bench.on(Event::Acquired(Err(Unreachable))).is_empty());
        let before = bench.now;
        loop {
            let actions = bench.sleep();
            if names(&actions).iter().any(|name| name.starts_with("acquire")) {
                return bench.now.since(before);
            }
        }
    });
    assert_eq!(pauses, [1_000, 2_000, 4_000]);
}

#[test]
fn the_result_of_a_probe_reaches_the_lane_before_the_store() {
    let mut bench = Bench::new(work(), vec![known("one").half_open()], None);
    bench.on(Event::Started);
    bench.on(granted(true));
    bench.on(Event::Refreshed(Ok(())));
    let released = bench.respond(done());
    assert_eq!(names(&released), ["release Success"]);
    let [Action::Release { permit, outcome }] = released.as_slice() else { panic!("a release") };
    assert_eq!(outcome.outcome, Signal::Success);
    let other = Permit { number: PermitNumber::of(1), ..permit.clone() };
    assert!(bench.on(Event::Released(other)).is_empty());
    assert_eq!(names(&bench.on(Event::Released(permit.clone()))), ["commit"]);
}

#[test]
fn a_retry_here_pauses_refreshes_and_goes_to_another_service() {
    let mut bench = Bench::new(work(), vec![known("one"), known("two")], None);
    bench.on(Event::Started);
    assert_eq!(names(&bench.respond(CallResult::Refused)), ["commit ServiceUnavailable"]);
    assert_eq!(names(&bench.on(Event::Committed(Ok(CommitReceipt::Retry { ms: 150 })))), ["report 0"]);
    // The lane may publish that the breaker has opened.
    assert_eq!(bench.driver.wake_at(), None);
    assert!(bench.on(Event::CallsReported).is_empty());
    assert_eq!(names(&bench.sleep()), ["refresh"]);
    assert_eq!(bench.now, NOW.plus_ms(150));
    assert_eq!(names(&bench.on(Event::Refreshed(Ok(())))), ["lease"]);
    let second = Work { attempt: 2, tried: vec!["one".into()], ..work() };
    assert_eq!(names(&bench.on(leased(second))), ["announce 2", "call 1 1"]);
}

#[test]
fn nothing_is_called_after_the_deadline() {
    let mut bench = Bench::new(work(), vec![known("one")], None);
    bench.now = work().admission.expires_at;
    assert_eq!(names(&bench.on(Event::Started)), ["commit DeadlineExceeded"]);
}

#[test]
fn without_a_service_the_attempt_says_so_or_the_context_waits() {
    let mut bench = Bench::new(work(), vec![], None);
    assert_eq!(names(&bench.on(Event::Started)), ["commit ServiceUnavailable"]);
    let mut bench = Bench::new(offered(), vec![known("one").offline()], None);
    assert_eq!(names(&bench.on(Event::Started)), ["put back Some(3000)"]);
    let mut bench = Bench::new(offered(), vec![known("one").offline()], Some(500));
    assert_eq!(names(&bench.on(Event::Started)), ["lease"]);
}

fn write_behind(waits_ms: u64) -> Bench {
    let driver = Driver::write_behind(work(), Some(NOW.plus_ms(waits_ms)), TIMING);
    Bench { driver, services: vec![known("one")], now: NOW }
}

#[test]
fn a_context_that_ends_in_time_is_recorded() {
    let mut bench = write_behind(5_000);
    assert_eq!(names(&bench.on(Event::Started)), ["call 0 1"]);
    assert_eq!(names(&bench.respond(done())), ["record"]);
    assert_eq!(names(&bench.on(Event::Recorded(Ok(())))), ["report 0"]);
    assert!(bench.driver.is_finished());
}

#[test]
fn a_context_that_outlives_the_wait_is_stored_before_its_client_is_answered() {
    let mut bench = write_behind(5_000);
    bench.on(Event::Started);
    assert_eq!(names(&bench.sleep()), ["admit"]);
    assert_eq!(bench.driver.wake_at(), None, "nothing is renewed that is not stored");
    assert!(bench.respond(done()).is_empty());
    let admitted = Event::Admitted(Ok(AdmissionResult::Admitted(Some(LeaseNumber::FIRST))));
    assert_eq!(names(&bench.on(admitted)), ["answer Continues", "commit"]);
}

#[test]
fn a_context_that_cannot_be_stored_is_stopped() {
    let mut bench = write_behind(5_000);
    bench.on(Event::Started);
    bench.sleep();
    assert_eq!(names(&bench.on(Event::Admitted(Err(Unreachable)))), ["stop", "answer NotStored"]);
    assert!(bench.driver.is_finished());
}

#[test]
fn a_context_that_needs_more_than_one_call_is_stored_first() {
    let mut bench = write_behind(5_000);
    bench.on(Event::Started);
    assert_eq!(names(&bench.respond(http(202, "{}"))), ["admit"]);
}

#[test]
fn a_commit_that_is_lost_ends_the_work_of_this_worker() {
    let mut bench = Bench::new(work(), vec![known("one")], Some(60_000));
    bench.on(Event::Started);
    bench.respond(http(400, "{}"));
    let last = bench.on(Event::Committed(Err(Unreachable)));
    assert_eq!(names(&last), ["report 0", "answer Continues"]);
    assert!(bench.driver.is_finished());
}

#[test]
fn refusals_name_the_service() {
    let mut bench = Bench::new(offered(), vec![limited("one")], None);
    bench.on(Event::Started);
    let refused = bench.on(Event::Acquired(Ok(PermitDecision::TooLate)));
    let [Action::Refuse(error)] = refused.as_slice() else { panic!("a refusal") };
    assert_eq!((error.code, error.service.as_ref().map(|id| id.as_str())), (ErrorCode::DeadlineExceeded, Some("one")));
}

#[test]
fn a_lane_that_answers_late_delays_the_next_attempt() {
    let mut bench = Bench::new(work(), vec![known("one"), known("two")], None);
    bench.on(Event::Started);
    bench.respond(CallResult::Refused);
    bench.on(Event::Committed(Ok(CommitReceipt::Retry { ms: 150 })));
    bench.now = NOW.plus_ms(700);
    assert!(bench.on(Event::TimePassed).is_empty());
    assert_eq!(names(&bench.on(Event::CallsReported)), ["refresh"]);
}

#[test]
fn a_service_that_was_moved_during_the_wait_for_a_permit_is_not_called_at_its_old_address() {
    let mut bench = Bench::new(work(), vec![known("two"), limited("one")], None);
    bench.on(Event::Started);
    assert_eq!(names(&bench.on(granted(false))), ["refresh"]);
    bench.services = vec![limited("one")];
    assert_eq!(names(&bench.on(Event::Refreshed(Ok(())))), ["call 0 1"]);
}

#[test]
fn a_granted_permit_counts_more_than_what_was_observed_before() {
    let mut bench = Bench::new(offered(), vec![limited("one")], None);
    bench.on(Event::Started);
    bench.on(granted(false));
    bench.services = vec![limited("one").offline()];
    assert_eq!(names(&bench.on(leased(work()))), ["call 0 1"]);
}

#[test]
fn work_that_a_service_has_accepted_is_not_renewed() {
    let mut bench = Bench::new(work(), vec![known("one")], None);
    bench.on(Event::Started);
    assert_eq!(names(&bench.respond(http(202, "{}"))), ["commit"]);
    assert_eq!(bench.driver.wake_at(), None);
}

#[test]
fn a_result_that_is_under_way_to_the_store_keeps_its_lease() {
    let mut bench = Bench::new(work(), vec![known("one")], None);
    bench.on(Event::Started);
    bench.respond(done());
    assert_eq!(names(&bench.sleep()), ["renew lease"]);
}
