//! Keys of the terminal that a recording is played in.
//!
//! Invariant: the terminal is as it was when [`Keyboard`] is dropped, and what was typed or answered until then reaches
//! nobody else. Recordings make terminals answer (reports of the cursor's place): answers are sequences, of which
//! arrow keys alone mean something.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{FlushArg, LocalFlags, OutputFlags, SetArg, Termios, tcflush, tcgetattr, tcsetattr};
use vte::{Params, Parser, Perform};

use super::pacer::Key;

/// The longest wait for one look at the keyboard.
const LONGEST: Duration = Duration::from_secs(60);

/// Waits, and says which key was pressed meanwhile.
pub(in super::super) trait Keys {
    /// Waits for a key, for `limit` at the longest; how long that was, and the key.
    ///
    /// # Errors
    /// When the terminal is gone.
    fn wait(&mut self, limit: Option<Duration>) -> io::Result<(Duration, Option<Key>)>;
}

/// No keyboard: waits only.
pub(in super::super) struct NoKeys;

impl Keys for NoKeys {
    fn wait(&mut self, limit: Option<Duration>) -> io::Result<(Duration, Option<Key>)> {
        std::thread::sleep(limit.unwrap_or_default());
        Ok((limit.unwrap_or_default(), None))
    }
}

/// The keyboard of the process's terminal.
pub(in super::super) struct Keyboard {
    terminal: File,
    before: Termios,
    parser: Parser,
    pressed: Pressed,
}

/// Keys that were pressed and not asked for yet.
#[derive(Default)]
struct Pressed(std::collections::VecDeque<Key>);

impl Keyboard {
    /// Takes the keyboard: keys are not shown, and none of them is a signal. What is written reaches the terminal as
    /// it is.
    ///
    /// # Errors
    /// Where there is no terminal.
    pub(in super::super) fn open() -> io::Result<Self> {
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_flags &= !(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN);
        // What is shown was made ready for a terminal once: a line feed of a full-screen program is none at a line's end.
        quiet.output_flags &= !OutputFlags::OPOST;
        tcsetattr(&terminal, SetArg::TCSADRAIN, &quiet)?;
        Ok(Self { terminal, before, parser: Parser::default(), pressed: Pressed::default() })
    }

    /// Whether there is something to read within `limit`.
    fn is_readable(&self, limit: Duration) -> io::Result<bool> {
        // Rounded up, so that what is left never turns the wait into a busy loop.
        let millis = limit.min(LONGEST).as_micros().div_ceil(1_000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Keys for Keyboard {
    fn wait(&mut self, limit: Option<Duration>) -> io::Result<(Duration, Option<Key>)> {
        let began = Instant::now();
        loop {
            if let Some(key) = self.pressed.0.pop_front() {
                return Ok((began.elapsed(), Some(key)));
            }
            let left = limit.map_or(LONGEST, |limit| limit.saturating_sub(began.elapsed()));
            if self.is_readable(left)? {
                let mut bytes = [0; 64];
                let read = self.terminal.read(&mut bytes)?;
                if read == 0 {
                    return Ok((began.elapsed(), Some(Key::Quit)));
                }
                self.parser.advance(&mut self.pressed, bytes.get(..read).unwrap_or_default());
            } else if limit.is_some_and(|limit| began.elapsed() >= limit) {
                return Ok((began.elapsed(), None));
            }
        }
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        // A terminal that is gone needs neither.
        tcflush(&self.terminal, FlushArg::TCIFLUSH).ok();
        tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before).ok();
    }
}

impl Perform for Pressed {
    fn print(&mut self, character: char) {
        let key = match character {
            ' ' => Key::Pause,
            '.' => Key::Step,
            '+' | '=' => Key::Faster,
            '-' => Key::Slower,
            'n' | ']' => Key::NextCommand,
            'p' | '[' => Key::PreviousCommand,
            'g' => Key::Go,
            'q' => Key::Quit,
            '0'..='9' | ':' => Key::Digit(character),
            _ => return,
        };
        self.0.push_back(key);
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            // Ctrl-C and Ctrl-D.
            0x03 | 0x04 => self.0.push_back(Key::Quit),
            b'\r' | b'\n' => self.0.push_back(Key::Go),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, _: &Params, _: &[u8], _: bool, action: char) {
        match action {
            'C' => self.0.push_back(Key::Forward),
            'D' => self.0.push_back(Key::Back),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_what_a_terminal_answers() {
        let (mut parser, mut pressed): (Parser, _) = (Parser::default(), Pressed::default());
        let typed =
            b" \x1b[12;40R.\x1b[C\x1b]11;rgb:0000/0000/0000\x07\x1b[?62;c\x1bP>|VTE\x1b\\9g\x1b[D~q\x03";
        parser.advance(&mut pressed, typed);
        let expected =
            [Key::Pause, Key::Step, Key::Forward, Key::Digit('9'), Key::Go, Key::Back, Key::Quit, Key::Quit];
        assert_eq!(pressed.0, expected);
    }
}
