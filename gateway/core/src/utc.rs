//! Points in time as text, in UTC.
//!
//! Owns the calendar (proleptic Gregorian, no leap seconds), two text forms, and one that is read. Time zones
//! and reading the clock are deliberately absent.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

/// A point in time, in whole microseconds since 1970; earlier times count as 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UtcTime(u64);

/// Why a text is no point in time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no time: write it in UTC as \"2026-11-21\", \"2026-11-21T19:42\" or \"2026-11-21T19:42:38Z\""
)]
pub struct NotATime(String);

impl UtcTime {
    /// From milliseconds since 1970.
    pub const fn from_unix_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

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

    /// The time `elapsed` earlier; 1970 where that is before.
    #[must_use]
    pub fn before(self, elapsed: Duration) -> Self {
        Self(self.0.saturating_sub(micros(elapsed)))
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

impl FromStr for UtcTime {
    type Err = NotATime;

    /// Reads a date, or a date and a time of day with or without seconds and their fraction, in UTC; 1970 to 9999. The two are
    /// separated by `T` or a space; `Z` at the end may be left out.
    fn from_str(text: &str) -> Result<Self, NotATime> {
        parse(text).ok_or_else(|| NotATime(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<UtcTime> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time.strip_suffix('Z').unwrap_or(time)),
        None => (text, "00:00"),
    };
    let (time, micros) = match time.split_once('.') {
        Some((time, fraction)) if time.len() == "00:00:00".len() => (time, micros_of(fraction)?),
        Some(_) => return None,
        None => (time, 0),
    };
    let [year, month, day] = numbers(date, '-', &[4, 2, 2])?.try_into().ok()?;
    let (hour, minute, second) = match *numbers(time, ':', &[2, 2, 2])? {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let days = Date { year, month, day }.to_days()?;
    let valid = hour < 24 && minute < 60 && second < 60;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    valid.then(|| UtcTime::from_unix_seconds(seconds).after(Duration::from_micros(micros)))
}

/// The digits behind the point of seconds, as microseconds; what is finer is cut off.
fn micros_of(fraction: &str) -> Option<u64> {
    let digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| format!("{fraction:0<6}").get(..6)?.parse().ok()).flatten()
}

/// Numbers of as many digits each as `digits` says, at most as many as there.
fn numbers(text: &str, separator: char, digits: &[usize]) -> Option<Vec<u64>> {
    let mut read = Vec::new();
    for (index, part) in text.split(separator).enumerate() {
        let right = digits.get(index) == Some(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        read.push(part.parse().ok().filter(|_| right)?);
    }
    Some(read)
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

impl Date {
    /// Days since 1970; `None` for a date that is none, or before.
    fn to_days(&self) -> Option<u64> {
        let Self { year, month, day } = *self;
        if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || day == 0 {
            return None;
        }
        // Years that begin on 1 March, as in `from_days`.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let leap_days = year / 4 - year / 100 + year / 400;
        let days = (365 * year + leap_days + (153 * month + 2) / 5 + day - 1).checked_sub(719_468)?;
        // A day that its month does not have would be read as one of the next.
        (Self::from_days(days).day == day).then_some(days)
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
    fn every_time_that_is_written_is_read() {
        for days in (0..2_932_897).step_by(13) {
            let time = UtcTime::from_unix_seconds(days * 86_400 + days % 86_400);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        for (text, seconds) in [
            ("2023-11-14", 1_699_920_000),
            ("2023-11-14 22:13", 1_699_999_980),
            ("2023-11-14T22:13:20", 1_700_000_000),
            ("2000-02-29T00:00Z", 951_782_400),
        ] {
            assert_eq!(text.parse(), Ok(UtcTime::from_unix_seconds(seconds)), "{text}");
        }
        for text in [
            "",
            "2023",
            "2023-11",
            "2023-11-1",
            "2023-02-29",
            "2023-00-01",
            "2023-13-01",
            "1969-12-31",
            "2023-11-31",
            "2023-11-14T24:00",
            "2023-11-14T22:60",
            "2023-11-14T22:13:60",
            "2023-11-14T22",
            "+023-11-14",
            "2023-11-14T22:13:20+00",
            "2023-11-14T",
            "2023-11-14T1:1",
            "\u{661}023-11-14",
        ] {
            assert!(text.parse::<UtcTime>().is_err(), "{text}");
        }
    }

    #[test]
    fn rfc_3339_with_microseconds() {
        let time = UtcTime::from_unix_seconds(1_700_000_000).after(Duration::from_micros(42));
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.000042Z");
        assert_eq!(UtcTime::from(UNIX_EPOCH - Duration::from_secs(5)).unix_millis(), 0);
    }
}
