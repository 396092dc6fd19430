//! What a power cut leaves: recordings, keys, and a machine that is closed until it serves. A reboot in order, with what that keeps, is
//! part of each update (`trust`).

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{CLIENT4, CLIENT6, TARGET6};
use portreeve_tests::{Companion, run};

use crate::MachineCase;
use crate::disk_of::audit_keys;
use crate::hosts::{Prober, Seen, Witness};
use crate::scene::{LIMIT, Scene};
use crate::wireguard::ALICE;

pub(crate) const CASES: &[MachineCase<Scene>] =
    &[("loses_nothing_but_the_last_second_to_a_power_cut_and_stays_closed", survives_a_power_cut)];

const SESSIONS: usize = 20;
/// Lines that each session says before the power goes, five a second.
const LINES: usize = 20;
/// What a loss of power may take: the last second (docs/config.md, `fsync`), and as much for an emulated disk.
const LAST: Duration = Duration::from_secs(2);

/// A session that says what time it is, in nanoseconds since 1970, and where the user has that.
struct Talker {
    ssh: Companion,
    heard: PathBuf,
}

impl Talker {
    fn start(scene: &Scene, number: usize) -> Result<Self> {
        let heard = scene.bed.dir().join(format!("heard-{number}"));
        let says = format!("while :; do echo said-{number}-$(date +%s%N); sleep 0.2; done");
        let mut ssh = scene.bed.client_ssh("ssh");
        ssh.args(["-q", "alice@10.1.2.3", &says]).stdin(Stdio::null());
        ssh.stdout(File::create(&heard)?).stderr(Stdio::null());
        Ok(Self { ssh: Companion::spawn(&mut ssh)?, heard })
    }

    /// The whole lines so far.
    fn heard(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.heard)?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        Ok(whole.lines().map(str::to_owned).collect())
    }
}

/// Sessions and the client's questions come by the network card over v4, and through the tunnel over v6.
fn survives_a_power_cut(scene: &mut Scene) -> Result<()> {
    scene.tunnel.enter(&ALICE, &[TARGET6.into()])?;
    let mut talkers = (0..SESSIONS).map(|number| Talker::start(scene, number)).collect::<Result<Vec<_>>>()?;
    for talker in &mut talkers {
        until("what a session says", LIMIT, || {
            ensure!(talker.ssh.is_running()?, "{}: ssh ended", talker.heard.display());
            Ok((talker.heard()?.len() >= LINES).then_some(()))
        })?;
    }
    let machine = scene.machine_id()?;
    scene.bed.cut()?;
    let cut = SystemTime::now();
    let heard = talkers.iter().map(Talker::heard).collect::<Result<Vec<_>>>()?.concat();
    drop(talkers);
    let audit = audit_keys(&mut scene.bed)?;
    stays_closed_until_it_serves(scene)?;
    ensure!(scene.machine_id()? == machine, "another machine to its journal and to DHCP");
    scene
        .ssh(&["-q", "-o", "StrictHostKeyChecking=yes", "alice@10.1.2.3", "true"], b"")?
        .success()
        .context("the key that the user knows")?;
    scene
        .ssh(&["-q", "alice@fd00:1:2::3", "true"], b"")?
        .success()
        .context("a session through the tunnel")?;
    let recorded = recorded(scene)?;
    let lost = lost(heard.iter().filter(|line| !recorded.contains(*line)), cut)?;
    ensure!(lost <= LAST, "what was heard {lost:?} before the power went is lost, of {} lines", heard.len());
    scene.figures.push(format!("a power cut took {} ms of {SESSIONS} sessions", lost.as_millis()));
    verify(scene, &audit)
}

/// What the sessions said, from the archive, once it has them whole.
fn recorded(scene: &Scene) -> Result<HashSet<String>> {
    let mut refused = None;
    let recorded = until("recordings in the archive", LIMIT, || {
        // While a file is on its way there may be an error.
        let found = match scene.search("said-") {
            Ok(found) => found,
            Err(error) => {
                refused = Some(error);
                return Ok(None);
            }
        };
        let said = |line: &str| line.split_once(" output: ").map(|(_, said)| said.to_owned());
        let recorded: HashSet<_> = found.lines().filter_map(said).collect();
        let of = |number: usize| recorded.iter().any(|line| line.starts_with(&format!("said-{number}-")));
        Ok(((0..SESSIONS).all(of) && scene.archived_whole()? >= SESSIONS).then_some(recorded))
    });
    recorded.with_context(|| format!("{refused:?}; {}", scene.archive_log()))
}

/// How long before the cut the first of these lines was said.
fn lost<'a>(lines: impl Iterator<Item = &'a String>, cut: SystemTime) -> Result<Duration> {
    let age = |line: &String| -> Result<Duration> {
        let (_, said) = line.rsplit_once('-').context("no time")?;
        let said = UNIX_EPOCH + Duration::from_nanos(said.parse().with_context(|| line.clone())?);
        Ok(cut.duration_since(said).unwrap_or_default())
    };
    Ok(lines.map(age).collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or_default())
}

/// The archive is whole by the gateway's keys once all has come, and says which sessions the power cut ended.
fn verify(scene: &Scene, audit: &Path) -> Result<()> {
    let key = scene.bed.files().recipient_key();
    let mut told = None;
    // A session since then may be on its way: its manifest is the last to come.
    let whole = until("an archive that is whole", LIMIT, || {
        let mut verify = Command::new(scene.bed.files().binary());
        verify.args(["logs", "verify", "--audit-key"]).arg(audit).arg("--key").arg(key.clone());
        let told = told.insert(run(verify.arg(scene.archived()), b"", LIMIT)?);
        Ok(told.status.success().then(|| told.out()))
    });
    let whole = whole
        .with_context(|| told.map(|told| format!("{}{}", told.out(), told.err())).unwrap_or_default())?;
    let ended = whole.lines().filter(|line| line.contains("(closed after a crash)")).count();
    ensure!(ended >= SESSIONS, "{ended} sessions: {whole}");
    Ok(())
}

/// Boots while a client asks all the time; nothing of it reaches the targets, and what is no target is reached.
fn stays_closed_until_it_serves(scene: &mut Scene) -> Result<()> {
    scene.bed.switch_on()?;
    let client = vec![CLIENT4.into(), CLIENT6.into(), ALICE.v6.parse()?];
    let witness = Witness::of(&scene.bed.topology().server, client)?;
    let prober = Prober::start(&scene.bed.topology().client);
    let ready = scene.bed.ready();
    // The client asks until the tunnel is there anew, which takes a while.
    let anew = scene.tunnel.reaches(TARGET6.into());
    prober.stop()?;
    // What the prober has left fills the bounds of its source for a moment.
    let served = until("a session", LIMIT, || {
        let told = scene.ssh(&["-q", "alice@10.1.2.3", "echo served"], b"")?;
        Ok((told.status.success() && told.out() == "served\n").then_some(()))
    });
    let Seen { to_targets, to_open } = witness.stop()?;
    ready?;
    anew?;
    served?;
    ensure!(to_open > 0, "the witness saw nothing of what was forwarded");
    ensure!(to_targets == 0, "{to_targets} packets of the client reached a target");
    Ok(())
}
