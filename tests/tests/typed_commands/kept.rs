//! A recorded sitting as a text file: `t LINE` for what is true, `s SECRET` for what was typed unseen, and
//! `MICROSECONDS c|o|w BYTES` for the stream, bytes with escapes.

use std::fmt::Write as _;

use super::programs::Recorded;
use super::sitting::Piece;

pub(crate) fn to_text(recorded: &Recorded) -> String {
    let mut text = String::new();
    for line in &recorded.truth {
        writeln!(text, "t {}", line.as_bytes().escape_ascii()).expect("text can be written");
    }
    for secret in &recorded.secrets {
        writeln!(text, "s {secret}").expect("text can be written");
    }
    for (elapsed, piece) in &recorded.stream {
        let written = match piece {
            Piece::Client(bytes) => writeln!(text, "{elapsed} c {}", bytes.escape_ascii()),
            Piece::Target(bytes) => writeln!(text, "{elapsed} o {}", bytes.escape_ascii()),
            Piece::Window(columns, rows) => writeln!(text, "{elapsed} w {columns} {rows}"),
        };
        written.expect("text can be written");
    }
    text
}

pub(crate) fn from_text(program: &str, text: &str) -> Recorded {
    let mut recorded =
        Recorded { program: program.to_owned(), stream: Vec::new(), truth: Vec::new(), secrets: Vec::new() };
    for line in text.lines() {
        let (first, rest) = line.split_once(' ').expect("a line has a kind");
        match first {
            "t" => recorded.truth.push(String::from_utf8(unescape(rest)).expect("the truth is text")),
            "s" => recorded.secrets.push(rest.to_owned()),
            elapsed => {
                let (kind, bytes) = rest.split_once(' ').expect("a piece has a kind");
                let piece = match kind {
                    "c" => Piece::Client(unescape(bytes)),
                    "o" => Piece::Target(unescape(bytes)),
                    _ => {
                        let (columns, rows) = bytes.split_once(' ').expect("a window has two sizes");
                        let number = |text: &str| text.parse().expect("a number");
                        Piece::Window(number(columns), number(rows))
                    }
                };
                recorded.stream.push((elapsed.parse().expect("a time"), piece));
            }
        }
    }
    recorded
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        plain.push(match bytes.next().expect("an escape has a kind") {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let digits = [bytes.next().expect("two digits"), bytes.next().expect("two digits")];
                u8::from_str_radix(str::from_utf8(&digits).expect("digits"), 16).expect("digits")
            }
            other => other,
        });
    }
    plain
}
