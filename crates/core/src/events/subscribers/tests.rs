use std::cell::Cell;

use proptest::prelude::*;

use super::super::backpressure::{CHECK_INTERVAL_BYTES, MAX_UNREAD_BYTES};
use super::super::bundle::EventKind;
use super::*;
use crate::context::status::Status;

fn viewer(key: &str) -> Viewer {
    Viewer {
        tenant: TenantId::first(),
        principal: PrincipalId::of_key(key),
        sees_all: true,
        until: None,
        from: Vec::new(),
        by: Vec::new(),
        notify_only: false,
    }
}

fn subscription(key: &str, filter: Filter, sent: Option<u64>) -> Subscription {
    let sent = sent.map(sequence);
    Subscription { viewer: viewer(key), filter, bound_to: None, form: Form::Message, sent }
}

fn sequence(number: u64) -> Sequence {
    Sequence::FIRST.plus(number).previous()
}

fn of_subject(subject: Option<u64>) -> Filter {
    Filter { subject: subject.map(|subject| format!("ctx_{subject}")), ..Filter::default() }
}

/// The event with this number; its subject is one of three.
fn event(number: u64) -> (Sequence, Bundle, Item) {
    let item = Item { number, at: Timestamp(number), kind: EventKind::Status(Status::Queued) };
    let bundle = Bundle { subject: format!("ctx_{}", number % 3), items: vec![item.clone()], ..Bundle::default() };
    (sequence(number), bundle, item)
}

/// A hub with its log, and what each socket has received.
#[derive(Default)]
struct Hub {
    subscribers: Subscribers,
    log: Vec<(Sequence, Bundle, Item)>,
    attachments: BTreeMap<u32, String>,
    received: BTreeMap<u32, Vec<Sequence>>,
    forgotten: usize,
}

impl Hub {
    fn last(&self) -> Sequence {
        sequence(self.log.len() as u64)
    }

    fn open(&mut self, slot: u32, filter: Filter, after: Option<u64>) {
        let sent = after.filter(|after| sequence(*after) < self.last());
        let subscription = subscription("k", filter, sent);
        self.attachments.insert(slot, attachment(&subscription));
        self.subscribers.add(slot, subscription);
    }

    fn publish(&mut self) {
        let (at, bundle, item) = event(self.log.len() as u64 + 1);
        let Recipients { messages, frames } = self.subscribers.recipients(&bundle, &item);
        assert!(frames.is_empty());
        for slot in messages {
            self.received.entry(slot).or_default().push(at);
        }
        self.log.push((at, bundle, item));
    }

    /// Feeds a socket one span of at most `most` events.
    fn feed(&mut self, slot: u32, most: usize) -> FeedResult {
        let (end, Some(sent)) = (self.last(), self.subscribers.position(slot)) else { return FeedResult::Done };
        let kept = self.log.iter().skip(self.forgotten);
        let first_kept = sequence(self.forgotten as u64 + 1);
        let span: Vec<_> = kept.filter(|(at, ..)| *at > sent).take(most).collect();
        let events = span.iter().map(|(at, bundle, item)| (*at, bundle, item));
        match self.subscribers.span(slot, first_kept, events, end) {
            Span::Send { events, reached } => {
                let sent = events.into_iter().map(|index| span[index].0);
                self.received.entry(slot).or_default().extend(sent);
                let (result, attachment) = self.subscribers.fed(slot, reached, end);
                self.attachments.insert(slot, attachment.unwrap());
                result
            }
            Span::Gap(_) => {
                self.subscribers.remove(slot);
                self.attachments.remove(&slot);
                FeedResult::Done
            }
            Span::Nothing => FeedResult::Done,
        }
    }

    fn hibernate(&mut self) {
        let (restored, unreadable) = Subscribers::restore(self.attachments.clone());
        assert!(unreadable.is_empty());
        self.subscribers = restored;
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish,
    Open { after: Option<u64>, subject: Option<u64> },
    Feed { socket: usize, most: usize },
    Hibernate,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Publish),
        2 => (prop::option::of(0..20u64), prop::option::of(0..3u64))
            .prop_map(|(after, subject)| Step::Open { after, subject }),
        4 => (any::<usize>(), 1..6usize).prop_map(|(socket, most)| Step::Feed { socket, most }),
        1 => Just(Step::Hibernate),
    ]
}

