use proptest::prelude::*;

use super::super::civil::days_in_month;
use super::*;

fn bits(values: impl IntoIterator<Item = u64>) -> u64 {
    values.into_iter().fold(0, |bits, value| bits | 1 << value)
}

#[test]
fn expressions_are_read_as_cron_does() {
    for good in [
        "* * * * *",
        "0 8 * * 1-5",
        "*/15 0-6/2 1,15 JAN-mar Sun",
        "59 23 31 12 7",
        "0 0 29 2 *",
        "  0\t0 * * * ",
        "0/15 5/15 ? * FRI-SUN",
        "*/60 22-4 L NOV-FEB 6-0",
        "0 0 L-3,LW,15W * 5L,fril,MON#2,7#5",
        "0 0 31W 1 ?",
        "@hourly",
        "@Daily",
        "0 0 * 2 MON#5",
    ] {
        assert!(Cron::parse(good).is_ok(), "{good}: {:?}", Cron::parse(good));
    }
}

#[test]
fn errors_name_the_field_and_the_reason() {
    for (bad, why) in [
        ("", "it has 0 fields"),
        ("* * * *", "it has 4 fields"),
        ("* * * * * *", "it has 6 fields, and it must have five: minute, hour,"),
        ("60 * * * *", "the minute is 60, and must be from 0 to 59"),
        ("0 25 * * *", "the hour is 25, and must be from 0 to 23"),
        ("* 0-24 * * *", "the hour is 24"),
        ("* * 0 * *", "the day of the month is 0, and must be from 1 to 31"),
        ("* * 32 * *", "the day of the month is 32"),
        ("* * 32W * *", "the day of the month is 32"),
        ("* * L-0 * *", "the day of the month is 0"),
        ("* * W * *", "the day of the month is \"\""),
        ("* * * 13 *", "the month is 13, and must be from 1 to 12 or JAN to DEC"),
        ("* * * mai *", "the month is \"MAI\""),
        ("* * * * 8", "the day of the week is 8, and must be from 0 to 7 or SUN to SAT"),
        ("* * * * L", "the day of the week has an L without a day"),
        ("* * * * mon#6", "the day of the week is \"MON#6\": what follows # must be from 1 to 5"),
        ("* * * * mon#0", "the day of the week is \"MON#0\""),
        ("*/0 * * * *", "the minute has the step \"0\", which must be from 1 to 60"),
        ("*/90 * * * *", "the minute has the step \"90\""),
        ("*/-5 * * * *", "the minute has the step \"-5\""),
        ("1,,2 * * * *", "the minute has an empty part"),
        ("a * * * *", "the minute is \"A\", and must be from 0 to 59"),
        ("+1 * * * *", "the minute is \"+1\""),
        ("*-5 * * * *", "the minute is \"*\""),
        ("1- * * * *", "the minute is \"\""),
        ("001 * * * *", "the minute is \"001\""),
        ("? * * * *", "the minute is \"?\""),
        ("0 0 30 2 *", "no day ever matches it"),
        ("0 0 31 4,6 *", "no day ever matches it"),
        ("@reboot", "the macros are @hourly"),
        ("@every 5m", "the macros are @hourly"),
    ] {
        let error = Cron::parse(bad).unwrap_err().to_string();
        assert!(error.starts_with(why), "{bad}: {error}");
    }
    assert!(Cron::parse(&format!("0 0 {}1 * *", "1,".repeat(500))).unwrap_err().0.contains("1000"));
}

