//! A QEMU process: what all machines have in common, and its end.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use anyhow::{Context, Result};

/// The program.
pub(crate) const QEMU: &str = "qemu-system-x86_64";
/// A process that does not outlive its value; its end is that of a power cut.
#[derive(Debug)]
pub(crate) struct Emulator(Child);

impl Emulator {
    /// Starts what `command` says.
    ///
    /// # Errors
    /// When it cannot be started, with what to do.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let started = command.spawn();
        let program = command.get_program().to_string_lossy().into_owned();
        let child = started
            .with_context(|| format!("start {program}: if it is not there, run `cargo xtask setup`"))?;
        Ok(Self(child))
    }

    /// The process, for its pipes and its status.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // One that has powered off meanwhile is what is wanted.
        if matches!(self.0.try_wait(), Ok(None)) {
            self.0.kill().ok();
        }
        self.0.wait().ok();
    }
}

/// Lines that come from a guest, until its end.
pub(crate) fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(64);
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(1..) = from.read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    receiver
}
