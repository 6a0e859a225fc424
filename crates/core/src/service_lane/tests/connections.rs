use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::reports::{DeliveryReport, Offered, ReportContent};
use super::*;
use crate::access::revocation::Revocation;
use crate::context_store::messages::CallbackReport;
use crate::events::viewer::Viewer;

pub fn viewer(key: &str, until: Option<Timestamp>) -> Viewer {
    Viewer {
        tenant: TenantId::first(),
        principal: PrincipalId::of_key(key),
        sees_all: false,
        until,
        from: vec![format!("keys/{key}")],
        by: Vec::new(),
        notify_only: false,
    }
}

fn connecting() -> Fixture {
    Fixture::new(LaneSettings { grace_ms: Some(5_000), ..settings(None) })
}

impl Fixture {
    fn connect(&mut self, slot: u32, key: &str, now: Timestamp) -> String {
        let connection = Connection::new(format!("con_{slot}"), viewer(key, None), now);
        let attachment = connection.attachment();
        self.turn(now, |lane| lane.connect(slot, connection, now));
        attachment
    }

    fn message(&mut self, slot: u32, message: &Value, now: Timestamp) {
        self.turn(now, |lane| lane.message(slot, Some(&message.to_string()), now));
    }

    fn ready(&mut self, slot: u32, credit: u64, resume: &[String], now: Timestamp) {
        self.message(slot, &json!({"type": "ready", "credit": credit, "resume": resume}), now);
    }

