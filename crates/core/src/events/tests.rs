use super::bundle::*;
use super::cloud_event::*;
use super::sequence::Sequence;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::context::lease::LeaseNumber;
use crate::context::{Admission, AttemptReport, Head, ReportedOutcome, fixtures};
use serde_json::value::RawValue;

fn head() -> Head {
    let trace = "00-00000000000000000000000000000001-0000000000000001-01".into();
    Head::admit(Admission { trace, ..fixtures::admission(7, Timestamp(1_000)) }, Timestamp(1_000))
}

fn types(bundle: &Bundle) -> Vec<&'static str> {
    bundle.items.iter().map(|item| item.kind.event_type().as_str()).collect()
}

/// The report of the first attempt, which took 10 ms.
fn succeeded() -> AttemptReport {
    let times = (Timestamp(1_001), Timestamp(1_011));
    AttemptReport::new(LeaseNumber::FIRST, "one".into(), times, Some(200), ReportedOutcome::Succeeded)
}

#[test]
fn every_step_and_attempt_is_published_once_and_in_order() {
    let mut next = 10;
    let mut counter = || {
        next += 1;
        next
    };
    let mut head = head();
    head.lease(Timestamp(1_001), Timestamp(9_000)).unwrap();
    assign_numbers(&mut head, &mut counter);
    let first = bundle(&head, EventResult::Absent, 0);
    assert_eq!(types(&first), ["context.created", "context.validated", "context.queued", "context.executing"]);
    assert_eq!(first.previous_number, None);

    head.report(succeeded(), Timestamp(1_011), 0).unwrap();
    assign_numbers(&mut head, &mut counter);
    let result = RawValue::from_string("{\"a\":1}".into()).unwrap();
    let second = bundle(&head, Some(&*result).into(), 14);
    assert_eq!(types(&second), ["context.attempt", "context.completed"]);
    assert_eq!(second.previous_number, Some(14));
    assert_eq!(bundle(&head, Some(&*result).into(), 0).items.len(), 6);
    assert!(bundle(&head, Some(&*result).into(), 16).items.is_empty());
}

#[test]
fn a_retry_is_published_after_the_attempt_that_caused_it() {
    let mut next = 0;
    let mut head = head();
    head.admission.idempotent = true;
    head.lease(Timestamp(1_001), Timestamp(2_000)).unwrap();
    head.tick(Timestamp(2_000), 0);
    head.lease(Timestamp(40_000), Timestamp(50_000)).unwrap();
    assign_numbers(&mut head, || {
        next += 1;
        next
    });
    let published = types(&bundle(&head, EventResult::Absent, 3));
    assert_eq!(published, ["context.executing", "context.attempt", "context.queued", "context.executing"]);
}

#[test]
fn an_event_is_a_cloud_event() {
    let mut head = head();
    let mut next = 0;
    assign_numbers(&mut head, || {
        next += 1;
        next
    });
    let bundle = bundle(&head, EventResult::Absent, 0);
    let text =
        cloud_event(None, &TenantId::first(), "eu00", &bundle, &bundle.items[1], Some(1), Sequence::from_stored(42));
    let event: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (name, value) in [
        ("specversion", "1.0"),
        ("id", "eu00-2"),
        ("source", "/tenants/default"),
        ("type", "context.validated"),
        ("subject", head.id().as_str()),
        ("time", "1970-01-01T00:00:01.000Z"),
        ("sequence", "0000000000000042"),
        ("causationid", "eu00-1"),
        ("correlationid", head.id().as_str()),
        ("traceparent", "00-00000000000000000000000000000001-0000000000000001-01"),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    assert_eq!(event["data"]["status"], "validated");
}

#[test]
fn a_large_result_is_linked() {
    let mut head = head();
    head.lease(Timestamp(1_001), Timestamp(9_000)).unwrap();
    head.report(succeeded(), Timestamp(1_011), 0).unwrap();
    let mut next = 0;
    assign_numbers(&mut head, || {
        next += 1;
        next
    });
    let large = RawValue::from_string(format!("\"{}\"", "x".repeat(MAX_RESULT_BYTES))).unwrap();
    let bundle = bundle(&head, Some(&*large).into(), 0);
    let text =
        cloud_event(None, &TenantId::first(), "eu00", &bundle, bundle.items.last().unwrap(), None, Sequence::FIRST);
    assert!(text.len() < 2_000 && text.contains(r#""result_url":"/v1/contexts/ctx_"#));
    // With a known gateway address, a receiver learns it.
    let public = Some("https://gateway.example.com");
    let text =
        cloud_event(public, &TenantId::first(), "eu00", &bundle, bundle.items.last().unwrap(), None, Sequence::FIRST);
    assert!(text.contains(r#""result_url":"https://gateway.example.com/v1/contexts/ctx_"#));
}

/// Stored events must stay readable: a change here corrupts existing event logs.
#[test]
fn the_stored_form_is_pinned() {
    let text = r#"{"subject":"ctx_eu0000000000z807070707070707070","owner":"key:a","capability":"echo","service":"one","items":[{"number":1,"at":1000,"what":{"status":"created"}},{"number":2,"at":1010,"what":{"attempt":{"number":1,"service":"one","outcome":"succeeded","started_at":1001,"ended_at":1010,"status_code":200,"event":2}}},{"number":3,"at":1011,"what":{"ended":{"status":"completed","result":{"a":1},"linked":false,"execution_time_ms":10,"attempts":1}}},{"number":4,"at":1012,"what":{"registry":{"kind":"key.created","data":{}}}}]}"#;
    let bundle: Bundle = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&bundle).unwrap(), text);
    // As stored before attempts were counted.
    assert!(serde_json::from_str::<Bundle>(&text.replace(r#","attempts":1"#, "")).is_ok());
}
