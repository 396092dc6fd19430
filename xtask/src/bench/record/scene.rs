//! The ways that are compared, all up at once, and what a gateway uses while something goes its way.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::CpuSet;
use nix::unistd::Pid;
use portreeve_tests::deadline::until;
use portreeve_tests::server::accounts::LOGIN;
use portreeve_tests::topology::TARGET4;
use portreeve_tests::{Options, Route, Testbed, template};
use tempfile::TempDir;

use super::super::process::{cpu_seconds, keep_on, keep_process_on, peak, processors, reset_peak};
use super::super::routes::NO_RECORDING;

/// Bytes of noise: a prime, so that no part of a stream that has it again and again looks like another.
pub(super) const NOISE: usize = 50_000_017;

/// What recordings take to be closed at the longest.
const CLOSING: Duration = Duration::from_secs(60);

/// A crowd comes from one address, and waits for its turn on few cores.
const CONFIG: &str = "[limits]\nconnections_per_source = 8192\nhandshakes_per_source = 8192\n\
                      handshake_timeout = \"5m\"\n[upstream]\nconnect_timeout = \"5m\"\n\
                      handshake_timeout = \"5m\"\n";

/// How sessions go to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Through a router that forwards.
    Direct,
    /// Through a gateway that keeps no streams, only events.
    Unrecorded,
    /// Through a gateway that records as it does by default: synced within a second.
    Recorded,
    /// The same, synced when a segment is finished.
    Segment,
    /// The same, never synced.
    Never,
}

/// All ways, up.
pub(super) struct Scene {
    beds: Vec<(Way, Testbed)>,
    files: TempDir,
    noise: Vec<u8>,
    program: PathBuf,
    /// The processors to go back to, where gateways have one of their own.
    shared: Option<CpuSet>,
}

/// Who runs where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cores {
    /// Everything on all processors.
    Shared,
    /// Gateways on one, and everything else on another one, as on a router that hosts nothing else.
    Apart,
}

/// What a gateway used.
pub(super) struct Usage {
    /// Seconds of its threads, until the recordings were closed.
    pub(super) cpu: f64,
    /// The most memory that it held, in bytes.
    pub(super) peak: f64,
    /// The finished recordings.
    pub(super) recordings: Vec<PathBuf>,
}

impl Way {
    /// Those of which all is measured.
    pub(super) const MAIN: [Self; 3] = [Self::Direct, Self::Unrecorded, Self::Recorded];
    pub(super) const ALL: [Self; 5] =
        [Self::Direct, Self::Unrecorded, Self::Recorded, Self::Segment, Self::Never];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Unrecorded => "not recorded",
            Self::Recorded => "recorded",
            Self::Segment => "fsync = segment",
            Self::Never => "fsync = never",
        }
    }

    /// Whether streams are kept.
    pub(super) const fn records(self) -> bool {
        match self {
            Self::Direct | Self::Unrecorded => false,
            Self::Recorded | Self::Segment | Self::Never => true,
        }
    }

    fn start(self, gateway: &Path) -> Result<Testbed> {
        let (policy, fsync) = match self {
            Self::Direct => {
                let options = Options { sshd_config: Some(sshd_config()), ..Options::default() };
                return Testbed::start(Route::Direct, &options);
            }
            Self::Unrecorded => (template::POLICY.replace("rules = []\n", "") + NO_RECORDING, "second"),
            Self::Recorded => (template::POLICY.to_owned(), "second"),
            Self::Segment => (template::POLICY.to_owned(), "segment"),
            Self::Never => (template::POLICY.to_owned(), "never"),
        };
        let options = Options {
            policy: Some(policy),
            config: Some(format!("{CONFIG}[recording]\nfsync = \"{fsync}\"\n")),
            sshd_config: Some(sshd_config()),
            binary: Some(gateway.to_owned()),
            ..Options::default()
        };
        Testbed::start(Route::Intercepted, &options)
    }
}

fn sshd_config() -> String {
    "LoginGraceTime 600\n".to_owned()
}

impl Scene {
    /// Starts everything.
    ///
    /// # Errors
    /// What does not start.
    pub(super) fn start(gateway: &Path, program: PathBuf, cores: Cores) -> Result<Self> {
        // The server has a /tmp of its own, and sees this one.
        let files = tempfile::Builder::new().prefix("portreeve-bench-").tempdir_in("/var/tmp")?;
        fs::set_permissions(files.path(), Permissions::from_mode(0o755))?;
        let noise = noise();
        fs::write(files.path().join("noise"), &noise)?;
        let (ways, shared) = match cores {
            Cores::Shared => (&Way::ALL[..], None),
            Cores::Apart => (&Way::MAIN[..], Some(processors()?)),
        };
        let apart = shared.as_ref().map(two_of).transpose()?;
        if let Some((others, _)) = &apart {
            keep_on(others)?;
        }
        let beds = ways.iter().map(|way| Ok((*way, way.start(gateway)?)));
        let scene = Self { beds: beds.collect::<Result<_>>()?, files, noise, program, shared };
        if let Some((_, gateways)) = &apart {
            for (_, bed) in scene.beds.iter().filter(|(way, _)| *way != Way::Direct) {
                keep_process_on(pid(bed)?, gateways)?;
            }
        }
        Ok(scene)
    }

