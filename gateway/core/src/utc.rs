//! Points in time as text, in UTC.
//!
//! Owns the calendar (proleptic Gregorian, no leap seconds) and two text forms. Time zones and reading
//! the clock are deliberately absent.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time, in whole microseconds since 1970; earlier times count as 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UtcTime(u64);

impl UtcTime {
    /// From seconds since 1970.
    pub const fn from_unix_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Seconds since 1970, rounded down.
    pub const fn unix_seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Milliseconds since 1970, rounded down.
    pub const fn unix_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// The time `elapsed` later.
    #[must_use]
    pub fn after(self, elapsed: Duration) -> Self {
        Self(self.0.saturating_add(micros(elapsed)))
    }

    /// As `2026-11-21 19:42:38+00`.
    pub fn to_seconds_text(self) -> String {
        let (date, (hour, minute, second)) = (self.date(), self.time_of_day());
        format!("{date} {hour:02}:{minute:02}:{second:02}+00")
    }

    fn date(self) -> Date {
        Date::from_days(self.unix_seconds() / 86_400)
    }

    const fn time_of_day(self) -> (u64, u64, u64) {
        let second = self.unix_seconds() % 86_400;
        (second / 3_600, second / 60 % 60, second % 60)
    }
}

impl From<SystemTime> for UtcTime {
    fn from(time: SystemTime) -> Self {
        Self(micros(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
    }
}

impl fmt::Display for UtcTime {
    /// RFC 3339 with microseconds: `2026-11-21T19:42:38.000123Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, (hour, minute, second)) = (self.date(), self.time_of_day());
        write!(f, "{date}T{hour:02}:{minute:02}:{second:02}.{:06}Z", self.0 % 1_000_000)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

struct Date {
    year: u64,
    month: u64,
    day: u64,
}

impl Date {
    /// Counts days in years that begin on 1 March, so that the leap day is the last of its year.
    fn from_days(since_1970: u64) -> Self {
        const DAYS_PER_400_YEARS: u64 = 146_097;
        let since_0000_03_01 = since_1970 + 719_468;
        let cycle = since_0000_03_01 / DAYS_PER_400_YEARS;
        let day = since_0000_03_01 % DAYS_PER_400_YEARS;
        let leap_days = day / 1_460 + day / (DAYS_PER_400_YEARS - 1);
        let year = (day - leap_days + day / 36_524) / 365;
        let day_of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day_of_year + 2) / 153;
        Self {
            year: cycle * 400 + year + u64::from(month >= 10),
            month: (month + 2) % 12 + 1,
            day: day_of_year - (153 * month + 2) / 5 + 1,
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00+00"),
            (951_782_399, "2000-02-28 23:59:59+00"),
            (951_782_400, "2000-02-29 00:00:00+00"),
            (951_868_800, "2000-03-01 00:00:00+00"),
            (1_700_000_000, "2023-11-14 22:13:20+00"),
            (4_107_542_400, "2100-03-01 00:00:00+00"),
            (253_402_300_799, "9999-12-31 23:59:59+00"),
        ] {
            assert_eq!(UtcTime::from_unix_seconds(seconds).to_seconds_text(), text);
        }
    }

    #[test]
    fn every_day_of_800_years_follows_the_one_before() {
        let mut expected = (1970, 1, 1);
        for days in 0..292_194 {
            let date = Date::from_days(days);
            assert_eq!((date.year, date.month, date.day), expected);
            let (year, month, day) = expected;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == last => (year, month + 1, 1),
                (_, day) => (year, month, day + 1),
            };
        }
    }

    #[test]
    fn rfc_3339_with_microseconds() {
        let time = UtcTime::from_unix_seconds(1_700_000_000).after(Duration::from_micros(42));
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.000042Z");
        assert_eq!(UtcTime::from(UNIX_EPOCH - Duration::from_secs(5)).unix_millis(), 0);
    }
}
