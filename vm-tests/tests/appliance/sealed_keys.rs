//! Keys that a TPM has sealed: nowhere on the disk in clear, opened by that TPM alone, and put back from a copy. The start with
//! another TPM is at the same time the one that goes back on purpose to the version before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::run;
use portreeve_vm_tests::bed::Bed;
use portreeve_vm_tests::disk;

use crate::MachineCase;
use crate::hosts::{Prober, Witness};
use crate::scene::LIMIT;
use crate::trust::{ACCOUNT, START, Trust, keeps};

pub(crate) const CASES: &[MachineCase<Trust>] =
    &[("trust_goes_back_on_purpose_and_says_what_to_do_with_another_tpm", goes_back_to_another_tpm)];

/// The label of the volume with a copy of the keys.
const COPY: &str = "KEYS";
/// How long a search of a disk may take.
const SEARCH: Duration = Duration::from_secs(180);
/// What stands behind the secret number in the CA key: its comment, after its length (OpenSSH's PROTOCOL.key).
const COMMENT: &[u8] = b"portreeve user CA";
/// Bytes of the number that are searched for.
const NUMBER: usize = 12;

fn goes_back_to_another_tpm(trust: &mut Trust) -> Result<()> {
    trust.run("systemd-creds has-tpm2")?;
    trust.serves()?;
    let kept = trust.kept()?;
    trust.run(&format!("bootctl set-default portreeve_{}.efi", trust.image.version()))?;
    trust.shut_down()?;
    ensure_nowhere_in_clear(&mut trust.bed)?;
    let copy = copy(&trust.bed)?;
    let dir = trust.bed.dir().join("another-chip");
    let hardware = trust.bed.hardware_mut();
    hardware.tpm = Some(dir);
    hardware.volumes.push(copy);
    stays_closed(trust)?;
    restores(trust)?;
    keeps(&kept, &trust.kept()?)?;
    trust.run("bootctl set-default ''")?;
    Ok(())
}

/// Searches the whole disk for secrets that the seed gave; what is no secret is found.
fn ensure_nowhere_in_clear(bed: &mut Bed) -> Result<()> {
    let whole = disk::raw(&bed.hardware_mut().disk.clone(), bed.dir().join("whole.img"))?;
    let state = bed.files().state_dir();
    let ca = fs::read_to_string(state.join("ca_key"))?;
    let body: Vec<&str> = ca.lines().filter(|line| !line.starts_with('-')).collect();
    let secret = fs::read_to_string(state.join("account_secret"))?;
    let decoded = run(Command::new("base64").arg("--decode"), body.concat().as_bytes(), LIMIT)?;
    // The first lines are much the same in all keys.
    let lines = body.iter().skip(2).map(|line| line.as_bytes());
    for bytes in lines.chain([number(&decoded.stdout)?, secret.trim().as_bytes()]) {
        ensure!(!is_on(&whole, bytes)?, "a key is on the disk in clear");
    }
    ensure!(is_on(&whole, format!("account = \"{ACCOUNT}\"").as_bytes())?, "the search finds nothing");
    Ok(fs::remove_file(whole)?)
}

/// A part of a CA key's secret number that holds no end of a line.
fn number(key: &[u8]) -> Result<&[u8]> {
    let comment =
        key.windows(COMMENT.len()).position(|part| part == COMMENT).context("no comment in the key")?;
    let number = comment.checked_sub(4).and_then(|end| key.get(end.checked_sub(32)?..end));
    let mut parts = number.context("no number in the key")?.windows(NUMBER);
    parts.find(|part| !part.contains(&b'\n')).context("a number full of line ends")
}

/// Whether a file holds these bytes; none of them may end a line.
fn is_on(file: &Path, bytes: &[u8]) -> Result<bool> {
    let pattern: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let mut grep = Command::new("grep");
    grep.env("LC_ALL", "C").args(["--quiet", "--text", "--perl-regexp", &pattern]).arg(file);
    let searched = run(&mut grep, b"", SEARCH)?;
    ensure!(searched.status.code().is_some_and(|code| code < 2), "{searched:?}");
    Ok(searched.status.success())
}

/// A volume with a copy of the keys, as docs/operate.md makes one.
fn copy(bed: &Bed) -> Result<PathBuf> {
    let root = bed.dir().join("copy");
    let state = root.join("var/lib/portreeve");
    fs::create_dir_all(&state)?;
    for name in ["ca_key", "account_secret"] {
        fs::copy(bed.files().state_dir().join(name), state.join(name))?;
    }
    let (tar, volume) = (root.join("keys.tar"), bed.dir().join("keys.img"));
    let mut command = Command::new("tar");
    command.args(["--create", "--file"]).arg(&tar).arg("--directory").arg(&root).arg("var");
    run(&mut command, b"", LIMIT)?.success()?;
    disk::volume(&volume, COPY, &[("keys.tar", &tar)])?;
    Ok(volume)
}

/// Starts with a TPM that opens nothing; it says so, and no packet of a client that never stops asking reaches a target.
fn stays_closed(trust: &mut Trust) -> Result<()> {
    trust.bed.switch_on()?;
    let topology = trust.bed.topology().clone();
    let (prober, witness) = (Prober::start(&topology.client), Witness::start(&topology.server)?);
    let appliance = trust.bed.appliance()?;
    appliance.console().expect_no_gateway();
    let told = appliance
        .console()
        .wait_for(START, |line| line.contains("the TPM does not open").then(|| line.to_owned()));
    let told = told.with_context(|| appliance.tail())?;
    ensure!(told.contains("operate.md"), "{told}");
    let gateway = trust.run("journalctl --unit portreeve@boot --lines 50 --output cat")?;
    ensure!(gateway.contains("was not opened"), "{gateway}");
    prober.stop()?;
    let seen = witness.stop()?;
    ensure!(seen.to_open > 0 && seen.to_targets == 0, "{seen:?}");
    Ok(())
}

/// Seals the keys again, as docs/operate.md says, and serves with them.
fn restores(trust: &mut Trust) -> Result<()> {
    trust.run(&format!("mount -o ro /dev/disk/by-label/{COPY} /mnt"))?;
    trust.run("mkdir --mode 700 /run/restore")?;
    trust.run("tar --extract --file /mnt/keys.tar --directory /run/restore")?;
    trust.run("portreeve ca seal --from /run/restore/var/lib/portreeve")?;
    trust.run("umount /mnt && rm -r /run/restore")?;
    trust.run("systemctl restart portreeve@boot")?;
    let ready = trust.run("portreeve ready --wait 120s")?;
    let first = format!("portreeve-ready: version={} slot=A ", trust.image.version());
    ensure!(ready.contains(&first), "{ready}");
    // What the prober has left fills the bounds of its source for a moment.
    until("a session", LIMIT, || Ok(trust.serves().ok()))
}
