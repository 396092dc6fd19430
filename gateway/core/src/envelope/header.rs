//! The clear header at the start of every file.
//!
//! Owns its JSON and its framing: u32 big-endian length, then base64 of the JSON. The space for the
//! final contents is reserved with trailing spaces inside the JSON, so that it can be rewritten in
//! place. Invariant: nothing about user, target or command ever stands here; anyone who holds the file
//! can read it, and nobody can tell whether it was changed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::PREFIX;
use crate::record::{Exit, Pty};

/// JSON bytes that a recorder reserves for the header.
pub const RESERVED_HEADER: usize = 3072;

/// Bytes of the framed header that a recorder writes.
pub const FRAMED_HEADER: usize = PREFIX + RESERVED_HEADER.div_ceil(3) * 4;

/// Most base64 bytes that a reader accepts.
pub(crate) const MAX_HEADER: usize = 1024 * 1024;

/// Longest text kept in a header, in bytes of JSON between its quotes.
const MAX_TEXT: usize = 256;

/// Bytes of the comma between two terminal modes.
const SEPARATOR: usize = 1;

/// What a file says about itself in clear. Fields that are not known are ignored when read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Start of the session, seconds since 1970.
    pub started_at: u64,
    /// Data bytes in all packets, both sources; 0 until the file is finished.
    pub data_size: u64,
    /// The HPKE encapsulated key.
    #[serde(with = "hex::serde")]
    pub encapsulated_key: [u8; 32],
    /// The terminal; present makes the file a terminal recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pty: Option<PtyHeader>,
    /// How the program ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_data: Option<ExitHeader>,
    /// What the file holds; absent in files of other writers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<LogKind>,
    /// [`super::RecipientKey::id`] of the key it is sealed to; absent in files of other writers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Which segment of its log it is, from 0; absent in files of other writers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<u32>,
    /// Whether the log ends with it; false until that segment is finished.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
    /// Number of blocks; present only in a file that was finished, absent in files of other writers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<u64>,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    /// The streams of one session channel.
    Channel,
    /// The events of a session, JSON lines.
    Events,
    /// A kind of a later version.
    #[serde(other)]
    Unknown,
}

/// The terminal of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtyHeader {
    /// The TERM value.
    pub term: Option<String>,
    /// Columns at the start.
    pub width: u32,
    /// Rows at the start.
    pub height: u32,
    /// Terminal modes, name and value.
    pub modes: Vec<(String, u32)>,
}

/// How a program ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitHeader {
    /// When, seconds since 1970.
    pub timestamp: u64,
    /// Exit status.
    pub status: Option<u32>,
    /// Signal name without SIG.
    pub signal: Option<String>,
    /// Whether a core was dumped.
    #[serde(default)]
    pub core_dumped: bool,
    /// What the target said about the end.
    pub error_msg: Option<String>,
}

/// Why a header cannot be written or read.
#[derive(Debug, Error)]
pub enum HeaderError {
    /// The contents do not fit into the reserved space.
    #[error("the header needs {needed} bytes, {reserved} are reserved")]
    NoRoom {
        /// Bytes of the JSON.
        needed: usize,
        /// Bytes reserved.
        reserved: usize,
    },
    /// Not base64.
    #[error("the header is not base64")]
    NotBase64,
    /// Not the JSON of a header.
    #[error("the header is not the JSON of a log header")]
    Json(#[source] serde_json::Error),
}

impl Header {
    /// The framed header: length, base64, with the JSON padded to `reserved` bytes.
    ///
    /// # Errors
    /// [`HeaderError::NoRoom`], or [`HeaderError::Json`] if serialising fails.
    pub fn encode(&self, reserved: usize) -> Result<Vec<u8>, HeaderError> {
        let mut json = serde_json::to_vec(self).map_err(HeaderError::Json)?;
        if json.len() > reserved {
            return Err(HeaderError::NoRoom { needed: json.len(), reserved });
        }
        json.resize(reserved, b' ');
        let text = STANDARD.encode(json);
        let length = u32::try_from(text.len())
            .map_err(|_| HeaderError::NoRoom { needed: text.len(), reserved: MAX_HEADER })?;
        let mut framed = Vec::with_capacity(PREFIX + text.len());
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(text.as_bytes());
        Ok(framed)
    }

