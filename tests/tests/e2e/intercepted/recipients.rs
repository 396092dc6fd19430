//! To whom recordings are sealed: several recipients, and keys that change while the gateway runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use portreeve_tests::deadline::until;
use portreeve_tests::{Finished, Testbed, run};

use super::recordings::{bed, recordings};
use super::reloads::{lasting, wait_for};
use super::{Check, metric, sample};
use crate::beds::Beds;
use crate::ssh::{LIMIT, TARGET, ssh, ssh_with};

pub(super) const CHECKS: &[Check] = &[
    Check::new("each_recipient_opens_all_that_was_recorded", two_recipients),
    Check::new("a_key_that_changes_is_used_by_the_next_session_and_not_by_one_that_runs", rotation),
];

/// Makes a further key pair; the path of the private key.
fn further_key(bed: &Testbed) -> Result<PathBuf> {
    let files = bed.gateway()?.files();
    let key = files.recipient_key().with_file_name("further");
    files.verb(&["logs", "generate-key-pair"], &[&key])?;
    Ok(key)
}

fn decrypt(bed: &Testbed, key: &Path, file: &Path) -> Result<Finished> {
    let mut command = Command::new(bed.gateway()?.files().binary());
    command.args(["logs", "decrypt", "--output", "-", "--key"]).arg(key).arg(file);
    run(&mut command, b"", LIMIT)
}

/// The newest finished recording, of `count`.
fn newest(bed: &Testbed, count: usize) -> Result<PathBuf> {
    recordings(bed, count)?.pop().context("no recording")
}

fn two_recipients(_: &Beds) -> Result<()> {
    let mut bed = bed()?;
    recordings(&bed, 2)?;
    let further = further_key(&bed)?;
    let files = bed.gateway()?.files().clone();
    let both = [files.recipient_key(), further.clone()].map(|key| key.with_extension("pub"));
    let config = fs::read_to_string(files.config_file())?;
    let one = format!("recipient_key_file = \"{}\"", both[0].display());
    ensure!(config.contains(&one), "{config}");
    bed.gateway_mut()?.stop()?;
    fs::write(files.config_file(), config.replace(&one, &format!("recipient_key_files = {both:?}")))?;
    bed.gateway_mut()?.launch()?;
    ssh_with(&bed, &[TARGET, "cat"], b"to both of you")?.success()?;

    let recording = newest(&bed, 3)?;
    let of_further = fs::read_dir(&recording)?.filter_map(Result::ok).map(|entry| entry.path());
    let of_further = of_further.into_iter().find(|path| path.is_dir()).context("no files for the second")?;
    for name in ["events.log", "channel-0.log"] {
        let mut opened = Vec::new();
        for (key, file) in
            [(files.recipient_key(), recording.join(name)), (further.clone(), of_further.join(name))]
        {
            let finished = decrypt(&bed, &key, &file)?;
            ensure!(finished.status.success(), "{}: {}", file.display(), finished.err());
            opened.push(finished.stdout);
        }
        ensure!(opened[0] == opened[1] && !opened[0].is_empty(), "{name} differs between the recipients");
        let crossed = decrypt(&bed, &further, &recording.join(name))?;
        ensure!(!crossed.status.success(), "the second key opens what was sealed to the first");
    }
    Ok(())
}

fn rotation(_: &Beds) -> Result<()> {
    let bed = bed()?;
    recordings(&bed, 2)?;
    let gateway = bed.gateway()?;
    let (old, new) = (gateway.files().recipient_key(), further_key(&bed)?);
    let mut session = lasting(&bed, "10.1.1.2", "across")?;
    let reloads = metric(gateway, sample::RELOADS_APPLIED)?;
    fs::copy(new.with_extension("pub"), old.with_extension("pub"))?;
    gateway.reload()?;
    wait_for(gateway, sample::RELOADS_APPLIED, reloads + 1.0)?;
    ensure!(session.is_running()?, "the change of the key ended a session");
    ssh(&bed, &[TARGET, "true"])?.success()?;
    let after = newest(&bed, 3)?.join("events.log");
    ensure!(decrypt(&bed, &new, &after)?.status.success(), "the new key does not open the next session");
    ensure!(!decrypt(&bed, &old, &after)?.status.success(), "the old key opens the next session");

    session.signal(Signal::SIGKILL)?;
    let found = until("the recording of the session that ran", LIMIT, || {
        let mut all = recordings(&bed, 3)?;
        all.retain(|path| !after.starts_with(path));
        Ok((all.len() == 3).then_some(all))
    })?;
    let before = found.last().context("no recording")?.join("events.log");
    ensure!(decrypt(&bed, &old, &before)?.status.success(), "the old key does not open what began with it");
    ensure!(!decrypt(&bed, &new, &before)?.status.success(), "the new key opens what began without it");
    Ok(())
}
