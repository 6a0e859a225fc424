use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::fixtures::{NOW, known};
use super::*;
use crate::base::id::Region;

const POLL_MS: u64 = Timing::DEFAULT.work_poll_ms;

fn store(shard: u8) -> StoreId {
    StoreId { region: Region::Eu, shard: shard.into() }
}

fn started() -> Consumer {
    let mut consumer = Consumer::new(store(0), NOW, &Timing::DEFAULT);
    assert_eq!(consumer.on(ConsumerEvent::Started, NOW), [claim(0)]);
    consumer
}

fn claim(shard: u8) -> ConsumerAction {
    ConsumerAction::Claim { store: store(shard), at_limit: Vec::new() }
}

fn run(number: u64) -> ConsumerAction {
    ConsumerAction::Run { number: RunNumber(number) }
}

fn leased() -> ConsumerEvent<'static> {
    ConsumerEvent::Claimed { offered_for: None }
}

fn offered(service: &str) -> ConsumerEvent<'static> {
    ConsumerEvent::Claimed { offered_for: Some(service.into()) }
}

fn ended(number: u64) -> ConsumerEvent<'static> {
    ConsumerEvent::RunEnded { number: RunNumber(number) }
}

const NOTHING: ConsumerEvent<'static> = ConsumerEvent::NothingReady { stores: &[] };

#[test]
fn it_claims_contexts_until_it_runs_the_maximum_and_more_when_one_ends() {
    let mut consumer = started();
    for number in 1..MAX_CONCURRENT as u64 {
        assert_eq!(consumer.on(leased(), NOW), [run(number), claim(0)]);
    }
    assert_eq!(consumer.on(leased(), NOW), [run(MAX_CONCURRENT as u64)]);
    assert_eq!(consumer.on(ConsumerEvent::TimePassed, NOW.plus_ms(POLL_MS)), []);
    assert_eq!(consumer.wake_at(), None);
    assert_eq!(consumer.on(ended(3), NOW.plus_ms(POLL_MS)), [claim(0)]);
}

#[test]
fn without_work_it_finishes_and_beside_running_work_it_looks_again() {
    assert_eq!(started().on(NOTHING, NOW), [ConsumerAction::Finish]);
    let mut consumer = started();
    consumer.on(leased(), NOW);
    assert_eq!(consumer.on(NOTHING, NOW), []);
    let next = NOW.plus_ms(POLL_MS);
    assert_eq!(consumer.wake_at(), Some(next));
    assert_eq!(consumer.on(ConsumerEvent::TimePassed, Timestamp(next.0 - 1)), []);
    assert_eq!(consumer.on(ConsumerEvent::TimePassed, next), [claim(0)]);
    assert_eq!((consumer.wake_at(), consumer.on(NOTHING, next)), (None, vec![]));
    // The end of a run is a reason to look at once.
    assert_eq!(consumer.on(ended(1), next), [claim(0)]);
    assert_eq!(consumer.on(NOTHING, next), [ConsumerAction::Finish]);
}

#[test]
fn other_stores_are_asked_only_beside_running_work_and_after_its_own() {
    let stores = [store(1), store(0), store(2)];
    let nothing = || ConsumerEvent::NothingReady { stores: &stores };
    assert_eq!(started().on(nothing(), NOW), [ConsumerAction::Finish]);
    let mut consumer = started();
    consumer.on(leased(), NOW);
    assert_eq!(consumer.on(nothing(), NOW), [claim(1)]);
    assert_eq!(consumer.on(nothing(), NOW), [claim(2)]);
    assert_eq!(consumer.on(nothing(), NOW), []);
    assert_eq!(consumer.on(ConsumerEvent::TimePassed, NOW.plus_ms(POLL_MS)), [claim(0)]);
    assert_eq!(consumer.on(nothing(), NOW), [claim(1)]);
    // What another store gives is run, and its own store is asked again before the rest.
    assert_eq!(consumer.on(leased(), NOW), [run(2), claim(0)]);
    assert_eq!(consumer.on(nothing(), NOW), [claim(1)]);
    // Nothing runs any longer: its own store is asked once more, and no other.
    assert_eq!((consumer.on(ended(1), NOW), consumer.on(ended(2), NOW)), (vec![], vec![]));
    assert_eq!(consumer.on(nothing(), NOW), [claim(0)]);
    assert_eq!(consumer.on(nothing(), NOW), [ConsumerAction::Finish]);
}

#[test]
fn a_failed_claim_fails_the_message_only_if_nothing_runs() {
    assert_eq!(started().on(ConsumerEvent::ClaimFailed, NOW), [ConsumerAction::Fail]);
    let mut consumer = started();
    consumer.on(leased(), NOW);
    assert_eq!(consumer.on(ConsumerEvent::ClaimFailed, NOW), []);
    assert_eq!(consumer.wake_at(), Some(NOW.plus_ms(POLL_MS)));
    assert_eq!(consumer.on(ended(1), NOW), [claim(0)]);
    assert_eq!(consumer.on(ConsumerEvent::ClaimFailed, NOW), [ConsumerAction::Fail]);
}