    /// Reads the framed header that a file starts with; `None` where there is no whole one.
    pub fn of_file(start: &[u8]) -> Option<Self> {
        let (prefix, rest) = start.split_first_chunk::<PREFIX>()?;
        let length = usize::try_from(u32::from_be_bytes(*prefix)).ok()?;
        Self::decode(rest.get(..length)?).ok()
    }

    /// The header of the same file as long as it is not finished.
    #[must_use]
    pub fn unfinished(self) -> Self {
        Self { data_size: 0, exit_data: None, last: false, blocks: None, ..self }
    }

    /// As [`Header::encode`], after shortening what the other side chose until it fits: texts to 256
    /// bytes of JSON, then terminal modes from the end. The cost is linear in what is shortened.
    ///
    /// # Errors
    /// As [`Header::encode`]; with [`RESERVED_HEADER`] bytes what the other side chose always fits.
    pub fn encode_shortened(&self, reserved: usize) -> Result<Vec<u8>, HeaderError> {
        let mut header = self.clone();
        header.shorten_texts();
        let modes = header.pty.as_mut().map(|pty| std::mem::take(&mut pty.modes)).unwrap_or_default();
        let mut room = reserved.saturating_sub(json_size(&header)?);
        let mut kept = Vec::new();
        for mode in modes {
            let Some(left) = room.checked_sub(json_size(&mode)? + SEPARATOR) else { break };
            room = left;
            kept.push(mode);
        }
        if let Some(pty) = &mut header.pty {
            pty.modes = kept;
        }
        header.encode(reserved)
    }

    /// Reads the base64 part of a header.
    ///
    /// # Errors
    /// [`HeaderError::NotBase64`], [`HeaderError::Json`].
    pub fn decode(text: &[u8]) -> Result<Self, HeaderError> {
        let json = STANDARD.decode(text).map_err(|_| HeaderError::NotBase64)?;
        serde_json::from_slice(&json).map_err(HeaderError::Json)
    }

