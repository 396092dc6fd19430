//! A machine whose seed is wrong: it says on which line, passes nothing on, and asks. Somebody answers its questions on the
//! console, and it serves, beside the seed that is still there.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::run;
use portreeve_tests::topology::{CLIENT4, GATEWAY_WAN4, GATEWAY4, OPEN4, SSH_PORT, TARGET4, at};
use portreeve_vm_tests::appliance::BOOT;
use portreeve_vm_tests::bed::Bed;
use portreeve_vm_tests::seed;

use crate::Case;
use crate::disks::direct;
use crate::scene::LIMIT;

pub(crate) const CASES: &[Case] = &[("tells_a_wrong_seed_and_is_set_up_on_its_console", is_set_up)];

const PASSWORD: &str = "open, says the keeper";
/// What a client waits for that gets no answer.
const SILENCE: Duration = Duration::from_secs(3);

fn is_set_up() -> Result<()> {
    let (mut bed, _) = direct("setup")?;
    let (wrong, line) = wrong_seed(&bed)?;
    bed.hardware_mut().seed = Some(seed::volume(&wrong, bed.dir())?);
    bed.switch_on()?;
    let told = format!("user-data:{line}: interfaces[");
    bed.appliance()?.console().wait_for_text(BOOT, &told).with_context(|| told)?;
    let recipient = fs::read_to_string(bed.files().recipient_key().with_extension("pub"))?;
    bed.appliance()?.console().wait_for_text(BOOT, "Name of this machine").context("no question")?;
    for to in [OPEN4, TARGET4] {
        let through = bed.topology().client.connect_within(at(to, SSH_PORT), SILENCE);
        ensure!(through.is_err(), "{to} is reached through a machine that knows nothing");
    }
    let appliance = bed.appliance()?;
    appliance.answer(LIMIT, "Name of this machine", "appliance")?;
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

/// The seed that the bed has, with a prefix that is too long, and the line of that.
fn wrong_seed(bed: &Bed) -> Result<(String, usize)> {
    let text = seed::text(bed.files(), "")?;
    let from = text.find("[[interfaces]]").context("no interfaces")?;
    let at = from + text.get(from..).and_then(|rest| rest.find("/24")).context("no prefix")?;
    let (before, rest) = text.split_at(at);
    Ok((format!("{before}/33{}", rest.trim_start_matches("/24")), before.lines().count()))
}
