//! A machine's init: the systemd of this host, started again in namespaces of its own on a copy of this host's root.
//!
//! Owns the copy (an overlay, so that nothing of the host changes), its mounts, and asking the systemd in there. The
//! kernel's settings (`/proc/sys`, `/sys`) are read-only inside, as in any container; the network is that of the caller's
//! namespace. Invariant: everything inside ends with the value.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, pivot_root};

use crate::deadline::until;
use crate::execute::{Companion, Finished, run};
use crate::netns::Netns;
use crate::role::Role;

const LIMIT: Duration = Duration::from_secs(30);

/// Units of the host that have no business in a copy of it.
const MASKED: &[&str] = &[
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-remount-fs.service",
    "systemd-random-seed.service",
    "systemd-modules-load.service",
    "systemd-sysctl.service",
    "systemd-timesyncd.service",
    "systemd-resolved.service",
    "systemd-networkd.service",
];

/// Devices that programs expect.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// What the host lends to the copy: files laid over its root.
#[derive(Clone, Debug)]
pub struct Machine {
    dir: PathBuf,
}

/// A systemd that runs; dropping it ends all that it started.
#[derive(Debug)]
pub struct Init {
    outer: Companion,
    pid: i32,
}

impl Machine {
    /// A machine whose files are below `dir`, which must be on no overlay.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn new(dir: &Path) -> Result<Self> {
        let machine = Self { dir: dir.to_owned() };
        for part in ["upper/etc/systemd/system", "work", "root"] {
            fs::create_dir_all(dir.join(part))?;
        }
        // An overlay shows the modes of these.
        for part in ["upper", "upper/etc", "upper/etc/systemd", "upper/etc/systemd/system", "root"] {
            fs::set_permissions(dir.join(part), fs::Permissions::from_mode(0o755))?;
        }
        for unit in MASKED {
            symlink("/dev/null", machine.path("/etc/systemd/system").join(unit))?;
        }
        Ok(machine)
    }

    /// Where a file of the machine is written before it starts.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.join("upper").join(path.trim_start_matches('/'))
    }

    /// Puts a file there, with the directories on the way.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, path: &str, bytes: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let path = self.path(path);
        fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        fs::write(&path, bytes)?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
    }

    /// Starts its systemd in a network namespace, with `unit` as the goal.
    ///
    /// # Errors
    /// When it does not come up; the message holds what it wrote.
    pub fn start(&self, netns: &Netns, unit: &str) -> Result<Init> {
        let role = Role::Init.command()?;
        let console = File::create(self.dir.join("console"))?;
        let mut command = netns.command("unshare");
        command.args(["--pid", "--mount", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child", "--"]);
        // This program by its path: the one of the process in between would be another.
        command.arg(fs::read_link(role.get_program())?).args(role.get_args()).arg(&self.dir).arg(unit);
        command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
        let outer = Companion::spawn(&mut command)?;
        let children = format!("/proc/{0}/task/{0}/children", outer.pid());
        let pid = until("the machine's first process", LIMIT, || {
            Ok(fs::read_to_string(&children)?.split_whitespace().next().and_then(|pid| pid.parse().ok()))
        })?;
        let mut init = Init { outer, pid };
        until("systemd to answer", LIMIT, || {
            if !init.outer.is_running()? {
                bail!("it ended");
            }
            let asked = init.run(&["systemctl", "show", "--property=Version"])?;
            Ok(asked.status.success().then_some(()))
        })
        .with_context(|| self.console())?;
        Ok(init)
    }

    /// What the machine wrote on its console.
    pub fn console(&self) -> String {
        fs::read_to_string(self.dir.join("console")).unwrap_or_default()
    }
}

impl Init {
    /// Runs a command inside.
    ///
    /// # Errors
    /// When it cannot be started, or does not end.
    pub fn run(&self, words: &[&str]) -> Result<Finished> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.pid))
            .args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--"]);
        run(command.args(words), b"", LIMIT)
    }

    /// A property of a unit.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        let property = format!("--property={name}");
        Ok(self.run(&["systemctl", "show", "--value", &property, unit])?.success()?.trim().to_owned())
    }

    /// Waits until a property of a unit is as wanted.
    ///
    /// # Errors
    /// When it is not in time; the message holds the unit's journal.
    pub fn until_property(&self, unit: &str, name: &str, wanted: &str, limit: Duration) -> Result<()> {
        let what = format!("{name} of {unit} to be {wanted}");
        until(&what, limit, || Ok((self.property(unit, name)? == wanted).then_some(())))
            .with_context(|| self.journal(unit).unwrap_or_default())
    }

    /// What a unit wrote.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn journal(&self, unit: &str) -> Result<String> {
        self.run(&["journalctl", "--no-pager", "--output=cat", "--unit", unit])?.success()
    }
}

/// The role: makes the root below `dir`, and becomes systemd in it.
///
/// # Errors
/// When a mount fails; else it does not return.
pub(crate) fn become_systemd(dir: &Path, unit: &OsString) -> Result<std::convert::Infallible> {
    let root = dir.join("root");
    mount_at(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
    let layers = format!("lowerdir=/,upperdir={0}/upper,workdir={0}/work", dir.display());
    mount_at(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(&layers))?;
    for (kind, at) in
        [("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "dev"), ("tmpfs", "run"), ("tmpfs", "tmp")]
    {
        mount_at(Some(kind), &root.join(at), Some(kind), MsFlags::empty(), None)?;
    }
    for device in DEVICES {
        File::create(root.join("dev").join(device))?;
        let source = format!("/dev/{device}");
        mount_at(Some(&source), &root.join(&source[1..]), None, MsFlags::MS_BIND, None)?;
    }
    symlink("pts/ptmx", root.join("dev/ptmx"))?;
    let console = root.join("dev/console");
    File::create(&console)?;
    mount_at(dir.join("console").to_str(), &console, None, MsFlags::MS_BIND, None)?;
    mount_at(Some("cgroup2"), &root.join("sys/fs/cgroup"), Some("cgroup2"), MsFlags::empty(), None)?;
    mount_at(Some("bpf"), &root.join("sys/fs/bpf"), Some("bpf"), MsFlags::empty(), None)?;
    let settings = root.join("proc/sys");
    mount_at(settings.to_str(), &settings, None, MsFlags::MS_BIND, None)?;
    for read_only in [settings, root.join("sys")] {
        mount_at(None, &read_only, None, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, None)?;
    }
    chdir(&root)?;
    pivot_root(".", "mnt").context("pivot_root")?;
    nix::mount::umount2("/mnt", nix::mount::MntFlags::MNT_DETACH)?;
    let mut goal = OsString::from("--unit=");
    goal.push(unit);
    let mut command = Command::new("/lib/systemd/systemd");
    command
        .args(["--system", "--log-target=console", "--show-status=no"])
        .arg(goal)
        .env_clear()
        .env("container", "test");
    Err(std::os::unix::process::CommandExt::exec(&mut command)).context("become systemd")
}

fn mount_at(
    source: Option<&str>,
    at: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<()> {
    mount(source, at, kind, flags, options).with_context(|| format!("mount {}", at.display()))
}
