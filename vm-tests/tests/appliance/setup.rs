//! A machine that finds no seed: somebody answers its questions on the console, and it serves.

use std::fs;

use anyhow::{Result, ensure};
use portreeve_tests::run;
use portreeve_tests::topology::{CLIENT4, GATEWAY_WAN4, GATEWAY4, TARGET4};
use portreeve_vm_tests::appliance::BOOT;

use crate::Case;
use crate::disks::direct;
use crate::scene::LIMIT;

pub(crate) const CASES: &[Case] = &[("is_set_up_on_its_console", is_set_up)];

const PASSWORD: &str = "open, says the keeper";

fn is_set_up() -> Result<()> {
    let (mut bed, _) = direct("setup")?;
    bed.hardware_mut().seed = None;
    bed.switch_on()?;
    let recipient = fs::read_to_string(bed.files().recipient_key().with_extension("pub"))?;
    let appliance = bed.appliance()?;
    appliance.answer(BOOT, "Name of this machine", "appliance")?;
    let (user, target) = (format!("alice@example.com {CLIENT4}"), format!("server {TARGET4}"));
    let (near, far) = (format!("{GATEWAY4}/24"), format!("{GATEWAY_WAN4}/24"));
    for (question, answer) in [
        ("Account for this console", "keeper"),
        ("Its password", PASSWORD),
        ("Addresses of", near.as_str()),
        ("Addresses of", far.as_str()),
        ("Routers to everything else", ""),
        ("Interfaces where users' connections come in", ""),
        ("Time servers", ""),
        ("Targets, one a line", target.as_str()),
        (target.as_str(), ""),
        ("Users, one a line", user.as_str()),
        (user.as_str(), ""),
        ("Logins that they may take", "alice"),
        ("Recipient's public key", recipient.trim()),
        ("URL that recordings are put to", ""),
        ("Is this right?", "yes"),
    ] {
        appliance.answer(LIMIT, question, answer)?;
    }
    appliance.wait_for_restart()?;
    bed.ready()?;
    let appliance = bed.appliance()?;
    ensure!(appliance.log_in("keeper", PASSWORD)?, "the console lets nobody in");
    let ca = appliance.run("portreeve ca public-key")?.success()?;
    bed.server()?.trust(&ca)?;
    let session = run(bed.client_ssh("ssh").args(["-q", "alice@10.1.2.3", "echo served"]), b"", LIMIT)?;
    ensure!(session.out() == "served\n", "{session:?}");
    bed.stop()
}
