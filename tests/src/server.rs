//! The server of a testbed: a real OpenSSH sshd that trusts the gateway's CA and nothing else.
//!
//! Owns its files below `DIR/server` and its process. sshd runs in mount and UTS namespaces of its
//! own, where its accounts, /etc/ssh, /home, /root, /run, /tmp and /var/log are the testbed's:
//! the machine's accounts and logs are neither read nor written.

pub mod accounts;

use std::convert::Infallible;
use std::fs::{self, File, Permissions};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::sethostname;

use crate::deadline::until;
use crate::echo::Echo;
use crate::execute::Companion;
use crate::netns::Netns;
use crate::role::Role;
use crate::topology::{ECHO_PORT, OPEN4, OPEN6, SSH_PORT, TARGET4, TARGET6, at};

/// The SSH server.
pub const SSHD: &str = "/usr/sbin/sshd";
/// The program of its sftp subsystem.
pub const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";
/// The server's host name.
pub const HOSTNAME: &str = "server";

const HOST_KEY_TYPES: [&str; 3] = ["ed25519", "ecdsa", "rsa"];
/// What of the machine the server sees its own version of.
const OWN: [&str; 7] =
    ["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/ssh", "/home", "/root"];
const LIMIT: Duration = Duration::from_secs(60);

/// The server and its echo service.
#[derive(Debug)]
pub struct Server {
    netns: Netns,
    root: PathBuf,
    sshd: Option<Companion>,
    _echo: Echo,
}

impl Server {
    /// Writes the server's files below `root`, which must not exist, with lines ahead of those of its
    /// sshd_config; starts nothing.
    ///
    /// # Errors
    /// When a file cannot be written or a key not made.
    pub fn prepare(root: &Path, sshd_config_lines: &str) -> Result<()> {
        for dir in ["etc/ssh", "home", "root"] {
            fs::create_dir_all(root.join(dir))?;
        }
        fs::set_permissions(root.join("root"), Permissions::from_mode(0o700))?;
        accounts::write(root)?;
        fs::write(root.join("etc/ssh/sshd_config"), sshd_config_lines.to_owned() + &sshd_config())?;
        fs::write(root.join("etc/ssh/user_ca.pub"), "")?;
        make_host_keys(root)
    }

    /// Starts sshd and the echo service on prepared files, and waits until sshd answers.
    ///
    /// # Errors
    /// When it does not; the message holds sshd's log.
    pub fn start(netns: &Netns, root: &Path) -> Result<Self> {
        let echo = Echo::listen(netns, at(std::net::Ipv6Addr::UNSPECIFIED, ECHO_PORT))?;
        let mut server = Self { netns: netns.clone(), root: root.to_owned(), sshd: None, _echo: echo };
        server.restart()?;
        Ok(server)
    }

    /// Starts sshd, after stopping the one that runs.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Role::Server.command()?;
        command.arg(self.netns.path()).arg(&self.root);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut sshd = Companion::spawn(&mut command)?;
        let address = at(TARGET4, SSH_PORT);
        let answered = until("sshd's answer", LIMIT, || {
            if !sshd.is_running()? {
                bail!("sshd ended");
            }
            Ok(self.netns.connect(address).ok())
        });
        let stream = answered.with_context(|| self.log().unwrap_or_default())?;
        stream.shutdown(Shutdown::Both).ok();
        self.sshd = Some(sshd);
        Ok(())
    }

    /// Stops the listening sshd: from now on connections are refused.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut sshd) = self.sshd.take() {
            sshd.signal(Signal::SIGTERM)?;
            sshd.wait(LIMIT)?;
        }
        Ok(())
    }

    /// Gives the server new host keys, as after a new installation, and starts it again.
    ///
    /// # Errors
    /// When that fails.
    pub fn change_host_keys(&mut self) -> Result<()> {
        for kind in HOST_KEY_TYPES {
            self.delete_host_key(kind)?;
        }
        make_host_keys(&self.root)?;
        self.restart()
    }

    /// Takes a host key (`ed25519`, `ecdsa`, `rsa`) away from the server, and starts it again.
    ///
    /// # Errors
    /// When that fails.
    pub fn remove_host_key(&mut self, kind: &str) -> Result<()> {
        self.delete_host_key(kind)?;
        self.restart()
    }

    /// Deletes the files of a host key, if it has any; sshd does without.
    fn delete_host_key(&self, kind: &str) -> Result<()> {
        let path = host_key(&self.root, kind);
        for path in [path.with_extension("pub"), path] {
            if path.exists() {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Says which CA the server trusts for user certificates; takes effect at once.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn trust(&self, ca_public_key: &str) -> Result<()> {
        Ok(fs::write(self.root.join("etc/ssh/user_ca.pub"), ca_public_key)?)
    }

    /// Lets the holder of a key log in to an account.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn authorize_key(&self, login: &str, public_key: &str) -> Result<()> {
        accounts::authorize_key(&self.root, login, public_key)
    }

    /// Home directory of an account, as a path outside the server.
    pub fn home(&self, login: &str) -> PathBuf {
        accounts::home(&self.root, login)
    }

    /// Public host key of a type (`ed25519`, `ecdsa`, `rsa`), as its file says it.
    ///
    /// # Errors
    /// When there is none.
    pub fn host_public_key(&self, kind: &str) -> Result<String> {
        Ok(fs::read_to_string(host_key(&self.root, kind).with_extension("pub"))?)
    }

    /// What sshd logged so far (level VERBOSE).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.log_path())?)
    }

    fn log_path(&self) -> PathBuf {
        self.root.join("sshd.log")
    }
}

