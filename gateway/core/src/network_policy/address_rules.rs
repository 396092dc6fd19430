//! Network policies as a flat list of boxes of addresses and ports, for the kernel to decide new flows by.
//!
//! The first box that holds a flow decides about it; a flow that none holds is user space's. Invariants:
//! - What a box blocks, [`evaluate`](super::evaluate) blocks by the same policy, whoever connects.
//! - Where conditions ask for nothing but addresses, ports and protocol, boxes decide all that is blocked.
//! - At most [`MAX_ADDRESS_RULES`] boxes. Compiling stops in front of the policy that does not fit, or that
//!   may fail for some user (which blocks, in user space): all flows from there on are user space's.
//!
//! A policy that asks for more than addresses is compiled as far as they tell: its flows are blocked where
//! the rest does not matter, and left to user space where it does.

use std::fmt;
use std::sync::Arc;

use super::{Action, NetworkPolicy, NetworkPolicySet};
use crate::net::FlowTuple;
use crate::net::flow_box::{FlowBox, Region, TooManyBoxes};

/// Boxes of all policies together.
pub const MAX_ADDRESS_RULES: usize = 256;

/// The boxes of a set of policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// The boxes, in the order in which they are asked.
    pub rules: Vec<AddressRule>,
    /// Names of the policies that have boxes, by [`AddressRule::policy`]; lower precedence first.
    pub policies: Vec<Arc<str>>,
    /// Why there is nothing of the policies behind; `None` when all are compiled.
    pub stopped: Option<Stopped>,
}

/// One box and what becomes of its flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRule {
    /// The flows.
    pub flows: FlowBox,
    /// What becomes of them.
    pub verdict: AddressVerdict,
    /// Index of the policy in [`AddressRules::policies`].
    pub policy: usize,
}

/// What becomes of the flows of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressVerdict {
    /// The policy blocks them.
    Block,
    /// User space decides; no later box is asked.
    UserSpace,
}

/// The policy at which compiling stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Its name.
    pub policy: Arc<str>,
    /// Why.
    pub reason: StopReason,
}

/// Why a policy is not compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It matches a pattern against a text that may be too long, which blocks.
    MayFail,
    /// It would take too many boxes.
    TooManyBoxes,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the network policies from {:?} on are decided by the daemon alone: ", self.policy)?;
        match self.reason {
            StopReason::MayFail => {
                f.write_str("it matches a pattern against a text, and blocks when that is too long")
            }
            StopReason::TooManyBoxes => {
                write!(f, "the kernel holds {MAX_ADDRESS_RULES} ranges of addresses and ports in all")
            }
        }
    }
}

impl From<TooManyBoxes> for StopReason {
    fn from(TooManyBoxes: TooManyBoxes) -> Self {
        Self::TooManyBoxes
    }
}

impl AddressRules {
    /// The box that decides about a flow.
    pub fn deciding(&self, flow: FlowTuple) -> Option<&AddressRule> {
        self.rules.iter().find(|rule| rule.flows.contains(flow))
    }

    /// The policy that blocks a flow by its addresses and ports alone.
    pub fn blocks(&self, flow: FlowTuple) -> Option<&Arc<str>> {
        let rule = self.deciding(flow).filter(|rule| rule.verdict == AddressVerdict::Block)?;
        self.policies.get(rule.policy)
    }

    /// The policies that block some flows by addresses and ports alone.
    pub fn blocking(&self) -> impl Iterator<Item = &Arc<str>> {
        let blocks = |policy| {
            self.rules.iter().any(|rule| rule.policy == policy && rule.verdict == AddressVerdict::Block)
        };
        self.policies.iter().enumerate().filter(move |(index, _)| blocks(*index)).map(|(_, name)| name)
    }

    /// Adds the boxes of a policy, except those that earlier boxes decide already.
    ///
    /// # Errors
    /// Why it cannot be compiled; nothing is added then.
    fn add(&mut self, policy: &NetworkPolicy) -> Result<(), StopReason> {
        let before = self.rules.len();
        for (flows, verdict) in boxes(policy)? {
            if !self.rules.iter().any(|earlier| flows.within(&earlier.flows)) {
                self.rules.push(AddressRule { flows, verdict, policy: self.policies.len() });
            }
        }
        if self.rules.len() > MAX_ADDRESS_RULES {
            self.rules.truncate(before);
            return Err(StopReason::TooManyBoxes);
        }
        if self.rules.len() > before {
            self.policies.push(Arc::clone(&policy.name));
        }
        Ok(())
    }

    /// Whether a box holds every flow, so that nothing behind it is asked.
    fn decides_all(&self) -> bool {
        self.rules.last().is_some_and(|rule| rule.flows == FlowBox::ALL)
    }

    /// Boxes behind the last one that blocks say what no box would say as well.
    fn drop_tail(&mut self) {
        let blocks = |rule: &AddressRule| rule.verdict == AddressVerdict::Block;
        self.rules.truncate(self.rules.iter().rposition(blocks).map_or(0, |last| last.saturating_add(1)));
        self.policies.truncate(self.rules.last().map_or(0, |rule| rule.policy.saturating_add(1)));
    }
}

impl NetworkPolicySet {
    /// Compiles the policies, as far as addresses, ports and protocol decide.
    pub fn address_rules(&self) -> AddressRules {
        let mut rules = AddressRules::default();
        for policy in self.policies().iter().filter(|policy| policy.enabled) {
            if rules.decides_all() {
                break;
            }
            if let Err(reason) = rules.add(policy) {
                rules.stopped = Some(Stopped { policy: Arc::clone(&policy.name), reason });
                break;
            }
        }
        rules.drop_tail();
        rules
    }
}

/// The boxes of one policy: what it blocks for sure, then what it may decide otherwise.
fn boxes(policy: &NetworkPolicy) -> Result<Vec<(FlowBox, AddressVerdict)>, StopReason> {
    if policy.conditions().any(|(_, expression)| expression.may_fail()) {
        return Err(StopReason::MayFail);
    }
    let matching = |undecided| {
        policy
            .conditions()
            .try_fold(Region::all(), |all, (_, expression)| all.intersection(&expression.holding(undecided)?))
    };
    let to_boxes =
        |region: &Region, verdict| region.boxes().iter().map(|one| (*one, verdict)).collect::<Vec<_>>();
    let mut boxes = match policy.action {
        Action::Block => to_boxes(&matching(false)?, AddressVerdict::Block),
        Action::Allow | Action::AuditSsh { .. } => Vec::new(),
    };
    boxes.extend(to_boxes(&matching(true)?, AddressVerdict::UserSpace));
    Ok(boxes)
}

#[cfg(test)]
mod tests;
