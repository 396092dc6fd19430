//! Running programs with a deadline: to the end ([`run`]) or beside a test ([`Companion`]).
//!
//! Owns the children it starts: none outlives its call or its value, and each is ended by its pid.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::deadline::until;

/// How much of what a program wrote stands in a message, in bytes.
const SHOWN: usize = 8_000;

/// How a program ended and what it wrote.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit status or signal.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// A program that runs beside the caller; it is killed when the value is dropped.
#[derive(Debug)]
pub struct Companion {
    child: Child,
    name: String,
}

impl Finished {
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// `exit N` or `signal N`.
    pub fn ending(&self) -> String {
        ending(self.status)
    }

    /// Standard output as text, when the program ended with status 0.
    ///
    /// # Errors
    /// A message with the status and everything written, for any other end.
    pub fn success(self) -> Result<String> {
        if self.status.success() {
            return Ok(self.out());
        }
        bail!("{}\n{}", self.ending(), told(&self.stdout, &self.stderr))
    }
}

/// `exit N` or `signal N`.
pub fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "stopped".to_owned(),
    }
}

/// The status a shell reports: the exit code, or 128 and the signal's number.
pub fn shell_status(status: ExitStatus) -> u8 {
    let number = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(127));
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Runs `command` with `stdin` as its input until it ends.
///
/// # Errors
/// When it cannot be started, or has not ended within `limit`: then it is killed, and the message
/// holds what it wrote so far.
pub fn run(command: &mut Command, stdin: &[u8], limit: Duration) -> Result<Finished> {
    let name = name_of(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let writing = scope.spawn(move || feed(input, stdin));
        let stdout = scope.spawn(move || drain(output));
        let stderr = scope.spawn(move || drain(errors));
        let ended = until(&name, limit, || Ok(child.try_wait()?));
        if ended.is_err() {
            // The whole group: a grandchild that lives on would hold the pipes open.
            killpg(pid_of(&child), Signal::SIGKILL)?;
            child.wait()?;
        }
        let collected = |handle: thread::ScopedJoinHandle<'_, std::io::Result<Vec<u8>>>| match handle.join() {
            Ok(bytes) => bytes.with_context(|| format!("read from {name}")),
            Err(_) => bail!("the reader of {name} panicked"),
        };
        let (stdout, stderr) = (collected(stdout)?, collected(stderr)?);
        match writing.join() {
            Ok(written) => written.with_context(|| format!("write to {name}"))?,
            Err(_) => bail!("the writer of {name} panicked"),
        }
        match ended {
            Ok(status) => Ok(Finished { status, stdout, stderr }),
            Err(error) => Err(error.context(told(&stdout, &stderr))),
        }
    })
}

/// What a program wrote, for a message.
fn told(stdout: &[u8], stderr: &[u8]) -> String {
    format!("stdout: {}\nstderr: {}", excerpt(stdout), excerpt(stderr))
}

/// As text; of more than [`SHOWN`] bytes both ends.
fn excerpt(written: &[u8]) -> String {
    if written.len() <= SHOWN {
        return String::from_utf8_lossy(written).into_owned();
    }
    let (begin, rest) = written.split_at(SHOWN / 2);
    let (middle, end) = rest.split_at(rest.len() - SHOWN / 2);
    let (begin, end) = (String::from_utf8_lossy(begin), String::from_utf8_lossy(end));
    format!("{begin}\n[{} bytes are left out]\n{end}", middle.len())
}

/// A program that reads all its input may end early; the broken pipe is its answer, not an error.
fn feed(pipe: Option<impl Write>, bytes: &[u8]) -> std::io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    match pipe.write_all(bytes) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn drain(pipe: Option<impl Read>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn name_of(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

impl Companion {
    /// Starts `command`; its standard streams are the caller's to set.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let name = name_of(command);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { child, name })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        pid_of(&self.child)
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        until(&format!("the end of {}", self.name), limit, || Ok(self.child.try_wait()?))
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn run_keeps_the_streams_apart_and_the_status() {
        let script = "cat; echo oops >&2; exit 7";
        let finished = run(Command::new("sh").args(["-c", script]), b"in", LIMIT).unwrap();
        assert_eq!((finished.out().as_str(), finished.err().as_str()), ("in", "oops\n"));
        assert_eq!(finished.ending(), "exit 7");
        assert_eq!(shell_status(finished.status), 7);
    }

    #[test]
    fn run_reports_a_signal_as_shells_do() {
        let finished = run(Command::new("sh").args(["-c", "kill -TERM $$"]), b"", LIMIT).unwrap();
        assert_eq!(finished.ending(), "signal 15");
        assert_eq!(shell_status(finished.status), 143);
    }

    #[test]
    fn run_kills_what_takes_too_long_and_tells_what_it_said() {
        let error = run(
            Command::new("sh").args(["-c", "echo working; exec sleep 600"]),
            b"",
            Duration::from_millis(200),
        )
        .unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("working") && text.contains("not within"), "{text}");
    }

    #[test]
    fn a_message_holds_both_ends_of_long_output() {
        let mut script = Command::new("sh");
        script.args(["-c", "echo begun; head -c 1000000 /dev/zero; echo done; exit 7"]);
        let text = run(&mut script, b"", LIMIT).unwrap().success().unwrap_err().to_string();
        assert!(text.contains("begun") && text.contains("done"), "{text}");
        assert!(text.contains("[992011 bytes are left out]") && text.len() < 9_000, "{}", text.len());
    }

    #[test]
    fn a_companion_does_not_outlive_its_value() {
        let companion = Companion::spawn(Command::new("sleep").arg("600")).unwrap();
        let pid = companion.pid();
        drop(companion);
        assert_eq!(kill(pid, None), Err(nix::errno::Errno::ESRCH));
    }
}