    /// The testbed of a way.
    ///
    /// # Errors
    /// Never: all are up.
    pub(super) fn bed(&self, way: Way) -> Result<&Testbed> {
        let found = self.beds.iter().find(|(of, _)| *of == way);
        found.map(|(_, bed)| bed).with_context(|| way.name())
    }

    /// A directory that targets can read, under the same path.
    pub(super) fn files(&self) -> &Path {
        self.files.path()
    }

    /// What the file `noise` there holds.
    pub(super) fn noise(&self) -> &[u8] {
        &self.noise
    }

    /// The program that reads recordings.
    pub(super) fn program(&self) -> Command {
        Command::new(&self.program)
    }

    /// `ssh` or `sftp`, whose ciphers are its own choice, with options and the target as its destination.
    ///
    /// # Errors
    /// Never: all are up.
    pub(super) fn client(&self, way: Way, program: &str, options: &[&str]) -> Result<Command> {
        let mut command = self.bed(way)?.client_ssh(program);
        command.args(["-o", "LogLevel=ERROR"]).args(options);
        command.arg(format!("{LOGIN}@{TARGET4}"));
        Ok(command)
    }

    /// Does `work`, which opens `sessions` sessions; what the gateway in the way used for it, if there is one.
    ///
    /// # Errors
    /// That of `work`, and when recordings are not closed in time.
    pub(super) fn watch<T>(
        &self,
        way: Way,
        sessions: usize,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Option<Usage>)> {
        if way == Way::Direct {
            return Ok((work()?, None));
        }
        let bed = self.bed(way)?;
        let (spool, pid) = (bed.gateway()?.files().spool_dir(), pid(bed)?);
        for old in closed(&spool)?.context("a session is open")? {
            fs::remove_dir_all(old)?;
        }
        reset_peak(pid)?;
        let before = cpu_seconds(pid)?;
        let done = work()?;
        let recordings = until("the recordings' end", CLOSING, || {
            Ok(closed(&spool)?.filter(|closed| closed.len() >= sessions))
        })?;
        ensure!(recordings.len() == sessions, "{} recordings of {sessions} sessions", recordings.len());
        let usage = Usage { cpu: cpu_seconds(pid)? - before, peak: peak(pid)?, recordings };
        ensure!(usage.cpu > 0.0 && usage.peak > 0.0, "the gateway of {} did nothing", way.name());
        Ok((done, Some(usage)))
    }

    /// Tears everything down.
    ///
    /// # Errors
    /// When something is left behind.
    pub(super) fn stop(self) -> Result<()> {
        self.beds.into_iter().try_for_each(|(_, bed)| bed.stop())?;
        self.shared.as_ref().map_or(Ok(()), keep_on)?;
        Ok(self.files.close()?)
    }
}

fn pid(bed: &Testbed) -> Result<Pid> {
    let pid = bed.gateway()?.pid().context("the gateway does not run")?;
    Ok(Pid::from_raw(i32::try_from(pid)?))
}

/// One of these processors, and another one.
fn two_of(processors: &CpuSet) -> Result<(CpuSet, CpuSet)> {
    let mut usable = (0..CpuSet::count()).filter(|cpu| processors.is_set(*cpu).unwrap_or(false));
    let mut one = || {
        let mut set = CpuSet::new();
        set.set(usable.next().context("gateways apart need two processors")?)?;
        anyhow::Ok(set)
    };
    Ok((one()?, one()?))
}

/// The recordings in a spool, unless one of them is still written.
fn closed(spool: &Path) -> Result<Option<Vec<PathBuf>>> {
    let mut closed = Vec::new();
    for entry in fs::read_dir(spool)? {
        let path = entry?.path();
        // What is no session's does not begin with a number.
        let name = path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
        if name.first().is_some_and(u8::is_ascii_digit) {
            if path.extension().is_some() {
                return Ok(None);
            }
            closed.push(path);
        }
    }
    Ok(Some(closed))
}

/// Bytes without a pattern, the same in every run (splitmix64).
fn noise() -> Vec<u8> {
    let mut state = 0_u64;
    let words = (0..=NOISE / 8).flat_map(|_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    });
    words.take(NOISE).collect()
}
