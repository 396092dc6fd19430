//! Lengths of time as they are written in a file.

use std::time::Duration;

use thiserror::Error;

/// The longest duration that is accepted: a day.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    /// No number with a unit.
    #[error("{0:?} is no duration: write a whole number and a unit, as \"500ms\", \"10s\", \"3m\" or \"1h\"")]
    Malformed(String),
    /// 0, or too long.
    #[error("{0:?} is out of range: write more than 0 and at most \"24h\"")]
    OutOfRange(String),
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
}
