//! The commands in README.md and docs/*.md are run, in the order of the page.
//!
//! A block of commands is marked ```` ```console GROUP ````: a line that begins with `# ` is run as root on the gateway, one with `$ ` by a
//! user, and others are output. The blocks of a group share one testbed. A block whose commands end with another
//! status than 0 says it: ```` ```console GROUP status=3 ````. What cannot be run here is in a block of the group `by-hand`, and each of its
//! commands is one of [`blocks::BY_HAND`], which says why. A command in a block without a mark is an error, and so is a group that
//! [`GROUPS`] does not have, so that no command stays untried by accident.

mod blocks;
mod scene;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use self::blocks::Block;
use self::scene::Scene;
use crate::beds::Beds;

/// What a group needs before its first command, and what must be true after its last.
type Case = fn(&[Block]) -> Result<()>;

const GROUPS: &[(&str, Case)] = &[
    ("seed", seed),
    ("first-start", first_start),
    ("first-day", first_day),
    ("on-a-gateway", on_a_gateway),
    ("reading", reading),
    ("move", moved),
    ("restore", restored),
    ("new-keys", new_keys),
    ("devices", devices),
];

/// The group of what cannot be run here.
const BY_HAND: &str = "by-hand";

/// A trial for each group, and one for the pages.
pub(crate) fn trials(_: &Arc<Beds>) -> Vec<Trial> {
    let told = |error: anyhow::Error| format!("{error:#}").into();
    let pages = Trial::test("documents::each_command_is_run_or_listed", move || pages().map_err(told));
    let groups = GROUPS.iter().map(move |(name, case)| {
        Trial::test(format!("documents::{name}"), move || {
            let run = blocks::all().and_then(|(blocks, _)| case(&of(&blocks, name)));
            run.map_err(told)
        })
    });
    [pages].into_iter().chain(groups).collect()
}

fn of(blocks: &[Block], group: &str) -> Vec<Block> {
    blocks.iter().filter(|block| block.group == group).cloned().collect()
}

fn pages() -> Result<()> {
    let (blocks, mut problems) = blocks::all()?;
    let mut used = BTreeSet::new();
    for block in &blocks {
        if block.group == BY_HAND {
            for command in &block.commands {
                match blocks::BY_HAND.iter().find(|(start, _)| command.text.starts_with(start)) {
                    Some((start, _)) => {
                        used.insert(*start);
                    }
                    None => {
                        problems.push(format!("{}: not run, and no reason: {}", block.place, command.text))
                    }
                }
            }
        } else if !GROUPS.iter().any(|(name, _)| *name == block.group) {
            problems.push(format!("{}: no group {}", block.place, block.group));
        }
    }
    for (start, _) in blocks::BY_HAND.iter().filter(|(start, _)| !used.contains(start)) {
        problems.push(format!("{start}: listed as not run, and on no page"));
    }
    for (name, _) in GROUPS.iter().filter(|(name, _)| !blocks.iter().any(|block| block.group == *name)) {
        problems.push(format!("the group {name} has no block"));
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// Nothing but files of configuration is there.
fn first_start(blocks: &[Block]) -> Result<()> {
    let mut scene = Scene::new()?;
    scene.forget_state()?;
    scene.run(blocks)
}

/// The example of a seed, and nothing else.
fn seed(blocks: &[Block]) -> Result<()> {
    let mut scene = Scene::new()?;
    scene.bring("appliance-image/examples/seed.toml", "gateway-1.toml")?;
    scene.run(blocks)
}

/// A gateway that serves.
fn first_day(blocks: &[Block]) -> Result<()> {
    Scene::new()?.run(blocks)
}

/// A gateway with one live session, which the pages call `7f3a`.
fn on_a_gateway(blocks: &[Block]) -> Result<()> {
    let mut scene = Scene::new()?;
    scene.open_session()?;
    scene.run(blocks)
}

/// A spool with a recorded terminal, and its key.
fn reading(blocks: &[Block]) -> Result<()> {
    let mut scene = Scene::new()?;
    scene.record_terminal()?;
    scene.run(blocks)
}

/// All of a gateway goes to another machine: users see the host key that they knew, and the chain goes on.
fn moved(blocks: &[Block]) -> Result<()> {
    let mut scene = Scene::new()?;
    let before = scene.host_key()?;
    let (save, restore) = blocks.split_first().context("no block")?;
    scene.run(std::slice::from_ref(save))?;
    scene.forget_state()?;
    scene.run(restore)?;
    ensure!(scene.host_key()? == before, "users see another host key");
    scene.verify(4)
}

/// A gateway is lost, and its keys are not: users see the host key that they knew, and another chain begins.
fn restored(blocks: &[Block]) -> Result<()> {
    let mut scene = Scene::new()?;
    let before = scene.host_key()?;
    let (save, restore) = blocks.split_first().context("no block")?;
    scene.run(std::slice::from_ref(save))?;
    scene.stop()?;
    scene.forget_state()?;
    scene.run(restore)?;
    ensure!(scene.host_key()? == before, "users see another host key");
    scene.verify(1)
}

/// The example of a seed with peers, and nothing else.
fn devices(blocks: &[Block]) -> Result<()> {
    let mut scene = Scene::new()?;
    scene.bring("appliance-image/examples/seed-wireguard.toml", "gateway-3.toml")?;
    scene.run(blocks)
}

/// After keys were changed, users still get in, and see the same.
fn new_keys(blocks: &[Block]) -> Result<()> {
    let mut scene = Scene::new()?;
    let before = scene.host_key()?;
    scene.run(blocks)?;
    ensure!(scene.host_key()? == before, "users see another host key");
    Ok(())
}