    fn shorten_texts(&mut self) {
        let term = self.pty.as_mut().and_then(|pty| pty.term.as_mut());
        let exit = self.exit_data.as_mut();
        let (signal, message) = exit.map_or((None, None), |e| (e.signal.as_mut(), e.error_msg.as_mut()));
        for text in [term, signal, message].into_iter().flatten() {
            shorten(text);
        }
    }
}

/// Cuts a text where its JSON would pass [`MAX_TEXT`].
fn shorten(text: &mut String) {
    let mut room = MAX_TEXT;
    let fits = |&(_, character): &(usize, char)| {
        room.checked_sub(escaped_size(character)).inspect(|left| room = *left).is_some()
    };
    let end = text.char_indices().take_while(fits).last().map_or(0, |(at, last)| at + last.len_utf8());
    text.truncate(end);
}

/// Bytes of a character within a JSON string, as `serde_json` writes it (RFC 8259 section 7).
const fn escaped_size(character: char) -> usize {
    match character {
        '"' | '\\' | '\u{8}' | '\t' | '\n' | '\u{c}' | '\r' => 2,
        '\0'..'\u{20}' => 6,
        _ => character.len_utf8(),
    }
}

fn json_size(value: &impl Serialize) -> Result<usize, HeaderError> {
    serde_json::to_vec(value).map(|json| json.len()).map_err(HeaderError::Json)
}

impl From<&Pty> for PtyHeader {
    /// Bytes of TERM that are not UTF-8 become replacement characters; the events file has them exact.
    fn from(pty: &Pty) -> Self {
        Self {
            term: Some(String::from_utf8_lossy(&pty.term.0).into_owned()),
            width: pty.width,
            height: pty.height,
            modes: pty.modes.clone(),
        }
    }
}

impl ExitHeader {
    /// The exit data of a program that ended at `timestamp` (seconds since 1970).
    ///
    /// A signal without a message gets one, because a reader that knows only `status` would show the
    /// end by a signal as success.
    pub fn new(exit: &Exit, timestamp: u64) -> Self {
        match exit {
            Exit::Status(status) => Self { timestamp, status: Some(*status), ..Self::default() },
            Exit::Signal { signal, core_dumped, error_msg } => {
                let signal = String::from_utf8_lossy(&signal.0).into_owned();
                let message = if error_msg.0.is_empty() {
                    format!("signal {signal}")
                } else {
                    String::from_utf8_lossy(&error_msg.0).into_owned()
                };
                Self {
                    timestamp,
                    status: None,
                    signal: Some(signal),
                    core_dumped: *core_dumped,
                    error_msg: Some(message),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header {
            started_at: 1_700_000_000,
            encapsulated_key: [0xab; 32],
            kind: Some(LogKind::Channel),
            ..Header::default()
        }
    }

    #[test]
    fn rewriting_keeps_the_length() {
        let before = header().encode(RESERVED_HEADER).unwrap();
        let after = Header {
            data_size: u64::MAX,
            pty: Some(PtyHeader { term: Some("xterm".into()), ..PtyHeader::default() }),
            exit_data: Some(ExitHeader::new(&Exit::Status(7), 1_700_000_001)),
            blocks: Some(u64::MAX),
            ..header()
        };
        let rewritten = after.encode(RESERVED_HEADER).unwrap();
        assert_eq!(rewritten.len(), before.len());
        assert_eq!(rewritten.len(), 4 + RESERVED_HEADER / 3 * 4);
        assert_eq!(Header::decode(&rewritten[4..]).unwrap(), after);
    }

    #[test]
    fn long_texts_and_modes_are_shortened_to_fit() {
        let exit = Exit::Signal {
            signal: "TERM".into(),
            core_dumped: false,
            error_msg: "\u{e9}".repeat(70_000).as_str().into(),
        };
        let long = Header {
            pty: Some(PtyHeader {
                term: Some("\u{1}".repeat(5_000)),
                width: 80,
                height: 24,
                modes: vec![("ECHO".repeat(16), u32::MAX); 255],
            }),
            exit_data: Some(ExitHeader::new(&exit, 0)),
            ..header()
        };
        assert!(matches!(long.encode(RESERVED_HEADER), Err(HeaderError::NoRoom { .. })));
        let framed = long.encode_shortened(RESERVED_HEADER).unwrap();
        let read = Header::decode(&framed[4..]).unwrap();
        let pty = read.pty.unwrap();
        assert_eq!((pty.width, pty.height), (80, 24));
        assert!(!pty.modes.is_empty());
        assert_eq!(read.exit_data.unwrap().error_msg.unwrap().len(), MAX_TEXT);
    }

    #[test]
    fn texts_are_cut_by_the_bytes_of_their_json() {
        let exit = Exit::Signal {
            signal: "\u{1}".repeat(256).as_str().into(),
            core_dumped: true,
            error_msg: "\u{1}".repeat(256).as_str().into(),
        };
        let full = Header { exit_data: Some(ExitHeader::new(&exit, 0)), ..header() };
        let framed = full.encode_shortened(RESERVED_HEADER).unwrap();
        let read = Header::decode(&framed[4..]).unwrap().exit_data.unwrap();
        assert_eq!(read.signal.unwrap().len(), MAX_TEXT / 6);
        assert_eq!(read.error_msg.unwrap().len(), MAX_TEXT / 6);
    }

    #[test]
    fn as_many_modes_are_kept_as_fit() {
        let modes: Vec<_> = (0..1_000).map(|n| (format!("m{n:03}"), 7)).collect();
        let pty = PtyHeader { modes: modes.clone(), ..PtyHeader::default() };
        let long = Header { pty: Some(pty.clone()), ..header() };
        let framed = long.encode_shortened(RESERVED_HEADER).unwrap();
        let kept = Header::decode(&framed[4..]).unwrap().pty.unwrap().modes;
        assert_eq!(kept, modes[..kept.len()]);
        let more = PtyHeader { modes: modes[..kept.len() + 2].to_vec(), ..pty };
        let more = Header { pty: Some(more), ..header() };
        assert!(matches!(more.encode(RESERVED_HEADER), Err(HeaderError::NoRoom { .. })));
    }

    /// Texts of every character that JSON escapes, and of others.
    fn text() -> impl Strategy<Value = String> {
        let character = prop_oneof![any::<char>(), (0..0x80_u8).prop_map(char::from)];
        let mixed = proptest::collection::vec(character, 0..600).prop_map(String::from_iter);
        let repeated = ((0..0x80_u8).prop_map(char::from), 0..600_usize);
        let repeated = repeated.prop_map(|(character, count)| String::from(character).repeat(count));
        prop_oneof![mixed, repeated]
    }

    prop_compose! {
        fn any_header()(
            started_at: u64, data_size: u64, encapsulated_key: [u8; 32], blocks: Option<u64>,
            terminal: bool, ended: bool, core_dumped: bool, numbers: [u32; 3], timestamp: u64,
            segment: Option<u32>, last: bool,
            texts in [proptest::option::of(text()), proptest::option::of(text()), proptest::option::of(text())],
            modes in proptest::collection::vec((text(), any::<u32>()), 0..20),
        ) -> Header {
            let [term, signal, error_msg] = texts;
            let [width, height, status] = numbers;
            let exit = ExitHeader { timestamp, status: Some(status), signal, core_dumped, error_msg };
            Header {
                started_at, data_size, encapsulated_key, blocks, segment, last,
                pty: terminal.then_some(PtyHeader { term, width, height, modes }),
                exit_data: ended.then_some(exit),
                kind: Some(LogKind::Channel),
                recipient: Some("0123456789abcdef".into()),
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_the_other_side_chose_fits_into_the_reserve(any in any_header()) {
            let framed = any.encode_shortened(RESERVED_HEADER).unwrap();
            prop_assert_eq!(framed.len(), PREFIX + RESERVED_HEADER / 3 * 4);
            let read = Header::decode(&framed[PREFIX..]).unwrap();
            let term = |header: Header| header.pty.and_then(|pty| pty.term).unwrap_or_default();
            prop_assert!(term(any).starts_with(&term(read)));
        }

        #[test]
        fn the_size_of_escaped_text_is_that_of_its_json(character: char) {
            prop_assert_eq!(json_size(&character).unwrap(), escaped_size(character) + 2);
        }
    }

    #[test]
    fn unknown_fields_and_kinds_are_accepted() {
        let json = format!(
            r#"{{"started_at":1,"data_size":2,"encapsulated_key":"{}","pty":null,"kind":"later","new":[1]}}   "#,
            "00".repeat(32)
        );
        let read = Header::decode(STANDARD.encode(json).as_bytes()).unwrap();
        assert_eq!(read.kind, Some(LogKind::Unknown));
        assert_eq!(read.data_size, 2);
    }

    #[test]
    fn end_by_a_signal_never_looks_like_success() {
        let exit = Exit::Signal { signal: "KILL".into(), core_dumped: false, error_msg: "".into() };
        let header = ExitHeader::new(&exit, 5);
        assert_eq!(header.error_msg.as_deref(), Some("signal KILL"));
        assert_eq!(header.status, None);
    }
}
