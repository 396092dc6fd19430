//! An address that routers share by VRRP: it is where a gateway serves.

use std::fs;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::{Companion, run};

use crate::MachineCase;
use crate::router::{Router, TARGETS};
use crate::scene::LIMIT;

pub(crate) const CASES: &[MachineCase<Router>] =
    &[("router_has_a_shared_address_while_it_serves", shares_an_address)];

/// The address in the client's network that routers share.
const SHARED4: &str = "10.1.1.254";
/// How keepalived looks whether the gateway serves: as in appliance-image/examples/seed-pair.toml, and more often.
const SCRIPT: &str = "vrrp_script serves {\n script \"/usr/bin/portreeve ready\"\n interval 2\n timeout 10\n fall 1\n rise 1\n weight -50\n}\n";
const TRACKED: &str = "track_script {\n serves\n }\n";

/// What the appliance's keepalived reads.
pub(crate) fn keepalived(interface: &str) -> String {
    format!("{SCRIPT}{}", instance(interface, 100, TRACKED))
}

/// A router in VRRP that may have the shared address.
fn instance(interface: &str, priority: u8, more: &str) -> String {
    format!(
        "global_defs {{\n enable_script_security\n script_user root\n}}\nvrrp_instance lan {{\n interface {interface}\n virtual_router_id 7\n \
         priority {priority}\n virtual_ipaddress {{\n {SHARED4}/24\n }}\n {more}}}\n"
    )
}

/// Users whose way leads to the shared address are served there. Another router, here the client's host, takes it while the gateway
/// does not serve, and gives it back.
fn shares_an_address(router: &mut Router) -> Result<()> {
    held_here(router, true)?;
    let way = |word: &str| {
        let mut ip = router.client().command("ip");
        run(ip.args(["route", word, "10.1.2.3/32", "via", SHARED4]), b"", LIMIT)?.success()
    };
    way("add")?;
    let session = router.ssh(router.client(), &["-q", TARGETS[0], "echo by the shared address"])?.success();
    way("delete")?;
    ensure!(session? == "by the shared address\n", "no session");
    let other = other_router(router)?;
    router.run("systemctl stop portreeve@boot")?;
    let moved = until("the address at the other router", LIMIT, || Ok(held_there(router)?.then_some(())));
    let moved = moved.and_then(|()| held_here(router, false));
    router.run("systemctl start portreeve@boot")?;
    moved?;
    held_here(router, true)?;
    until("the other router without it", LIMIT, || Ok((!held_there(router)?).then_some(())))?;
    drop(other);
    Ok(())
}

fn held_here(router: &mut Router, wanted: bool) -> Result<()> {
    until("the shared address", LIMIT, || {
        let told = router.run("ip -4 -oneline address show")?;
        Ok((told.contains(SHARED4) == wanted).then_some(()))
    })
    .with_context(|| format!("wanted here: {wanted}"))
}

fn held_there(router: &Router) -> Result<bool> {
    let mut ip = router.client().command("ip");
    Ok(run(ip.args(["-4", "-oneline", "address", "show"]), b"", LIMIT)?.success()?.contains(SHARED4))
}

/// keepalived on the client's host, with less of a claim than a router whose gateway serves.
fn other_router(router: &Router) -> Result<Companion> {
    let dir = router.bed.dir().join("vrrp");
    fs::create_dir(&dir)?;
    let config = dir.join("keepalived.conf");
    fs::write(&config, instance("eth0", 75, ""))?;
    let mut command = router.client().command("keepalived");
    command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(&config);
    for process in ["pid", "vrrp_pid", "bfd_pid", "checkers_pid"] {
        command.arg(format!("--{process}={}", dir.join(process).display()));
    }
    let log = fs::File::create(dir.join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Companion::spawn(&mut command).context("Debian package keepalived: run `cargo xtask setup`")
}
