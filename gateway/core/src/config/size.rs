//! Numbers of bytes as they are written in a file.

use thiserror::Error;

/// The most that is accepted: 1 PiB.
const MOST: u64 = 1 << 50;

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SizeError {
    /// No number with a unit.
    #[error("{0:?} is no size: write a whole number and a unit, as \"512KiB\", \"64MiB\" or \"2GiB\"")]
    Malformed(String),
    /// Too much.
    #[error("{0:?} is out of range: write at most \"1024TiB\"")]
    OutOfRange(String),
}

/// Reads a whole number with one of the units `KiB`, `MiB`, `GiB`, `TiB`, or `0`.
///
/// # Errors
/// [`SizeError`].
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let malformed = || SizeError::Malformed(text.to_owned());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(malformed)?;
    let bytes: u64 = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "" if number == "0" => 1,
        _ => return Err(malformed()),
    };
    if number.is_empty() {
        return Err(malformed());
    }
    let size = number.parse().ok().and_then(|number: u64| number.checked_mul(bytes));
    size.filter(|size| *size <= MOST).ok_or_else(|| SizeError::OutOfRange(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit() {
        let cases = [("0", 0), ("0MiB", 0), ("512KiB", 524_288), ("64MiB", 67_108_864), ("1024TiB", MOST)];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "10", "MiB", "1.5MiB", "-1MiB", "10 MiB", "1MB", "1mib", "ß", "00"] {
            assert_eq!(parse(text), Err(SizeError::Malformed(text.to_owned())));
        }
        for text in ["1025TiB", "99999999999999999999KiB", "18446744073709551615TiB"] {
            assert_eq!(parse(text), Err(SizeError::OutOfRange(text.to_owned())));
        }
    }
}
