//! Which network policies block in the kernel: what `check-config` and `explain` say about it.

use std::fmt;

use portreeve_core::network_policy::NetworkPolicySet;
use serde::Serialize;

/// What the kernel decides of a set of network policies.
#[derive(Debug, Serialize)]
pub(super) struct KernelPolicies {
    /// The policies that block some flows before any handshake.
    pub(super) blocking: Vec<String>,
    /// Ranges of addresses and ports that this takes.
    pub(super) ranges: usize,
    /// Why the kernel knows nothing of the policies from one on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stopped: Option<String>,
}

impl KernelPolicies {
    pub(super) fn of(policies: &NetworkPolicySet) -> Self {
        let rules = policies.address_rules();
        Self {
            blocking: rules.blocking().map(ToString::to_string).collect(),
            ranges: rules.rules.len(),
            stopped: rules.stopped.map(|stopped| stopped.to_string()),
        }
    }
}

impl fmt::Display for KernelPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("blocked in the kernel, by addresses and ports alone: ")?;
        if self.blocking.is_empty() {
            f.write_str("nothing")?;
        } else {
            let names: Vec<_> = self.blocking.iter().map(|name| format!("{name:?}")).collect();
            write!(f, "{} (ranges: {})", names.join(", "), self.ranges)?;
        }
        self.stopped.as_ref().map_or(Ok(()), |stopped| write!(f, "; {stopped}"))
    }
}
