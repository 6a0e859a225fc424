use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const T: Timestamp = Timestamp(1_800_000_000_000);

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

fn session() -> Session {
    let client = raw(&json!({"elicitation": {}}));
    Session::open(Opener { principal: PrincipalId::of_key("a"), version: "2025-11-25".into(), client }, T)
}

fn begun(request: &str) -> CallInfo {
    CallInfo { request: request.into(), context: format!("ctx_{request}"), token: None, related: false }
}

fn asked(names: &[&str]) -> Vec<Request> {
    names.iter().map(|name| Request { name: (*name).into(), elicits: *name != "model", response: None }).collect()
}

fn ask(session: &mut Session, call: u64, question: usize, names: &[&str]) {
    let sizes = vec![1; names.len()];
    session.publish(call, 1, &sizes, StreamPosition { asked: question, ..StreamPosition::default() }).unwrap();
    session.ask(call, 1, asked(names));
}

fn id(call: u64, question: usize, at: usize) -> String {
    format!("\"{}\"", request_id(call, question, at))
}

#[test]
fn a_resumed_stream_is_not_written_by_its_earlier_turn() {
    let mut session = session();
    let (call, _) = session.begin(begun("1"));
    let reached = StreamPosition { event: 7, progress: 0.5, asked: 0 };
    assert_eq!(session.publish(call, 1, &[10, 10], reached), Some((1, 1)));
    assert_eq!(session.resume(call), Some((begun("1"), 2, reached)));
    assert_eq!(session.publish(call, 1, &[10], reached), None);
    assert_eq!(session.publish(call, 2, &[10], reached), Some((3, 1)));
    assert_eq!(session.resume(99), None);
}

#[test]
fn a_question_is_answered_once_all_of_its_requests_are() {
    let mut session = session();
    let (call, _) = session.begin(begun("1"));
    ask(&mut session, call, 1, &["a", "model"]);
    let said = raw(&json!({"action": "accept"}));
    assert_eq!(session.respond(&id(call, 1, 0), Some(&said)), ResponseEffect::Waits);
    assert_eq!(session.respond(&id(call, 1, 0), Some(&said)), ResponseEffect::Nothing);
    let responses = r#"{"a":{"action":"accept"},"model":{"action":"accept"}}"#.to_string();
    let all = ResponseEffect::Answered { context: "ctx_1".into(), question: 1, responses };
    assert_eq!(session.respond(&id(call, 1, 1), Some(&said)), all);
    ask(&mut session, call, 2, &["a"]);
    for nothing in [id(call, 1, 0), id(call, 2, 1), id(9, 2, 0), "7".into(), r#""q""#.into(), r#""q1.2""#.into()] {
        assert_eq!(session.respond(&nothing, Some(&said)), ResponseEffect::Nothing, "{nothing}");
    }
}

#[test]
fn an_error_declines_for_the_user_and_refuses_for_the_rest() {
    let mut session = session();
    let (call, _) = session.begin(begun("1"));
    ask(&mut session, call, 1, &["a"]);
    let responses = r#"{"a":{"action":"cancel"}}"#.to_string();
    let declined = ResponseEffect::Answered { context: "ctx_1".into(), question: 1, responses };
    assert_eq!(session.respond(&id(call, 1, 0), None), declined);
    ask(&mut session, call, 2, &["model"]);
    assert_eq!(session.respond(&id(call, 2, 0), None), ResponseEffect::Refused { context: "ctx_1".into() });
    assert_eq!(session.respond(&id(call, 2, 0), None), ResponseEffect::Nothing);
}

#[test]
fn it_ends_without_use_and_use_is_persisted_now_and_then() {
    let mut session = session();
    assert!(!session.touch(T.plus_ms(TOUCH_MS - 1)));
    assert_eq!(session.ends_at(), T.plus_ms(IDLE_MS));
    assert!(session.touch(T.plus_ms(TOUCH_MS)));
    assert_eq!(session.ends_at(), T.plus_ms(TOUCH_MS + IDLE_MS));
}

#[test]
fn the_latest_get_stream_receives_notifications() {
    let mut session = session();
    let (first, second) = (session.listen(), session.listen());
    assert!(!session.listens(first) && session.listens(second));
}

#[test]
fn a_request_is_found_by_its_id() {
    let mut session = session();
    session.begin(begun("1"));
    session.begin(begun("\"a\""));
    assert_eq!(session.context_of("\"a\""), Some("ctx_\"a\""));
    assert_eq!(session.context_of("2"), None);
}

#[test]
fn ids_of_events_are_read_back() {
    assert_eq!(read_event_id(&event_id(3, Some(14))), Some((3, Some(14))));
    assert_eq!(read_event_id(&event_id(3, None)), Some((3, None)));
    for other in ["", "3", "a.1", "3.x", "3.1.2", "g.1"] {
        assert_eq!(read_event_id(other), None, "{other}");
    }
}

