use super::*;
use crate::base::id::Region;

const SECOND: u64 = 1_000;

fn store(shard: u16) -> StoreId {
    StoreId { region: Region::Eu, shard }
}

fn followers(now: u64) -> Followers {
    Followers::new(Revision::INITIAL, &[store(0), store(1)], &Timing::DEFAULT, Timestamp(now))
}

fn first() -> Revision {
    Revision::INITIAL.next()
}

fn push(shard: u16, revision: Revision) -> Push {
    Push { store: store(shard), revision }
}

#[test]
fn a_change_is_known_once_every_store_has_confirmed_it() {
    let mut followers = followers(0);
    followers.changed(first());
    assert_eq!(followers.take_due(Timestamp(0)), [push(0, first()), push(1, first())]);
    assert_eq!(followers.take_due(Timestamp(0)), []);
    followers.pushed(push(0, first()), true, Timestamp(5));
    assert!(!followers.know(first(), Timestamp(5)));
    followers.pushed(push(1, first()), true, Timestamp(6));
    assert!(followers.know(first(), Timestamp(6)));
    assert_eq!(followers.wake_at(Timestamp(6)), None);
}

#[test]
fn a_store_that_cannot_be_reached_is_asked_again_until_it_may_not_admit_anyway() {
    let mut followers = followers(0);
    followers.changed(first());
    let _ = followers.take_due(Timestamp(0));
    followers.pushed(push(0, first()), true, Timestamp(5));
    followers.pushed(push(1, first()), false, Timestamp(10));
    assert_eq!(followers.wake_at(Timestamp(10)), Some(Timestamp(210)));
    assert_eq!(followers.take_due(Timestamp(209)), []);
    assert_eq!(followers.take_due(Timestamp(210)), [push(1, first())]);
    followers.pushed(push(1, first()), false, Timestamp(220));
    assert_eq!(followers.wake_at(Timestamp(220)), Some(Timestamp(620)));
    // 30 s, and a twentieth for the difference of clocks.
    let end = Timestamp(31_500);
    assert!(!followers.know(first(), Timestamp(end.0 - 1)));
    assert!(followers.know(first(), end));
    // Nothing needs to be sent to it either: it must ask.
    assert_eq!((followers.take_due(end), followers.wake_at(end)), (Vec::new(), None));
}

#[test]
fn a_store_that_asked_may_admit_under_the_answer_or_under_less() {
    let mut followers = followers(0);
    followers.answered(store(1), Timestamp(20 * SECOND));
    followers.changed(first());
    let _ = followers.take_due(Timestamp(21 * SECOND));
    assert_eq!(followers.wake_at(Timestamp(21 * SECOND)), Some(Timestamp(31_500)));
    assert!(!followers.know(first(), Timestamp(51_499)));
    assert!(followers.know(first(), Timestamp(51_500)));
}

#[test]
fn a_store_that_asks_again_and_again_does_not_delay_an_earlier_change() {
    let mut followers = followers(0);
    followers.answered(store(1), Timestamp(20 * SECOND));
    followers.changed(first());
    let _ = followers.take_due(Timestamp(20 * SECOND));
    // The answer has the new revision. It may be lost, so it confirms nothing, and it extends nothing.
    for second in 21..60 {
        followers.answered(store(1), Timestamp(second * SECOND));
        let is_over = second * SECOND >= 51_500;
        assert_eq!(followers.know(first(), Timestamp(second * SECOND)), is_over, "{second}");
    }
    // The next change has to wait for those answers.
    followers.changed(first().next());
    assert!(!followers.know(first().next(), Timestamp(90_499)) && followers.know(first(), Timestamp(60 * SECOND)));
    assert!(followers.know(first().next(), Timestamp(90_500)));
}

#[test]
fn a_new_store_must_know_the_next_change() {
    let mut followers = followers(0);
    followers.answered(store(2), Timestamp(100 * SECOND));
    followers.changed(first());
    assert_eq!(followers.take_due(Timestamp(101 * SECOND)), [push(2, first())]);
}

#[test]
fn a_later_change_does_not_wait_for_the_push_of_the_earlier() {
    let mut followers = followers(0);
    let second = first().next();
    followers.changed(first());
    let _ = followers.take_due(Timestamp(0));
    followers.changed(second);
    assert_eq!(followers.take_due(Timestamp(1)), [push(0, second), push(1, second)]);
    followers.pushed(push(0, second), true, Timestamp(2));
    followers.pushed(push(1, first()), true, Timestamp(2));
    assert!(followers.know(first(), Timestamp(2)) && !followers.know(second, Timestamp(2)));
    // Late replies to earlier pushes take nothing back.
    followers.pushed(push(0, first()), true, Timestamp(3));
    followers.pushed(push(1, second), true, Timestamp(3));
    assert!(followers.know(second, Timestamp(3)));
}

#[test]
fn pauses_double_up_to_a_bound() {
    let mut followers = followers(0);
    followers.changed(first());
    let mut now = Timestamp(0);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let due = followers.take_due(now);
        for push in due {
            followers.pushed(push, false, now);
        }
        let next = followers.wake_at(now).unwrap();
        pauses.push(next.since(now));
        now = next;
    }
    assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 3_200, 3_200]);
}

