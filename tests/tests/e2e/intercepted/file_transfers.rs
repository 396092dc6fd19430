//! Files by sftp, scp and rsync: what the recording says of them, and what policy refuses.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use portreeve_tests::{Finished, Options, Testbed, run};
use serde_json::Value;

use super::recordings::{events, recordings};
use super::{Check, policy};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, Standing, TARGET, noise, scratch, sha256, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("files_are_told_by_name_bytes_hash_and_result", told),
    Check::new("a_thousand_files_are_told", thousand),
    Check::new("files_that_fail_are_told", failing),
    Check::new("upload_alone_lets_no_file_out", upload_alone),
    Check::new("download_alone_changes_no_file", download_alone),
    Check::new("without_either_right_no_file_moves", neither),
    Check::new("a_refused_program_says_why_and_costs_a_shared_connection_nothing", shared),
];

/// A testbed, a directory of its client, and the home of the login at the target.
struct Place {
    bed: Testbed,
    here: PathBuf,
    there: PathBuf,
    /// Recordings so far.
    recorded: usize,
}

const UP: usize = 3_000_000;
const DOWN: usize = 1_234_567;

impl Place {
    /// With a file `up` at the client and a file `down` at the target; `granted` is the list of rights.
    fn new(granted: Option<&str>) -> Result<Self> {
        let policy = granted.map(|granted| policy(&format!("\"alice\"], file_transfer = [{granted}"), ""));
        let bed = own(&Options { policy, ..Options::default() })?;
        let (here, there) = (scratch(&bed, "files")?, bed.server().home("alice"));
        fs::write(here.join("up"), noise(UP))?;
        fs::write(there.join("down"), noise(DOWN))?;
        Ok(Self { bed, here, there, recorded: 2 })
    }

    fn sftp(&mut self, batch: &str) -> Result<Finished> {
        let mut command = self.bed.client_ssh("sftp");
        self.recorded += 1;
        run(command.args(["-b", "-", TARGET]).current_dir(&self.here), batch.as_bytes(), LIMIT)
    }

    fn scp(&mut self, args: &[&str]) -> Result<Finished> {
        self.recorded += 1;
        run(self.bed.client_ssh("scp").args(args).current_dir(&self.here), b"", LIMIT)
    }

    fn rsync(&mut self, from: &str, to: &str) -> Result<Finished> {
        self.recorded += 1;
        let shell = format!("ssh -F '{}'", self.bed.ssh_config().display());
        let mut command = self.bed.client("rsync");
        run(command.args(["-e", &shell, from, to]).current_dir(&self.here), b"", LIMIT)
    }

    /// PuTTY's psftp, another implementation of the protocol.
    fn psftp(&mut self, batch: &str) -> Result<Finished> {
        self.recorded += 1;
        fs::write(self.here.join("batch"), batch)?;
        let known = fs::read_to_string(self.bed.dir().join("client/known_hosts"))?;
        let key = known.lines().find_map(|line| line.strip_prefix("10.1.2.3 ssh-ed25519 "));
        let mut command = self.bed.client("psftp");
        command.args(["-batch", "-hostkey", key.context("no ed25519 key")?, "-be", "-b", "batch", TARGET]);
        run(command.env("HOME", &self.here).current_dir(&self.here), b"", LIMIT)
    }

    /// The events of a kind in the last session.
    fn events(&self, kind: &str) -> Result<Vec<Value>> {
        let recording = recordings(&self.bed, self.recorded)?.pop().context("no recording")?;
        let events = events(&self.bed, &recording)?;
        Ok(events.into_iter().filter(|event| event["event"] == kind).collect())
    }

    /// The only file of the last session, whose path ends in `name`.
    fn only_file(&self, name: &str) -> Result<Value> {
        let mut files = self.events("file-transfer")?;
        ensure!(files.len() == 1, "{files:?}");
        let file = files.pop().context("no file")?;
        ensure!(file["path"].as_str().is_some_and(|path| path.ends_with(name)), "{name} is not in {file}");
        Ok(file)
    }

    /// That the last session moved one file, whole, and that it is at both ends.
    fn moved(&self, protocol: &str, name: &str, size: usize) -> Result<()> {
        let file = self.only_file(name)?;
        let (direction, bytes) =
            if name == "up" { ("upload", "uploaded") } else { ("download", "downloaded") };
        let (here, there) = (fs::read(self.here.join(name))?, fs::read(self.there.join(name))?);
        ensure!(here == there && here.len() == size, "{name} differs at the two ends");
        ensure!(file["protocol"] == protocol && file["direction"] == direction, "{file}");
        ensure!(file["result"] == "complete" && file[bytes] == size, "{file}");
        ensure!(file["sha256"] == sha256(&here)?.as_str(), "{file}");
        Ok(())
    }

    /// Takes away what a transfer has made.
    fn clear(&self) -> Result<()> {
        for made in [self.here.join("down"), self.there.join("up")] {
            if made.exists() {
                fs::remove_file(made)?;
            }
        }
        Ok(())
    }
}

