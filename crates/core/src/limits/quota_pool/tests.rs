use super::*;
use proptest::prelude::*;

const RULE: Rule = Rule { quota: 100, window_ms: 10_000 };

fn total(portion: Option<Portion>) -> u64 {
    portion.map_or(0, |portion| portion.tokens)
}

#[test]
fn portions_shrink_and_the_last_tenth_is_given_one_by_one() {
    let mut bucket = Bucket::new(Rule { quota: 1_000, window_ms: 60_000 }, Timestamp(0));
    let mut given = Vec::new();
    while let Some(portion) = bucket.take(1_000, Timestamp(1)) {
        let before = given.iter().sum::<u64>();
        assert_eq!(portion.scarce, before >= 900);
        given.push(portion.tokens);
    }
    assert_eq!(given.iter().sum::<u64>(), 1_000);
    assert_eq!(given.first(), Some(&225));
    assert!(given.windows(2).all(|pair| pair[0] >= pair[1]));
    assert!(given.iter().rev().take(100).all(|tokens| *tokens == 1));
    assert_eq!(bucket.standing(Timestamp(1)), Standing { left: 0, reset_ms: bucket.standing(Timestamp(1)).reset_ms });
}

#[test]
fn a_token_comes_back_a_window_after_it_was_used() {
    let mut bucket = Bucket::new(Rule { quota: 2, window_ms: 10_000 }, Timestamp(0));
    assert_eq!(bucket.standing(Timestamp(50)), Standing { left: 2, reset_ms: 0 });
    assert_eq!(total(bucket.take(1, Timestamp(50))), 1);
    assert_eq!(bucket.standing(Timestamp(50)), Standing { left: 1, reset_ms: 10_050 });
    assert_eq!(total(bucket.take(1, Timestamp(4_050))), 1);
    assert_eq!(total(bucket.take(1, Timestamp(4_060))), 0);
    assert_eq!(bucket.standing(Timestamp(4_060)), Standing { left: 0, reset_ms: 10_100 - 4_060 });
    assert_eq!(total(bucket.take(1, Timestamp(10_099))), 0);
    assert_eq!(total(bucket.take(1, Timestamp(10_100))), 1);
    assert_eq!(total(bucket.take(1, Timestamp(10_101))), 0);
    assert_eq!(bucket.full_at(Timestamp(10_101)), Some(Timestamp(20_200)));
    assert_eq!(bucket.full_at(Timestamp(20_200)), None);
}

#[test]
fn what_was_not_used_comes_back_with_the_report_and_else_a_window_after_the_end() {
    let mut bucket = Bucket::new(RULE, Timestamp(0));
    let first = bucket.take(20, Timestamp(1_000)).unwrap();
    let second = bucket.take(20, Timestamp(1_000)).unwrap();
    assert_eq!(bucket.standing(Timestamp(1_000)).left, 100 - first.tokens - second.tokens);
    bucket.report(Report { number: first.number, used: 3 }, Timestamp(2_000));
    bucket.report(Report { number: first.number, used: 0 }, Timestamp(2_000));
    bucket.report(Report { number: 7, used: 0 }, Timestamp(2_000));
    assert_eq!(bucket.standing(Timestamp(2_000)).left, 97 - second.tokens);
    assert!(bucket.is_waited_for());
    // Nothing was said of the second: it counts as used at its end, and comes back a window later.
    assert_eq!(bucket.standing(Timestamp(13_000)).left, 100 - second.tokens);
    assert!(!bucket.is_waited_for());
    assert_eq!(bucket.standing(Timestamp(14_100)).left, 100);
}

#[test]
fn a_single_token_that_was_not_needed_is_given_back_once() {
    let mut bucket = Bucket::new(RULE, Timestamp(0));
    let one = bucket.take(1, Timestamp(0)).unwrap();
    let _other = bucket.take(1, Timestamp(0)).unwrap();
    for _ in 0..3 {
        bucket.report(Report { number: one.number, used: 0 }, Timestamp(1));
        assert_eq!(bucket.standing(Timestamp(1)).left, 99);
    }
}

#[test]
fn a_lowered_quota_holds_at_once_and_a_raised_one_too() {
    let mut bucket = Bucket::new(RULE, Timestamp(0));
    for _ in 0..20 {
        assert_eq!(total(bucket.take(1, Timestamp(0))), 1);
    }
    bucket.change(Rule { quota: 10, ..RULE });
    assert_eq!(bucket.take(1, Timestamp(1)), None);
    assert_eq!(bucket.standing(Timestamp(1)).left, 0);
    bucket.change(Rule { quota: 21, ..RULE });
    assert_eq!(total(bucket.take(5, Timestamp(2))), 1);
    assert_eq!(bucket.take(1, Timestamp(2)), None);
    // A shorter window forgets sooner.
    bucket.change(Rule { quota: 21, window_ms: 1_000 });
    assert_eq!(bucket.standing(Timestamp(1_200)).left, 21);
}