#[test]
fn nothing_is_sent_after_a_start_until_an_answer_waits() {
    let mut followers = Followers::new(first(), &[store(0), store(1)], &Timing::DEFAULT, Timestamp(0));
    assert_eq!((followers.take_due(Timestamp(0)), followers.wake_at(Timestamp(0))), (Vec::new(), None));
    followers.expect();
    assert_eq!(followers.take_due(Timestamp(0)), [push(0, first()), push(1, first())]);
    for shard in [0, 1] {
        followers.pushed(push(shard, first()), true, Timestamp(1));
    }
    // All know it.
    followers.expect();
    assert_eq!((followers.take_due(Timestamp(2)), followers.wake_at(Timestamp(2))), (Vec::new(), None));
}

#[test]
fn nothing_is_older_than_the_initial_revision() {
    let mut followers = followers(0);
    followers.answered(store(2), Timestamp(0));
    followers.expect();
    assert!(followers.know(Revision::INITIAL, Timestamp(0)));
    assert_eq!((followers.take_due(Timestamp(0)), followers.wake_at(Timestamp(0))), (Vec::new(), None));
}

#[test]
fn a_store_may_admit_under_a_push_as_under_an_answer() {
    for is_confirmed in [true, false] {
        let (mut followers, second) = (followers(0), first().next());
        followers.changed(first());
        let _ = followers.take_due(Timestamp(0));
        followers.pushed(push(0, first()), true, Timestamp(10 * SECOND));
        followers.pushed(push(1, first()), is_confirmed, Timestamp(10 * SECOND));
        // It does not delay its own revision.
        assert_eq!(followers.know(first(), Timestamp(31_499)), is_confirmed);
        assert!(followers.know(first(), Timestamp(31_500)));
        followers.changed(second);
        assert!(!followers.know(second, Timestamp(41_499)));
        assert!(followers.know(second, Timestamp(41_500)), "{is_confirmed}");
    }
}

#[test]
fn each_store_that_can_be_reached_is_pushed_to_first() {
    let mut followers = followers(0);
    assert!(followers.were_pushed(Timestamp(0)), "nothing has changed");
    followers.changed(first());
    assert!(!followers.were_pushed(Timestamp(0)));
    let _ = followers.take_due(Timestamp(0));
    followers.pushed(push(0, first()), true, Timestamp(5));
    assert!(!followers.were_pushed(Timestamp(5)));
    followers.pushed(push(1, first()), false, Timestamp(10));
    assert!(followers.were_pushed(Timestamp(10)) && !followers.know(first(), Timestamp(10)));
    // The next push is under way.
    assert_eq!(followers.take_due(Timestamp(210)), [push(1, first())]);
    assert!(followers.were_pushed(Timestamp(210)));
    // A push of an earlier revision says nothing of this one.
    followers.changed(first().next());
    assert!(!followers.were_pushed(Timestamp(211)));
}

#[test]
fn a_push_without_a_reply_is_waited_for_until_the_store_may_not_admit_anyway() {
    let mut followers = followers(0);
    followers.changed(first());
    let _ = followers.take_due(Timestamp(0));
    assert!(!followers.were_pushed(Timestamp(31_499)));
    assert!(followers.were_pushed(Timestamp(31_500)));
}

#[test]
fn it_wakes_for_an_earlier_change_although_a_later_one_waits_for_longer() {
    let mut followers = followers(0);
    followers.changed(first());
    for push in followers.take_due(Timestamp(0)) {
        followers.pushed(push, false, Timestamp(20 * SECOND));
    }
    followers.changed(first().next());
    let _ = followers.take_due(Timestamp(31_400));
    // The first change waits until 31.5 s, the second one until 51.5 s.
    assert_eq!(followers.wake_at(Timestamp(31_400)), Some(Timestamp(31_500)));
    assert!(followers.know(first(), Timestamp(31_500)) && !followers.know(first().next(), Timestamp(51_499)));
    assert_eq!(followers.wake_at(Timestamp(31_500)), Some(Timestamp(51_500)));
}

#[test]
fn a_late_report_of_an_older_push_makes_the_store_be_pushed_to_again() {
    let mut followers = followers(0);
    followers.changed(first());
    let _ = followers.take_due(Timestamp(0));
    followers.pushed(push(0, first()), true, Timestamp(5));
    // Neither store may admit any longer by what it knew.
    let second = first().next();
    followers.changed(second);
    assert_eq!(followers.take_due(Timestamp(32 * SECOND)), []);
    assert!(followers.know(second, Timestamp(32 * SECOND)));
    // The first push may have arrived just now, at a store of an earlier version.
    followers.pushed(push(1, first()), false, Timestamp(33 * SECOND));
    assert!(!followers.know(second, Timestamp(33 * SECOND)));
    assert_eq!(followers.take_due(Timestamp(33 * SECOND)), [push(1, second)]);
    assert_eq!(followers.wake_at(Timestamp(33 * SECOND)), Some(Timestamp(33 * SECOND + 31_500)));
}
