use proptest::prelude::*;

use super::*;

/// Berlin in 2026: one hour ahead, two from 29 March 01:00 UTC to 25 October 01:00 UTC. Lord Howe: half an hour is
/// added from 4 October 2025 15:30 UTC to 4 April 2026 15:00 UTC. Apia skipped a whole day, 30 December 2011.
fn offsets(zone: &str, at: Timestamp) -> i64 {
    let within = |from: &str, to: &str| (text(from)..text(to)).contains(&at);
    match zone {
        "Europe/Berlin" if within("2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z") => 7_200,
        "Europe/Berlin" => 3_600,
        "Australia/Lord_Howe" if within("2025-10-04T15:30:00Z", "2026-04-04T15:00:00Z") => 39_600,
        "Australia/Lord_Howe" => 37_800,
        "Pacific/Apia" if at < text("2011-12-30T10:00:00Z") => -36_000,
        "Pacific/Apia" => 50_400,
        _ => 0,
    }
}

fn text(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn cron(cron: &str, zone: &str) -> Plan {
    Plan::Cron { cron: cron.into(), zone: zone.into() }
}

fn next(plan: &Plan, after: &str, count: usize) -> Vec<String> {
    let mut at = text(after);
    let times = (0..count).map(|_| {
        at = plan.next(at, &offsets).unwrap();
        at.text().replace(":00.000Z", "Z")
    });
    times.collect()
}

#[test]
fn times_match_the_expression() {
    for (expression, after, times) in [
        ("0 8 * * 1-5", "2026-11-27T08:00:00Z", ["2026-11-30T08:00Z", "2026-12-01T08:00Z"]),
        ("*/25 * * * *", "2026-11-24T09:41:30Z", ["2026-11-24T09:50Z", "2026-11-24T10:00Z"]),
        ("30 6 1 */6 *", "2026-01-01T06:30:00Z", ["2026-07-01T06:30Z", "2027-01-01T06:30Z"]),
        ("0 0 29 2 *", "2096-03-01T00:00:00Z", ["2104-02-29T00:00Z", "2108-02-29T00:00Z"]),
        // If both are restricted, either day is sufficient.
        ("0 0 13 * fri", "2026-11-12T12:00:00Z", ["2026-11-13T00:00Z", "2026-11-20T00:00Z"]),
        ("0 0 * * 7", "2026-11-24T00:00:00Z", ["2026-11-29T00:00Z", "2026-12-06T00:00Z"]),
        ("0 0 */10 * *", "2026-11-22T00:00:00Z", ["2026-12-01T00:00Z", "2026-12-11T00:00Z"]),
    ] {
        assert_eq!(next(&cron(expression, "UTC"), after, 2), times, "{expression}");
    }
}

#[test]
fn an_expression_may_list_everything() {
    let list = |from: u8, to: u8| (from..=to).map(|at| at.to_string()).collect::<Vec<_>>().join(",");
    let all = format!("{} {} {} {} {}", list(0, 59), list(0, 23), list(1, 31), list(1, 12), list(0, 6));
    assert!(all.len() > 300);
    assert_eq!(next(&cron(&all, "UTC"), "2026-11-27T08:00:00Z", 2), ["2026-11-27T08:01Z", "2026-11-27T08:02Z"]);
}

#[test]
fn a_time_that_is_left_out_is_made_up_for_at_the_first_moment_after() {
    let plan = cron("30 2 * * *", "Europe/Berlin");
    let times = ["2026-03-28T01:30Z", "2026-03-29T01:00Z", "2026-03-30T00:30Z"];
    assert_eq!(next(&plan, "2026-03-27T12:00:00Z", 3), times);
    // Several skipped times give one run.
    let plan = cron("0,15,30,45 2 * * *", "Europe/Berlin");
    assert_eq!(next(&plan, "2026-03-29T00:00:00Z", 2), ["2026-03-29T01:00Z", "2026-03-30T00:00Z"]);
    // A whole day that was skipped.
    let plan = cron("0 12 * * *", "Pacific/Apia");
    let times = ["2011-12-29T22:00Z", "2011-12-30T10:00Z", "2011-12-30T22:00Z"];
    assert_eq!(next(&plan, "2011-12-29T12:00:00Z", 3), times);
}

#[test]
fn a_time_that_comes_twice_counts_the_first_time_only() {
    let plan = cron("30 2 * * *", "Europe/Berlin");
    assert_eq!(next(&plan, "2026-10-24T12:00:00Z", 2), ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]);
    assert_eq!(next(&plan, "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:30Z"], "asked within the second time");
    let plan = cron("45 1 * * *", "Australia/Lord_Howe");
    assert_eq!(next(&plan, "2026-04-04T12:00:00Z", 2), ["2026-04-04T14:45Z", "2026-04-05T15:15Z"]);
}