proptest! {
    /// However publishing, catching up and hibernation interleave: each socket receives what follows its position and
    /// fits its filter, once and in order.
    #[test]
    fn no_event_is_missed_or_repeated(steps in prop::collection::vec(any_step(), 0..80)) {
        let (mut hub, mut opened) = (Hub::default(), Vec::new());
        for step in steps {
            match step {
                Step::Publish => hub.publish(),
                Step::Open { after, subject } => {
                    let slot = opened.len() as u32;
                    let begins = after.map_or(hub.last(), |after| sequence(after).min(hub.last()));
                    opened.push((begins, subject));
                    hub.open(slot, of_subject(subject), after);
                }
                Step::Feed { socket, most } if !opened.is_empty() => {
                    hub.feed((socket % opened.len()) as u32, most);
                }
                Step::Feed { .. } => {}
                Step::Hibernate => hub.hibernate(),
            }
        }
        for slot in 0..opened.len() as u32 {
            while hub.feed(slot, 3) != FeedResult::Done {}
        }
        hub.publish();
        prop_assert_eq!(hub.subscribers.live().len(), opened.len());
        for (slot, (begins, subject)) in opened.into_iter().enumerate() {
            let filter = of_subject(subject);
            let expected = hub.log.iter().filter(|(at, bundle, item)| *at > begins && filter.matches(bundle, item));
            let expected: Vec<Sequence> = expected.map(|(at, ..)| *at).collect();
            prop_assert_eq!(hub.received.remove(&(slot as u32)).unwrap_or_default(), expected, "socket {}", slot);
        }
    }
}

#[test]
fn a_socket_whose_events_were_deleted_is_reported() {
    let mut hub = Hub::default();
    for _ in 0..10 {
        hub.publish();
    }
    hub.forgotten = 5;
    hub.open(1, Filter::default(), Some(4));
    let span = |hub: &Hub, slot| hub.subscribers.span(slot, sequence(6), [], hub.last());
    assert_eq!(span(&hub, 1), Span::Gap(sequence(4)));
    // It has the last event before those that are kept.
    hub.open(2, Filter::default(), Some(5));
    assert_eq!(hub.feed(2, 10), FeedResult::Done);
    assert_eq!(hub.received[&2].len(), 5);
    assert_eq!((span(&hub, 2), span(&hub, 9)), (Span::Nothing, Span::Nothing));
}

#[test]
fn an_empty_span_leads_to_the_live_ones_and_a_socket_ahead_of_them_waits() {
    let mut subscribers = Subscribers::default();
    subscribers.add(1, subscription("k", Filter::default(), Some(3)));
    assert_eq!(subscribers.span(1, sequence(1), [], sequence(5)), Span::Send { events: vec![], reached: sequence(5) });
    // A shard may lag behind the hub's position, from which a client resumes.
    assert_eq!(subscribers.span(1, sequence(1), [], sequence(2)), Span::Send { events: vec![], reached: sequence(3) });
    assert_eq!(subscribers.fed(1, sequence(3), sequence(2)).0, FeedResult::Done);
    assert_eq!((subscribers.position(1), subscribers.live().len()), (Some(sequence(3)), 0));
    assert_eq!(subscribers.fed(1, sequence(3), sequence(3)).0, FeedResult::Done);
    assert_eq!((subscribers.position(1), subscribers.live()), (None, vec![1]));
}

#[test]
fn a_socket_is_fed_by_one_task() {
    let mut subscribers = Subscribers::default();
    subscribers.add(1, subscription("k", Filter::default(), Some(3)));
    subscribers.add(2, subscription("k", Filter::default(), None));
    assert_eq!((subscribers.start_feeding(), subscribers.start_feeding()), (vec![1], vec![]));
    subscribers.finish_feeding(1);
    assert_eq!(subscribers.start_feeding(), [1]);
}

#[test]
fn a_message_replaces_the_filter_within_what_the_socket_may_see() {
    let mut subscribers = Subscribers::default();
    let bound = Subscription { bound_to: Some("ctx_1".into()), ..subscription("k", of_subject(Some(1)), None) };
    subscribers.add(1, bound);
    subscribers.add(
        2,
        Subscription {
            viewer: Viewer { sees_all: false, ..viewer("l") },
            ..subscription("l", Filter::default(), None)
        },
    );
    let all = r#"{"subscribe":{}}"#;
    let MessageResult::Subscribed(attachment) = subscribers.message(1, Some(all)) else { panic!("not subscribed") };
    assert_eq!(serde_json::from_str::<Subscription>(&attachment).unwrap().filter, of_subject(Some(1)));
    assert!(matches!(subscribers.message(2, Some(all)), MessageResult::Subscribed(_)));
    assert_eq!(subscribers.get(2).unwrap().filter.owner, Some(PrincipalId::of_key("l")));
    assert_eq!(subscribers.live.len(), 2);
    assert!(matches!(subscribers.message(1, Some("{}")), MessageResult::Faults(_)));
    assert!(matches!(subscribers.message(1, Some("{")), MessageResult::Faults(_)));
    let long = "x".repeat(MAX_MESSAGE_BYTES + 1);
    assert_eq!(subscribers.message(1, Some(&long)), MessageResult::Close(StreamCloseCode::TooLarge));
    assert_eq!(subscribers.message(1, None), MessageResult::Close(StreamCloseCode::BadMessage));
    assert_eq!(subscribers.message(7, Some(all)), MessageResult::Nothing);
}

