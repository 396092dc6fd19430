//! `cargo xtask testbed`: a command in the client's namespace of a testbed.
//!
//! Owns the verb's arguments and its way out: whatever happens, the testbed is torn down, and the
//! exit status is the command's (128 and the number for a signal).

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portreeve_tests::{Options, Route, Testbed, execute, interrupt, keeper};

/// How long the command may take to end after a signal.
const GRACE: Duration = Duration::from_secs(2);

/// Arguments of `cargo xtask testbed`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask testbed -- sh -c 'ssh -F $TB_SSH_CONFIG $TB_LOGIN@$TB_TARGET4 uname -a'
  cargo xtask testbed --route direct -- bash

The command sees TB_ROUTE, TB_TARGET4, TB_TARGET6, TB_PORT, TB_LOGIN, TB_DENIED_LOGIN, TB_SSH_CONFIG,
TB_OPEN4, TB_OPEN6, TB_SERVER_HOME, TB_STATE, TB_RECIPIENT_KEY, TB_METRICS_URL, TB_GATEWAY_PID,
TB_NETNS_CLIENT, TB_NETNS_GATEWAY and TB_NETNS_SERVER; those of the gateway are empty on the direct
route. FILEs may hold placeholders as @TARGET4@; docs are in tests/src/template.rs.")]
pub struct Args {
    /// Whether the gateway stands between client and server.
    #[arg(long, value_enum, default_value = "intercepted")]
    route: RouteArg,
    /// A policy in place of the testbed's own.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Keys that replace those of the gateway's configuration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A new directory for everything the testbed writes; it stays.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RouteArg {
    /// The gateway decides, certifies and records; users have no key.
    Intercepted,
    /// A router that forwards; users log in by a key.
    Direct,
}

/// What the main thread and the signal's thread know of each other.
#[derive(Debug, Default)]
struct Progress {
    /// The command's pid while it runs, else 0.
    running: AtomicI32,
    interrupted: AtomicBool,
    ended: Mutex<bool>,
    end: Condvar,
}

/// Runs the command in a testbed; `build` yields the gateway where one is needed and `PORTREEVE_BIN`
/// names none.
///
/// # Errors
/// When the testbed does not start, the command cannot be run, or something is left behind.
pub fn run(args: Args, build: impl FnOnce() -> Result<PathBuf>) -> Result<ExitCode> {
    let read = |file: Option<PathBuf>| {
        file.map(|file| fs::read_to_string(&file).with_context(|| file.display().to_string())).transpose()
    };
    let (route, binary) = match args.route {
        RouteArg::Intercepted if env::var_os("PORTREEVE_BIN").is_none() => {
            (Route::Intercepted, Some(build()?))
        }
        RouteArg::Intercepted => (Route::Intercepted, None),
        RouteArg::Direct => (Route::Direct, None),
    };
    let options = Options {
        policy: read(args.policy)?,
        config: read(args.config)?,
        keep: args.keep,
        binary,
        ..Options::default()
    };
    let progress = Arc::new(Progress::default());
    let watched = Arc::clone(&progress);
    interrupt::watch(move |signal| watched.stop(signal))?;
    let bed = Testbed::start(route, &options)?;
    let [program, arguments @ ..] = args.command.as_slice() else { anyhow::bail!("no command") };
    let mut command = bed.client(program);
    command.args(arguments).envs(bed.env());
    let status = progress.supervise(command.spawn().with_context(|| format!("start {program}"))?)?;
    bed.stop()?;
    Ok(ExitCode::from(execute::shell_status(status)))
}

impl Progress {
    fn supervise(&self, mut child: Child) -> Result<std::process::ExitStatus> {
        self.running.store(i32::try_from(child.id())?, Ordering::SeqCst);
        if self.interrupted.load(Ordering::SeqCst) {
            child.kill()?;
        }
        let status = child.wait()?;
        self.running.store(0, Ordering::SeqCst);
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.end.notify_all();
        Ok(status)
    }

    /// Passes the signal on, gives the command time to end, and else ends everything.
    fn stop(&self, signal: Signal) {
        self.interrupted.store(true, Ordering::SeqCst);
        let pid = self.running.load(Ordering::SeqCst);
        // The terminal has sent SIGINT to the command already.
        if pid != 0 && signal != Signal::SIGINT {
            kill(Pid::from_raw(pid), signal).ok();
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = if pid == 0 { Duration::ZERO } else { GRACE };
        let (ended, _) =
            self.end.wait_timeout_while(ended, wait, |ended| !*ended).unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return;
        }
        keeper::tear_down_all().ok();
        std::process::exit(128 + signal as i32);
    }
}
