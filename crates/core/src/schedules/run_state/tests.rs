use super::super::next_run::LATE_MS;
use super::*;

fn utc(_: &str, _: Timestamp) -> i64 {
    0
}

fn book(missed: Missed) -> Book {
    let plan = Plan::Every { seconds: 60, from: Timestamp(0) };
    Book::new(1, plan, missed, true, Timestamp(0), None)
}

fn planned(claimed: &[Claimed]) -> Vec<Timestamp> {
    claimed.iter().map(|one| one.planned_at).collect()
}

/// The times that are made at `now` of what is claimed then.
fn made(book: &mut Book, now: u64) -> Vec<u64> {
    let claimed = book.claim(Timestamp(now), LATE_MS).into_iter();
    claimed.filter(|one| !one.is_missed(Timestamp(now))).map(|one| one.planned_at.0).collect()
}

fn created() -> Outcome {
    Outcome::Created { context: "ctx_1".into() }
}

#[test]
fn each_planned_time_is_taken_up_once_however_often_it_is_woken() {
    let mut book = book(Missed::Skip);
    assert_eq!(book.wakes_at(&utc), Some(Timestamp(60_000)));
    assert!(!book.turn(Timestamp(59_999), LATE_MS, &utc));
    assert!(book.turn(Timestamp(60_005), LATE_MS, &utc));
    assert!(!book.turn(Timestamp(60_010), LATE_MS, &utc));
    assert_eq!(planned(&book.claim(Timestamp(60_010), LATE_MS)), [Timestamp(60_000)]);
    assert!(book.claim(Timestamp(60_011), LATE_MS).is_empty());
    book.report(Timestamp(60_000), created(), false, Timestamp(60_100));
    book.report(Timestamp(60_000), Outcome::Missed, false, Timestamp(60_200));
    assert_eq!(book.past, [Past { planned_at: Timestamp(60_000), outcome: created() }]);
    assert_eq!(book.wakes_at(&utc), Some(Timestamp(120_000)));
}

#[test]
fn who_took_a_run_and_is_not_heard_of_is_replaced() {
    let mut book = book(Missed::Skip);
    book.turn(Timestamp(60_000), LATE_MS, &utc);
    book.claim(Timestamp(60_000), LATE_MS);
    assert!(!book.is_due(Timestamp(119_999)));
    assert_eq!(planned(&book.claim(Timestamp(120_000), LATE_MS)), [Timestamp(60_000)]);
}

#[test]
fn what_cannot_be_made_now_is_tried_again_for_a_while() {
    let mut book = book(Missed::Skip);
    book.turn(Timestamp(60_000), LATE_MS, &utc);
    let refused = || Outcome::Refused { code: "no_service_available".into(), detail: String::new() };
    let mut now = Timestamp(60_000);
    for _ in 0..MAX_TRIES {
        assert_eq!(planned(&book.claim(now, LATE_MS)), [Timestamp(60_000)]);
        book.report(Timestamp(60_000), refused(), true, now);
        assert!(book.past.is_empty() && !book.is_due(now));
        now = now.plus_ms(AGAIN_MS);
    }
    book.report(Timestamp(60_000), refused(), true, now);
    assert_eq!(book.past[0].outcome, refused());
}

#[test]
fn what_is_written_anew_forgets_what_waited_and_remembers_what_ran() {
    let mut known = book(Missed::RunAll);
    known.turn(Timestamp(300_000), LATE_MS, &utc);
    known.report(Timestamp(60_000), created(), false, Timestamp(300_000));
    let plan = Plan::Every { seconds: 60, from: Timestamp(400_000) };
    let anew = Book::new(2, plan, Missed::Skip, false, Timestamp(400_000), Some(known));
    assert_eq!((anew.past.len(), anew.wakes_at(&utc)), (1, None));
}

#[test]
fn what_waited_too_long_to_be_made_was_missed() {
    let mut skips = book(Missed::Skip);
    assert!(skips.turn(Timestamp(60_000), LATE_MS, &utc));
    // It came due in time, and whoever was to make it came a minute and more later.
    let [run] = skips.claim(Timestamp(120_001), LATE_MS)[..] else { panic!("one run") };
    assert!(run.is_missed(Timestamp(120_001)) && !run.is_missed(Timestamp(120_000)));
    // It is claimed in time, and made too late.
    let mut slow = book(Missed::Skip);
    slow.turn(Timestamp(60_000), LATE_MS, &utc);
    let [run] = slow.claim(Timestamp(60_001), LATE_MS)[..] else { panic!("one run") };
    assert!(!run.is_missed(Timestamp(60_001)) && run.is_missed(Timestamp(120_001)));
}

#[test]
fn of_what_waited_too_long_one_or_all_are_made_up_for() {
    let late = |missed| {
        let mut book = book(missed);
        for minute in 1..=3 {
            book.turn(Timestamp(minute * 60_000), LATE_MS, &utc);
        }
        book
    };
    // Three came due in time, and were asked for when all were late; or while the last was not.
    assert_eq!(made(&mut late(Missed::Skip), 250_000), [] as [u64; 0]);
    assert_eq!(made(&mut late(Missed::Skip), 200_000), [180_000]);
    assert_eq!(made(&mut late(Missed::RunOnce), 250_000), [180_000]);
    assert_eq!(made(&mut late(Missed::RunOnce), 200_000), [180_000]);
    assert_eq!(made(&mut late(Missed::RunAll), 250_000), [60_000, 120_000, 180_000]);
}

#[test]
fn what_is_tried_again_is_not_missed_by_that() {
    let mut book = book(Missed::Skip);
    book.turn(Timestamp(60_000), LATE_MS, &utc);
    book.claim(Timestamp(60_000), LATE_MS);
    book.report(Timestamp(60_000), Outcome::Missed, true, Timestamp(110_000));
    assert_eq!(made(&mut book, 140_000), [60_000]);
}
