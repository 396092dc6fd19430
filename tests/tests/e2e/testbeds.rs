//! The testbed itself: it leaves nothing behind, whichever way it ends.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use portreeve_tests::deadline::until;
use portreeve_tests::{Companion, Options, Route, Testbed};

use crate::beds::Beds;
use crate::ssh::{LIMIT, TARGET, ssh};

type Case = (&'static str, fn() -> Result<()>);

const CASES: &[Case] = &[
    ("two_at_once_do_not_clash", two_at_once),
    ("nothing_is_left_after_a_stop", stop),
    ("nothing_is_left_after_its_owner_is_killed", killed_owner),
    ("a_kept_directory_stays_and_is_never_reused", kept),
];

/// A trial for each case.
pub(crate) fn trials(_: &Arc<Beds>) -> Vec<Trial> {
    CASES
        .iter()
        .map(|(name, run)| {
            Trial::test(format!("testbed::{name}"), move || run().map_err(|e| format!("{e:#}").into()))
        })
        .collect()
}

/// What would be left of a testbed: namespaces, record, mounts.
fn ensure_gone(id: &str, dir: &Path) -> Result<()> {
    let namespaces = fs::read_dir("/run/netns")?.filter_map(Result::ok);
    let namespaces: Vec<_> =
        namespaces.filter(|entry| entry.file_name().to_string_lossy().starts_with(id)).collect();
    ensure!(namespaces.is_empty(), "left behind: {namespaces:?}");
    ensure!(!Path::new("/run/portreeve-testbed").join(format!("{id}.json")).exists(), "the record is left");
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(&dir.display().to_string()), "mounts are left below {}", dir.display());
    Ok(())
}

fn id_of(bed: &Testbed) -> String {
    bed.topology().client.name().trim_end_matches("-c").to_owned()
}

fn two_at_once() -> Result<()> {
    let one = Testbed::start(Route::Direct, &Options::default())?;
    let two = Testbed::start(Route::Direct, &Options::default())?;
    ssh(&one, &[TARGET, "touch one"])?.success()?;
    let seen = ssh(&two, &[TARGET, "ls"])?.success()?;
    ensure!(seen.is_empty(), "one testbed sees the other's files: {seen}");
    drop(one);
    ssh(&two, &[TARGET, "true"])?.success()?;
    Ok(())
}

fn stop() -> Result<()> {
    let bed = Testbed::start(Route::Direct, &Options::default())?;
    let (id, dir) = (id_of(&bed), bed.dir().to_owned());
    bed.stop()?;
    ensure!(!dir.exists(), "{} is left", dir.display());
    ensure_gone(&id, &dir)
}

fn kept() -> Result<()> {
    let parent = tempfile::tempdir()?;
    let options = Options { keep: Some(parent.path().join("kept")), ..Options::default() };
    let bed = Testbed::start(Route::Direct, &options)?;
    let (id, dir) = (id_of(&bed), bed.dir().to_owned());
    bed.stop()?;
    ensure!(dir.join("server/sshd.log").is_file(), "the kept directory is gone");
    ensure_gone(&id, &dir)?;
    let again = Testbed::start(Route::Direct, &options);
    ensure!(again.is_err_and(|error| error.to_string().contains("not empty")), "the directory is used twice");
    Ok(())
}

/// Runs one long case in a program of its own and kills that in the middle.
fn killed_owner() -> Result<()> {
    let parent = tempfile::tempdir()?;
    let mut command = Command::new(env::current_exe()?);
    command.args(["direct::keep_alives_are_answered", "--exact"]).env("TMPDIR", parent.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let owner = Companion::spawn(&mut command)?;
    let started = |dir: &PathBuf| dir.join("client/known_hosts").is_file();
    let dir = until("a testbed", LIMIT, || {
        let entries = fs::read_dir(parent.path())?.filter_map(Result::ok);
        Ok(entries.map(|entry| entry.path()).find(started))
    })?;
    let name = dir.file_name().and_then(|name| name.to_str()).context("no name")?;
    let id = name.strip_prefix("portreeve-testbed-").context("not a testbed's name")?.to_owned();
    drop(owner);
    until("the end of the testbed", LIMIT, || {
        Ok((!dir.exists() && ensure_gone(&id, &dir).is_ok()).then_some(()))
    })
}
