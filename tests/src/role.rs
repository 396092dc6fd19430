//! The other parts that a program with testbeds plays.
//!
//! A testbed needs two more processes: a keeper that outlives its owner, and a process
//! that builds the server's mount namespace and becomes sshd. Both are this same program, started
//! again with a role as its first argument; [`divert`] takes them aside before `main` goes on.

use std::env;
use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

const ROLE: &str = "--portreeve-testbed-role";

static DIVERTED: AtomicBool = AtomicBool::new(false);

/// A part to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Waits for the owner's end, then tears down.
    Keeper,
    /// Becomes sshd.
    Server,
    /// Becomes the systemd of a machine.
    Init,
}

impl Role {
    const ALL: [Self; 3] = [Self::Keeper, Self::Server, Self::Init];

    fn name(self) -> &'static str {
        match self {
            Self::Keeper => "keeper",
            Self::Server => "server",
            Self::Init => "init",
        }
    }

    /// A command that starts this program again in the role.
    ///
    /// # Errors
    /// When the program did not call [`divert`]: it would start itself again and again.
    pub fn command(self) -> Result<Command> {
        if !DIVERTED.load(Ordering::Relaxed) {
            bail!("a program that starts testbeds calls role::divert first thing in main");
        }
        let mut command = Command::new("/proc/self/exe");
        command.arg(ROLE).arg(self.name());
        Ok(command)
    }
}

/// Plays the role that the arguments ask for; `None` when they ask for none and `main` goes on.
pub fn divert() -> Option<ExitCode> {
    DIVERTED.store(true, Ordering::Relaxed);
    let mut args = env::args_os().skip(1);
    if args.next()? != ROLE {
        return None;
    }
    let name = args.next().unwrap_or_default();
    let role = Role::ALL.into_iter().find(|role| name == role.name());
    let played = match role {
        Some(role) => play(role, &args.collect::<Vec<_>>()),
        None => Err(anyhow::anyhow!("no role {}", name.display())),
    };
    Some(match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(role, &error);
            ExitCode::FAILURE
        }
    })
}

fn play(role: Role, args: &[OsString]) -> Result<()> {
    match (role, args) {
        (Role::Keeper, [record]) => crate::keeper::keep(record.as_ref()),
        (Role::Server, [netns, root]) => match crate::server::become_sshd(netns.as_ref(), root.as_ref())? {},
        (Role::Init, [dir, unit]) => match crate::init::become_systemd(dir.as_ref(), unit)? {},
        (Role::Keeper | Role::Server | Role::Init, _) => bail!("wrong arguments for role {}", role.name()),
    }
}

#[expect(clippy::print_stderr, reason = "standard error is all that a process in a role has")]
fn report(role: Option<Role>, error: &anyhow::Error) {
    eprintln!("testbed {}: {error:#}", role.map_or("?", Role::name));
}
