//! Ways around the gateway: raw frames from the client's network, and what of them reaches a target.
//!
//! [`corpus`] holds the frames, [`scene`] sends them and judges what arrives, [`states`] does so in
//! every state of the gateway. [`forged_answers`] come to the gateway instead of a target. Out of scope: ARP and ND spoofing, which move the client elsewhere in
//! the network instead of leading past the gateway.

mod case;
mod corpus;
mod forged_answers;
mod offloads;
mod scene;
mod states;
mod surroundings;

use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::Trial;

use crate::beds::Beds;

/// One trial.
#[derive(Clone, Copy, Debug)]
struct Check {
    name: &'static str,
    run: fn() -> Result<()>,
}

impl Check {
    const fn new(name: &'static str, run: fn() -> Result<()>) -> Self {
        Self { name, run }
    }
}

/// A trial for each check.
pub(crate) fn trials(_: &Arc<Beds>) -> Vec<Trial> {
    states::CHECKS
        .iter()
        .chain(surroundings::CHECKS)
        .chain(forged_answers::CHECKS)
        .map(|check| {
            let run = check.run;
            Trial::test(format!("bypass::{}", check.name), move || {
                run().map_err(|error| format!("{error:#}").into())
            })
        })
        .collect()
}
