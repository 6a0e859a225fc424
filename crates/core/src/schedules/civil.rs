//! Local time: a date and a minute without a time zone, counted from 1970.

/// Minutes since 1970-01-01T00:00 in local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil(pub u64);

impl Civil {
    /// The beginning of a day, counted from 1970-01-01.
    pub fn from_days(days: u64) -> Self {
        Self(days * 1440)
    }

    /// A number of minutes later.
    pub fn plus_minutes(self, minutes: u64) -> Self {
        Self(self.0 + minutes)
    }

    /// Days since 1970-01-01.
    pub fn day(self) -> u64 {
        self.0 / 1440
    }

    /// Minutes since the beginning of the day.
    pub fn minute_of_day(self) -> u64 {
        self.0 % 1440
    }

    /// 0 is Sunday; 1970 began on a Thursday.
    pub fn weekday(self) -> u64 {
        (self.day() + 4) % 7
    }

    /// Year, month from 1, day from 1.
    pub fn date(self) -> (u64, u64, u64) {
        crate::base::time::date_of(self.day())
    }
}

/// The length of a month in days.
pub fn days_in_month(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
