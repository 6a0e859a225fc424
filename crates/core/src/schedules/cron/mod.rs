//! Cron expressions: five fields (minute, hour, day of month, month, day of week) with names, lists, ranges and steps,
//! or a macro such as `@daily`. They are read as by Vixie cron, with Quartz's additions for days: `L`, `W`, `#`, `?`.
//! As in cron, if both day fields are restricted, a day matches if either field does.

mod day;
mod field;

use super::civil::Civil;
use day::{Day, MonthDays, Weekdays};

/// The longest expression, in bytes: all minutes and hours may be listed.
const MAX_BYTES: usize = 1_000;
/// How far the next matching day is searched: a 29th of February that is the fifth Monday may be 40 years away.
const MAX_DAYS: u64 = 366 * 41;

const MACROS: [(&str, &str); 7] = [
    ("@HOURLY", "0 * * * *"),
    ("@DAILY", "0 0 * * *"),
    ("@MIDNIGHT", "0 0 * * *"),
    ("@WEEKLY", "0 0 * * 0"),
    ("@MONTHLY", "0 0 1 * *"),
    ("@YEARLY", "0 0 1 1 *"),
    ("@ANNUALLY", "0 0 1 1 *"),
];

/// Why a text is not an expression, as the end of "is not a cron expression: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(String);

/// A parsed expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: MonthDays,
    months: u64,
    weekdays: Weekdays,
    /// Both day fields are restricted: either is sufficient.
    either_day: bool,
    /// The minute or hour names a frequency, not a time: it runs in real time when clocks change.
    pub repeats: bool,
}

/// The fields, in upper case.
fn expanded(text: &str) -> Result<String, CronError> {
    if text.len() > MAX_BYTES {
        return Err(CronError(format!("it has more than {MAX_BYTES} bytes")));
    }
    let text = text.trim_ascii().to_ascii_uppercase();
    if !text.starts_with('@') {
        return Ok(text);
    }
    let known = MACROS.iter().find(|(name, _)| *name == text).map(|(_, fields)| (*fields).to_string());
    known.ok_or_else(|| {
        let names = "@hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually";
        CronError(format!("the macros are {names}; use interval_seconds for an interval"))
    })
}

impl Cron {
    /// Parses an expression; an error if it is invalid, or if it never matches a day.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let text = expanded(text)?;
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = *fields.as_slice() else {
            let count = fields.len();
            let expected = "it must have five: minute, hour, day of the month, month and day of the week";
            return Err(CronError(format!("it has {count} fields, and {expected}")));
        };
        let (minutes, hours) = (field::MINUTE.read(minute)?, field::HOUR.read(hour)?);
        let is_restricted = |field: &str| !field.starts_with(['*', '?']);
        let cron = Self {
            minutes: minutes.bits,
            hours: hours.bits,
            days: MonthDays::read(day)?,
            months: field::MONTH.read(month)?.bits,
            weekdays: Weekdays::read(weekday)?,
            either_day: is_restricted(day) && is_restricted(weekday),
            repeats: minutes.repeats || hours.repeats,
        };
        // Any start will do: the calendar repeats after 400 years, but no gap is longer than this.
        let comes = cron.at_or_after(Civil::from_days(0)).is_some();
        comes.then_some(cron).ok_or_else(|| CronError("no day ever matches it".into()))
    }

    fn fits_day(&self, at: Day) -> bool {
        let (by_day, by_weekday) = (self.days.matches(at), self.weekdays.matches(at));
        if self.either_day { by_day || by_weekday } else { by_day && by_weekday }
    }

    /// The first matching minute from this one on, in local time.
    pub fn at_or_after(&self, from: Civil) -> Option<Civil> {
        let (mut day, mut minute) = (from.day(), from.minute_of_day());
        let last = day + MAX_DAYS;
        while day < last {
            let date = Civil::from_days(day);
            let at = Day::of(date);
            if self.months >> at.month & 1 == 0 {
                // A month that does not match is skipped as a whole.
                (day, minute) = (day + at.left(), 0);
                continue;
            }
            if self.fits_day(at) {
                let matches =
                    |minute: &u64| self.hours >> (minute / 60) & 1 == 1 && self.minutes >> (minute % 60) & 1 == 1;
                if let Some(found) = (minute..1440).find(matches) {
                    return Some(date.plus_minutes(found));
                }
            }
            (day, minute) = (day + 1, 0);
        }
        None
    }
}

#[cfg(test)]
mod tests;
