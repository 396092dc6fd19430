//! Files: scp in both protocols, sftp, rsync.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use portreeve_tests::{Finished, Testbed, run};

use super::Case;
use crate::observation::Observation;
use crate::ssh::{LIMIT, TARGET, noise, scratch, ssh};

const OK: &[(&str, &str)] = &[("status", "exit 0"), ("stderr", ""), ("equal", "true")];

pub(super) const CASES: &[Case] = &[
    Case::new("scp_uploads", |bed| upload(bed, "scp_up", &[])).expecting(OK),
    Case::new("scp_downloads", |bed| download(bed, "scp_down", &[])).expecting(OK),
    Case::new("scp_uploads_over_ipv6", scp_over_ipv6).expecting(OK),
    Case::new("old_scp_uploads", |bed| upload(bed, "scp_o_up", &["-O"])).expecting(OK),
    Case::new("old_scp_downloads", |bed| download(bed, "scp_o_down", &["-O"])).expecting(OK),
    Case::new("scp_keeps_a_tree", |bed| tree(bed, "scp_tree", &[]))
        .expecting(&[("up/status", "exit 0"), ("down/status", "exit 0")]),
    Case::new("old_scp_keeps_a_tree", |bed| tree(bed, "scp_o_tree", &["-O"]))
        .expecting(&[("up/status", "exit 0"), ("down/status", "exit 0")]),
    Case::new("scp_of_a_missing_file", |bed| missing(bed, "scp_missing", &[]))
        .expecting(&[("status", "exit 1")]),
    Case::new("old_scp_of_a_missing_file", |bed| missing(bed, "scp_o_missing", &["-O"]))
        .expecting(&[("status", "exit 1")]),
    Case::new("sftp_batch", sftp_batch).expecting(&[("status", "exit 0"), ("equal", "true")]),
    Case::new("sftp_batch_stops_at_an_error", sftp_error).expecting(&[("status", "exit 1")]),
    Case::new("rsync_uploads_and_deletes", rsync_up).expecting(&[("status", "exit 0"), ("stderr", "")]),
    Case::new("rsync_downloads", rsync_down).expecting(&[("status", "exit 0"), ("stderr", "")]),
    Case::new("tar_through_a_pipe", tar).expecting(&[("status", "exit 0"), ("stdout", "300\n")]),
];

/// The server's side of a case: a directory in the granted login's home.
fn remote(bed: &Testbed, case: &str) -> Result<std::path::PathBuf> {
    ssh(bed, &[TARGET, &format!("rm -rf {case} && mkdir {case}")])?.success()?;
    Ok(bed.server().home("alice").join(case))
}

fn same(one: &Path, other: &Path) -> Result<String> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    Ok((read(one)? == read(other)?).to_string())
}

fn scp(bed: &Testbed, options: &[&str], from: &str, to: &str, dir: &Path) -> Result<Finished> {
    run(bed.client_ssh("scp").args(options).args([from, to]).current_dir(dir), b"", LIMIT)
}

fn upload(bed: &Testbed, case: &str, options: &[&str]) -> Result<Observation> {
    let (here, there) = (scratch(bed, case)?, remote(bed, case)?);
    fs::write(here.join("up"), noise(5_000_000))?;
    let finished = scp(bed, options, "up", &format!("{TARGET}:{case}/up"), &here)?;
    Ok(Observation::of(&finished).with("equal", same(&here.join("up"), &there.join("up"))?))
}

fn download(bed: &Testbed, case: &str, options: &[&str]) -> Result<Observation> {
    let (here, there) = (scratch(bed, case)?, remote(bed, case)?);
    fs::write(there.join("down"), noise(5_000_000))?;
    let finished = scp(bed, options, &format!("{TARGET}:{case}/down"), "down", &here)?;
    Ok(Observation::of(&finished).with("equal", same(&here.join("down"), &there.join("down"))?))
}

fn scp_over_ipv6(bed: &Testbed) -> Result<Observation> {
    let (here, there) = (scratch(bed, "scp_v6")?, remote(bed, "scp_v6")?);
    fs::write(here.join("up"), noise(100_000))?;
    let finished = scp(bed, &[], "up", "alice@[fd00:1:2::3]:scp_v6/up", &here)?;
    Ok(Observation::of(&finished).with("equal", same(&here.join("up"), &there.join("up"))?))
}

/// Names, modes and contents of a tree, as one text.
fn listing(dir: &Path) -> Result<String> {
    let script = "find . -printf '%P %m %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum";
    run(Command::new("sh").args(["-c", script]).current_dir(dir), b"", LIMIT)?.success()
}

fn plant(dir: &Path, files: usize) -> Result<()> {
    fs::create_dir_all(dir.join("sub/deeper"))?;
    fs::write(dir.join("empty"), "")?;
    fs::write(dir.join("with space"), "x")?;
    for number in 0..files {
        fs::write(dir.join(format!("sub/deeper/{number}")), noise(number * 37))?;
    }
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir.join("empty"), fs::Permissions::from_mode(0o604))?;
    Ok(fs::set_permissions(dir.join("with space"), fs::Permissions::from_mode(0o755))?)
}

