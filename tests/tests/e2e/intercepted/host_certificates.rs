//! Host certificates for users with a `@cert-authority` line, and users without one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use portreeve_tests::server::HOSTNAME;
use portreeve_tests::{Finished, Options, Testbed, run};

use super::{Check, access_event, ensure_refused};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, TARGET_V6, scratch, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("who_trusts_the_host_ca_alone_is_let_in", trusted),
    Check::new("host_certificates_change_nothing_for_other_clients", unnoticed),
    Check::new("host_certificates_need_a_key_of_their_own", keys),
];

const REFUSED: &str = "Host key verification failed.";

/// Makes the host CA key, switches host certificates on, and returns the line for users.
fn switch_on(bed: &mut Testbed) -> Result<String> {
    let files = bed.gateway()?.files();
    let line = files.verb(&["ca", "init-host", "--state-dir"], &[&files.state_dir()])?;
    let shown = files.verb(&["ca", "host-public-key", "--state-dir"], &[&files.state_dir()])?;
    ensure!(line == shown && line.starts_with("@cert-authority * "), "{line} {shown}");
    write_switch(&files.config_file())?;
    let gateway = bed.gateway_mut()?;
    gateway.stop()?;
    gateway.launch()?;
    Ok(line)
}

fn write_switch(config: &Path) -> Result<()> {
    let text = fs::read_to_string(config)?;
    Ok(fs::write(config, text + "\n[downstream]\nhost_certificates = true\n")?)
}

/// A file of known hosts, and ssh that believes nothing else.
struct Strict<'a> {
    bed: &'a Testbed,
    file: PathBuf,
}

impl<'a> Strict<'a> {
    fn new(bed: &'a Testbed, case: &str) -> Result<Self> {
        Ok(Self { bed, file: scratch(bed, case)?.join("known_hosts") })
    }

    fn ssh(&self, known: &str, args: &[&str]) -> Result<Finished> {
        fs::write(&self.file, known)?;
        let file = format!("UserKnownHostsFile={}", self.file.display());
        ssh(self.bed, &[&["-o", "StrictHostKeyChecking=yes", "-o", &file], args].concat())
    }
}

fn trusted(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let line = switch_on(&mut bed)?;
    let strict = Strict::new(&bed, "host_certificates")?;
    for target in [TARGET, TARGET_V6] {
        strict.ssh(&line, &[target, "true"])?.success()?;
    }
    let by_name = format!("HostKeyAlias={HOSTNAME}");
    strict.ssh(&line.replace('*', HOSTNAME), &["-o", &by_name, TARGET, "true"])?.success()?;
    let p256 = "HostKeyAlgorithms=ecdsa-sha2-nistp256-cert-v01@openssh.com";
    let told = strict.ssh(&line, &["-v", "-o", p256, TARGET, "true"])?.err();

    // What `ssh -v` shows of it leads to the access log.
    let shown = told.split_once("Server host certificate: ").context("no certificate is shown")?.1;
    let key_id = shown.split('"').nth(1).context("no key id")?;
    let session = key_id.split(' ').next().unwrap_or_default();
    ensure!(key_id == format!("{session} {HOSTNAME} 10.1.2.3:22"), "{key_id}");
    access_event(bed.gateway()?, "the session of the certificate", |event| event["session"] == session)?;

    let users_ca = bed.gateway()?.files().ca_public_key()?;
    for (known, args) in [
        (line.as_str(), &["-o", "HostKeyAlias=elsewhere", TARGET, "id"][..]),
        (&format!("@cert-authority * {users_ca}"), &[TARGET, "id"]),
        ("", &[TARGET, "id"]),
    ] {
        ensure_refused(&strict.ssh(known, args)?, &[REFUSED])?;
    }
    bed.server_mut().change_host_keys()?;
    let strict = Strict::new(&bed, "host_certificates_after_the_change")?;
    ensure_refused(&strict.ssh(&line, &[TARGET, "id"])?, &[REFUSED])
}

/// What a client without known hosts learns.
fn learnt(bed: &Testbed, case: &str) -> Result<String> {
    let file = scratch(bed, case)?.join("known_hosts");
    let option = format!("UserKnownHostsFile={}", file.display());
    for target in [TARGET, TARGET_V6] {
        ssh(bed, &["-o", &option, target, "true"])?.success()?;
    }
    let p256 = "HostKeyAlgorithms=ecdsa-sha2-nistp256,ecdsa-sha2-nistp256-cert-v01@openssh.com";
    ssh(bed, &["-o", &option, "-o", p256, "-o", "HostKeyAlias=p256", TARGET, "true"])?.success()?;
    Ok(fs::read_to_string(file)?)
}

/// PuTTY takes certificates too; it is told one plain key.
fn plink(bed: &Testbed, home: &Path, fingerprint: &str) -> Result<Finished> {
    let mut command = bed.client("plink");
    command.args(["-batch", "-hostkey", fingerprint, TARGET, "true"]).env("HOME", home);
    run(&mut command, b"", LIMIT)
}

fn unnoticed(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let before = learnt(&bed, "learnt_before")?;
    ensure!(before.lines().count() == 3, "{before}");
    switch_on(&mut bed)?;
    ensure!(learnt(&bed, "learnt_after")? == before, "another line is learnt than {before}");
    let known = ssh(&bed, &["-o", "StrictHostKeyChecking=yes", TARGET, "true"])?;
    ensure!(known.stderr.is_empty(), "who knew the host key is told {}", known.err());
    known.success()?;

    let home = scratch(&bed, "plink_with_certificates")?;
    let file = bed.dir().join("client/learnt_before/known_hosts");
    let listed = run(Command::new("ssh-keygen").arg("-lf").arg(file), b"", LIMIT)?.success()?;
    let fingerprint = listed.split(' ').find(|word| word.starts_with("SHA256:")).context("no fingerprint")?;
    plink(&bed, &home, fingerprint)?.success()?;
    let finished =
        run(bed.client("dbclient").args(["-y", "-y", TARGET, "true"]).env("HOME", home), b"", LIMIT)?;
    finished.success()?;
    Ok(())
}

fn keys(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    let files = bed.gateway()?.files();
    write_switch(&files.config_file())?;
    let check = || {
        let mut command = Command::new(files.binary());
        run(command.args(["check-config", "--config"]).arg(files.config_file()), b"", LIMIT)
    };
    let refused = |texts: &[&str]| -> Result<()> {
        let finished = check()?;
        ensure!(finished.ending() == "exit 1", "{}: {}", finished.ending(), finished.out());
        ensure!(texts.iter().all(|text| finished.err().contains(text)), "{}", finished.err());
        Ok(())
    };
    refused(&["host_ca_key", "portreeve ca init-host"])?;
    let key = files.state_dir().join("host_ca_key");
    fs::copy(files.state_dir().join("ca_key"), &key)?;
    refused(&["host_ca_key", "same key"])?;
    fs::remove_file(key)?;
    files.verb(&["ca", "init-host", "--state-dir"], &[&files.state_dir()])?;
    check()?.success()?;
    Ok(())
}