#[test]
fn a_claim_that_fails_after_the_last_run_has_ended_is_made_again() {
    let mut consumer = started();
    consumer.on(leased(), NOW);
    assert_eq!(consumer.on(ended(1), NOW), []);
    assert_eq!(consumer.on(ConsumerEvent::ClaimFailed, NOW), [claim(0)]);
    assert_eq!(consumer.on(ConsumerEvent::ClaimFailed, NOW), [ConsumerAction::Fail]);
}

#[test]
fn it_accepts_no_work_after_its_time_but_finishes_what_runs() {
    let mut consumer = started();
    consumer.on(leased(), NOW);
    let over = NOW.plus_ms(MAX_RUN_MS);
    // A claim in progress is not lost.
    assert_eq!(consumer.on(leased(), over), [run(2)]);
    assert_eq!(consumer.wake_at(), None);
    assert_eq!(consumer.on(ended(1), over), []);
    assert_eq!(consumer.on(ended(2), over), [ConsumerAction::Finish]);
    // In the middle of a round, too.
    let mut consumer = started();
    consumer.on(leased(), NOW);
    assert_eq!(consumer.on(ConsumerEvent::NothingReady { stores: &[store(1)] }, over), []);
    assert_eq!(consumer.wake_at(), None);
    assert_eq!(consumer.on(ended(1), over), [ConsumerAction::Finish]);
}

#[test]
fn once_stopped_it_accepts_no_work_but_finishes_what_runs() {
    let mut consumer = started();
    consumer.on(leased(), NOW);
    consumer.stop();
    // A claim in progress is not lost.
    assert_eq!(consumer.on(leased(), NOW), [run(2)]);
    assert_eq!(consumer.on(ended(1), NOW), []);
    assert_eq!(consumer.on(ended(2), NOW), [ConsumerAction::Finish]);
    let mut idle = Consumer::new(store(0), NOW, &Timing::DEFAULT);
    idle.stop();
    assert_eq!(idle.on(ConsumerEvent::Started, NOW), [ConsumerAction::Finish]);
}

#[test]
fn contexts_in_the_queue_of_one_service_leave_room_for_others() {
    let mut consumer = started();
    for number in 1..MAX_QUEUED_PER_SERVICE as u64 {
        assert_eq!(consumer.on(offered("one"), NOW), [run(number), claim(0)]);
    }
    let limited = || ConsumerAction::Claim { store: store(0), at_limit: vec!["one".into()] };
    assert_eq!(consumer.on(offered("one"), NOW), [run(MAX_QUEUED_PER_SERVICE as u64), limited()]);
    assert_eq!(consumer.on(offered("two"), NOW), [run(MAX_QUEUED_PER_SERVICE as u64 + 1), limited()]);
    // A leased context waits in no queue.
    assert_eq!(consumer.on(leased(), NOW), [run(MAX_CONCURRENT as u64)]);
    assert_eq!(consumer.on(ended(2), NOW), [claim(0)]);
}

#[test]
fn a_claim_takes_what_can_be_called_and_offers_what_needs_a_permit() {
    let until = NOW.plus_ms(60_000);
    let mut limited = known("limited");
    limited.service.limits.max_concurrency = Some(2);
    let mut away = known("away").open(until);
    away.service.capabilities.0[0].name = "other".into();
    let services = [known("one"), limited, known("two").half_open(), known("three").connecting().offline(), away];
    let terms = ClaimTerms::of(&services, &["limited".into()], NOW);
    let ids = |ids: &[&str]| ids.iter().map(|id| ServiceId::from(*id)).collect::<Vec<_>>();
    assert_eq!(terms.gated, ids(&["limited", "two", "three", "away"]));
    assert_eq!((terms.without, terms.again_at), (ids(&["away", "limited"]), Some(until)));
}

/// The stores of a tenant, with the contexts that are ready in each: for a service with a queue, or for none.
struct Stores {
    ready: Vec<Vec<Option<u8>>>,
}

fn name(service: u8) -> ServiceId {
    ServiceId::from(["one", "two"][usize::from(service % 2)])
}

impl Stores {
    /// Takes the next context that the claim allows.
    fn claim(&mut self, store: StoreId, at_limit: &[ServiceId]) -> Option<Option<ServiceId>> {
        let ready = &mut self.ready[store.shard as usize];
        let fits = |service: &Option<u8>| service.is_none_or(|service| !at_limit.contains(&name(service)));
        let at = ready.iter().position(fits)?;
        Some(ready.remove(at).map(name))
    }
}