    fn dispatch(&mut self, delivery: &Delivery, now: Timestamp) -> bool {
        let work = RawValue::from_string(r#"{"n":1}"#.into()).unwrap();
        self.turn(now, |lane| lane.dispatch(delivery.clone(), None, &work, now)).unwrap()
    }

    /// What was sent to each slot by the last turn.
    fn sent(&self) -> Vec<(u32, Value)> {
        let of = |action: &SocketAction| match action {
            SocketAction::Send(slot, text) => Some((*slot, serde_json::from_str(text).unwrap())),
            SocketAction::Attach(..) | SocketAction::Close(..) => None,
        };
        self.effects.sockets.iter().filter_map(of).collect()
    }

    fn closed(&self) -> Vec<(u32, ConnectionCloseCode)> {
        let of = |action: &SocketAction| match action {
            SocketAction::Close(slot, why) => Some((*slot, *why)),
            SocketAction::Attach(..) | SocketAction::Send(..) => None,
        };
        self.effects.sockets.iter().filter_map(of).collect()
    }
}

#[test]
fn a_connection_is_welcomed_and_gets_work_once_it_is_ready() {
    let mut fixture = connecting();
    fixture.connect(1, "bot", at(1));
    let welcome = json!({
        "type": "welcome", "connection": "con_1", "service": "search", "grace_seconds": 5, "ping_seconds": 20,
    });
    assert_eq!(fixture.sent(), [(1, welcome)]);
    assert!(fixture.lane.is_connected() && !fixture.dispatch(&delivery(1, 1), at(2)));
    fixture.ready(1, 1, &["unknown.1".into()], at(3));
    assert_eq!(fixture.sent(), [(1, json!({"type": "cancel", "delivery": "unknown.1", "reason": "over"}))]);
    let [.., SocketAction::Attach(1, attachment)] = &fixture.effects.sockets[..] else { panic!("not attached") };
    assert!(attachment.contains(r#""credit":1"#), "it survives hibernation: {attachment}");
    assert!(fixture.dispatch(&delivery(1, 1), at(4)));
    let number = delivery(1, 1).number();
    assert_eq!(fixture.sent(), [(1, json!({"type": "work", "delivery": number, "work": {"n": 1}}))]);
    assert!(fixture.dispatch(&delivery(1, 1), at(5)) && fixture.sent().is_empty(), "a repeated request");
    assert!(!fixture.dispatch(&delivery(2, 1), at(6)), "no room");
}

#[test]
fn a_delivery_that_cannot_be_stored_is_not_sent() {
    let mut fixture = connecting();
    fixture.connect(1, "bot", at(1));
    fixture.ready(1, 1, &[], at(1));
    fixture.storage.fail_write(Some(0));
    let work = RawValue::NULL.to_owned();
    assert!(fixture.turn(at(2), |lane| lane.dispatch(delivery(1, 1), None, &work, at(2))).is_err());
    assert!(fixture.sent().is_empty());
    assert!(fixture.dispatch(&delivery(1, 1), at(3)));
}

fn reported(fixture: &mut Fixture) -> DeliveryReport {
    assert_eq!(fixture.effects.reports.len(), 1);
    fixture.effects.reports.remove(0)
}

#[test]
fn an_outcome_is_confirmed_once_it_is_stored_and_counts_once() {
    let mut fixture = connecting();
    fixture.connect(1, "bot", at(1));
    fixture.ready(1, 1, &[], at(1));
    fixture.dispatch(&delivery(1, 1), at(2));
    let number = delivery(1, 1).number();
    fixture.message(1, &json!({"type": "progress", "delivery": number, "progress": 5}), at(3));
    let progress = reported(&mut fixture);
    assert!(matches!(progress.progress().unwrap().callback, CallbackReport::Beat { progress: Some(_), .. }));
    fixture.message(1, &json!({"type": "result", "delivery": number, "result": {"n": 2}}), at(4));
    let report = reported(&mut fixture);
    assert_eq!((&report.content, report.slot), (&ReportContent::Outcome(r#"{"result":{"n":2}}"#.into()), Some(1)));
    let judgement = report.judge(&service(), Some(Offered { schema: None, timeout_seconds: 5 }), at(5));
    fixture.storage.fail_write(Some(0));
    assert!(fixture.turn(at(5), |lane| lane.reported(&report, &judgement, true, at(5), 0)).is_err());
    assert_eq!(fixture.closed(), [(1, ConnectionCloseCode::TryAgain)], "the service reports again");
    fixture.connect(2, "bot", at(6));
    fixture.ready(2, 1, std::slice::from_ref(&number), at(6));
    fixture.message(2, &json!({"type": "result", "delivery": number, "result": {"n": 2}}), at(7));
    let report = reported(&mut fixture);
    fixture.turn(at(8), |lane| lane.reported(&report, &judgement, true, at(8), 0)).unwrap();
    assert_eq!(fixture.sent(), [(2, json!({"type": "done", "delivery": number, "late": false}))]);
    fixture.message(2, &json!({"type": "result", "delivery": number, "result": 1}), at(9));
    assert_eq!(fixture.sent(), [(2, json!({"type": "done", "delivery": number, "late": true}))]);
    let counted = |fixture: &Fixture| fixture.lane.lane.to_record().evidence.served_at();
    assert_eq!(counted(&fixture), at(8));
    fixture.turn(at(10), |lane| lane.reported(&report, &judgement, true, at(10), 0)).unwrap();
    assert_eq!(counted(&fixture), at(8), "a repeated report");
}

#[test]
fn a_delivery_that_no_connection_resumes_in_time_is_given_up() {
    let mut fixture = connecting();
    fixture.connect(1, "bot", at(1));
    fixture.ready(1, 1, &[], at(1));
    fixture.dispatch(&delivery(1, 1), at(2));
    fixture.turn(at(3), |lane| lane.closed(1, at(3)));
    fixture.restart(at(4));
    fixture.ring(at(2_000));
    fixture.answered(Some(StatusReply::Recorded), at(2_001));
    fixture.ring(at(4_000));
    let given_up = at(4 + 5_000);
    assert_eq!(fixture.alarm, Some(given_up));
    fixture.ring(given_up);
    let report = reported(&mut fixture);
    assert_eq!((report.content.clone(), report.slot), (ReportContent::Lost, None));
    let judgement = report.judge(&service(), None, given_up);
    fixture.turn(given_up, |lane| lane.reported(&report, &judgement, true, given_up, 0)).unwrap();
}

#[test]
fn a_deleted_service_is_remembered_for_as_long_as_late_requests_may_arrive() {
    let mut fixture = connecting();
    fixture.connect(1, "bot", at(1));
    fixture.ready(1, 1, &[], at(1));
    fixture.dispatch(&delivery(1, 1), at(2));
    fixture.forget(at(3)).unwrap();
    assert!(fixture.closed().is_empty(), "its delivery may finish");
    fixture.turn(at(4), |lane| lane.withdraw(&context(1), None, false, at(4))).unwrap();
    assert_eq!(fixture.closed(), [(1, ConnectionCloseCode::Gone)]);
    fixture.restart(at(5));
    fixture.learn(at(6));
    fixture.connect(2, "bot", at(6));
    fixture.ready(2, 1, &[], at(6));
    assert!(fixture.dispatch(&delivery(1, 1), at(7)) && fixture.sent().is_empty(), "a late request");
    fixture.ring(at(4 + 60_000));
    assert_eq!((fixture.lane.identity(), fixture.storage.snapshot()), (None, memory::Disk::default()));
}

#[test]
fn a_delivery_past_its_deadline_is_cancelled_and_forgotten() {
    let mut fixture = connecting();
    fixture.connect(1, "bot", at(1));
    fixture.ready(1, 5, &[], at(1));
    fixture.dispatch(&Delivery { deadline: at(5_000), ..delivery(1, 1) }, at(2));
    fixture.dispatch(&delivery(2, 1), at(2));
    fixture.turn(at(3), |lane| lane.withdraw(&context(2), None, false, at(3))).unwrap();
    fixture.ring(at(6_000));
    let cancel = json!({"type": "cancel", "delivery": delivery(1, 1).number(), "reason": "deadline"});
    assert_eq!(fixture.sent(), [(1, cancel)]);
    assert_eq!(fixture.storage.snapshot().deliveries.len(), 1);
    fixture.ring(at(60_003));
    assert!(fixture.storage.snapshot().deliveries.is_empty());
}

#[test]
fn the_limit_of_the_service_holds_over_the_credits_of_its_connections() {
    let mut fixture = Fixture::new(LaneSettings { grace_ms: Some(5_000), ..settings(Some(1)) });
    fixture.connect(1, "bot", at(1));
    fixture.ready(1, 5, &[], at(1));
    assert!(fixture.dispatch(&delivery(1, 1), at(2)) && !fixture.dispatch(&delivery(2, 1), at(3)));
}

#[test]
fn bad_messages_are_answered_with_their_faults_or_close_the_connection() {
    let mut fixture = connecting();
    for slot in 1..=3 {
        fixture.connect(slot, "bot", at(1));
    }
    fixture.message(1, &json!({"type": "ready"}), at(2));
    let [(1, fault)] = &fixture.sent()[..] else { panic!("{:?}", fixture.sent()) };
    assert_eq!((&fault["type"], &fault["errors"][0]["pointer"]), (&json!("fault"), &json!("#/credit")));
    fixture.turn(at(3), |lane| lane.message(1, Some("{"), at(3)));
    assert_eq!(fixture.sent()[0].1["type"], json!("fault"));
    fixture.turn(at(4), |lane| lane.message(2, None, at(4)));
    assert_eq!(fixture.closed(), [(2, ConnectionCloseCode::BadMessage)]);
    let large = " ".repeat(1024 * 1024 + 1);
    fixture.turn(at(5), |lane| lane.message(3, Some(&large), at(5)));
    assert_eq!(fixture.closed(), [(3, ConnectionCloseCode::TooLarge)]);
    fixture.turn(at(6), |lane| lane.message(3, Some("{"), at(6)));
    assert!(fixture.effects.sockets.is_empty(), "it is closed");
}

#[test]
fn connections_are_bounded_and_end_with_their_credentials() {
    let mut fixture = connecting();
    for slot in 0..100 {
        fixture.connect(slot, if slot < 2 { "a" } else { "b" }, at(1));
    }
    fixture.connect(100, "c", at(1));
    assert_eq!(fixture.closed(), [(100, ConnectionCloseCode::TooMany)]);
    fixture.turn(at(2), |lane| lane.revoke(&PrincipalId::of_key("a"), at(2)));
    let ended = ConnectionCloseCode::CredentialsEnded;
    assert_eq!(fixture.closed(), [(0, ended), (1, ended)]);
    fixture.turn(at(3), |lane| lane.revoke_dependents(&Revocation::Document("keys/b".into()), at(3)));
    assert_eq!((fixture.closed().len(), fixture.lane.is_connected()), (98, false));
    let until = at(20_000);
    let connection = Connection::new("con_d".into(), viewer("d", Some(until)), at(4));
    fixture.turn(at(4), |lane| lane.connect(101, connection, at(4)));
    assert!(fixture.alarm.is_some_and(|alarm| alarm <= until));
    fixture.ring(until);
    assert_eq!(fixture.closed(), [(101, ended)]);
}

#[test]
fn silent_connections_are_closed_unless_they_ping() {
    let mut fixture = connecting();
    for slot in [1, 2, 3] {
        fixture.connect(slot, "bot", at(1));
    }
    fixture.message(2, &json!({"type": "status", "status": "degraded"}), at(50_000));
    let check = at(80_000);
    let pinged = |slot| (slot == 3).then(|| at(79_000));
    fixture.turn(check, |lane| lane.alarm(check, 0, pinged));
    assert_eq!(fixture.closed(), [(1, ConnectionCloseCode::Silent)]);
    assert!(fixture.effects.check_permissions);
}

#[test]
fn connections_that_this_version_cannot_read_connect_again() {
    let mut fixture = connecting();
    let attachment = fixture.connect(1, "bot", at(1));
    let attachments = [(1, attachment), (2, r#"{"id":"later"}"#.to_string())];
    fixture.lane = ServiceLane::open(fixture.storage.clone(), attachments, TIMING, at(2)).unwrap();
    fixture.settle(at(2));
    assert_eq!(fixture.closed(), [(2, ConnectionCloseCode::Changed)]);
    assert!(fixture.lane.is_connected());
}

#[test]
fn another_transport_and_a_deletion_close_connections() {
    let mut fixture = connecting();
    fixture.connect(1, "bot", at(1));
    fixture.settings = LaneSettings { moved_at: at(5), grace_ms: None, ..fixture.settings.clone() };
    fixture.lane.learn(&TenantId::first(), &fixture.settings, at(6)).unwrap();
    fixture.settle(at(6));
    assert_eq!(fixture.closed(), [(1, ConnectionCloseCode::Changed)]);
    fixture.settings = LaneSettings { moved_at: at(7), grace_ms: Some(5_000), ..fixture.settings.clone() };
    fixture.learn(at(8));
    fixture.connect(2, "bot", at(9));
    fixture.forget(at(10)).unwrap();
    assert_eq!(fixture.closed(), [(2, ConnectionCloseCode::Gone)]);
}

#[test]
fn work_that_is_withdrawn_is_cancelled_at_the_service_up_to_its_lease() {
    let mut fixture = connecting();
    fixture.connect(1, "bot", at(1));
    fixture.ready(1, 5, &[], at(1));
    fixture.dispatch(&delivery(1, 2), at(2));
    let withdraw = |fixture: &mut Fixture, lease: u64, cancelled: bool| {
        let lease = Some(lease_number(lease));
        fixture.turn(at(3), |lane| lane.withdraw(&context(1), lease, cancelled, at(3))).unwrap();
    };
    withdraw(&mut fixture, 1, true);
    assert!(fixture.sent().is_empty(), "that attempt is another worker's");
    fixture.dispatch(&delivery(1, 1), at(4));
    assert!(fixture.sent().is_empty(), "it was withdrawn before it was dispatched");
    withdraw(&mut fixture, 2, true);
    let cancel = json!({"type": "cancel", "delivery": delivery(1, 2).number(), "reason": "cancelled"});
    assert_eq!(fixture.sent(), [(1, cancel)]);
    fixture.restart(at(5));
    assert!(fixture.dispatch(&delivery(1, 2), at(6)) && fixture.sent().is_empty(), "not dispatched again");
    assert!(fixture.storage.snapshot().deliveries.values().all(|delivery| delivery.ended_at.is_some()));
}