#[test]
fn sockets_of_a_form_receive_events_in_it_until_they_are_removed() {
    let mut subscribers = Subscribers::default();
    subscribers.add(1, subscription("k", Filter::default(), None));
    subscribers.add(2, Subscription { form: Form::Frame, ..subscription("k", of_subject(Some(1)), None) });
    subscribers.add(3, subscription("k", Filter::default(), Some(0)));
    let (_, bundle, item) = event(1);
    assert_eq!(subscribers.recipients(&bundle, &item), Recipients { messages: vec![1], frames: vec![2] });
    let (_, bundle, item) = event(2);
    assert_eq!(subscribers.recipients(&bundle, &item), Recipients { messages: vec![1], frames: vec![] });
    subscribers.remove(1);
    subscribers.remove(2);
    assert!(subscribers.live.is_empty() && subscribers.len() == 1);
}

#[test]
fn readers_that_do_not_ping_are_too_slow_and_are_fed_more_slowly_before() {
    let mut subscribers = Subscribers::default();
    subscribers.add(1, subscription("k", Filter::default(), Some(0)));
    subscribers.add(2, subscription("k", Filter::default(), None));
    let pinged = Cell::new(None);
    let ping = |_| pinged.get();
    assert!(subscribers.sent(&[1, 2], CHECK_INTERVAL_BYTES, Timestamp(1), ping).is_empty());
    assert_eq!(subscribers.fed(1, sequence(1), sequence(9)).0, FeedResult::Wait);
    pinged.set(Some(Timestamp(5)));
    assert!(subscribers.sent(&[1], CHECK_INTERVAL_BYTES, Timestamp(6), ping).is_empty());
    assert_eq!(subscribers.fed(1, sequence(2), sequence(9)).0, FeedResult::More);
    pinged.set(None);
    assert_eq!(subscribers.sent(&[1, 2], MAX_UNREAD_BYTES, Timestamp(7), ping), [2]);
}

#[test]
fn sockets_end_with_their_credentials() {
    let mut subscribers = Subscribers::default();
    let token = Viewer {
        until: Some(Timestamp(50)),
        from: vec!["issuers/corp".into()],
        by: vec![("clerk".into(), "events:read".into())],
        principal: PrincipalId::parse("issuer:corp:ada").unwrap(),
        ..viewer("k")
    };
    subscribers.add(1, Subscription { viewer: token, ..subscription("k", Filter::default(), None) });
    subscribers.add(2, subscription("k", Filter::default(), Some(3)));
    assert_eq!(subscribers.of_principal(&PrincipalId::of_key("k")), [2]);
    assert_eq!(subscribers.dependents(&Revocation::Document("issuers/corp".into())), [1]);
    assert_eq!(subscribers.dependents(&Revocation::Tenant).len(), 2);
    let lost = |permission: &str| Revocation::Permissions { role: "clerk".into(), lost: vec![permission.into()] };
    assert_eq!((subscribers.dependents(&lost("events:read")), subscribers.dependents(&lost("x")).len()), (vec![1], 0));
    assert_eq!((subscribers.expired(Timestamp(49)).len(), subscribers.expired(Timestamp(50))), (0, vec![1]));
    assert_eq!(subscribers.next_expiry(), Some(Timestamp(50)));
    // Tokens carry their own expiry.
    assert_eq!(subscribers.unpermitted(|_| None), [2]);
    assert!(subscribers.unpermitted(|_| Some(Principal::admin())).is_empty());
    let with = |permissions: &[&str]| {
        let permissions: Vec<String> = permissions.iter().map(ToString::to_string).collect();
        move |_: &Viewer| Some(Principal { permissions: permissions.clone(), ..Principal::admin() })
    };
    assert_eq!(subscribers.unpermitted(with(&["events:read"])), [2], "it no longer sees all contexts");
    assert!(subscribers.unpermitted(with(&["events:read", "contexts:read:*"])).is_empty());
}

#[test]
fn a_viewer_of_one_context_needs_to_read_contexts() {
    let narrow = Viewer { sees_all: false, ..viewer("k") };
    let may = |permission: &str| Principal { permissions: vec![permission.into()], ..Principal::admin() };
    assert!(narrow.is_allowed(&may("contexts:read"), true) && !narrow.is_allowed(&may("contexts:read"), false));
    assert!(narrow.is_allowed(&may("events:read"), false) && !narrow.is_allowed(&may("x"), true));
    assert!(Viewer { notify_only: true, ..narrow }.is_allowed(&may("x"), false));
}

#[test]
fn a_socket_of_a_later_version_is_to_be_closed() {
    let known = attachment(&subscription("k", Filter::default(), None));
    let later = known.replace(r#""form":"message""#, r#""form":"chart""#);
    let (subscribers, unreadable) = Subscribers::restore([(1, known), (2, later), (3, String::new())]);
    assert_eq!((subscribers.live(), unreadable), (vec![1], vec![2, 3]));
}