#[test]
fn ranges_and_steps_go_over_the_end() {
    let read = |field: &field::Field, text: &str| field.read(text).unwrap().bits;
    assert_eq!(read(&field::HOUR, "22-4"), bits([22, 23, 0, 1, 2, 3, 4]));
    assert_eq!(read(&field::HOUR, "22-4/2"), bits([22, 0, 2, 4]));
    assert_eq!(read(&field::HOUR, "22-4/3"), bits([22, 1, 4]));
    assert_eq!(read(&field::MINUTE, "5/15"), bits([5, 20, 35, 50]));
    assert_eq!(read(&field::MINUTE, "0/15"), read(&field::MINUTE, "*/15"));
    assert_eq!(read(&field::MINUTE, "*/60"), bits([0]));
    assert_eq!(read(&field::MONTH, "NOV-FEB"), bits([11, 12, 1, 2]));
    assert_eq!(read(&field::MONTH, "*/6"), bits([1, 7]));
    assert_eq!(read(&field::DAY, "30-2"), bits([30, 31, 1, 2]));
    assert_eq!(read(&field::WEEKDAY, "*"), bits(0..=6));
    for (text, days) in [
        ("FRI-SUN", bits([5, 6, 0])),
        ("5-7", bits([5, 6, 0])),
        ("6-0", bits([6, 0])),
        ("0-7", bits(0..=6)),
        ("SUN-SAT", bits(0..=6)),
        ("1-7", bits(0..=6)),
        ("SUN-SUN", bits([0])),
        ("7-2", bits([0, 1, 2])),
        ("FRI-MON/2", bits([5, 0])),
    ] {
        assert_eq!(read(&field::WEEKDAY, text), days, "{text}");
    }
    assert_eq!(Cron::parse("0 0 * * 7L,7#2,7"), Cron::parse("0 0 * * sunL,SUN#2,0"));
}

#[test]
fn a_minute_or_hour_with_a_frequency_repeats() {
    for (expression, repeats) in [
        ("30 2 * * *", false),
        ("0,30 2,3 1-7 * *", false),
        ("5-5 2 * * *", false),
        ("@daily", false),
        ("@hourly", true),
        ("0 * * * *", true),
        ("* 2 * * *", true),
        ("0 1-3 * * *", true),
        ("0 1,2-3 * * *", true),
        ("0/15 2 * * *", true),
        ("*/60 2 * * *", true),
    ] {
        assert_eq!(Cron::parse(expression).unwrap().repeats, repeats, "{expression}");
    }
}

/// A field as it is written, and its meaning.
type Written = (String, Vec<u64>);

fn part(least: u64, most: u64) -> impl Strategy<Value = Written> {
    let from_to =
        move |a: u64, b: u64| if a <= b { (a..=b).collect() } else { (a..=most).chain(least..=b).collect::<Vec<_>>() };
    let stepped = |values: Vec<u64>, step: usize| values.into_iter().step_by(step).collect::<Vec<_>>();
    prop_oneof![
        Just(("*".to_string(), (least..=most).collect())),
        (least..=most).prop_map(|value| (value.to_string(), vec![value])),
        (1..=60usize).prop_map(move |step| (format!("*/{step}"), stepped((least..=most).collect(), step))),
        (least..=most, 1..=60usize)
            .prop_map(move |(a, step)| (format!("{a}/{step}"), stepped((a..=most).collect(), step))),
        (least..=most, least..=most).prop_map(move |(a, b)| (format!("{a}-{b}"), from_to(a, b))),
        (least..=most, least..=most, 1..=60usize)
            .prop_map(move |(a, b, step)| (format!("{a}-{b}/{step}"), stepped(from_to(a, b), step))),
    ]
}

fn field_of(least: u64, most: u64) -> impl Strategy<Value = Written> {
    prop::collection::vec(part(least, most), 1..3).prop_map(|parts| {
        let text = parts.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(",");
        (text, parts.into_iter().flat_map(|(_, values)| values).collect())
    })
}

/// Special properties of a day.
#[derive(Debug, Clone, Copy)]
enum Special {
    None,
    BeforeLast(u64),
    LastWorking,
    Near(u64),
    Last(u64),
    Nth(u64, u64),
}

