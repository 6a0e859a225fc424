//! Contexts whose content only their worker has.

use serde_json::value::RawValue;

use super::*;
use crate::base::content::Content;

fn private(work: Work) -> Work {
    let mut work = work;
    work.admission.content = Content::None;
    work.admission.meta = RawValue::from_string(r#"{"mine":1}"#.into()).ok();
    work
}

fn parameters(action: &Action) -> &str {
    let Action::Call(call) = action else { panic!("{action:?}") };
    call.work.parameters.get()
}

#[test]
fn the_worker_keeps_the_content_that_the_store_does_not_have() {
    let mut bench = Bench::new(private(offered()), vec![known("one")], Some(60_000));
    bench.on(Event::Started);
    let mut stored = private(work());
    (stored.parameters, stored.admission.meta) = (RawValue::NULL.to_owned(), None);
    let called = bench.on(leased(stored));
    assert_eq!(parameters(&called[0]), work().parameters.get());
    assert!(bench.driver.work().admission.meta.is_some());
}

#[test]
fn a_service_that_would_continue_later_has_failed() {
    let request = r#"{"input_required":{"message":"Who?","schema":{}}}"#;
    for answer in [http(202, ""), http(200, request)] {
        let mut bench = Bench::new(private(work()), vec![known("one")], Some(60_000));
        bench.on(Event::Started);
        let mut actions = bench.respond(answer);
        assert_eq!(names(&actions), ["commit ContentNotKept"]);
        let Some(Action::Commit(commit)) = actions.pop() else { panic!("it commits") };
        assert_eq!(commit.stays_ms, u64::MAX);
        let (_, withheld) = commit.split(work().admission.id);
        assert!(withheld.error.unwrap().message.contains("content of this call is not kept"));
    }
}

#[test]
fn what_the_store_gets_of_an_attempt_has_neither_result_nor_words() {
    for (answer, message) in
        [(done(), None), (http(400, r#"{"error":"secret"}"#), Some("The service reported an error."))]
    {
        let mut bench = Bench::new(private(work()), vec![known("one")], Some(60_000));
        bench.on(Event::Started);
        let Some(Action::Commit(commit)) = bench.respond(answer).pop() else { panic!("it commits") };
        let (kept, withheld) = commit.split(work().admission.id);
        assert_eq!((kept.result.is_some(), withheld.result.is_some()), (false, message.is_none()));
        let ReportedOutcome::Failed { error, .. } = kept.report.outcome else { continue };
        assert_eq!((Some(error.message.as_str()), error.details.is_none()), (message, true));
        assert!(withheld.error.unwrap().message.contains("secret"));
    }
}

#[test]
fn a_wait_that_is_over_stores_nothing() {
    let first = Work { hold: Hold::Leased(LeaseNumber::FIRST), ..private(work()) };
    let driver = Driver::write_behind(first, Some(NOW.plus_ms(1_000)), TIMING);
    let mut bench = Bench { driver, services: vec![known("one")], now: NOW };
    bench.on(Event::Started);
    assert_eq!(names(&bench.sleep()), ["answer NotStored"]);
    assert_eq!(names(&bench.respond(done())), ["record"]);
}

#[test]
fn the_worker_waits_for_its_service_although_no_client_waits() {
    let mut bench = Bench::new(private(offered()), vec![limited("one")], None);
    assert_eq!(names(&bench.on(Event::Started)), [format!("acquire 0 {}", TIMING.queue_wait_ms)]);
    assert_eq!(names(&bench.on(Event::Acquired(Ok(PermitDecision::Waiting)))), ["refresh"]);
    let until = NOW.plus_ms(5_000);
    bench.on(Event::Refreshed(Ok(())));
    assert_eq!(names(&bench.on(Event::Acquired(Ok(PermitDecision::Open { until })))), ["refuse CircuitOpen"]);
}
