//! Cron expressions: five fields (minute, hour, day of month, month, day of week) with names, lists, ranges and steps.
//! As cron has it, a day fits when either of the two day fields does, if both are restricted.

use super::civil::{Civil, days_in_month};

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Looked ahead for the next day that fits: the 29th of February may be 8 years away.
const MOST_DAYS: u64 = 366 * 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both day fields are restricted: either is enough.
    either_day: bool,
}

/// What a field's values are called, if they have names, and from what number on.
struct Field {
    least: u64,
    most: u64,
    names: &'static [&'static str],
}

impl Field {
    fn value(&self, text: &str) -> Option<u64> {
        let named = self.names.iter().position(|name| text.eq_ignore_ascii_case(name));
        let number = match named {
            Some(at) => at as u64 + self.least,
            None if (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok()?
            }
            None => return None,
        };
        (self.least..=self.most).contains(&number).then_some(number)
    }

    /// The values as bits.
    fn read(&self, text: &str) -> Option<u64> {
        let mut bits = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => {
                    let step = Some(step).filter(|step| step.bytes().all(|byte| byte.is_ascii_digit()));
                    (range, step?.parse().ok().filter(|step| (1..=59).contains(step))?)
                }
                None => (part, 1),
            };
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (self.least, self.most),
                Some((from, to)) => (self.value(from)?, self.value(to)?),
                // A step needs a range to step through.
                None if step > 1 || part.contains('/') => return None,
                None => (self.value(range)?, self.value(range)?),
            };
            if from > to {
                return None;
            }
            bits |= (from..=to).step_by(step).fold(0, |bits, value| bits | 1 << value);
        }
        Some(bits)
    }
}

const fn field(least: u64, most: u64, names: &'static [&'static str]) -> Field {
    Field { least, most, names }
}

impl Cron {
    /// Reads an expression; nothing when it is none, or when there is no such day.
    pub fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = *fields.as_slice() else { return None };
        let weekdays = field(0, 7, &DAYS).read(weekday)?;
        let cron = Self {
            minutes: field(0, 59, &[]).read(minute)?,
            hours: field(0, 23, &[]).read(hour)?,
            days: field(1, 31, &[]).read(day)?,
            months: field(1, 12, &MONTHS).read(month)?,
            // Sunday is 0 and 7.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        // Any day may be the first: the calendar repeats after 400 years, but no gap is longer than this.
        cron.at_or_after(Civil::from_days(0)).is_some().then_some(cron)
    }

    fn fits_day(&self, at: Civil) -> bool {
        let (_, month, day) = at.date();
        let by_day = self.days >> day & 1 == 1;
        let by_weekday = self.weekdays >> at.weekday() & 1 == 1;
        let fits = if self.either_day { by_day || by_weekday } else { by_day && by_weekday };
        self.months >> month & 1 == 1 && fits
    }

    /// The first minute that fits, from this one on, by the clock on the wall.
    pub fn at_or_after(&self, from: Civil) -> Option<Civil> {
        let (mut day, mut minute) = (from.day(), from.minute_of_day());
        let last = day + MOST_DAYS;
        while day < last {
            let at = Civil::from_days(day);
            if self.fits_day(at) {
                let fits =
                    |minute: &u64| self.hours >> (minute / 60) & 1 == 1 && self.minutes >> (minute % 60) & 1 == 1;
                if let Some(found) = (minute..1440).find(fits) {
                    return Some(at.plus_minutes(found));
                }
            }
            minute = 0;
            let (year, month, of_month) = at.date();
            // A month that does not fit is passed over as a whole.
            day += if self.months >> month & 1 == 1 { 1 } else { days_in_month(year, month) - of_month + 1 };
        }
        None
    }
}
