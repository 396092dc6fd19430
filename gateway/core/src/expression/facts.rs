//! What an expression can ask about one flow.

use crate::identity::Identity;
use crate::net::FlowTuple;

/// The facts of one flow; absent ones make a comparison false.
#[derive(Clone, Copy, Debug)]
pub struct FlowFacts<'a> {
    /// Addresses and ports.
    pub flow: FlowTuple,
    /// ISO 3166-1 alpha-2 code of the country of the source address.
    pub source_country: Option<&'a str>,
    /// Virtual network of the target's address.
    pub vnet_id: Option<&'a str>,
    /// Who is behind the source address.
    pub identity: Option<&'a Identity>,
    /// Hostname of the target at the original destination.
    pub target: Option<&'a str>,
}
