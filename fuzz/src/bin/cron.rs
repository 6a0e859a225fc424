//! An expression that is accepted has a next time, which is later, on a whole minute, and never passed over.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::base::time::Timestamp;
use narthex_core::schedules::next_run::Plan;
use narthex_core::schedules::{MIN_INTERVAL_SECONDS, read};
use narthex_fuzz::{text, three_parts};

const MINUTE_MS: u64 = 60_000;

fuzz_target!(|input: &[u8]| {
    // The expression, then a time.
    let [cron, at, _] = three_parts(input);
    let Some(cron) = text(cron) else { return };
    let seconds = at.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let from = Timestamp(u64::from(seconds) * 1000);
    let quoted = serde_json::Value::from(cron).to_string();
    let document = format!(r#"{{"cron":{quoted},"context":{{"capability":"a"}}}}"#);
    let Ok(schedule) = read(&document, MIN_INTERVAL_SECONDS, |_| true) else { return };
    let utc = |_: &str, _: Timestamp| 0;
    let plan = schedule.plan(from);
    assert_eq!(plan, Plan::Cron { cron: cron.into(), zone: "UTC".into() });
    let Some(next) = plan.next(from, &utc) else { panic!("{cron:?} never comes after {}", from.text()) };
    assert!(next > from && next.0.is_multiple_of(MINUTE_MS), "{cron:?} {}", next.text());
    // From any moment between, it is the same one; after it comes another.
    assert_eq!(plan.next(Timestamp(from.0 + (next.0 - from.0) / 2).min(Timestamp(next.0 - 1)), &utc), Some(next));
    assert!(plan.next(next, &utc).is_some_and(|after| after > next));
});