proptest! {
    /// Storage is bounded, numbers grow by one, and the latest event is always kept.
    #[test]
    fn stored_events_of_a_stream_are_bounded(sizes in prop::collection::vec(0usize..600_000, 1..150)) {
        let mut session = session();
        let (call, _) = session.begin(begun("1"));
        for (at, size) in sizes.iter().enumerate() {
            let (first, kept) = session.publish(call, 1, &[*size], StreamPosition::default()).unwrap();
            prop_assert_eq!(first, at as u64 + 1);
            prop_assert!(kept <= first);
            let held: usize = sizes[kept as usize - 1..=at].iter().sum();
            prop_assert!(kept == first || held <= MAX_BYTES && first - kept < MAX_EVENTS as u64);
        }
    }

    #[test]
    fn it_remembers_a_bounded_number_of_calls(count in 1u64..100) {
        let mut session = session();
        let forgotten = (0..count).filter_map(|at| session.begin(begun(&at.to_string())).1).count() as u64;
        prop_assert_eq!(forgotten, count.saturating_sub(MAX_CALLS as u64));
        prop_assert!(session.calls.len() <= MAX_CALLS);
        let text = serde_json::to_string(&session).unwrap();
        let again: Session = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(serde_json::to_string(&again).unwrap(), text);
    }

    #[test]
    fn any_id_may_be_answered(id in "\\PC{0,20}") {
        session().respond(&id, None);
        read_event_id(&id);
    }
}

#[test]
fn so_many_resources_are_watched_and_no_more() {
    let mut session = session();
    assert!((0..50).all(|number| session.watch(number.to_string())));
    assert!(!session.watch("one more".into()) && session.watch("7".into()));
    session.unwatch("7");
    assert!(session.watch("one more".into()));
    assert_eq!(session.watched().len(), 50);
}

#[test]
fn responses_that_could_not_be_kept_or_passed_on_are_a_refusal() {
    let mut session = session();
    let large = |bytes: usize| raw(&json!({"text": "x".repeat(bytes)}));
    let (call, _) = session.begin(begun("1"));
    ask(&mut session, call, 1, &["a", "b"]);
    assert_eq!(session.respond(&id(call, 1, 0), Some(&large(200_000))), ResponseEffect::Waits);
    let refused = ResponseEffect::Refused { context: "ctx_1".into() };
    assert_eq!(session.respond(&id(call, 1, 1), Some(&large(100_000))), refused);
    // With many calls, each within its limit, the whole session is bounded too: it is one row.
    let mut refusals = 0;
    for number in 0..MAX_CALLS as u64 {
        let (call, _) = session.begin(begun(&format!("{number}")));
        ask(&mut session, call, 1, &["a", "b"]);
        match session.respond(&id(call, 1, 0), Some(&large(250_000))) {
            ResponseEffect::Waits => {}
            _ => refusals += 1,
        }
        assert!(serde_json::to_string(&session).unwrap().len() < 1_500_000);
    }
    assert!(refusals > 20 && refusals < MAX_CALLS);
    // Answered questions are not kept.
    let (call, _) = session.begin(begun("last"));
    ask(&mut session, call, 1, &["a"]);
    let answered = session.respond(&id(call, 1, 0), Some(&raw(&json!({"a": "once"}))));
    assert!(matches!(answered, ResponseEffect::Answered { .. }));
    assert!(!serde_json::to_string(&session).unwrap().contains("once"));
}

#[test]
fn one_session_at_a_server_counts_until_it_is_gone() {
    let of = |place: &str, session: &str| {
        let (place, session) = (place.into(), session.into());
        UpstreamSession { place, version: "2025-11-25".into(), session }
    };
    let mut session = session();
    assert_eq!(session.upstream(&"a".into(), "1"), None);
    assert_eq!(session.keep_upstream("a".into(), of("1", "x")), of("1", "x"));
    assert_eq!(session.upstream_services(), ["a".into()]);
    // A concurrent beginner takes the first one.
    assert_eq!(session.keep_upstream("a".into(), of("1", "y")), of("1", "x"));
    assert!(!session.forget_upstream(&"a".into(), "y"));
    assert!(session.forget_upstream(&"a".into(), "x") && session.upstream(&"a".into(), "1").is_none());
    // A session of an earlier configuration does not count.
    session.keep_upstream("a".into(), of("1", "z"));
    assert_eq!(session.keep_upstream("a".into(), of("2", "w")), of("2", "w"));
    assert_eq!((session.upstream(&"a".into(), "1"), session.upstream(&"a".into(), "2")), (None, Some(of("2", "w"))));
    for number in 0..2 * MAX_UPSTREAMS {
        session.keep_upstream(ServiceId::from_stored(number.to_string()), of("1", "x"));
    }
    assert_eq!(session.take_upstreams().len(), MAX_UPSTREAMS);
    assert!(session.take_upstreams().is_empty());
}

#[test]
fn changes_are_noted_once_and_taken_once() {
    let mut session = session();
    assert!(session.note_change("a".into(), "m".into()) && session.note_change("b".into(), "m".into()));
    assert!(!session.note_change("a".into(), "m".into()));
    assert_eq!(session.take_changes(), [("a".into(), "m".into()), ("b".into(), "m".into())]);
    assert!(session.take_changes().is_empty());
    for number in 0..2 * MAX_NOTED {
        session.note_change(ServiceId::from_stored(number.to_string()), "m".into());
    }
    assert_eq!(session.take_changes().len(), MAX_NOTED);
}
