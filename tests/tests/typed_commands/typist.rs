//! Somebody who types: what a line is made of, and the ways in which people get there.

use std::time::Duration;

use super::sitting::Sitting;

/// How long a program says nothing when it waits.
const QUIET: Duration = Duration::from_millis(130);

/// A way to type a line. Each leaves the line `text` to be sent, or says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Key by key.
    Plain,
    /// With wrong letters that backspace takes away.
    Mistakes,
    /// The first word is forgotten and typed last, after ^A.
    StartLast,
    /// A word in the middle is put in with the cursor keys.
    Middle,
    /// Another line first, which ^U takes away.
    KillLine,
    /// A wrong last word, which ^W takes away.
    KillWord,
    /// ^U, and ^Y brings it back.
    Yank,
    /// In one piece, as a paste without marks comes.
    Paste,
    /// In one piece between the marks of a paste.
    MarkedPaste,
    /// A slow command first; the line is typed while it runs.
    Ahead,
    /// Two lines in one piece, Enter and all.
    TwoAtOnce,
    /// Half of it is given up with ^C, then all of it.
    GivenUp,
    /// The line before again, by the up key; `text` is not typed.
    Again,
    /// A line found by ^R and `text`; typed for editors that search.
    Search,
    /// The last word completed by the tab key.
    Complete,
    /// The screen is cleared by ^L halfway.
    Clear,
}

impl Sitting {
    /// Types `text` in its way and sends it.
    pub(crate) fn line(&mut self, way: Way, text: &str) {
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        match way {
            Way::Plain => self.type_keys(text),
            Way::Mistakes => {
                let half = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
                self.type_keys(&text[..half]);
                self.type_keys("xq\x7f\x7f");
                self.type_keys(&text[half..]);
                self.type_keys("zz");
                self.type_keys("\x7f\x7f");
            }
            Way::StartLast => {
                self.type_keys(rest);
                self.send(b"\x01");
                self.type_keys(&format!("{first} "));
            }
            Way::Middle => {
                let (last_space, word) = text.rsplit_once(' ').unwrap_or(("", text));
                self.type_keys(word);
                for _ in word.chars() {
                    self.send(b"\x1b[D");
                    self.watch(Duration::from_millis(20));
                }
                self.type_keys(&format!("{last_space} "));
                self.send(b"\x05");
            }
            Way::KillLine => {
                self.type_keys("rm -rf nonsense");
                self.send(b"\x15");
                self.watch(Duration::from_millis(30));
                self.type_keys(text);
            }
            Way::KillWord => {
                self.type_keys(text);
                self.type_keys(" wrong");
                self.send(b"\x17");
                self.watch(Duration::from_millis(30));
            }
            Way::Yank => {
                self.type_keys(text);
                self.send(b"\x15");
                self.settle(QUIET);
                self.send(b"\x19");
            }
            Way::Paste => self.send(text.as_bytes()),
            Way::MarkedPaste => self.send(format!("\x1b[200~{text}\x1b[201~").as_bytes()),
            Way::Ahead => {
                self.type_keys("sleep 0.4\r");
                self.type_keys(text);
            }
            Way::TwoAtOnce => self.send(format!("{text} 1\r{text} 2").as_bytes()),
            Way::GivenUp => {
                self.type_keys(first);
                self.send(b"\x03");
                self.settle(QUIET);
                self.type_keys(text);
            }
            Way::Again => {
                self.send(b"\x1b[A");
                self.settle(QUIET);
            }
            Way::Search => {
                self.send(b"\x12");
                self.settle(QUIET);
                self.type_keys(text);
                self.settle(QUIET);
            }
            Way::Complete => {
                self.type_keys(text);
                self.send(b"\t");
                self.settle(QUIET);
            }
            Way::Clear => {
                self.type_keys(first);
                self.send(b"\x0c");
                self.settle(QUIET);
                self.type_keys(&format!(" {rest}"));
            }
        }
        self.enter();
    }

    /// Sends the line and waits for what it writes.
    pub(crate) fn enter(&mut self) {
        self.watch(Duration::from_millis(30));
        self.send(b"\r");
        self.settle(QUIET);
    }

    /// Answers `prompt` with `secret`, which is not shown.
    pub(crate) fn secret(&mut self, prompt: &str, secret: &str) {
        self.expect(prompt);
        self.type_keys(secret);
        self.enter();
    }

    /// Presses keys of a program that draws, one by one.
    pub(crate) fn press(&mut self, keys: &[&str]) {
        for key in keys {
            self.send(key.as_bytes());
            self.settle(QUIET);
        }
    }
}
