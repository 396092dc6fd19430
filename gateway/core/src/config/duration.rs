//! Lengths of time as they are written in a file.

use std::time::Duration;

use thiserror::Error;

/// The longest duration that is accepted: a day.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest age that is accepted: ten years.
const LONGEST_AGE: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    /// No number with a unit.
    #[error("{0:?} is no duration: write a whole number and a unit, as \"500ms\", \"10s\", \"3m\" or \"1h\"")]
    Malformed(String),
    /// 0, or too long.
    #[error("{0:?} is out of range: write more than 0 and at most \"24h\"")]
    OutOfRange(String),
    /// No number with a unit, for an age.
    #[error(
        "{0:?} is no age: write a whole number of hours or days, as \"12h\" or \"30d\", at most \"3650d\""
    )]
    NoAge(String),
}

/// Reads a whole number with one of the units `ms`, `s`, `m`, `h`; more than 0, at most a day.
///
/// # Errors
/// [`DurationError`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let malformed = || DurationError::Malformed(text.to_owned());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(malformed)?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return Err(malformed()),
    };
    if number.is_empty() {
        return Err(malformed());
    }
    let length = number.parse().ok().and_then(|number: u64| number.checked_mul(milliseconds));
    length
        .map(Duration::from_millis)
        .filter(|length| !length.is_zero() && *length <= LONGEST)
        .ok_or_else(|| DurationError::OutOfRange(text.to_owned()))
}

/// Reads a whole number with one of the units `h`, `d`; more than 0, at most ten years.
///
/// # Errors
/// [`DurationError::NoAge`].
pub fn parse_age(text: &str) -> Result<Duration, DurationError> {
    let hours = text.strip_suffix('h').map(|number| (number, 1));
    let parsed = hours.or_else(|| text.strip_suffix('d').map(|number| (number, 24)));
    let digits = parsed.filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|(number, hours)| number.parse::<u64>().ok()?.checked_mul(hours)?.checked_mul(3600))
        .map(Duration::from_secs)
        .filter(|age| !age.is_zero() && *age <= LONGEST_AGE)
        .ok_or_else(|| DurationError::NoAge(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit() {
        let cases = [("500ms", 500), ("10s", 10_000), ("3m", 180_000), ("24h", 86_400_000)];
        for (text, milliseconds) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "10", "s", "1.5s", "-1s", "10 s", "1d", "ß", "10S"] {
            assert_eq!(parse(text), Err(DurationError::Malformed(text.to_owned())));
        }
        for text in ["0s", "25h", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(parse(text), Err(DurationError::OutOfRange(text.to_owned())));
        }
    }

    #[test]
    fn ages_are_hours_or_days() {
        assert_eq!(parse_age("12h"), Ok(Duration::from_hours(12)));
        assert_eq!(parse_age("3650d"), Ok(LONGEST_AGE));
        for text in ["", "d", "0d", "3651d", "7", "7m", "+7d", "1.5d", "99999999999999999999d"] {
            assert_eq!(parse_age(text), Err(DurationError::NoAge(text.to_owned())));
        }
    }
}