fn target(path: &str) -> String {
    format!("{TARGET}:{path}")
}

fn told(_: &Beds) -> Result<()> {
    let mut place = Place::new(None)?;
    place.sftp("put up\n")?.success()?;
    place.moved("sftp", "up", UP)?;
    place.sftp("get down\n")?.success()?;
    place.moved("sftp", "down", DOWN)?;
    for (options, protocol) in [(&[][..], "sftp"), (&["-O"][..], "scp")] {
        place.clear()?;
        let (up, down) = (target("up"), target("down"));
        place.scp(&[options, &["up", &up]].concat())?.success()?;
        place.moved(protocol, "up", UP)?;
        place.scp(&[options, &[&down, "down"]].concat())?.success()?;
        place.moved(protocol, "down", DOWN)?;
    }
    place.clear()?;
    place.psftp("put up\n")?.success()?;
    place.moved("sftp", "up", UP)?;
    place.psftp("get down\n")?.success()?;
    place.moved("sftp", "down", DOWN)?;
    place.clear()?;
    place.rsync("up", &target("up"))?.success()?;
    let run = place.only_file("up")?;
    ensure!(run["protocol"] == "rsync" && run["direction"] == "upload", "{run}");
    ensure!(run["uploaded"].as_u64().is_some_and(|bytes| bytes > UP as u64), "{run}");
    place.rsync(&target("down"), "down")?.success()?;
    let run = place.only_file("down")?;
    ensure!(run["direction"] == "download" && run["result"] == "not-followed", "{run}");
    ensure!(run["downloaded"].as_u64().is_some_and(|bytes| bytes > DOWN as u64), "{run}");
    Ok(())
}

fn thousand(_: &Beds) -> Result<()> {
    let mut place = Place::new(None)?;
    fs::create_dir(place.here.join("many"))?;
    for number in 0..1000 {
        fs::write(place.here.join(format!("many/{number}")), noise(number * 7))?;
    }
    place.sftp("put -r many\n")?.success()?;
    let sums =
        run(place.bed.client("sh").args(["-c", "sha256sum many/*"]).current_dir(&place.here), b"", LIMIT)?;
    let sums = sums.success()?;
    let files = place.events("file-transfer")?;
    ensure!(files.len() == 1000, "{} files", files.len());
    for sum in sums.lines() {
        let (hash, name) = sum.split_once("  ").context("a line of sha256sum")?;
        let is_it =
            |file: &&Value| file["path"].as_str().is_some_and(|path| path.ends_with(&format!("/{name}")));
        let file = files.iter().find(is_it).with_context(|| name.to_owned())?;
        ensure!(file["sha256"] == hash && file["result"] == "complete", "{name} {hash}: {file}");
    }
    let made = place.events("file-change")?;
    ensure!(made.iter().any(|change| change["change"] == "mkdir"), "{made:?}");
    Ok(())
}

fn failing(_: &Beds) -> Result<()> {
    let mut place = Place::new(None)?;
    place.sftp("-get /etc/shadow-of-nobody\n-put up /proc/nothing\n-rm nothing\n")?.success()?;
    let files = place.events("file-transfer")?;
    ensure!(
        files.iter().any(|file| file["status"] == "No such file" && file["result"] == "failed"),
        "{files:?}"
    );
    let changes = place.events("file-change")?;
    ensure!(changes.len() == 1 && changes[0]["result"] == "failed", "{changes:?}");
    let finished = place.scp(&["-O", &target("nothing"), "x"])?;
    ensure!(finished.ending() == "exit 1", "{}", finished.ending());
    let file = place.only_file("nothing")?;
    ensure!(file["status"].as_str().is_some_and(|status| status.contains("No such file")), "{file}");
    Ok(())
}

/// That a program of the user's failed and said so.
fn ensure_denied(finished: &Finished, what: &str) -> Result<()> {
    ensure!(finished.ending() != "exit 0", "{what} succeeded");
    ensure!(finished.err().contains("Permission denied"), "{what} says {:?}", finished.err());
    Ok(())
}