fn tree(bed: &Testbed, case: &str, options: &[&str]) -> Result<Observation> {
    let (here, there) = (scratch(bed, case)?, remote(bed, case)?);
    plant(&here.join("tree"), 30)?;
    let options: Vec<&str> = options.iter().copied().chain(["-r", "-p"]).collect();
    let up = scp(bed, &options, "tree", &format!("{TARGET}:{case}/"), &here)?;
    let down = scp(bed, &options, &format!("{TARGET}:{case}/tree"), "back", &here)?;
    Ok(Observation::new()
        .and("up", Observation::of(&up))
        .and("down", Observation::of(&down))
        .with("there", listing(&there.join("tree"))?)
        .with("back", listing(&here.join("back"))?))
}

fn missing(bed: &Testbed, case: &str, options: &[&str]) -> Result<Observation> {
    let here = scratch(bed, case)?;
    Ok(Observation::of(&scp(bed, options, &format!("{TARGET}:no-such-file"), "x", &here)?))
}

fn sftp(bed: &Testbed, case: &str, batch: &str) -> Result<Finished> {
    let dir = bed.dir().join("client").join(case);
    let mut command = bed.client_ssh("sftp");
    command.args(["-b", "-", TARGET]).current_dir(dir);
    run(&mut command, batch.as_bytes(), LIMIT)
}

fn sftp_batch(bed: &Testbed) -> Result<Observation> {
    let (here, there) = (scratch(bed, "sftp_batch")?, remote(bed, "sftp_batch")?);
    fs::write(here.join("up"), noise(3_000_000))?;
    let batch = "cd sftp_batch\nput up\nmkdir d\nrename up d/moved\nchmod 600 d/moved\nsymlink moved d/link\n\
                 ls -1 d\nget d/moved down\npwd\nrm d/link\n";
    let finished = sftp(bed, "sftp_batch", batch)?;
    Ok(Observation::of(&finished)
        .with("equal", same(&here.join("up"), &here.join("down"))?)
        .with("there", listing(&there)?))
}

fn sftp_error(bed: &Testbed) -> Result<Observation> {
    scratch(bed, "sftp_error")?;
    Ok(Observation::of(&sftp(bed, "sftp_error", "get no-such-file\nmkdir never\n")?))
}

fn rsync(bed: &Testbed, options: &[&str], from: &str, to: &str, dir: &Path) -> Result<Finished> {
    let shell = format!("ssh -F '{}'", bed.ssh_config().display());
    let mut command = bed.client("rsync");
    command.args(["-a", "-e", &shell]).args(options).args([from, to]).current_dir(dir);
    run(&mut command, b"", LIMIT)
}

fn rsync_up(bed: &Testbed) -> Result<Observation> {
    let (here, there) = (scratch(bed, "rsync_up")?, remote(bed, "rsync_up")?);
    plant(&here.join("tree"), 200)?;
    fs::write(there.join("extra"), "gone soon")?;
    // rsync compares whole seconds: another one than that of the tree, on either route.
    fs::File::open(&there)?.set_modified(std::time::UNIX_EPOCH)?;
    let no_owner = ["--no-owner", "--no-group", "--delete", "--itemize-changes"];
    let finished = rsync(bed, &no_owner, "tree/", &format!("{TARGET}:rsync_up/"), &here)?;
    let again = rsync(bed, &no_owner, "tree/", &format!("{TARGET}:rsync_up/"), &here)?;
    Ok(Observation::of(&finished)
        .and("again", Observation::of(&again))
        .with("there", listing(&there)?)
        .with("equal", (listing(&there)? == listing(&here.join("tree"))?).to_string()))
}

fn rsync_down(bed: &Testbed) -> Result<Observation> {
    let (here, there) = (scratch(bed, "rsync_down")?, remote(bed, "rsync_down")?);
    plant(&there.join("tree"), 200)?;
    fs::write(there.join("tree/large"), noise(5_000_000))?;
    let finished = rsync(bed, &["--compress"], &format!("{TARGET}:rsync_down/tree/"), "back", &here)?;
    Ok(Observation::of(&finished).with("back", listing(&here.join("back"))?))
}

fn tar(bed: &Testbed) -> Result<Observation> {
    let here = scratch(bed, "tar")?;
    remote(bed, "tar")?;
    plant(&here.join("tree"), 300)?;
    let script = "tar -C tree -c sub | ssh -F \"$0\" \"$1\" 'tar -C tar -x && ls tar/sub/deeper | wc -l'";
    let mut command = bed.client("sh");
    command.args(["-c", script]).arg(bed.ssh_config()).arg(TARGET).current_dir(here);
    Ok(Observation::of(&run(&mut command, b"", LIMIT)?))
}
