//! The corpus, a file for each layer in which a way around could be.

mod errors;
mod fragments;
mod ipv4;
mod ipv6;
mod links;
mod segments;
mod sources;
mod tunnels;

use super::case::{Case, Lan};
use super::offloads;

/// All cases.
pub(super) fn cases(lan: &Lan) -> Vec<Case> {
    let tables = [
        segments::cases(lan),
        ipv4::cases(lan),
        ipv6::cases(lan),
        fragments::cases(lan),
        links::cases(lan),
        sources::cases(lan),
        errors::cases(lan),
        tunnels::cases(lan),
        offloads::segments(lan),
    ];
    tables.into_iter().flatten().collect()
}