#[test]
fn a_clock_that_goes_back_gives_nothing_twice() {
    let mut bucket = Bucket::new(Rule { quota: 1, window_ms: 1_000 }, Timestamp(5_000));
    assert_eq!(total(bucket.take(1, Timestamp(5_000))), 1);
    assert_eq!(bucket.take(1, Timestamp(0)), None);
    assert_eq!(bucket.take(1, Timestamp(5_999)), None);
    assert_eq!(total(bucket.take(1, Timestamp(6_010))), 1);
}

#[test]
fn few_rows_are_written_and_a_restart_counts_what_they_do_not_tell() {
    let mut bucket = Bucket::new(Rule { quota: 1_000, window_ms: 60_000 }, Timestamp(0));
    let (mut rows, mut kept) = (0, Kept::default());
    for at in 0..500 {
        assert_eq!(total(bucket.take(1, Timestamp(at))), 1);
        if let Some(write) = bucket.to_keep() {
            rows += 1;
            kept = write;
        }
    }
    assert!(rows <= 15, "{rows}");
    let mut again = Bucket::restore(&kept, Rule { quota: 1_000, window_ms: 60_000 }, Timestamp(500));
    let left = again.standing(Timestamp(500)).left;
    assert!((450..=500).contains(&left), "{left}");
    assert_eq!(again.standing(Timestamp(70_000)).left, 1_000);
    let text = serde_json::to_string(&kept).unwrap();
    assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);
}

#[test]
fn a_quiet_bucket_loses_nothing_with_a_restart() {
    let rule = Rule { quota: 100, window_ms: 86_400_000 };
    let (mut bucket, mut kept, mut now) = (Bucket::new(rule, Timestamp(0)), Kept::default(), Timestamp(0));
    for turn in 1..=50 {
        now = now.plus_ms(100_000);
        assert_eq!(total(bucket.take(1, now)), 1);
        kept = bucket.to_keep().unwrap_or(kept);
        assert_eq!(bucket.to_rest(), None);
        bucket = Bucket::restore(&kept, rule, now.plus_ms(50_000));
        assert_eq!(bucket.standing(now).left, 100 - turn);
    }
    // One that was busy is exact once it rests.
    now = now.plus_ms(60_000);
    for _ in 0..30 {
        assert_eq!(total(bucket.take(1, now)), 1);
        kept = bucket.to_keep().unwrap_or(kept);
    }
    assert!(kept.ahead > 0 && !bucket.is_resting(now));
    assert!(bucket.is_resting(now.plus_ms(OVER_MS)));
    kept = bucket.to_rest().unwrap();
    assert_eq!(Bucket::restore(&kept, rule, now).standing(now).left, 20);
}

proptest! {
    /// The bookkeeping of a bucket: whatever is asked of it, all its tokens are somewhere.
    #[test]
    fn what_is_left_is_what_is_neither_used_nor_out(
        quota in 1u64..200, steps in prop::collection::vec((0u8..3, 1u64..60, 0u64..2_000), 1..120),
    ) {
        let rule = Rule { quota, window_ms: 5_000 };
        let mut now = Timestamp(1_000);
        let mut bucket = Bucket::new(rule, now);
        let mut given: Vec<Portion> = Vec::new();
        for (what, number, ms) in steps {
            now = now.plus_ms(ms);
            match what {
                0 | 1 => given.extend(bucket.take(number, now)),
                _ => if let Some(portion) = given.pop() {
                    bucket.report(Report { number: portion.number, used: portion.tokens.min(number % 4) }, now);
                },
            }
            let used: u64 = bucket.used.iter().map(|(_, count)| count).sum();
            let out: u64 = bucket.out.values().map(|out| out.tokens).sum();
            prop_assert_eq!((used, out), (bucket.used_in_all, bucket.out_in_all));
            prop_assert!(used + out <= quota);
            prop_assert_eq!(bucket.standing(now).left, quota - bucket.used_in_all - bucket.out_in_all);
            prop_assert!(bucket.used.iter().zip(bucket.used.iter().skip(1)).all(|(a, b)| a.0 < b.0));
            prop_assert!(bucket.used.len() as u64 <= 2 * SLOTS + 2);
        }
        let end = bucket.full_at(now).unwrap_or(now);
        prop_assert_eq!(bucket.standing(end), Standing { left: quota, reset_ms: 0 });
    }
}
