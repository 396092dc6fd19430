//! A terminal that a test sits at: a pty pair, a program on it, and a transcript.
//!
//! Reads are by expectation, never by time: [`Terminal::expect`] waits until the program has
//! written a text, so that a dialogue gives the same transcript on a slow machine and on a fast one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::unistd::ttyname;

use crate::execute::Companion;

/// A program on a terminal.
#[derive(Debug)]
pub struct Terminal {
    program: Companion,
    keyboard: File,
    device: PathBuf,
    screen: Arc<Screen>,
    read: usize,
}

#[derive(Debug, Default)]
struct Screen {
    state: Mutex<ScreenState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ScreenState {
    bytes: Vec<u8>,
    ended: bool,
}

impl Terminal {
    /// Runs `command` on a new terminal of `columns` x `rows`. The command must make the terminal
    /// its controlling one (`setsid --ctty`) if it is to hear of window changes.
    ///
    /// # Errors
    /// When no pty can be had or the program not started.
    pub fn spawn(command: &mut Command, columns: u16, rows: u16) -> Result<Self> {
        let (keyboard, slave) = pair(columns, rows).context("open a pty")?;
        let device = ttyname(&slave)?;
        let copy = |fd: &OwnedFd| fd.try_clone().context("copy the terminal");
        command.stdin(copy(&slave)?).stdout(copy(&slave)?).stderr(slave);
        let program = Companion::spawn(command);
        // The command holds the terminal open until its streams are replaced.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let screen = Arc::new(Screen::default());
        let (mut reading, shown) = (keyboard.try_clone()?, Arc::clone(&screen));
        thread::spawn(move || shown.fill(&mut reading));
        Ok(Self { program: program?, keyboard, device, screen, read: 0 })
    }

    /// Types `text`.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.keyboard.write_all(text.as_bytes())?)
    }

    /// Waits until `text` appears after what was expected before, and returns all up to it.
    ///
    /// # Errors
    /// With everything that was written, when it does not appear within `limit`.
    pub fn expect(&mut self, text: &str, limit: Duration) -> Result<String> {
        let from = self.read;
        let guard = self.screen.state.lock().unwrap_or_else(PoisonError::into_inner);
        let find = |state: &ScreenState| find(state.bytes.get(from..).unwrap_or_default(), text.as_bytes());
        let (state, _) = self
            .screen
            .changed
            .wait_timeout_while(guard, limit, |state| find(state).is_none() && !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        let Some(end) = find(&state) else {
            bail!("{text:?} never appeared in {:?}", String::from_utf8_lossy(&state.bytes));
        };
        self.read = from + end;
        Ok(String::from_utf8_lossy(state.bytes.get(from..from + end).unwrap_or_default()).into_owned())
    }

    /// Changes the size of the window; programs on the terminal get SIGWINCH.
    ///
    /// # Errors
    /// When stty fails.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let mut stty = Command::new("stty");
        stty.arg("-F").arg(&self.device).args(["cols", &columns, "rows", &rows]);
        if !Companion::spawn(&mut stty)?.wait(Duration::from_secs(60))?.success() {
            bail!("stty refused {columns} x {rows}");
        }
        Ok(())
    }

    /// Waits for the program's end; returns how it ended and the whole transcript.
    ///
    /// # Errors
    /// When it still runs after `limit`, or another program still has the terminal open then.
    pub fn finish(mut self, limit: Duration) -> Result<(ExitStatus, String)> {
        let status = self.program.wait(limit).with_context(|| self.transcript())?;
        let guard = self.screen.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, _) = self
            .screen
            .changed
            .wait_timeout_while(guard, limit, |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        ensure!(
            state.ended,
            "a program keeps the terminal open: {:?}",
            String::from_utf8_lossy(&state.bytes)
        );
        drop(state);
        Ok((status, self.transcript()))
    }

    /// All that was written so far.
    pub fn transcript(&self) -> String {
        let state = self.screen.state.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&state.bytes).into_owned()
    }

    /// The program on the terminal.
    pub fn program(&mut self) -> &mut Companion {
        &mut self.program
    }
}

impl Screen {
    /// Reads until the last program has closed the terminal, which reads as an error (EIO).
    fn fill(&self, terminal: &mut File) {
        let mut buffer = [0; 4096];
        loop {
            let count = terminal.read(&mut buffer).unwrap_or(0);
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
            state.ended = count == 0;
            self.changed.notify_all();
            if state.ended {
                return;
            }
        }
    }
}

/// Keyboard and terminal of `columns` x `rows`. Programs that others start meanwhile do not get them: one that stays would keep
/// the terminal open.
///
/// # Errors
/// When no pty can be had.
pub fn pair(columns: u16, rows: u16) -> Result<(File, OwnedFd)> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let OpenptyResult { master, slave } = openpty(Some(&size), None)?;
    for fd in [&master, &slave] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok((File::from(master), slave))
}

/// Where the first `needle` in `hay` ends.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle).map(|start| start + needle.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_dialogue_with_a_window_change() {
        let script = "stty size; trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.02; done";
        let mut terminal =
            Terminal::spawn(Command::new("setsid").args(["--ctty", "bash", "-c", script]), 80, 24).unwrap();
        assert_eq!(terminal.expect("ready", LIMIT).unwrap(), "24 80\r\nready");
        terminal.resize(132, 43).unwrap();
        terminal.expect("43 132", LIMIT).unwrap();
        let (status, transcript) = terminal.finish(LIMIT).unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(transcript.ends_with("43 132\r\n"), "{transcript:?}");
    }

    #[test]
    fn what_never_appears_is_an_error_that_shows_the_screen() {
        let mut terminal = Terminal::spawn(Command::new("echo").arg("hello"), 80, 24).unwrap();
        let error = terminal.expect("goodbye", LIMIT).unwrap_err();
        assert!(error.to_string().contains("hello"), "{error}");
    }
}