fn host_key(root: &Path, kind: &str) -> PathBuf {
    root.join(format!("etc/ssh/ssh_host_{kind}_key"))
}

fn make_host_keys(root: &Path) -> Result<()> {
    let mut running = Vec::new();
    for kind in HOST_KEY_TYPES {
        let bits: &[&str] = if kind == "rsa" { &["-b", "2048"] } else { &[] };
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", kind, "-N", "", "-C", HOSTNAME]).args(bits);
        command.arg("-f").arg(host_key(root, kind)).stdin(Stdio::null());
        running.push(Companion::spawn(&mut command)?);
    }
    for mut keygen in running {
        if !keygen.wait(LIMIT)?.success() {
            bail!("ssh-keygen failed");
        }
    }
    Ok(())
}

fn sshd_config() -> String {
    let mut text = String::new();
    for address in [at(TARGET4, SSH_PORT), at(OPEN4, SSH_PORT), at(TARGET6, SSH_PORT), at(OPEN6, SSH_PORT)] {
        text += &format!("ListenAddress {address}\n");
    }
    for kind in HOST_KEY_TYPES {
        text += &format!("HostKey /etc/ssh/ssh_host_{kind}_key\n");
    }
    text + &format!(
        "TrustedUserCAKeys /etc/ssh/user_ca.pub
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PidFile none
LogLevel VERBOSE
PrintMotd no
PrintLastLog no
AcceptEnv *
AllowAgentForwarding yes
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
GatewayPorts clientspecified
PermitTunnel no
X11Forwarding yes
MaxStartups 1000
MaxSessions 1000
Subsystem sftp {SFTP_SERVER}
"
    )
}

/// Turns the calling process into sshd in the network namespace at `netns`, with the files below
/// `root` in place of the machine's.
///
/// # Errors
/// Whatever keeps it from becoming sshd.
pub(crate) fn become_sshd(netns: &Path, root: &Path) -> Result<Infallible> {
    crate::netns::join(netns)?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).context("leave the machine's mounts")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
    for path in OWN {
        let own = root.join(path.trim_start_matches('/'));
        mount(Some(&own), path, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("mount {} on {path}", own.display()))?;
    }
    // Last: the testbed itself may be below /tmp.
    for (path, options) in [("/run", "mode=755"), ("/var/log", "mode=755"), ("/tmp", "mode=1777")] {
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options))
            .with_context(|| format!("mount a tmpfs on {path}"))?;
    }
    fs::create_dir("/run/sshd")?;
    sethostname(HOSTNAME)?;
    std::env::set_current_dir("/")?;
    Err(Command::new(SSHD).args(["-D", "-e", "-f", "/etc/ssh/sshd_config"]).exec()).context(SSHD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sshd_knows_no_way_in_but_keys_and_certificates() {
        let config = sshd_config();
        for line in ["PasswordAuthentication no", "KbdInteractiveAuthentication no", "UsePAM no"] {
            assert!(config.lines().any(|have| have == line), "{line}");
        }
        assert!(config.contains("ListenAddress [fd00:1:2::3]:22\n"));
    }
}
