use super::*;
use proptest::prelude::*;

const RULE: QuotaRule = QuotaRule { quota: 100, window_ms: 10_000 };

fn total(lease: Option<QuotaLease>) -> u64 {
    lease.map_or(0, |lease| lease.tokens)
}

#[test]
fn leases_shrink_and_the_last_tenth_is_given_one_by_one() {
    let mut pool = QuotaPool::new(QuotaRule { quota: 1_000, window_ms: 60_000 }, Timestamp(0));
    let mut given = Vec::new();
    while let Some(lease) = pool.take(1_000, Timestamp(1)) {
        let before = given.iter().sum::<u64>();
        assert_eq!(lease.scarce, before >= 900);
        given.push(lease.tokens);
    }
    assert_eq!(given.iter().sum::<u64>(), 1_000);
    assert_eq!(given.first(), Some(&225));
    assert!(given.windows(2).all(|pair| pair[0] >= pair[1]));
    assert!(given.iter().rev().take(100).all(|tokens| *tokens == 1));
    assert_eq!(pool.state(Timestamp(1)), QuotaState { left: 0, reset_ms: pool.state(Timestamp(1)).reset_ms });
}

#[test]
fn a_token_comes_back_a_window_after_it_was_used() {
    let mut pool = QuotaPool::new(QuotaRule { quota: 2, window_ms: 10_000 }, Timestamp(0));
    assert_eq!(pool.state(Timestamp(50)), QuotaState { left: 2, reset_ms: 0 });
    assert_eq!(total(pool.take(1, Timestamp(50))), 1);
    assert_eq!(pool.state(Timestamp(50)), QuotaState { left: 1, reset_ms: 10_050 });
    assert_eq!(total(pool.take(1, Timestamp(4_050))), 1);
    assert_eq!(total(pool.take(1, Timestamp(4_060))), 0);
    assert_eq!(pool.state(Timestamp(4_060)), QuotaState { left: 0, reset_ms: 10_100 - 4_060 });
    assert_eq!(total(pool.take(1, Timestamp(10_099))), 0);
    assert_eq!(total(pool.take(1, Timestamp(10_100))), 1);
    assert_eq!(total(pool.take(1, Timestamp(10_101))), 0);
    assert_eq!(pool.full_at(Timestamp(10_101)), Some(Timestamp(20_200)));
    assert_eq!(pool.full_at(Timestamp(20_200)), None);
}

#[test]
fn unused_tokens_come_back_with_the_report_or_a_window_after_the_expiry() {
    let mut pool = QuotaPool::new(RULE, Timestamp(0));
    let first = pool.take(20, Timestamp(1_000)).unwrap();
    let second = pool.take(20, Timestamp(1_000)).unwrap();
    assert_eq!(pool.state(Timestamp(1_000)).left, 100 - first.tokens - second.tokens);
    pool.report(LeaseReport { number: first.number, used: 3 }, Timestamp(2_000));
    pool.report(LeaseReport { number: first.number, used: 0 }, Timestamp(2_000));
    pool.report(LeaseReport { number: QuotaLeaseNumber::of(7), used: 0 }, Timestamp(2_000));
    assert_eq!(pool.state(Timestamp(2_000)).left, 97 - second.tokens);
    assert!(pool.has_open_leases());
    // The second lease was not reported: it counts as used at its expiry, and comes back one window later.
    assert_eq!(pool.state(Timestamp(13_000)).left, 100 - second.tokens);
    assert!(!pool.has_open_leases());
    assert_eq!(pool.state(Timestamp(14_100)).left, 100);
}

#[test]
fn a_single_token_that_was_not_needed_is_given_back_once() {
    let mut pool = QuotaPool::new(RULE, Timestamp(0));
    let one = pool.take(1, Timestamp(0)).unwrap();
    let _other = pool.take(1, Timestamp(0)).unwrap();
    for _ in 0..3 {
        pool.report(LeaseReport { number: one.number, used: 0 }, Timestamp(1));
        assert_eq!(pool.state(Timestamp(1)).left, 99);
    }
}

#[test]
fn a_lowered_quota_holds_at_once_and_a_raised_one_too() {
    let mut pool = QuotaPool::new(RULE, Timestamp(0));
    for _ in 0..20 {
        assert_eq!(total(pool.take(1, Timestamp(0))), 1);
    }
    pool.set_rule(QuotaRule { quota: 10, ..RULE });
    assert_eq!(pool.take(1, Timestamp(1)), None);
    assert_eq!(pool.state(Timestamp(1)).left, 0);
    pool.set_rule(QuotaRule { quota: 21, ..RULE });
    assert_eq!(total(pool.take(5, Timestamp(2))), 1);
    assert_eq!(pool.take(1, Timestamp(2)), None);
    // With a shorter window, tokens come back sooner.
    pool.set_rule(QuotaRule { quota: 21, window_ms: 1_000 });
    assert_eq!(pool.state(Timestamp(1_200)).left, 21);
}

