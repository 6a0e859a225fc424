use super::super::fixtures::{Known, NOW, known, work, work_after};
use super::*;
use crate::context::lease::LeaseNumber;
use crate::context::status::ErrorCode;
use crate::lane::retry_budget::MIN_RETRIES;

/// An attempt at `one` that failed in a way that may be repeated.
fn failed() -> AttemptResult {
    AttemptResult::no_service(&work().admission, LeaseNumber::FIRST, NOW, NOW)
}

fn with_pause(milliseconds: u64) -> AttemptResult {
    let mut attempted = failed();
    if let ReportedOutcome::Failed { retry_after_ms, .. } = &mut attempted.report.outcome {
        *retry_after_ms = Some(milliseconds);
    }
    attempted
}

fn needs_other() -> AttemptResult {
    let mut attempted = failed();
    attempted.needs_other_service = true;
    if let ReportedOutcome::Failed { retryable, .. } = &mut attempted.report.outcome {
        *retryable = false;
    }
    attempted
}

/// Decides about an attempt at the first service: whether it may be repeated, after which pause, and the message.
fn decided(mut attempted: AttemptResult, work: &mut Work, services: &[Known]) -> (bool, Option<u64>, String) {
    if attempted.needs_other_service {
        work.hopeless.push(services[0].service.id.clone());
    }
    decide(&mut attempted, work, services, &services[0], NOW);
    match attempted.report.outcome {
        ReportedOutcome::Failed { retryable, retry_after_ms, error, .. } => (retryable, retry_after_ms, error.message),
        other => panic!("{other:?}"),
    }
}

fn may_repeat(attempted: AttemptResult, work: &mut Work, services: &[Known]) -> bool {
    decided(attempted, work, services).0
}

#[test]
fn what_only_another_service_can_do_is_repeated_only_if_there_is_one() {
    let mut alone = work();
    assert!(!may_repeat(needs_other(), &mut alone, &[known("one")]));
    assert_eq!(alone.hopeless, ["one".into()]);
    let mut with_other = work();
    assert!(may_repeat(needs_other(), &mut with_other, &[known("one"), known("two")]));
    assert_eq!(with_other.hopeless, ["one".into()]);
    // The other one would return the same, too.
    let mut both = Work { hopeless: vec!["two".into()], ..work_after(&["two"]) };
    assert!(!may_repeat(needs_other(), &mut both, &[known("one"), known("two")]));
}

#[test]
fn a_refused_address_is_repeated_only_at_another_service() {
    let refused = || {
        let mut attempted = failed();
        if let ReportedOutcome::Failed { error, .. } = &mut attempted.report.outcome {
            error.code = ErrorCode::AddressRefused;
        }
        attempted
    };
    assert!(!may_repeat(refused(), &mut work(), &[known("one")]));
    assert!(may_repeat(refused(), &mut work(), &[known("one"), known("two")]));
    assert!(!may_repeat(refused(), &mut work_after(&["two"]), &[known("one"), known("two")]));
}

fn exhausted(id: &str) -> Known {
    let service = known(id);
    for _ in 0..MIN_RETRIES {
        assert!(service.live.may_retry(NOW));
    }
    service
}

#[test]
fn the_retry_budget_is_needed_only_for_a_repetition_at_the_same_service() {
    let (repeats, _, message) = decided(failed(), &mut work(), &[exhausted("one")]);
    assert!(!repeats && message.contains("retry budget is exhausted"), "{message}");
    assert!(may_repeat(failed(), &mut work(), &[exhausted("one"), known("two")]));
    // It would not be repeated anyway: the reason to report is another one.
    let mut last = work();
    last.attempt = last.admission.retry.max_attempts;
    let (repeats, _, message) = decided(failed(), &mut last, &[exhausted("one")]);
    assert!(repeats && !message.contains("budget"), "{message}");
    let touched = || {
        let mut attempted = failed();
        if let ReportedOutcome::Failed { untouched, .. } = &mut attempted.report.outcome {
            *untouched = false;
        }
        attempted
    };
    assert!(!decided(touched(), &mut work(), &[exhausted("one")]).2.contains("budget"));
    let mut idempotent = work();
    idempotent.admission.idempotent = true;
    assert!(decided(touched(), &mut idempotent, &[exhausted("one")]).2.contains("budget"));
}

#[test]
fn each_repetition_at_the_same_service_takes_one_out_of_its_budget() {
    let services = [known("one")];
    let repeats = (0..10).filter(|_| may_repeat(failed(), &mut work(), &services)).count() as u64;
    assert_eq!(repeats, MIN_RETRIES);
}

#[test]
fn a_service_does_not_wait_because_of_the_retry_after_of_another() {
    let others_pause = |other: Known| decided(with_pause(4_000), &mut work(), &[known("one"), other]).1;
    assert_eq!(others_pause(known("two")), None);
    assert_eq!(others_pause(known("two").resting(1_500)), Some(1_500));
    // Without another service, its own applies.
    assert_eq!(decided(with_pause(4_000), &mut work(), &[known("one")]).1, Some(4_000));
    assert_eq!(decided(failed(), &mut work(), &[known("one")]).1, None);
}

#[test]
fn a_retry_after_applies_to_other_contexts_for_five_minutes_at_most() {
    for (asked, applies) in [(4_000, 4_000), (MAX_RETRY_AFTER_MS, MAX_RETRY_AFTER_MS), (86_400_000, MAX_RETRY_AFTER_MS)]
    {
        let services = [known("one")];
        // The context itself waits as long as it was asked to.
        assert_eq!(decided(with_pause(asked), &mut work(), &services).1, Some(asked));
        assert_eq!(services[0].live.cool_down_until.get(), NOW.plus_ms(applies));
    }
}

#[test]
fn what_succeeded_is_left_as_it_is() {
    let mut attempted = failed();
    attempted.report.outcome = ReportedOutcome::Succeeded;
    decide(&mut attempted, &work(), &[known("one")], &known("one"), NOW);
    assert!(matches!(attempted.report.outcome, ReportedOutcome::Succeeded));
}

#[test]
fn time_is_reserved_only_for_other_services_that_may_be_called() {
    let services = [known("one").latency(1_000), known("two"), known("three").open(NOW.plus_ms(60_000))];
    let mut work = work();
    let timeout = |work: &Work| answer_timeout_ms(work, &services, &services[0], 12_000, NOW);
    assert_eq!(timeout(&work), 12_000);
    work.admission.idempotent = true;
    assert_eq!(timeout(&work), 8_000);
    work.attempt = work.admission.retry.max_attempts;
    assert_eq!(timeout(&work), 12_000);
}
