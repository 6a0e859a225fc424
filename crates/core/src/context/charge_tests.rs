//! What a context owes in each of its endings.

use super::*;
use crate::models::call_price::CallPrice;
use crate::models::money::Money;
use crate::models::price::Cost;
use crate::models::stated_usage::StatedUsage;

fn price(nanos: u64, currency: &str) -> CallPrice {
    CallPrice { per_call: Money(nanos), currency: currency.into() }
}

/// A context of which each call costs 2 millionths of a dollar, in its first attempt.
fn called(idempotent: bool) -> (Head, Lease) {
    let price = Some(price(2_000, "USD"));
    let admission = Admission { idempotent, price, ..fixtures::admission(7, Timestamp(1_000)) };
    let mut head = Head::admit(admission, Timestamp(1_000));
    let lease = head.lease(Timestamp(1_000), Timestamp(5_000)).unwrap();
    (head, lease)
}

fn report(lease: Lease, outcome: ReportedOutcome, price: Option<CallPrice>) -> AttemptReport {
    let own = || fixtures::admission(7, Timestamp(1_000)).service;
    let service = if price.is_some() { "two".into() } else { own() };
    let times = (Timestamp(1_000), Timestamp(1_010));
    AttemptReport { price, ..AttemptReport::new(lease.number, service, times, None, outcome) }
}

fn failed(code: ErrorCode, retryable: bool) -> ReportedOutcome {
    let error = ContextError { code, message: "no".into(), service: None, details: None };
    ReportedOutcome::Failed { error, retryable, untouched: false, retry_after_ms: None }
}

fn costs(head: &Head) -> Vec<Cost> {
    head.spent.iter().flat_map(|spent| spent.costs()).cloned().collect()
}

fn cost(nanos: u64, currency: &str, estimated: bool) -> Cost {
    Cost { amount: Money(nanos), currency: currency.into(), estimated }
}

#[test]
fn a_completed_context_owes_the_price_of_a_call_once() {
    let (mut head, first) = called(true);
    head.report(report(first, failed(ErrorCode::UpstreamError, true), None), Timestamp(1_010), 0).unwrap();
    assert_eq!(costs(&head), []);
    let second = head.lease(Timestamp(2_000), Timestamp(5_000)).unwrap();
    head.report(report(second, ReportedOutcome::Succeeded, None), Timestamp(2_010), 0).unwrap();
    assert_eq!(costs(&head), [cost(2_000, "USD", false)]);
}

#[test]
fn a_context_owes_the_price_of_the_service_that_was_called() {
    let (mut head, lease) = called(false);
    let elsewhere = report(lease, ReportedOutcome::Succeeded, Some(price(9, "EUR")));
    head.report(elsewhere, Timestamp(1_010), 0).unwrap();
    assert_eq!(costs(&head), [cost(9, "EUR", false)]);
}

#[test]
fn a_context_whose_outcome_is_unknown_owes_an_estimate() {
    let (mut head, _) = called(false);
    assert_eq!(head.tick(Timestamp(5_000), 0), Transition::Ended);
    assert_eq!(head.error.as_ref().map(|error| error.code), Some(ErrorCode::OutcomeUnknown));
    assert_eq!(costs(&head), [cost(2_000, "USD", true)]);
}

#[test]
fn a_failed_or_cancelled_context_owes_nothing() {
    let (mut head, lease) = called(false);
    head.report(report(lease, failed(ErrorCode::UpstreamError, false), None), Timestamp(1_010), 0).unwrap();
    assert_eq!((head.status, costs(&head)), (Status::Failed, Vec::new()));
    let (mut head, lease) = called(false);
    head.cancel(Timestamp(1_001)).unwrap();
    head.report(report(lease, failed(ErrorCode::Cancelled, false), None), Timestamp(1_010), 0).unwrap();
    assert_eq!((head.status, costs(&head)), (Status::Cancelled, Vec::new()));
}

#[test]
fn a_callback_owes_the_price_of_the_call_that_it_ends() {
    let (mut head, lease) = called(false);
    let accepted = ReportedOutcome::Accepted { lease_ms: None, location: None };
    head.report(report(lease, accepted, Some(price(7, "USD"))), Timestamp(1_010), 0).unwrap();
    head.report_by_callback(lease.number, ReportedOutcome::Succeeded, None, Timestamp(1_500), 0).unwrap();
    assert_eq!(costs(&head), [cost(7, "USD", false)]);
}

/// What a service states about a call.
fn stated(text: &str) -> Option<Box<StatedUsage>> {
    let raw: &RawValue = serde_json::from_str(text).unwrap();
    Some(Box::new(StatedUsage::read(raw, "#").unwrap()))
}

#[test]
fn what_a_service_states_counts_in_place_of_its_price() {
    let (mut head, first) = called(true);
    let failed = report(first, failed(ErrorCode::UpstreamError, true), None);
    let owing = AttemptReport { stated: stated(r#"{"cost":"0.01","input_tokens":3}"#), ..failed };
    head.report(owing, Timestamp(1_010), 0).unwrap();
    let second = head.lease(Timestamp(2_000), Timestamp(5_000)).unwrap();
    let good = report(second, ReportedOutcome::Succeeded, None);
    let owing = AttemptReport { stated: stated(r#"{"cost":"0.02","input_tokens":4}"#), ..good };
    head.report(owing, Timestamp(2_010), 0).unwrap();
    assert_eq!(costs(&head), [cost(30_000_000, "USD", false)]);
    assert_eq!(head.spent.as_ref().map(|spent| spent.usage.input_tokens), Some(7));
}

#[test]
fn tokens_alone_leave_the_price() {
    let (mut head, lease) = called(false);
    let good = report(lease, ReportedOutcome::Succeeded, Some(price(9, "EUR")));
    head.report(AttemptReport { stated: stated(r#"{"output_tokens":3}"#), ..good }, Timestamp(1_010), 0).unwrap();
    assert_eq!(costs(&head), [cost(9, "EUR", false)]);
    let (mut head, lease) = called(false);
    let free = report(lease, failed(ErrorCode::UpstreamError, false), Some(price(9, "EUR")));
    head.report(AttemptReport { stated: stated(r#"{"cost":"1"}"#), ..free }, Timestamp(1_010), 0).unwrap();
    assert_eq!(costs(&head), [cost(1_000_000_000, "EUR", false)]);
}

#[test]
fn what_services_state_without_a_price_is_in_dollars() {
    let mut head = Head::admit(fixtures::admission(7, Timestamp(1_000)), Timestamp(1_000));
    let lease = head.lease(Timestamp(1_000), Timestamp(5_000)).unwrap();
    let usage = stated(r#"{"cost":"0.5","estimated":true}"#);
    head.report_by_callback(lease.number, ReportedOutcome::Succeeded, usage, Timestamp(1_500), 0).unwrap();
    assert_eq!(costs(&head), [cost(500_000_000, "USD", true)]);
}