impl Special {
    fn text(self) -> Option<String> {
        Some(match self {
            Special::None => return None,
            Special::BeforeLast(0) => "L".into(),
            Special::BeforeLast(days) => format!("L-{days}"),
            Special::LastWorking => "LW".into(),
            Special::Near(day) => format!("{day}W"),
            Special::Last(weekday) => format!("{weekday}l"),
            Special::Nth(weekday, nth) => format!("{weekday}#{nth}"),
        })
    }

    /// The slow way: all days of the month are tested.
    fn matches(self, year: u64, month: u64, day: u64, weekday: u64) -> bool {
        let last = days_in_month(year, month);
        let weekday_of = |other: u64| (weekday + 70 + other - day) % 7;
        let working = |other: &u64| (1..=5).contains(&weekday_of(*other));
        match self {
            Special::None => false,
            Special::BeforeLast(days) => day + days == last,
            Special::LastWorking => (1..=last).filter(working).max() == Some(day),
            Special::Near(near) => {
                let nearest = (1..=last).filter(working).min_by_key(|other| other.abs_diff(near));
                near <= last && nearest == Some(day)
            }
            Special::Last(wanted) => (1..=last).filter(|other| weekday_of(*other) == wanted).max() == Some(day),
            Special::Nth(wanted, nth) => {
                (1..=last).filter(|other| weekday_of(*other) == wanted).nth(nth as usize - 1) == Some(day)
            }
        }
    }
}

fn with(text: &str, special: Special) -> String {
    special.text().map_or(text.to_string(), |special| format!("{text},{special}"))
}

proptest! {
    /// Compared with the slow way: every minute is tested.
    #[test]
    fn the_next_minute_is_that_of_the_slow_way(
        minute in field_of(0, 59),
        hour in field_of(0, 23),
        day in field_of(1, 31),
        month in field_of(1, 12),
        weekday in field_of(0, 6),
        of_month in prop_oneof![
            Just(Special::None), (0..9u64).prop_map(Special::BeforeLast), Just(Special::LastWorking),
            (1..=31u64).prop_map(Special::Near)
        ],
        of_week in prop_oneof![
            Just(Special::None), (0..7u64).prop_map(Special::Last), (0..7u64, 1..=5u64).prop_map(|(day, nth)| Special::Nth(day, nth))
        ],
        from in 20_000u64 * 1440..22_000 * 1440,
    ) {
        let (days, weekdays) = (with(&day.0, of_month), with(&weekday.0, of_week));
        let text = format!("{} {} {days} {} {weekdays}", minute.0, hour.0, month.0);
        let Ok(cron) = Cron::parse(&text) else { return Ok(()) };
        let either = !days.starts_with('*') && !weekdays.starts_with('*');
        let matches = |at: Civil| {
            let ((year, of_year, date), minutes) = (at.date(), at.minute_of_day());
            let by_day = day.1.contains(&date) || of_month.matches(year, of_year, date, at.weekday());
            let by_weekday = weekday.1.contains(&at.weekday()) || of_week.matches(year, of_year, date, at.weekday());
            let fits_day = if either { by_day || by_weekday } else { by_day && by_weekday };
            minute.1.contains(&(minutes % 60)) && hour.1.contains(&(minutes / 60)) && month.1.contains(&of_year) && fits_day
        };
        let until = from + 20 * 1440;
        let slow = (from..until).map(Civil).find(|at| matches(*at));
        prop_assert_eq!(cron.at_or_after(Civil(from)).filter(|at| at.0 < until), slow, "{}", text);
    }

    #[test]
    fn any_text_may_be_tried_as_an_expression(text in "\\PC{0,40}") {
        let _ = Cron::parse(&text);
    }

    #[test]
    fn any_characters_of_expressions_may_be_tried(text in "([0-9LWlw*?#@,/-]{1,6}|MON|sun|Dec) ([0-9L*,/-]{1,4} ){3}[0-9LlW*?#/,-]{1,5}") {
        let _ = Cron::parse(&text);
    }
}
