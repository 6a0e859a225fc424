//! Delays that services ask for are bounded, and dates are read as another library writes and reads them.
#![no_main]

use chrono::{DateTime, NaiveDateTime};
use libfuzzer_sys::fuzz_target;
use narthex_core::base::time::Timestamp;
use narthex_core::http::retry_after::{date, read};
use narthex_fuzz::three_parts;

/// The longest delay in milliseconds: ten years.
const LONGEST_MS: u64 = 10 * 365 * 86_400_000;
/// The first of the three forms of an HTTP-date (RFC 9110 §5.6.7).
const FIXED: &str = "%a, %d %b %Y %H:%M:%S GMT";
const FORMS: [&str; 3] = [FIXED, "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// The time of a text in the first form, as chrono reads it. chrono is lenient about spaces, signs and lengths.
fn fixed(text: &str) -> Option<Timestamp> {
    let has_form = text.split(' ').map(str::len).eq([4, 2, 3, 4, 8, 3]);
    let is_plain = text.bytes().filter(u8::is_ascii_digit).count() == 12;
    let known = NaiveDateTime::parse_from_str(text, FIXED).ok().filter(|_| has_form && is_plain)?;
    Some(Timestamp(u64::try_from(known.and_utc().timestamp()).unwrap_or(0) * 1000))
}

fuzz_target!(|input: &[u8]| {
    let [seconds, milliseconds, now] = three_parts(input);
    let (Ok(seconds), Ok(milliseconds)) = (str::from_utf8(seconds), str::from_utf8(milliseconds)) else { return };
    let now = now.iter().take(4).fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    let now = Timestamp(now * 1000);
    let delay = read(seconds, milliseconds, now);
    assert!(delay.is_none_or(|ms| ms <= LONGEST_MS), "{delay:?}");
    // The more precise header counts, if it can be read.
    let alone = read(seconds, "", now);
    assert_eq!(delay, read("", milliseconds, now).or(alone));
    assert_eq!(read(&format!(" {seconds}\t"), "", now), alone);

    let at = date(seconds.trim(), now);
    for time in [Some(now), at].into_iter().flatten() {
        let written = DateTime::from_timestamp_millis(time.0 as i64).expect("a year of four digits");
        for form in FORMS {
            let text = written.format(form).to_string();
            assert_eq!(date(&text, time), Some(time), "{text}");
        }
    }
    if let Some(at) = at {
        assert_eq!(alone, Some(at.since(now).min(LONGEST_MS)));
    } else if let Some(alone) = alone {
        // A number: of several, the largest counts.
        assert_eq!(read(&format!("{seconds}, 0,{seconds}"), "", now), Some(alone));
        assert!(read(&format!("{seconds},7"), "", now).is_some_and(|longest| longest >= alone.max(7_000)));
    }
    assert!(fixed(seconds).is_none_or(|known| at == Some(known)), "{seconds}");
});
