//! Recordings of terminals as asciicast, lines of JSON that asciinema and other players read.
//!
//! Owns versions 2 and 3 (<https://docs.asciinema.org/manual/asciicast/v3/>), and characters that are cut in two
//! between packets. Text is UTF-8 there: other bytes become replacement characters. Times never go back.

use serde_json::{Value, json};

use crate::utf8;

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Version 2: times count from the start; how a program ended has no place.
    V2,
    /// Version 3: times count from the event before.
    V3,
}

/// What the first line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Columns at the start; 0 counts as 80.
    pub columns: u32,
    /// Rows at the start; 0 counts as 24.
    pub rows: u32,
    /// The TERM value.
    pub term: Option<String>,
    /// Start of the recording, seconds since 1970.
    pub timestamp: u64,
    /// What a player shows above it.
    pub title: Option<String>,
}

/// Something that happened in a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Was printed.
    Output(&'a [u8]),
    /// Was typed.
    Input(&'a [u8]),
    /// The terminal got another size: columns and rows.
    Resize(u32, u32),
    /// A place to jump to, with its name.
    Marker(&'a str),
    /// The program ended with this status.
    Exit(u32),
}

/// Makes the lines of one recording, without their ends.
#[derive(Clone, Debug)]
pub struct Asciicast {
    version: Version,
    /// Microseconds from the start to the last event.
    last: u64,
    output: Utf8,
    input: Utf8,
}

/// Bytes of a character whose rest is still to come.
#[derive(Clone, Debug, Default)]
struct Utf8(Vec<u8>);

impl Asciicast {
    /// A recording, and its first line.
    pub fn begin(version: Version, header: &Header) -> (Self, String) {
        let (columns, rows) = (size(header.columns, 80), size(header.rows, 24));
        let mut first = match version {
            Version::V2 => json!({ "version": 2, "width": columns, "height": rows }),
            Version::V3 => json!({ "version": 3, "term": { "cols": columns, "rows": rows } }),
        };
        let mut set = |pointer: &str, key: &str, value: Value| {
            if let Some(object) = first.pointer_mut(pointer).and_then(Value::as_object_mut) {
                object.insert(key.to_owned(), value);
            }
        };
        set("", "timestamp", header.timestamp.into());
        if let Some(title) = &header.title {
            set("", "title", title.as_str().into());
        }
        match (version, &header.term) {
            (Version::V2, Some(term)) => set("", "env", json!({ "TERM": term })),
            (Version::V3, Some(term)) => set("/term", "type", term.as_str().into()),
            (Version::V2 | Version::V3, None) => {}
        }
        (Self { version, last: 0, output: Utf8::default(), input: Utf8::default() }, first.to_string())
    }

    /// The line of an event, `elapsed` microseconds after the start; `None` where there is nothing to say yet, or in
    /// this version at all.
    pub fn event(&mut self, elapsed: u64, event: Event<'_>) -> Option<String> {
        let (code, text) = match event {
            Event::Output(bytes) => ('o', self.output.add(bytes)),
            Event::Input(bytes) => ('i', self.input.add(bytes)),
            Event::Resize(columns, rows) => ('r', format!("{}x{}", size(columns, 80), size(rows, 24))),
            Event::Marker(name) => return Some(self.line(elapsed, 'm', name)),
            Event::Exit(_) if self.version == Version::V2 => return None,
            // Players take it as a signed number.
            Event::Exit(status) => ('x', status.cast_signed().to_string()),
        };
        (!text.is_empty()).then(|| self.line(elapsed, code, &text))
    }

    /// The lines of what was cut off by the end.
    pub fn end(mut self) -> Vec<String> {
        let cut = [('o', std::mem::take(&mut self.output)), ('i', std::mem::take(&mut self.input))];
        let cut = cut.into_iter().filter(|(_, rest)| !rest.0.is_empty());
        let last = self.last;
        cut.map(|(code, rest)| self.line(last, code, &String::from_utf8_lossy(&rest.0))).collect()
    }

    fn line(&mut self, elapsed: u64, code: char, text: &str) -> String {
        let elapsed = elapsed.max(self.last);
        let time = match self.version {
            Version::V2 => elapsed,
            Version::V3 => elapsed - self.last,
        };
        self.last = elapsed;
        format!("[{}.{:06}, \"{code}\", {}]", time / 1_000_000, time % 1_000_000, Value::from(text))
    }
}

impl Utf8 {
    /// The text up to the last whole character.
    fn add(&mut self, bytes: &[u8]) -> String {
        self.0.extend_from_slice(bytes);
        let whole = self.0.len() - utf8::cut_off(&self.0);
        let rest = self.0.split_off(whole);
        let text = String::from_utf8_lossy(&self.0).into_owned();
        self.0 = rest;
        text
    }
}

/// Players take sizes of 16 bits, and a terminal may not know its own (RFC 4254 section 6.2).
fn size(number: u32, unknown: u32) -> u32 {
    if number == 0 { unknown } else { number.min(u32::from(u16::MAX)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header {
            columns: 100,
            rows: 0,
            term: Some("xterm".into()),
            timestamp: 1_700_000_000,
            title: Some("a \u{9b}".into()),
        }
    }

    fn lines(version: Version) -> Vec<String> {
        let (mut cast, first) = Asciicast::begin(version, &header());
        let mut lines = vec![first];
        for (elapsed, event) in [
            (250_000, Event::Output(b"\x1b[1mgr\xc3")),
            (1_500_000, Event::Marker("id")),
            (1_500_001, Event::Output(b"\xbcn\xff\r\n")),
            (1_000_000, Event::Resize(90, 30)),
            (2_000_000, Event::Input(b"\xe2\x82")),
            (2_000_000, Event::Output(b"")),
            (70_000_000, Event::Exit(3)),
        ] {
            lines.extend(cast.event(elapsed, event));
        }
        lines.extend(cast.end());
        lines
    }

    #[test]
    fn version_3_counts_from_the_event_before() {
        assert_eq!(
            lines(Version::V3),
            [
                r#"{"term":{"cols":100,"rows":24,"type":"xterm"},"timestamp":1700000000,"title":"a ","version":3}"#
                    .replace("a ", "a \u{9b}")
                    .as_str(),
                r#"[0.250000, "o", "\u001b[1mgr"]"#,
                r#"[1.250000, "m", "id"]"#,
                "[0.000001, \"o\", \"\u{fc}n\u{fffd}\\r\\n\"]",
                r#"[0.000000, "r", "90x30"]"#,
                r#"[68.499999, "x", "3"]"#,
                "[0.000000, \"i\", \"\u{fffd}\"]",
            ]
        );
    }

    #[test]
    fn version_2_counts_from_the_start_and_has_no_exit() {
        let lines = lines(Version::V2);
        assert_eq!(
            lines[0],
            "{\"env\":{\"TERM\":\"xterm\"},\"height\":24,\"timestamp\":1700000000,\"title\":\"a \u{9b}\",\"version\":2,\"width\":100}"
        );
        assert_eq!(
            lines[2..5],
            [
                r#"[1.500000, "m", "id"]"#.to_owned(),
                "[1.500001, \"o\", \"\u{fc}n\u{fffd}\\r\\n\"]".to_owned(),
                r#"[1.500001, "r", "90x30"]"#.to_owned(),
            ]
        );
        assert!(lines.iter().all(|line| !line.contains("\"x\"")));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn cuts_change_no_text(text in "\\PC{0,20}", noise in prop::collection::vec(any::<u8>(), 0..5), cut in 1..4_usize) {
            let bytes = [text.as_bytes(), &noise].concat();
            let mut utf8 = Utf8::default();
            let mut read: String = bytes.chunks(cut).map(|piece| utf8.add(piece)).collect();
            prop_assert!(utf8.0.len() < 4);
            read.push_str(&String::from_utf8_lossy(&utf8.0));
            prop_assert!(read.starts_with(&text));
            if noise.is_empty() {
                prop_assert_eq!(read, text);
            }
        }
    }
}
