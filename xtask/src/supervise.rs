//! Running a command with a time limit and a way to stop all of it.
//!
//! Every command gets a process group of its own. When its limit passes, or the user interrupts, the
//! group is asked to end (SIGTERM, so that test networks are taken down), and killed after a grace
//! period. Output goes to the terminal as it comes; standard output is kept as well. Standard input
//! is empty. What this does not do: limit memory, or follow processes that leave the group.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// How long a group has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(20);
/// How long output is waited for after its command has ended: a stray process may hold the pipe.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs commands one after the other; interrupts of the user end the one that runs.
#[derive(Debug)]
pub struct Supervisor {
    events: Receiver<Event>,
    sender: SyncSender<Event>,
}

/// How a command ended, and what it wrote to standard output.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub ending: Ending,
    /// Its standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    Exited(ExitStatus),
    /// It was stopped because its limit had passed.
    TimedOut,
    /// It was stopped because the user interrupted.
    Interrupted,
}

#[derive(Debug)]
enum Event {
    Exited(u32, io::Result<ExitStatus>),
    Drained(u32),
    Interrupted,
}

impl Supervisor {
    /// Takes SIGINT and SIGTERM over from here on, by handlers: a blocked signal would stay blocked in
    /// children.
    ///
    /// # Errors
    /// When the handlers cannot be set.
    pub fn new() -> io::Result<Self> {
        let supervisor = Self::without_interrupts();
        let runtime = Builder::new_current_thread().enable_io().build()?;
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let _entered = runtime.enter();
            let mut interrupts = signal(kind)?;
            let sender = supervisor.sender.clone();
            runtime.spawn(async move {
                while interrupts.recv().await.is_some() && sender.send(Event::Interrupted).is_ok() {}
            });
        }
        thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        Ok(supervisor)
    }

    fn without_interrupts() -> Self {
        let (sender, events) = sync_channel(8);
        Self { events, sender }
    }

    /// Runs `command`, for `limit` at most.
    ///
    /// # Errors
    /// When it cannot be started or waited for.
    pub fn run(&self, command: &mut Command, limit: Duration) -> io::Result<Finished> {
        let mut child = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let id = child.id();
        let group = Pid::from_raw(i32::try_from(id).map_err(io::Error::other)?);
        let kept = Arc::new(Mutex::new(Vec::new()));
        if let Some(stdout) = child.stdout.take() {
            self.tee(id, stdout, Arc::clone(&kept));
        }
        self.wait_for(child);
        let ending = self.ending(id, group, limit)?;
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Finished { ending, stdout: String::from_utf8_lossy(&std::mem::take(&mut *kept)).into_owned() })
    }

    fn wait_for(&self, mut child: Child) {
        let sender = self.sender.clone();
        thread::spawn(move || sender.send(Event::Exited(child.id(), child.wait())));
    }

    fn tee(&self, id: u32, mut from: ChildStdout, kept: Arc<Mutex<Vec<u8>>>) {
        let sender = self.sender.clone();
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let mut terminal = io::stdout().lock();
                // A closed terminal must not stop the command: what is kept decides.
                drop(terminal.write_all(&buffer[..length]).and_then(|()| terminal.flush()));
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
            }
            sender.send(Event::Drained(id))
        });
    }

    fn ending(&self, id: u32, group: Pid, limit: Duration) -> io::Result<Ending> {
        let mut drained = false;
        let ending = match self.exit_of(id, limit, &mut drained)? {
            Waited::Exited(status) => Ending::Exited(status),
            Waited::TimedOut => Ending::TimedOut,
            Waited::Interrupted => Ending::Interrupted,
        };
        if !matches!(ending, Ending::Exited(_)) {
            self.stop(id, group, &mut drained)?;
        }
        let deadline = Instant::now() + DRAIN;
        while !drained {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Drained(of)) => drained = of == id,
                Ok(Event::Interrupted) => return Ok(Ending::Interrupted),
                Ok(Event::Exited(..)) => {}
                Err(_) => break,
            }
        }
        Ok(ending)
    }

    fn stop(&self, id: u32, group: Pid, drained: &mut bool) -> io::Result<()> {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            match killpg(group, signal) {
                // Gone already, which is what is wanted.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            }
            // A second interrupt cuts the grace period short.
            if let Waited::Exited(_) = self.exit_of(id, GRACE, drained)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn exit_of(&self, id: u32, limit: Duration, drained: &mut bool) -> io::Result<Waited> {
        let deadline = Instant::now() + limit;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Exited(of, status)) if of == id => return status.map(Waited::Exited),
                Ok(Event::Drained(of)) => *drained |= of == id,
                // An event of a command that was given up earlier.
                Ok(Event::Exited(..)) => {}
                Ok(Event::Interrupted) => return Ok(Waited::Interrupted),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Ok(Waited::TimedOut);
                }
            }
        }
    }
}

enum Waited {
    Exited(ExitStatus),
    TimedOut,
    Interrupted,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_is_kept_and_the_status_told() {
        let finished = Supervisor::without_interrupts().run(&mut shell("echo one; exit 3"), LONG).unwrap();
        assert_eq!(finished.stdout, "one\n");
        assert!(matches!(finished.ending, Ending::Exited(status) if status.code() == Some(3)));
    }

    #[test]
    fn a_command_past_its_limit_is_stopped_with_its_children() {
        let supervisor = Supervisor::without_interrupts();
        let before = Instant::now();
        let mut command = shell("trap 'kill $child; echo asked; exit 1' TERM; sleep 600 & child=$!; wait");
        let finished = supervisor.run(&mut command, Duration::from_millis(300)).unwrap();
        assert_eq!(finished.ending, Ending::TimedOut);
        assert_eq!(finished.stdout, "asked\n");
        assert!(before.elapsed() < GRACE);
    }

    #[test]
    fn children_can_be_asked_to_end_where_interrupts_are_taken_over() {
        let before = Instant::now();
        let finished =
            Supervisor::new().unwrap().run(&mut shell("sleep 600"), Duration::from_millis(300)).unwrap();
        assert_eq!(finished.ending, Ending::TimedOut);
        assert!(before.elapsed() < GRACE, "SIGTERM did not end it");
    }

    #[test]
    fn an_interrupt_stops_the_command() {
        let supervisor = Supervisor::without_interrupts();
        supervisor.sender.send(Event::Interrupted).unwrap();
        let finished = supervisor.run(&mut shell("sleep 600"), LONG).unwrap();
        assert_eq!(finished.ending, Ending::Interrupted);
    }

    #[test]
    fn a_stray_process_that_holds_the_pipe_does_not_hang_the_run() {
        let before = Instant::now();
        let script = "sleep 20 & echo done";
        let finished = Supervisor::without_interrupts().run(&mut shell(script), LONG).unwrap();
        assert_eq!(finished.stdout, "done\n");
        assert!(before.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn one_command_after_the_other_keeps_its_own_output() {
        let supervisor = Supervisor::without_interrupts();
        for word in ["a", "b", "c"] {
            let finished = supervisor.run(&mut shell(&format!("echo {word}")), LONG).unwrap();
            assert_eq!(finished.stdout, format!("{word}\n"));
        }
    }

    #[test]
    fn a_command_that_is_not_there_is_an_error() {
        assert!(
            Supervisor::without_interrupts().run(&mut Command::new("no-such-program-here"), LONG).is_err()
        );
    }
}