/// That a program of the user's failed and showed why.
fn ensure_told(finished: &Finished, what: &str) -> Result<()> {
    ensure!(finished.ending() != "exit 0", "{what} succeeded");
    let told = format!("portreeve: {what} is not granted by the policy of this gateway");
    ensure!(finished.err().contains(&told), "{what} says {:?}", finished.err());
    Ok(())
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn upload_alone(_: &Beds) -> Result<()> {
    let mut place = Place::new(Some("\"upload\""))?;
    // The session goes on after what is refused.
    let batch = "-get down\nput up\nmkdir d\nrename up d/up\nrename d/up up\n-get up again\nls\n";
    let finished = place.sftp(batch)?;
    ensure!(finished.ending() == "exit 0", "{}: {}", finished.ending(), finished.err());
    ensure!(finished.err().contains("Permission denied"), "{:?}", finished.err());
    ensure!(fs::read(place.there.join("up"))? == noise(UP), "the upload differs");
    ensure!(!is_there(&place.here.join("down")) && !is_there(&place.here.join("again")), "a file came out");
    let files = place.events("file-transfer")?;
    let results: Vec<_> = files.iter().map(|file| file["result"].as_str().unwrap_or_default()).collect();
    ensure!(results == ["refused", "complete", "refused"], "{files:?}");
    ensure_denied(&place.scp(&[&target("down"), "down"])?, "scp")?;
    ensure!(place.only_file("down")?["result"] == "refused");
    let finished = place.psftp("get down\nput up\n")?;
    ensure!(finished.out().contains("permission denied"), "{}{}", finished.out(), finished.err());
    ensure_told(&place.scp(&["-O", &target("down"), "down"])?, "download by scp")?;
    ensure_told(&place.rsync(&target("down"), "down")?, "download by rsync")?;
    let refused = place.events("refused")?;
    ensure!(refused.iter().any(|event| event["what"] == "download by rsync"), "{refused:?}");
    ensure!(!is_there(&place.here.join("down")), "a file came out");
    place.clear()?;
    place.scp(&["-O", "up", &target("up")])?.success()?;
    place.moved("scp", "up", UP)?;
    place.rsync("up", &target("up2"))?.success()?;
    Ok(())
}

fn download_alone(_: &Beds) -> Result<()> {
    let mut place = Place::new(Some("\"download\""))?;
    let listing = |place: &Place| -> Result<String> {
        let mut find = std::process::Command::new("find");
        run(find.args([".", "-printf", "%P %m %s %l %T@\\n"]).current_dir(&place.there), b"", LIMIT)?
            .success()
    };
    let before = listing(&place)?;
    let changes = "-put up\n-mkdir d\n-rm down\n-rename down moved\n-chmod 600 down\n-symlink down link\n\
                   -ln down hard\n-rmdir .ssh\n";
    let finished = place.sftp(&format!("{changes}get down\nls\n"))?;
    ensure!(finished.ending() == "exit 0", "{}: {}", finished.ending(), finished.err());
    let denials = finished.err().matches("ermission denied").count();
    ensure!(denials >= 7, "{denials} denials: {}", finished.err());
    ensure!(listing(&place)? == before, "something changed at the target");
    let changed = place.events("file-change")?;
    ensure!(changed.len() >= 6 && changed.iter().all(|change| change["result"] == "refused"), "{changed:?}");
    place.clear()?;
    place.sftp("get down\n")?.success()?;
    place.moved("sftp", "down", DOWN)?;
    ensure_denied(&place.scp(&["up", &target("up")])?, "scp")?;
    ensure_told(&place.scp(&["-O", "up", &target("up")])?, "upload by scp")?;
    ensure_told(&place.rsync("up", &target("up"))?, "upload by rsync")?;
    ensure!(listing(&place)? == before, "something changed at the target");
    place.clear()?;
    place.scp(&["-O", &target("down"), "down"])?.success()?;
    place.moved("scp", "down", DOWN)
}

fn neither(_: &Beds) -> Result<()> {
    let mut place = Place::new(Some(""))?;
    let finished = place.sftp("-get down\n-put up\nls\n")?;
    ensure!(finished.ending() == "exit 0" && finished.out().contains("down"), "{}", finished.err());
    ensure!(finished.err().matches("ermission denied").count() >= 2, "{}", finished.err());
    ensure!(!is_there(&place.here.join("down")) && !is_there(&place.there.join("up")), "a file moved");
    let files = place.events("file-transfer")?;
    ensure!(files.len() == 2 && files.iter().all(|file| file["result"] == "refused"), "{files:?}");
    Ok(())
}

fn shared(_: &Beds) -> Result<()> {
    let place = Place::new(Some(""))?;
    let socket = place.here.join("socket").display().to_string();
    let mut standing = Standing::start(&place.bed, "refused", &["-M", "-S", &socket, TARGET])?;
    standing.until("the shared connection", || Path::new(&socket).exists().then_some(()))?;
    let over = |words: &[&str]| ssh(&place.bed, &[&["-S", &socket, TARGET], words].concat());
    let line = "portreeve: download by scp is not granted by the policy of this gateway\r\n";
    for _ in 0..10 {
        let refused = over(&["scp -f down"])?;
        ensure!(refused.ending() == "exit 1" && refused.err() == line, "{refused:?}");
        ensure!(refused.stdout.is_empty(), "{refused:?}");
        ensure!(over(&["echo still here"])?.success()? == "still here\n", "the connection is disturbed");
    }
    // With a connection of its own, and at a terminal.
    for options in [&[][..], &["-tt"]] {
        let refused = ssh(&place.bed, &[options, &[TARGET, "scp -f down"]].concat())?;
        ensure!(refused.ending() == "exit 1" && refused.err().contains(line.trim_end()), "{refused:?}");
    }
    Ok(())
}