/// What a consumer did, checked at each step.
#[derive(Default)]
struct Run {
    running: BTreeSet<RunNumber>,
    queued: Vec<(RunNumber, ServiceId)>,
    claiming: Option<(StoreId, Vec<ServiceId>)>,
    claimed: usize,
    started: usize,
    nothing_ready: bool,
    /// Since its own store was asked last.
    run_ended: bool,
    over: Option<ConsumerAction>,
}

impl Run {
    fn perform(&mut self, actions: Vec<ConsumerAction>, offered_for: Option<ServiceId>) {
        for action in actions {
            assert!(self.over.is_none(), "{action:?} after the end");
            match action {
                ConsumerAction::Run { number } => {
                    self.started += 1;
                    assert!(self.running.insert(number), "{number:?} was run before");
                    self.queued.extend(offered_for.clone().map(|service| (number, service)));
                }
                ConsumerAction::Claim { store: asked, at_limit } => {
                    assert!(self.claiming.is_none(), "two claims at once");
                    assert!(asked == store(0) || (!self.running.is_empty() && self.nothing_ready));
                    self.run_ended &= asked != store(0);
                    self.claiming = Some((asked, at_limit));
                }
                end @ (ConsumerAction::Finish | ConsumerAction::Fail) => self.over = Some(end),
            }
        }
        assert!(self.running.len() <= MAX_CONCURRENT);
        for service in [name(0), name(1)] {
            assert!(self.queued.iter().filter(|(_, queued)| *queued == service).count() <= MAX_QUEUED_PER_SERVICE);
        }
        assert_eq!(self.started, self.claimed);
    }

    /// Answers the claim in progress.
    fn answer(&mut self, consumer: &mut Consumer, stores: &mut Stores, fails: bool, now: Timestamp) {
        let Some((asked, at_limit)) = self.claiming.take() else { return };
        if fails {
            let actions = consumer.on(ConsumerEvent::ClaimFailed, now);
            assert_eq!(actions.contains(&ConsumerAction::Fail), self.running.is_empty() && !self.run_ended);
            self.nothing_ready = false;
            return self.perform(actions, None);
        }
        let Some(offered_for) = stores.claim(asked, &at_limit) else {
            self.nothing_ready = true;
            let all: Vec<StoreId> = (0..stores.ready.len() as u8).map(store).collect();
            return self.perform(consumer.on(ConsumerEvent::NothingReady { stores: &all }, now), None);
        };
        self.claimed += 1;
        self.nothing_ready = false;
        let claimed = ConsumerEvent::Claimed { offered_for: offered_for.clone() };
        self.perform(consumer.on(claimed, now), offered_for);
    }

    /// Ends one of the runs.
    fn end(&mut self, consumer: &mut Consumer, which: usize, now: Timestamp) {
        let Some(number) = self.running.iter().nth(which % self.running.len().max(1)).copied() else { return };
        self.running.remove(&number);
        self.run_ended = true;
        self.queued.retain(|(queued, _)| *queued != number);
        self.perform(consumer.on(ConsumerEvent::RunEnded { number }, now), None);
    }
}

proptest! {
    #[test]
    fn in_any_order_of_events_it_keeps_its_limits_and_ends_when_nothing_is_left(
        ready in prop::collection::vec(prop::collection::vec(prop::option::of(0u8..2), 0..25), 1..4),
        steps in prop::collection::vec((0u8..8, 0usize..8, 0u64..3_000), 0..200),
        slow in prop::bool::weighted(0.2),
    ) {
        let (mut stores, mut run, mut now) = (Stores { ready }, Run::default(), NOW);
        let mut consumer = Consumer::new(store(0), now, &Timing::DEFAULT);
        run.perform(consumer.on(ConsumerEvent::Started, now), None);
        // After the random steps everything is answered, so that it must end.
        let rest = (0..1_000).map(|step| (step as u8 % 3, 0, 1_000));
        for (kind, which, pause_ms) in steps.into_iter().chain(rest) {
            if run.over.is_some() {
                break;
            }
            now = now.plus_ms(if slow { pause_ms * 20 } else { pause_ms });
            match kind {
                0 | 3 | 4 => run.answer(&mut consumer, &mut stores, false, now),
                1 | 5 => run.end(&mut consumer, which, now),
                7 => run.answer(&mut consumer, &mut stores, true, now),
                _ => if consumer.wake_at().is_some_and(|at| at <= now) {
                    run.perform(consumer.on(ConsumerEvent::TimePassed, now), None);
                    // It does not ask to be woken for a time that has passed.
                    prop_assert!(consumer.wake_at().is_none_or(|at| at > now));
                },
            }
            // Whatever it waits for will come.
            let waits = run.claiming.is_some() || !run.running.is_empty();
            prop_assert!(waits != run.over.is_some());
        }
        prop_assert!(run.over.is_some());
        prop_assert!(run.running.is_empty() && run.claiming.is_none());
        if run.over == Some(ConsumerAction::Finish) {
            prop_assert!(stores.ready[0].is_empty() || now.since(NOW) >= MAX_RUN_MS);
        }
    }
}
