//! The identification line (RFC 4253 section 4.2).
//!
//! Reads at most 8 KiB before the line, so that a peer that is no SSH server costs little.

use thiserror::Error;

/// Longest identification line with its line end, in bytes.
const MAX_LINE: usize = 255;
/// Most bytes that a server may send before its identification line (OpenSSH's own limit is 8 KiB
/// per line; RFC 4253 sets none).
const MAX_BEFORE: usize = 8 * 1024;

/// A peer that does not speak SSH 2.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentificationError {
    /// No identification line came within the limits.
    #[error("the peer did not identify itself as SSH")]
    NotSsh,
    /// The peer speaks another version.
    #[error("the peer speaks SSH {0}, not 2.0")]
    Version(String),
}

/// Looks for the peer's identification at the start of `bytes`.
///
/// Returns the line without its line end and the number of bytes to consume, or `None` when more must
/// be read. Only a server may send other lines first.
///
/// # Errors
/// [`IdentificationError`] when no further input can help.
pub(super) fn find(
    bytes: &[u8],
    lines_before: bool,
) -> Result<Option<(Vec<u8>, usize)>, IdentificationError> {
    let mut start = 0;
    loop {
        let rest = bytes.get(start..).unwrap_or_default();
        let Some(newline) = rest.iter().position(|byte| *byte == b'\n') else {
            let too_long =
                if could_identify(rest) { rest.len() >= MAX_LINE } else { start + rest.len() >= MAX_BEFORE };
            let hopeless = !lines_before && !could_identify(rest);
            return if too_long || hopeless { Err(IdentificationError::NotSsh) } else { Ok(None) };
        };
        let line = rest.get(..newline).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        start += newline + 1;
        if line.starts_with(b"SSH-") {
            return check(line).map(|()| Some((line.to_vec(), start)));
        }
        if !lines_before || start >= MAX_BEFORE {
            return Err(IdentificationError::NotSsh);
        }
    }
}

fn could_identify(line: &[u8]) -> bool {
    let prefix = b"SSH-";
    line.iter().zip(prefix).all(|(byte, expected)| byte == expected)
}

fn check(line: &[u8]) -> Result<(), IdentificationError> {
    if line.len() + 2 > MAX_LINE || line.contains(&0) {
        return Err(IdentificationError::NotSsh);
    }
    if line.starts_with(b"SSH-2.0-") || line.starts_with(b"SSH-1.99-") {
        return Ok(());
    }
    let version: String =
        line.iter().skip(4).take(8).map(|byte| char::from(*byte)).filter(char::is_ascii_graphic).collect();
    Err(IdentificationError::Version(version))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_the_line_and_what_to_consume() {
        let found = Ok(Some((b"SSH-2.0-x y".to_vec(), 13)));
        assert_eq!(find(b"SSH-2.0-x y\r\nrest", false), found);
        assert_eq!(find(b"SSH-2.0-x y\nrest", false), Ok(Some((b"SSH-2.0-x y".to_vec(), 12))));
        assert_eq!(find(b"hello\r\nSSH-1.99-x\r\n", true), Ok(Some((b"SSH-1.99-x".to_vec(), 19))));
    }

    #[test]
    fn refuses_what_is_not_ssh_2_as_soon_as_it_shows() {
        assert_eq!(find(b"GET / HT", false), Err(IdentificationError::NotSsh));
        assert_eq!(find(b"hello\r\nSSH-2.0-x\r\n", false), Err(IdentificationError::NotSsh));
        assert_eq!(find(b"SSH-1.5-x\r\n", true), Err(IdentificationError::Version("1.5-x".into())));
        assert_eq!(
            find(&[b"SSH-2.0-".as_slice(), &[b'x'; 255]].concat(), false),
            Err(IdentificationError::NotSsh)
        );
        assert_eq!(find(&[b'x'; MAX_BEFORE], true), Err(IdentificationError::NotSsh));
        assert_eq!(find(b"", false), Ok(None));
        assert_eq!(find(b"SS", false), Ok(None));
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), server in any::<bool>()) {
            if let Ok(Some((line, consumed))) = find(&bytes, server) {
                prop_assert!(line.starts_with(b"SSH-") && line.len() < consumed && consumed <= bytes.len());
            }
        }
    }
}
