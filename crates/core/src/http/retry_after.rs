//! `Retry-After` in its two forms (RFC 9110 §10.2.3), and `retry-after-ms`, which OpenAI's servers and many compatible
//! ones send as well.

use chrono::NaiveDate;

use crate::base::time::Timestamp;

/// A number too large to represent means very late, not now (RFC 9111 §1.2.2). No context lives longer than this.
const VERY_LATE_MS: u64 = 10 * 365 * 86_400_000;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Milliseconds from `now` until the service may be called again. `seconds` is the value of `Retry-After`,
/// `milliseconds` that of `retry-after-ms`, which takes precedence because it is more precise. `None` if neither can be
/// read.
pub fn read(seconds: &str, milliseconds: &str, now: Timestamp) -> Option<u64> {
    amount(milliseconds, 1.0)
        .or_else(|| amount(seconds, 1000.0))
        .or_else(|| date(seconds.trim(), now).map(|at| at.since(now).min(VERY_LATE_MS)))
}

/// A number of units, which may have a fraction. If the header came several times, joined with commas by a proxy, the
/// longest delay counts.
fn amount(text: &str, unit_ms: f64) -> Option<u64> {
    let parts = text.split(',').map(|part| decimal(part.trim()));
    let longest = parts.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)?;
    // Rounded up, as a service that is called too early rejects again.
    Some((longest * unit_ms).ceil().min(VERY_LATE_MS as f64) as u64)
}

/// Digits, optionally with a decimal point and more digits; no sign, no exponent.
fn decimal(text: &str) -> Option<f64> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    };
    if is_number { text.parse().ok() } else { None }
}

/// An HTTP-date in any of its three forms (RFC 9110 §5.6.7). Times before 1970 become the start of 1970.
pub fn date(text: &str, now: Timestamp) -> Option<Timestamp> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    match words.as_slice() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        [weekday, day, month, year, time, zone] if is_day(weekday.strip_suffix(',')?) && is_utc(zone) => {
            moment(four_digits(year)?, month, day, time)
        }
        // Sunday, 06-Nov-94 08:49:37 GMT
        [weekday, date, time, zone] if is_day(weekday.strip_suffix(',')?.get(..3)?) && is_utc(zone) => {
            let mut parts = date.split('-');
            let (Some(day), Some(month), Some(year), None) = (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                return None;
            };
            moment(full_year(year, now)?, month, day, time)
        }
        // Sun Nov  6 08:49:37 1994
        [weekday, month, day, time, year] if is_day(weekday) => moment(four_digits(year)?, month, day, time),
        _ => None,
    }
}

fn is_day(text: &str) -> bool {
    DAYS.iter().any(|day| day.eq_ignore_ascii_case(text))
}

fn is_utc(text: &str) -> bool {
    text.eq_ignore_ascii_case("GMT") || text.eq_ignore_ascii_case("UTC")
}

fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u64> {
    let plain = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn four_digits(text: &str) -> Option<u64> {
    number(text, 4..=4)
}

/// A year of two digits, in the century that puts it at most 50 years ahead. Some servers write four digits.
fn full_year(text: &str, now: Timestamp) -> Option<u64> {
    if text.len() == 4 {
        return four_digits(text);
    }
    let (this_year, ..) = crate::base::time::date_of(now.0 / 86_400_000);
    let year = this_year - this_year % 100 + number(text, 2..=2)?;
    Some(if year > this_year + 50 { year - 100 } else { year })
}

fn moment(year: u64, month: &str, day: &str, time: &str) -> Option<Timestamp> {
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))? as u32 + 1;
    let mut parts = time.split(':');
    let (Some(hour), Some(minute), Some(second), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let part = |text: &str| number(text, 1..=2).and_then(|value| u32::try_from(value).ok());
    // 60 is a leap second.
    let (hour, minute, second) = (part(hour)?, part(minute)?, part(second).filter(|second| *second <= 60)?.min(59));
    let day = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, part(day)?)?;
    let at = day.and_hms_opt(hour, minute, second)?.and_utc().timestamp_millis();
    Some(Timestamp(u64::try_from(at).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 1994-11-06T08:49:37Z, the example of RFC 9110 in all three forms.
    const THEN: Timestamp = Timestamp(784_111_777_000);

    #[test]
    fn seconds_are_read_with_fractions_and_however_many_there_are() {
        let now = Timestamp(1_000);
        for (seconds, milliseconds, expected) in [
            ("3", "", Some(3_000)),
            (" 3 ", "", Some(3_000)),
            ("0", "", Some(0)),
            ("1.5", "", Some(1_500)),
            ("0.0001", "", Some(1)),
            ("99999999999999999999999", "", Some(VERY_LATE_MS)),
            (&"9".repeat(400), "", Some(VERY_LATE_MS)),
            ("5, 7", "", Some(7_000)),
            ("", "3000", Some(3_000)),
            ("10", "250.5", Some(251)),
            ("10", "soon", Some(10_000)),
            ("", "-1", None),
            ("-5", "", None),
            ("+5", "", None),
            ("1e3", "", None),
            ("1.", "", None),
            (".5", "", None),
            ("5, soon", "", None),
            ("soon", "", None),
            ("NaN", "", None),
            ("inf", "", None),
            ("0x10", "", None),
            ("", "", None),
        ] {
            assert_eq!(read(seconds, milliseconds, now), expected, "{seconds:?} {milliseconds:?}");
        }
    }

    #[test]
    fn dates_are_read_in_all_three_forms() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "sun, 6 nov 1994 8:49:37 gmt",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
        ] {
            assert_eq!(date(text, THEN), Some(THEN), "{text}");
            assert_eq!(read(text, "", Timestamp(THEN.0 - 4_000)), Some(4_000), "{text}");
            // A time in the past means now, not never.
            assert_eq!(read(text, "", THEN.plus_ms(4_000)), Some(0), "{text}");
        }
        for text in [
            "Sun, 06 Nov 1994 08:49:37 +0100",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sunday 06-Nov-94 08:49:37 GMT",
            "06 Nov 1994 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "é, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(date(text, THEN), None, "{text}");
        }
    }

    #[test]
    fn a_year_of_two_digits_is_at_most_fifty_years_ahead() {
        let now = date("Sun, 29 Nov 2026 00:00:00 GMT", Timestamp(0)).unwrap();
        let year = |digits: &str| full_year(digits, now);
        assert_eq!([year("27"), year("76"), year("77"), year("94")], [Some(2027), Some(2076), Some(1977), Some(1994)]);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_bounded(seconds in "\\PC{0,40}", milliseconds in "[0-9.,eE+-]{0,40}", now in 0u64..4_000_000_000_000) {
            let wait = read(&seconds, &milliseconds, Timestamp(now));
            prop_assert!(wait.is_none_or(|wait| wait <= VERY_LATE_MS));
        }

        #[test]
        fn what_chrono_writes_is_read(ms in 0u64..4_000_000_000) {
            let at = Timestamp(ms * 1000);
            let known = chrono::DateTime::from_timestamp_millis(at.0 as i64).unwrap();
            for form in ["%a, %d %b %Y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y", "%A, %d-%b-%y %H:%M:%S GMT"] {
                prop_assert_eq!(date(&known.format(form).to_string(), at), Some(at));
            }
        }
    }
}
