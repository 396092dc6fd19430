//! The core cases with clients that are not OpenSSH: PuTTY's plink, pscp, psftp, and dropbear's dbclient.
//!
//! How a client logs in differs between the routes (a key, or nothing), so what it says about that is
//! left out. dropbear's server is no target: it knows no OpenSSH certificates.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use portreeve_tests::{Finished, Route, Testbed, run};

use super::Case;
use crate::observation::Observation;
use crate::ssh::{LIMIT, TARGET, noise, scratch, sha256, ssh};

const RAN: &[(&str, &str)] = &[("status", "exit 7"), ("stdout", "server out\nserver\n")];
const SAME: &[(&str, &str)] = &[("equal", "true")];

pub(super) const CASES: &[Case] = &[
    Case::new("plink_runs_a_command", |bed| putty(bed, "plink_exec")?.exec()).expecting(RAN),
    Case::new("plink_reads_a_status_behind_its_close", |bed| putty(bed, "plink_late")?.late_status())
        .expecting(&[("status", "exit 5"), ("stdout", "out\n")]),
    Case::new("plink_uploads", |bed| putty(bed, "plink_up")?.up()).expecting(SAME),
    Case::new("plink_downloads", |bed| putty(bed, "plink_down")?.down()).expecting(SAME),
    Case::new("plink_sends_both_ways", |bed| putty(bed, "plink_both")?.both()).expecting(SAME),
    Case::new("plink_has_a_terminal", plink_terminal)
        .expecting(&[("status", "exit 5"), ("stdout", "/dev/pts/\r\n")]),
    Case::new("plink_forwards_its_streams", plink_streams).expecting(SAME),
    Case::new("pscp_copies_there_and_back", pscp).expecting(&[
        ("up", "exit 0"),
        ("down", "exit 0"),
        ("equal", "true"),
    ]),
    Case::new("old_pscp_copies_there_and_back", old_pscp).expecting(&[
        ("up", "exit 0"),
        ("down", "exit 0"),
        ("equal", "true"),
    ]),
    Case::new("psftp_runs_a_batch", psftp).expecting(SAME),
    Case::new("dbclient_runs_a_command", |bed| dropbear(bed, "dbclient_exec")?.exec()).expecting(RAN),
    Case::new("dbclient_uploads", |bed| dropbear(bed, "dbclient_up")?.up()).expecting(SAME),
    Case::new("dbclient_downloads", |bed| dropbear(bed, "dbclient_down")?.down()).expecting(SAME),
    Case::new("dbclient_sends_both_ways", |bed| dropbear(bed, "dbclient_both")?.both()).expecting(SAME),
];

/// A program with the options that let it in, and a directory of its own that is its HOME.
struct Client<'a> {
    bed: &'a Testbed,
    case: &'static str,
    dir: PathBuf,
    program: &'static str,
    options: Vec<OsString>,
}

/// plink; the other programs of PuTTY take the same options.
fn putty<'a>(bed: &'a Testbed, case: &'static str) -> Result<Client<'a>> {
    let dir = scratch(bed, case)?;
    let mut options: Vec<OsString> = vec!["-batch".into(), "-hostkey".into(), host_key(bed)?.into()];
    if bed.route() == Route::Direct {
        let key = dir.join("key.ppk");
        let mut convert = Command::new("puttygen");
        convert.arg(bed.dir().join("client/id_ed25519")).args(["-O", "private", "-o"]).arg(&key);
        run(convert.env("HOME", &dir), b"", LIMIT)?.success().context("puttygen")?;
        options.extend(["-i".into(), key.into()]);
    }
    Ok(Client { bed, case, dir, program: "plink", options })
}

/// The key that OpenSSH saw on this route.
fn host_key(bed: &Testbed) -> Result<String> {
    let known = fs::read_to_string(bed.dir().join("client/known_hosts"))?;
    let key = known.lines().find_map(|line| line.strip_prefix("10.1.2.3 ssh-ed25519 "));
    Ok(key.with_context(|| format!("no ed25519 key in {known:?}"))?.to_owned())
}

fn dropbear<'a>(bed: &'a Testbed, case: &'static str) -> Result<Client<'a>> {
    let dir = scratch(bed, case)?;
    // Twice: do not ask about the host key, and do not look for it.
    let mut options: Vec<OsString> = vec!["-y".into(), "-y".into()];
    if bed.route() == Route::Direct {
        let key = dir.join("key");
        let mut make = Command::new("dropbearkey");
        make.args(["-t", "ed25519", "-f"]).arg(&key);
        let said = run(&mut make, b"", LIMIT)?.success().context("dropbearkey")?;
        let public = said.lines().find(|line| line.starts_with("ssh-ed25519 ")).context("no public key")?;
        bed.server().authorize_key("alice", &format!("{public}\n"))?;
        options.extend(["-i".into(), key.into()]);
    }
    Ok(Client { bed, case, dir, program: "dbclient", options })
}

