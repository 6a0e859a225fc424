//! One field of a cron expression: numbers and names, lists, ranges and steps.

use super::CronError;

/// The largest step: a larger one is a misunderstanding (`*/90` is not every 90 minutes).
const MAX_STEP: u64 = 60;

/// A field's name in messages, its range, and the names of its values from the least on.
pub struct Field {
    pub name: &'static str,
    pub least: u64,
    pub most: u64,
    names: &'static [&'static str],
}

/// The first field.
pub const MINUTE: Field = Field { name: "minute", least: 0, most: 59, names: &[] };
/// The second field.
pub const HOUR: Field = Field { name: "hour", least: 0, most: 23, names: &[] };
/// The third field.
pub const DAY: Field = Field { name: "day of the month", least: 1, most: 31, names: &[] };
/// The fourth field.
pub const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
/// Sunday is 0 and 7.
pub const WEEKDAY: Field =
    Field { name: "day of the week", least: 0, most: 7, names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] };

/// The values of a field, or of a part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Values {
    pub bits: u64,
    /// It names a frequency rather than a time: by `*`, a range or a step.
    pub repeats: bool,
}

impl Values {
    /// Adds the values of another part.
    pub fn add(&mut self, part: Values) {
        self.bits |= part.bits;
        self.repeats |= part.repeats;
    }
}

impl Field {
    fn is_week(&self) -> bool {
        self.most == 7
    }

    /// The error of this field.
    pub fn error(&self, what: impl std::fmt::Display) -> CronError {
        CronError(format!("the {} {what}", self.name))
    }

    fn expected(&self) -> String {
        let numbers = format!("from {} to {}", self.least, self.most);
        match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!("{numbers} or {first} to {last}"),
            _ => numbers,
        }
    }

    /// A single value, as a number of one or two digits or a name.
    pub fn value(&self, text: &str) -> Result<u64, CronError> {
        let expected = || self.error(format_args!("is {text:?}, and must be {}", self.expected()));
        if let Some(at) = self.names.iter().position(|name| *name == text) {
            return Ok(at as u64 + self.least);
        }
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten().ok_or_else(expected)?;
        if (self.least..=self.most).contains(&number) {
            return Ok(number);
        }
        Err(self.error(format_args!("is {number}, and must be {}", self.expected())))
    }

    fn step(&self, text: &str) -> Result<u64, CronError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let step = digits.then(|| text.parse().ok()).flatten().filter(|step| (1..=MAX_STEP).contains(step));
        step.ok_or_else(|| self.error(format_args!("has the step {text:?}, which must be from 1 to {MAX_STEP}")))
    }

    /// The last distinct value: a Sunday's 7 is the same as its 0.
    fn last(&self) -> u64 {
        if self.is_week() { 6 } else { self.most }
    }

    /// `*`, `5`, `1-5`, `22-4`, each with or without a step after a slash. A range may wrap around; a step from a
    /// single value goes to the end.
    pub fn part(&self, part: &str) -> Result<Values, CronError> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.last()),
            Some((from, to)) => (self.value(from)?, self.value(to)?),
            None if step.is_some() => (self.value(range)?, self.last()),
            None => return Ok(Values { bits: 1 << self.value(range)?, repeats: false }),
        };
        let count = self.last() - self.least + 1;
        let place = |value: u64| (value - self.least) % count;
        // A whole week is the only range whose ends are the same day.
        let length =
            if self.is_week() && (from, to) == (0, 7) { count - 1 } else { (place(to) + count - place(from)) % count };
        let step = step.unwrap_or(1);
        let values = (0..=length).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        let bits = values.fold(0, |bits, ahead| bits | 1 << (self.least + (place(from) + ahead) % count));
        Ok(Values { bits, repeats: range == "*" || from != to })
    }

    /// The parts of a list.
    pub fn parts<'t>(&self, text: &'t str) -> Result<std::str::Split<'t, char>, CronError> {
        if text.split(',').any(str::is_empty) {
            return Err(self.error(format_args!("has an empty part: {text:?}")));
        }
        Ok(text.split(','))
    }

    /// Reads a whole field, in upper case.
    pub fn read(&self, text: &str) -> Result<Values, CronError> {
        let mut values = Values::default();
        for part in self.parts(text)? {
            values.add(self.part(part)?);
        }
        Ok(values)
    }
}