#[test]
fn frequencies_run_in_real_time() {
    for (expression, after, times) in [
        // Clocks go back at 03:00: the hour from two to three occurs twice.
        ("0 * 25 10 *", "2026-10-24T21:59:00Z", vec!["24T22:00Z", "24T23:00Z", "25T00:00Z", "25T01:00Z", "25T02:00Z"]),
        ("*/30 2 * * *", "2026-10-24T12:00:00Z", vec!["25T00:00Z", "25T00:30Z", "25T01:00Z", "25T01:30Z", "26T01:00Z"]),
        ("0 1-3 25 10 *", "2026-10-24T12:00:00Z", vec!["24T23:00Z", "25T00:00Z", "25T01:00Z", "25T02:00Z"]),
        // Clocks go forward at 02:00: that hour does not occur.
        ("30 * 29 3 *", "2026-03-28T23:59:00Z", vec!["29T00:30Z", "29T01:30Z", "29T02:30Z"]),
        ("0 1/1 29 3 *", "2026-03-28T23:00:00Z", vec!["29T00:00Z", "29T01:00Z", "29T02:00Z"]),
        ("*/20 2 * * *", "2026-03-28T12:00:00Z", vec!["30T00:00Z", "30T00:20Z"]),
    ] {
        let found = next(&cron(expression, "Europe/Berlin"), after, times.len());
        let found: Vec<&str> = found.iter().map(|time| &time[8..]).collect();
        assert_eq!(found, times, "{expression}");
    }
    // Half an hour twice.
    let plan = cron("*/15 1 * * *", "Australia/Lord_Howe");
    let found = next(&plan, "2026-04-04T14:10:00Z", 6);
    assert_eq!(found[..2], ["2026-04-04T14:15Z", "2026-04-04T14:30Z"]);
    assert_eq!(found[2..4], ["2026-04-04T14:45Z", "2026-04-04T15:00Z"]);
    assert_eq!(found[4..], ["2026-04-04T15:15Z", "2026-04-05T14:30Z"]);
    // A skipped day, and times that are far away.
    let plan = cron("0 */12 * * *", "Pacific/Apia");
    let times = ["2011-12-29T22:00Z", "2011-12-30T10:00Z", "2011-12-30T22:00Z"];
    assert_eq!(next(&plan, "2011-12-29T12:00:00Z", 3), times);
    let plan = cron("*/30 0 29 2 *", "Europe/Berlin");
    assert_eq!(next(&plan, "2026-03-29T00:59:00Z", 2), ["2028-02-28T23:00Z", "2028-02-28T23:30Z"]);
}

#[test]
fn an_interval_is_counted_from_when_it_was_written() {
    let plan = Plan::Every { seconds: 90, from: Timestamp(1_000) };
    for (after, at) in [(0, 91_000), (1_000, 91_000), (90_999, 91_000), (91_000, 181_000), (300_000, 361_000)] {
        assert_eq!(plan.next(Timestamp(after), &offsets), Some(Timestamp(at)));
    }
}

