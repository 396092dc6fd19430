//! The systemd units that image and package share: under a real systemd, and what it thinks of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::init::{Init, Machine};
use portreeve_tests::{Options, Testbed, run};

use super::Check;
use super::early::detach;
use super::lifecycle::{ensure_closed, ensure_serves};
use crate::beds::{Beds, own};
use crate::ssh::LIMIT;

pub(super) const CHECKS: &[Check] = &[
    Check::new("systemd_finds_no_unit_more_exposed_than_two_of_ten", exposure),
    Check::new("systemd_attaches_starts_reloads_and_relieves_the_gateway", service),
    Check::new("systemd_gets_a_package_that_is_upgraded_without_a_break_and_leaves_keys", package),
    Check::new("systemd_starts_a_gateway_again_that_was_killed_or_hangs", restarts),
];

/// The most that `systemd-analyze security` may find, in tenths.
const EXPOSURE: &str = "--threshold=20";
/// keepalived tells its neighbours by packet sockets who has the address, and becomes who runs its script.
const EXPOSURE_OF_KEEPALIVED: &str = "--threshold=25";

/// Settings that an older systemd than the one they are for does not know.
const LATER: [&str; 2] = ["'RestartSteps'", "'RestartMaxDelaySec'"];

const STARTED: Duration = Duration::from_secs(60);

/// Units that image and package share, and those of the image alone.
const SHARED: &str = "../appliance-image/systemd";
const OF_THE_IMAGE: &str = "../appliance-image/rootfs/usr/lib/systemd/system";

fn services(dir: &str) -> Result<Vec<PathBuf>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|unit| unit.extension().is_some_and(|ending| ending == "service"));
    ensure!(!files.is_empty(), "no unit is there");
    Ok(files)
}

fn exposure(_: &Beds) -> Result<()> {
    for unit in services(SHARED)?.iter().chain(&services(OF_THE_IMAGE)?) {
        let most = if unit.ends_with("keepalived.service") { EXPOSURE_OF_KEEPALIVED } else { EXPOSURE };
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--no-pager", most]).arg(unit);
        run(&mut command, b"", LIMIT)?.success().with_context(|| unit.display().to_string())?;
    }
    Ok(())
}

/// The gateway of a testbed as a service: its files where the units expect them, and no other gateway.
fn machine(bed: &mut Testbed) -> Result<Machine> {
    let machine = bare_machine(bed)?;
    for unit in services(SHARED)? {
        let name = unit.file_name().and_then(|name| name.to_str()).context("a unit has a name")?;
        machine.put(&format!("/etc/systemd/system/{name}"), fs::read(&unit)?, 0o644)?;
    }
    machine.put("/usr/bin/portreeve", fs::read(bed.gateway()?.files().binary())?, 0o755)?;
    let wanted = "[Unit]\nRequires=basic.target\nAfter=basic.target\n\
        Wants=portreeve-attach.service portreeve-attach-later.service portreeve@boot.service portreeve-ready.service\n";
    machine.put("/etc/systemd/system/machine.target", wanted, 0o644)?;
    Ok(machine)
}

/// The same without units and program.
fn bare_machine(bed: &mut Testbed) -> Result<Machine> {
    bed.gateway_mut()?.stop()?;
    detach(bed)?;
    let files = bed.gateway()?.files();
    let machine = Machine::new(&bed.dir().join("machine"))?;
    let gone_to = [
        (files.pin_dir(), "/sys/fs/bpf/portreeve"),
        (files.recipient_key(), "/etc/portreeve/recipient"),
        (files.state_dir(), "/var/lib/portreeve"),
        (bed.dir().join("gateway/etc"), "/etc/portreeve"),
        (bed.dir().join("gateway/access.log"), "-"),
    ];
    let mut config = fs::read_to_string(files.config_file())?;
    for (from, to) in gone_to {
        config = config.replace(&from.display().to_string(), to);
    }
    machine.put("/etc/portreeve/portreeve.toml", config, 0o644)?;
    machine.put("/etc/portreeve/policy.toml", fs::read(files.policy_file())?, 0o644)?;
    let recipient = fs::read(files.recipient_key().with_extension("pub"))?;
    machine.put("/etc/portreeve/recipient.pub", recipient, 0o644)?;
    for secret in ["ca_key", "account_secret"] {
        let bytes = fs::read(files.state_dir().join(secret))?;
        machine.put(&format!("/var/lib/portreeve/{secret}"), bytes, 0o600)?;
    }
    Ok(machine)
}

/// What `cargo xtask deb --debug` has packed.
fn packed() -> Result<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/deb");
    let file = dir.join(concat!("portreeve_", env!("CARGO_PKG_VERSION"), "_amd64.deb"));
    fs::read(&file).with_context(|| format!("{}: run `cargo xtask deb --debug`", file.display()))
}

