//! The two fields that select days: by day of the month and by day of the week.

use super::super::civil::{Civil, days_in_month};
use super::CronError;
use super::field::{DAY, WEEKDAY};

/// A day of a month.
#[derive(Debug, Clone, Copy)]
pub struct Day {
    pub month: u64,
    day: u64,
    /// 0 is Sunday.
    weekday: u64,
    /// The number of days in the month.
    pub last: u64,
}

impl Day {
    /// The day of a local time.
    pub fn of(at: Civil) -> Self {
        let (year, month, day) = at.date();
        Self { month, day, weekday: at.weekday(), last: days_in_month(year, month) }
    }

    /// The days from this one to the end of its month, inclusive.
    pub fn left(self) -> u64 {
        self.last - self.day + 1
    }

    /// The weekday of another day of its month.
    fn weekday_of(self, day: u64) -> u64 {
        (self.weekday + 35 + day - self.day) % 7
    }

    /// The working day nearest to a day, within its month.
    fn working_day_near(self, day: u64) -> u64 {
        match self.weekday_of(day) {
            6 if day > 1 => day - 1,
            6 => day + 2,
            0 if day < self.last => day + 1,
            0 => day - 2,
            _ => day,
        }
    }
}

/// Days of the month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MonthDays {
    days: u64,
    /// `L` is 0 days before the last, `L-3` is 3.
    before_last: u64,
    /// `15W`: the working day nearest to the 15th.
    near: u64,
    /// `LW`
    last_working: bool,
}

impl MonthDays {
    /// Reads the field, in upper case.
    pub fn read(text: &str) -> Result<Self, CronError> {
        let mut found = Self::default();
        for part in DAY.parts(text)? {
            if part == "?" {
                found.days |= DAY.part("*")?.bits;
            } else if part == "L" {
                found.before_last |= 1;
            } else if part == "LW" {
                found.last_working = true;
            } else if let Some(before) = part.strip_prefix("L-") {
                found.before_last |= 1 << DAY.value(before)?;
            } else if let Some(day) = part.strip_suffix('W') {
                found.near |= 1 << DAY.value(day)?;
            } else {
                found.days |= DAY.part(part)?.bits;
            }
        }
        Ok(found)
    }

    /// Whether the field matches a day.
    pub fn matches(&self, at: Day) -> bool {
        let near = |day: u64| self.near >> day & 1 == 1 && day <= at.last && at.working_day_near(day) == at.day;
        self.days >> at.day & 1 == 1
            || self.before_last >> (at.last - at.day) & 1 == 1
            || (self.last_working && at.working_day_near(at.last) == at.day)
            || (self.near != 0 && (at.day.saturating_sub(2).max(1)..=at.day + 2).any(near))
    }
}

/// Days of the week.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weekdays {
    days: u64,
    /// `5L`: the last Friday of the month.
    last: u64,
    /// `MON#2`: the second Monday of the month; one mask for each of five.
    nth: [u64; 5],
}

impl Weekdays {
    /// Reads the field, in upper case.
    pub fn read(text: &str) -> Result<Self, CronError> {
        let mut found = Self::default();
        // Sunday is 0 and 7.
        let week = |days: u64| (days | days >> 7) & 0x7f;
        for part in WEEKDAY.parts(text)? {
            if part == "?" {
                found.days |= WEEKDAY.part("*")?.bits;
            } else if part == "L" {
                return Err(WEEKDAY.error("has an L without a day: the last Friday of the month is FRIL"));
            } else if let Some(day) = part.strip_suffix('L') {
                found.last |= week(1 << WEEKDAY.value(day)?);
            } else if let Some((day, number)) = part.split_once('#') {
                let number = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
                let nth = number
                    .and_then(|number| found.nth.get_mut(number))
                    .ok_or_else(|| WEEKDAY.error(format_args!("is {part:?}: what follows # must be from 1 to 5")))?;
                *nth |= week(1 << WEEKDAY.value(day)?);
            } else {
                found.days |= week(WEEKDAY.part(part)?.bits);
            }
        }
        Ok(found)
    }

    /// Whether the field matches a day.
    pub fn matches(&self, at: Day) -> bool {
        let is_in = |days: u64| days >> at.weekday & 1 == 1;
        let nth = usize::try_from((at.day - 1) / 7).ok().and_then(|nth| self.nth.get(nth));
        is_in(self.days) || nth.is_some_and(|days| is_in(*days)) || (at.day + 7 > at.last && is_in(self.last))
    }
}
