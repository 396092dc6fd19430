//! What outlives the machine: a reboot in order, and a power cut.

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::deadline::until;

use crate::GroupCase;
use crate::hosts::{Prober, Seen, Witness};
use crate::scene::{LIMIT, Scene};

pub(crate) const CASES: &[GroupCase] = &[
    ("keeps_keys_and_pins_over_a_reboot", keeps_over_a_reboot),
    ("stays_closed_after_a_power_cut_until_it_serves", stays_closed_after_a_power_cut),
];

/// The key that users know stands, and a target that changed its keys meanwhile is told.
fn keeps_over_a_reboot(scene: &mut Scene) -> Result<()> {
    let strict = ["-q", "-o", "StrictHostKeyChecking=yes", "alice@10.1.2.3", "true"];
    scene.ssh(&["-q", "alice@10.1.2.3", "true"], b"")?.success()?;
    scene.bed.shut_down()?;
    scene.bed.boot()?;
    scene.ssh(&strict, b"")?.success().context("the key that the user knows")?;
    Ok(())
}

fn stays_closed_after_a_power_cut(scene: &mut Scene) -> Result<()> {
    scene.bed.cut()?;
    stays_closed_until_it_serves(scene)
}

/// Boots while a client asks all the time; nothing of it reaches the targets, and what is no target is reached.
fn stays_closed_until_it_serves(scene: &mut Scene) -> Result<()> {
    scene.bed.switch_on()?;
    let witness = Witness::start(&scene.bed.topology().server)?;
    let prober = Prober::start(&scene.bed.topology().client);
    let ready = scene.bed.ready();
    prober.stop()?;
    // What the prober has left fills the bounds of its source for a moment.
    let served = until("a session", LIMIT, || {
        let told = scene.ssh(&["-q", "alice@10.1.2.3", "echo served"], b"")?;
        Ok((told.status.success() && told.out() == "served\n").then_some(()))
    });
    let Seen { to_targets, to_open } = witness.stop()?;
    ready?;
    served?;
    ensure!(to_open > 0, "the witness saw nothing of what was forwarded");
    ensure!(to_targets == 0, "{to_targets} packets of the client reached a target");
    Ok(())
}