#[test]
fn missed_runs_are_made_up_for_as_configured() {
    let hourly = cron("0 * * * *", "UTC");
    let at = |hour: u64| Timestamp(hour * 3_600_000);
    let due = |missed, now: Timestamp| hourly.due(missed, at(10), now, LATE_MS, &offsets);
    let late = at(13).plus_ms(LATE_MS + 1);
    assert_eq!(due(MissedRuns::Skip, late), DueRuns { run: vec![], missed: vec![at(11), at(12), at(13)] });
    assert_eq!(due(MissedRuns::RunOnce, late), DueRuns { run: vec![at(13)], missed: vec![at(11), at(12)] });
    assert_eq!(due(MissedRuns::RunAll, late), DueRuns { run: vec![at(11), at(12), at(13)], missed: vec![] });
    let in_time = at(13).plus_ms(LATE_MS);
    assert_eq!(due(MissedRuns::Skip, in_time), DueRuns { run: vec![at(13)], missed: vec![at(11), at(12)] });
    assert_eq!(due(MissedRuns::RunOnce, in_time), DueRuns { run: vec![at(13)], missed: vec![at(11), at(12)] });
    assert_eq!(due(MissedRuns::RunAll, at(10).plus_ms(1)), DueRuns::default());
    let minutely = Plan::Every { seconds: 60, from: Timestamp(0) };
    let long_after = minutely.due(MissedRuns::RunAll, Timestamp(0), Timestamp(86_400_000_000), LATE_MS, &offsets);
    assert_eq!((long_after.run.len(), long_after.run.last()), (MAX_MISSED + 1, Some(&Timestamp(86_400_000_000))));
}

/// Expressions, and whether they run in real time.
fn expressions() -> impl Strategy<Value = (String, bool)> {
    let field = |least: u64, most: u64| {
        let fixed = (least..=most).prop_map(|value| (value.to_string(), false)).boxed();
        let several = (least..=most, least..=most).prop_map(|(a, b)| (format!("{a},{b}"), false)).boxed();
        prop_oneof![
            fixed,
            several,
            Just(("*".to_string(), true)),
            (2..12u64).prop_map(|step| (format!("*/{step}"), true)),
            (least..=most, least..=most).prop_map(|(a, b)| (format!("{a}-{b}"), a != b)),
            (least..most, 2..12u64).prop_map(|(a, step)| (format!("{a}/{step}"), true)),
        ]
    };
    (field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)).prop_map(
        |((minute, one), (hour, other), (day, _), (month, _), (weekday, _))| {
            (format!("{minute} {hour} {day} {month} {weekday}"), one || other)
        },
    )
}

proptest! {
    /// Compared with the slow way: every minute is tested with its local time.
    #[test]
    fn times_are_those_of_the_slow_way(
        (expression, in_real_time) in expressions(),
        zone in prop_oneof![Just("Europe/Berlin"), Just("Australia/Lord_Howe"), Just("UTC")],
        start in prop_oneof![Just("2026-03-28T20:00:00Z"), Just("2026-10-24T20:00:00Z"), Just("2026-04-04T10:00:00Z")],
        shift in 0u64..600,
    ) {
        let (plan, parsed) = (cron(&expression, zone), Cron::parse(&expression).unwrap());
        let from = text(start).plus_ms(shift * MINUTE_MS);
        let until = from.plus_ms(DAY_MS);
        let mut found = Vec::new();
        let mut at = from;
        while let Some(next) = plan.next(at, &offsets).filter(|next| *next < until) {
            prop_assert!(next > at);
            found.push(next);
            at = next;
        }
        prop_assert_eq!(parsed.repeats, in_real_time);
        let wall = |at: Timestamp| Civil(at.0.saturating_add_signed(offsets(zone, at) * 1000) / MINUTE_MS);
        // Only new local times count, and skipped ones count at the end of the gap.
        let mut shown = (1..=180).map(|minutes| wall(Timestamp(from.0 - minutes * MINUTE_MS))).max().unwrap();
        shown = shown.max(wall(from));
        let mut expected = Vec::new();
        let mut minute = from.plus_ms(MINUTE_MS);
        while minute < until {
            let now = wall(minute);
            if in_real_time {
                // Every local time counts, and nothing else.
                if parsed.at_or_after(now) == Some(now) {
                    expected.push(minute);
                }
            } else if now > shown {
                let first = parsed.at_or_after(shown.plus_minutes(1));
                if first.is_some_and(|first| first <= now) {
                    expected.push(minute);
                }
                shown = now;
            }
            minute = minute.plus_ms(MINUTE_MS);
        }
        prop_assert_eq!(found, expected);
    }
}
