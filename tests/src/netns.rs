//! Network namespaces by name.
//!
//! Owns entering them: a thread that joins the namespace for one call, or a command that starts in
//! it. Only the network namespace is joined: `ip netns exec` would mount another /sys and hide the
//! pins of the kernel programs.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

/// Where the names of network namespaces are mounted.
pub const NAMES: &str = "/run/netns";

/// A network namespace that has a name.
#[derive(Clone, Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// The namespace called `name`, which need not exist yet.
    pub fn new(name: String) -> Self {
        Self { name }
    }

    /// Its name, as in `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// Calls `f` on a thread inside the namespace. Sockets that it opens stay in the namespace.
    ///
    /// # Errors
    /// When the namespace cannot be joined, or `f`'s own.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = self.path();
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                join(&path)?;
                f()
            });
            match inside.join() {
                Ok(result) => result,
                Err(_) => bail!("a thread in network namespace {} panicked", self.name),
            }
        })
    }

    /// A command that runs `program` inside the namespace, under the pid of the child.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let mut net = std::ffi::OsString::from("--net=");
        net.push(self.path());
        command.arg(net).arg("--").arg(program);
        command
    }

    /// Connects from inside the namespace.
    ///
    /// # Errors
    /// When nobody answers within five seconds.
    pub fn connect(&self, to: SocketAddr) -> Result<TcpStream> {
        self.connect_within(to, Duration::from_secs(5))
    }

    /// Connects from inside the namespace, to somebody who may be busy.
    ///
    /// # Errors
    /// When nobody answers within `limit`.
    pub fn connect_within(&self, to: SocketAddr, limit: Duration) -> Result<TcpStream> {
        self.enter(|| TcpStream::connect_timeout(&to, limit).with_context(|| format!("connect to {to}")))
    }

    /// Writes a kernel parameter of the namespace, as `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// When the parameter does not exist or refuses the value.
    pub fn sysctl(&self, parameter: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(parameter);
        self.enter(|| std::fs::write(&path, value).with_context(|| format!("set {parameter} to {value}")))
    }
}

/// Moves the calling thread into the network namespace at `path`.
///
/// # Errors
/// When there is none, or without the right to.
pub fn join(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("network namespace {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("join {}", path.display()))
}