/// This host is a Debian: the package is installed into a copy of it.
fn package(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let machine = bare_machine(&mut bed)?;
    machine.put("/portreeve.deb", packed()?, 0o644)?;
    let init = machine.start(&bed.topology().gateway, "basic.target")?;
    let install = || init.run(&["dpkg", "--install", "/portreeve.deb"])?.success();
    install()?;
    let version = init.run(&["portreeve", "--version"])?.success()?;
    ensure!(version.trim() == concat!("portreeve ", env!("CARGO_PKG_VERSION")), "{version}");
    verified(&init)?;
    let enabled = init.run(&["systemctl", "is-enabled", "portreeve@boot.service"])?;
    ensure!(enabled.out().trim() == "disabled", "{enabled:?}");
    ensure!(init.property("portreeve@boot.service", "ActiveState")? == "inactive", "it is started by hand");
    init.run(&["systemctl", "start", "portreeve-attach.service", "portreeve@boot.service"])?.success()?;
    ensure_serves(&bed)?;
    install()?;
    init.until_property("portreeve@boot.service", "ActiveState", "inactive", STARTED)?;
    let ready = init.run(&["portreeve", "ready"])?.success()?;
    ensure!(ready.contains(" serving=yes"), "{ready}");
    ensure_serves(&bed)?;
    let told = init.run(&["dpkg", "--purge", "portreeve"])?;
    ensure!(told.status.success() && told.err().contains("targets stay closed"), "{told:?}");
    init.run(&["test", "-e", "/var/lib/portreeve/ca_key", "-a", "!", "-e", "/usr/bin/portreeve"])?
        .success()?;
    ensure_closed(&bed)
}

fn start(bed: &Testbed, machine: &Machine) -> Result<Init> {
    let init = machine.start(&bed.topology().gateway, "machine.target")?;
    init.until_property("portreeve-ready.service", "ActiveState", "active", STARTED)
        .with_context(|| init.journal("portreeve@boot.service").unwrap_or_default())?;
    Ok(init)
}

fn service(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let machine = machine(&mut bed)?;
    let init = start(&bed, &machine)?;
    for unit in ["portreeve-attach.service", "portreeve-attach-later.service", "portreeve@boot.service"] {
        ensure!(init.property(unit, "ActiveState")? == "active", "{unit}: {}", init.journal(unit)?);
    }
    let said = init.journal("portreeve-ready.service")?;
    let line =
        said.lines().find(|line| line.starts_with("portreeve-ready: version=")).context(said.clone())?;
    for part in [" slot=- ", "interfaces=lan0:tcx:", ",wan0:tcx:", " serving=yes"] {
        ensure!(line.contains(part), "{line}");
    }
    ensure_serves(&bed)?;
    verified(&init)?;
    init.run(&["systemctl", "reload", "portreeve@boot.service"])?.success()?;
    ensure!(
        init.property("portreeve@boot.service", "StatusText")?.starts_with("In charge"),
        "after a reload"
    );
    init.run(&["systemctl", "start", "portreeve@next.service"])?.success()?;
    ensure!(init.property("portreeve@next.service", "StatusText")?.starts_with("In charge"), "took over");
    ensure_serves(&bed)?;
    init.until_property("portreeve@boot.service", "ActiveState", "inactive", STARTED)?;
    ensure!(init.property("portreeve@boot.service", "Result")? == "success", "the old one ended by itself");
    init.run(&["systemctl", "stop", "portreeve@next.service"])?.success()?;
    ensure_closed(&bed)
}

fn verified(init: &Init) -> Result<()> {
    for unit in ["portreeve-attach", "portreeve-attach-later", "portreeve@boot", "portreeve-ready"] {
        let found = init.run(&["systemd-analyze", "verify", "--man=no", &format!("{unit}.service")])?;
        ensure!(found.status.success(), "{}", found.err());
        let mut lines = found.err().lines().map(str::to_owned).collect::<Vec<_>>();
        lines.retain(|line| line.contains("portreeve") && !LATER.iter().any(|key| line.contains(key)));
        ensure!(lines.is_empty(), "{lines:?}");
    }
    Ok(())
}

fn restarts(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let machine = machine(&mut bed)?;
    let faster = "[Service]\nWatchdogSec=5s\nTimeoutAbortSec=1s\n";
    machine.put("/etc/systemd/system/portreeve@.service.d/faster.conf", faster, 0o644)?;
    let init = start(&bed, &machine)?;
    let unit = "portreeve@boot.service";
    let again = |signal: &str, times: &str| {
        let before = init.property(unit, "MainPID")?;
        init.run(&["systemctl", "kill", "--kill-whom=main", "--signal", signal, unit])?.success()?;
        init.until_property(unit, "NRestarts", times, STARTED)?;
        until("another gateway", STARTED, || {
            let serves = init.property(unit, "StatusText")?.starts_with("In charge");
            Ok((serves && init.property(unit, "MainPID")? != before).then_some(()))
        })
        .with_context(|| init.journal(unit).unwrap_or_default())?;
        ensure_serves(&bed)
    };
    again("KILL", "1")?;
    again("STOP", "2")?;
    ensure!(init.property(unit, "ActiveState")? == "active", "{}", init.journal(unit)?);
    Ok(())
}