#[test]
fn a_clock_that_goes_back_gives_nothing_twice() {
    let mut pool = QuotaPool::new(QuotaRule { quota: 1, window_ms: 1_000 }, Timestamp(5_000));
    assert_eq!(total(pool.take(1, Timestamp(5_000))), 1);
    assert_eq!(pool.take(1, Timestamp(0)), None);
    assert_eq!(pool.take(1, Timestamp(5_999)), None);
    assert_eq!(total(pool.take(1, Timestamp(6_010))), 1);
}

#[test]
fn few_rows_are_written_and_a_restart_counts_what_they_may_lack() {
    let mut pool = QuotaPool::new(QuotaRule { quota: 1_000, window_ms: 60_000 }, Timestamp(0));
    let (mut rows, mut kept) = (0, StoredPool::default());
    for at in 0..500 {
        assert_eq!(total(pool.take(1, Timestamp(at))), 1);
        if let Some(write) = pool.to_store() {
            rows += 1;
            kept = write;
        }
    }
    assert!(rows <= 15, "{rows}");
    let mut again = QuotaPool::restore(&kept, QuotaRule { quota: 1_000, window_ms: 60_000 }, Timestamp(500));
    let left = again.state(Timestamp(500)).left;
    assert!((450..=500).contains(&left), "{left}");
    assert_eq!(again.state(Timestamp(70_000)).left, 1_000);
    let text = serde_json::to_string(&kept).unwrap();
    assert_eq!(serde_json::from_str::<StoredPool>(&text).unwrap(), kept);
}

#[test]
fn a_quiet_pool_loses_nothing_in_a_restart() {
    let rule = QuotaRule { quota: 100, window_ms: 86_400_000 };
    let (mut pool, mut kept, mut now) = (QuotaPool::new(rule, Timestamp(0)), StoredPool::default(), Timestamp(0));
    for turn in 1..=50 {
        now = now.plus_ms(100_000);
        assert_eq!(total(pool.take(1, now)), 1);
        kept = pool.to_store().unwrap_or(kept);
        assert_eq!(pool.to_store_exactly(), None);
        pool = QuotaPool::restore(&kept, rule, now.plus_ms(50_000));
        assert_eq!(pool.state(now).left, 100 - turn);
    }
    // A busy pool is stored exactly once it is idle.
    now = now.plus_ms(60_000);
    for _ in 0..30 {
        assert_eq!(total(pool.take(1, now)), 1);
        kept = pool.to_store().unwrap_or(kept);
    }
    assert!(kept.ahead > 0 && !pool.is_idle(now));
    assert!(pool.is_idle(now.plus_ms(EXPIRY_MS)));
    kept = pool.to_store_exactly().unwrap();
    assert_eq!(QuotaPool::restore(&kept, rule, now).state(now).left, 20);
}

proptest! {
    /// The tokens of a pool always add up.
    #[test]
    fn tokens_are_left_used_or_leased(
        quota in 1u64..200, steps in prop::collection::vec((0u8..3, 1u64..60, 0u64..2_000), 1..120),
    ) {
        let rule = QuotaRule { quota, window_ms: 5_000 };
        let mut now = Timestamp(1_000);
        let mut pool = QuotaPool::new(rule, now);
        let mut given: Vec<QuotaLease> = Vec::new();
        for (what, number, ms) in steps {
            now = now.plus_ms(ms);
            match what {
                0 | 1 => given.extend(pool.take(number, now)),
                _ => if let Some(lease) = given.pop() {
                    pool.report(LeaseReport { number: lease.number, used: lease.tokens.min(number % 4) }, now);
                },
            }
            let used: u64 = pool.used.iter().map(|(_, count)| count).sum();
            let out: u64 = pool.open.values().map(|out| out.tokens).sum();
            prop_assert_eq!((used, out), (pool.used_total, pool.open_total));
            prop_assert!(used + out <= quota);
            prop_assert_eq!(pool.state(now).left, quota - pool.used_total - pool.open_total);
            prop_assert!(pool.used.iter().zip(pool.used.iter().skip(1)).all(|(a, b)| a.0 < b.0));
            prop_assert!(pool.used.len() as u64 <= 2 * SLOTS + 2);
        }
        let end = pool.full_at(now).unwrap_or(now);
        prop_assert_eq!(pool.state(end), QuotaState { left: quota, reset_ms: 0 });
    }
}