impl Client<'_> {
    fn run_as(&self, program: &str, args: &[&str], stdin: &[u8]) -> Result<Finished> {
        let mut command = self.bed.client(program);
        command.args(&self.options).args(args).env("HOME", &self.dir).current_dir(&self.dir);
        run(&mut command, stdin, LIMIT)
    }

    fn run(&self, args: &[&str], stdin: &[u8]) -> Result<Finished> {
        self.run_as(self.program, args, stdin)
    }

    fn exec(&self) -> Result<Observation> {
        let finished = self.run(&[TARGET, "echo server out; uname -n; exit 7"], b"")?;
        Ok(Observation::new().with("status", finished.ending()).with("stdout", finished.out()))
    }

    /// PuTTY closes a channel as soon as both sides have sent EOF; sshd has a status to tell when the process ends.
    fn late_status(&self) -> Result<Observation> {
        let finished = self.run(&[TARGET, "echo out; exec >&- 2>&-; sleep 1; exit 5"], b"")?;
        Ok(Observation::new().with("status", finished.ending()).with("stdout", finished.out()))
    }

    fn up(&self) -> Result<Observation> {
        let bytes = noise(3_000_000);
        let finished = self.run(&[TARGET, "sha256sum"], &bytes)?;
        let equal = finished.success()?.starts_with(&sha256(&bytes)?);
        Ok(Observation::new().with("equal", equal.to_string()))
    }

    fn down(&self) -> Result<Observation> {
        let bytes = noise(3_000_000);
        fs::write(self.bed.server().home("alice").join(self.case), &bytes)?;
        same(self.run_into_file(&[TARGET, &format!("cat {}", self.case)], b"")?, &bytes)
    }

    fn both(&self) -> Result<Observation> {
        let bytes = noise(3_000_000);
        same(self.run_into_file(&[TARGET, "cat"], &bytes)?, &bytes)
    }

    /// With a file as its output. Into a pipe dbclient of Dropbear 2022.83 hangs on either route, once in
    /// some hundred downloads: when the channel's close is there before the pipe has taken the last bytes, its loop looks
    /// whether a channel is left before it writes and removes the last one, and then waits for the server.
    fn run_into_file(&self, args: &[&str], stdin: &[u8]) -> Result<Finished> {
        let mut command = self.bed.client("sh");
        command.args(["-c", "exec \"$@\" >output", "sh", self.program]);
        command.args(&self.options).args(args).env("HOME", &self.dir).current_dir(&self.dir);
        let finished = run(&mut command, stdin, LIMIT)?;
        Ok(Finished { stdout: fs::read(self.dir.join("output"))?, ..finished })
    }
}

/// An end with another status than 0 is an error, with what was said on it.
fn same(finished: Finished, bytes: &[u8]) -> Result<Observation> {
    let equal = finished.stdout == bytes;
    finished.success()?;
    Ok(Observation::new().with("equal", equal.to_string()))
}

fn plink_terminal(bed: &Testbed) -> Result<Observation> {
    let plink = putty(bed, "plink_terminal")?;
    let finished = plink.run(&["-t", TARGET, "tty | cut -c 1-9; exit 5"], b"")?;
    Ok(Observation::new().with("status", finished.ending()).with("stdout", finished.out()))
}

fn plink_streams(bed: &Testbed) -> Result<Observation> {
    let bytes = noise(100_000);
    same(putty(bed, "plink_streams")?.run(&["-nc", "127.0.0.1:7", TARGET], &bytes)?, &bytes)
}

fn pscp(bed: &Testbed) -> Result<Observation> {
    there_and_back(bed, "pscp", "-sftp")
}

fn old_pscp(bed: &Testbed) -> Result<Observation> {
    there_and_back(bed, "old_pscp", "-scp")
}

fn there_and_back(bed: &Testbed, case: &'static str, protocol: &str) -> Result<Observation> {
    let client = putty(bed, case)?;
    let bytes = noise(3_000_000);
    fs::write(client.dir.join("up"), &bytes)?;
    let there = format!("{TARGET}:{case}.copy");
    let up = client.run_as("pscp", &["-q", protocol, "up", &there], b"")?;
    let down = client.run_as("pscp", &["-q", protocol, &there, "down"], b"")?;
    let equal = [bed.server().home("alice").join(format!("{case}.copy")), client.dir.join("down")]
        .iter()
        .all(|path| holds(path, &bytes));
    Ok(Observation::new()
        .with("up", up.ending())
        .with("down", down.ending())
        .with("equal", equal.to_string()))
}

fn psftp(bed: &Testbed) -> Result<Observation> {
    let client = putty(bed, "psftp")?;
    let bytes = noise(1_000_000);
    fs::write(client.dir.join("up"), &bytes)?;
    fs::write(client.dir.join("batch"), "mkdir d\ncd d\nput up\nmv up moved\nget moved down\nls\npwd\n")?;
    ssh(bed, &[TARGET, "rm -rf d"])?.success()?;
    let finished = client.run_as("psftp", &["-b", "batch", TARGET], b"")?;
    finished.success()?;
    Ok(Observation::new().with("equal", holds(&client.dir.join("down"), &bytes).to_string()))
}

fn holds(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).is_ok_and(|read| read == bytes)
}
