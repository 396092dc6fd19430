//! Network policies in the kernel: their rules, and what they blocked, by policy.
//!
//! A bank of rules is written while the other one is in force, and then named in one step, so that every
//! packet meets all of the old rules or all of the new ones. What rules say is `portreeve-core`'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use aya::maps::{Array, Map, MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use portreeve_core::net::flow_box::Family;
use portreeve_core::network_policy::address_rules::{AddressRule, AddressRules, AddressVerdict};
use portreeve_ebpf::names;
use portreeve_ebpf::rules::{BANKS, BankHeader, MAX_RULES, Number, Rule, USER_SPACE};
use portreeve_ebpf::targets::{FAMILY_V4, FAMILY_V6};

use super::DatapathError;
use super::maps::failed;

/// The rules in force, and their counters.
pub(super) struct Rules {
    rules: Array<MapData, Rule>,
    in_force: Array<MapData, BankHeader>,
    stats: PerCpuArray<MapData, u64>,
    /// Policies of the bank in force, by the index that rules have.
    policies: Vec<Arc<str>>,
    /// What policies blocked while earlier banks were in force.
    before: BTreeMap<Arc<str>, u64>,
}

/// What was in force before [`Rules::set`].
pub(super) struct Previous {
    header: BankHeader,
    policies: Vec<Arc<str>>,
    before: BTreeMap<Arc<str>, u64>,
}

impl Rules {
    /// Takes the maps. The rules of an earlier process stay in force until [`Self::set`].
    pub(super) fn open(
        mut map: impl FnMut(&'static str) -> Result<Map, DatapathError>,
    ) -> Result<Self, DatapathError> {
        Ok(Self {
            rules: map(names::RULES)?.try_into().map_err(failed(names::RULES))?,
            in_force: map(names::RULES_IN_FORCE)?.try_into().map_err(failed(names::RULES_IN_FORCE))?,
            stats: map(names::POLICY_STATS)?.try_into().map_err(failed(names::POLICY_STATS))?,
            policies: Vec::new(),
            before: BTreeMap::new(),
        })
    }

    /// Puts rules in force, and says what was. Where the kernel refuses that, the old ones stay.
    pub(super) fn set(&mut self, wanted: &AddressRules) -> Result<Previous, DatapathError> {
        let header = self.header()?;
        let bank = (header.bank + 1) % BANKS;
        let cpus = nr_cpus().map_err(|(_, source)| stats_failed(source))?;
        for (index, rule) in (bank * MAX_RULES..).zip(&wanted.rules) {
            self.rules.set(index, kernel_rule(rule), 0).map_err(failed(names::RULES))?;
        }
        for (index, _) in (bank * MAX_RULES..).zip(&wanted.policies) {
            let none = PerCpuValues::try_from(vec![0; cpus]).map_err(stats_failed)?;
            self.stats.set(index, none, 0).map_err(failed(names::POLICY_STATS))?;
        }
        let before = self.counters()?;
        let rules = u32::try_from(wanted.rules.len()).unwrap_or(MAX_RULES).min(MAX_RULES);
        self.in_force.set(0, BankHeader { bank, rules }, 0).map_err(failed(names::RULES_IN_FORCE))?;
        let before = std::mem::replace(&mut self.before, before);
        let policies = std::mem::replace(&mut self.policies, wanted.policies.clone());
        Ok(Previous { header, policies, before })
    }

    /// Puts what was in force again: its bank was not touched since.
    pub(super) fn restore(&mut self, previous: Previous) -> Result<(), DatapathError> {
        self.in_force.set(0, previous.header, 0).map_err(failed(names::RULES_IN_FORCE))?;
        self.policies = previous.policies;
        self.before = previous.before;
        Ok(())
    }

    /// Packets that each policy blocked since this process began, by its name.
    pub(super) fn counters(&self) -> Result<BTreeMap<Arc<str>, u64>, DatapathError> {
        let bank = self.header()?.bank;
        let mut counters = self.before.clone();
        for (index, policy) in (bank * MAX_RULES..).zip(&self.policies) {
            let values = self.stats.get(&index, 0).map_err(failed(names::POLICY_STATS))?;
            *counters.entry(Arc::clone(policy)).or_default() += values.iter().sum::<u64>();
        }
        Ok(counters)
    }

    fn header(&self) -> Result<BankHeader, DatapathError> {
        self.in_force.get(&0, 0).map_err(failed(names::RULES_IN_FORCE))
    }
}

fn stats_failed(source: std::io::Error) -> DatapathError {
    DatapathError::Batch { name: names::POLICY_STATS, source }
}

/// A rule as the kernel programs read it.
pub fn kernel_rule(rule: &AddressRule) -> Rule {
    let flows = rule.flows;
    Rule {
        src_first: number(flows.src.first),
        src_last: number(flows.src.last),
        dst_first: number(flows.dst.first),
        dst_last: number(flows.dst.last),
        src_port_first: flows.src_port.first,
        src_port_last: flows.src_port.last,
        dst_port_first: flows.dst_port.first,
        dst_port_last: flows.dst_port.last,
        family: match flows.family {
            None => 0,
            Some(Family::V4) => u32::from(FAMILY_V4),
            Some(Family::V6) => u32::from(FAMILY_V6),
        },
        policy: match rule.verdict {
            AddressVerdict::Block => u32::try_from(rule.policy).unwrap_or(USER_SPACE),
            AddressVerdict::UserSpace => USER_SPACE,
        },
    }
}

/// The high and the low half.
fn number(addr: u128) -> Number {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = addr.to_be_bytes();
    Number {
        high: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        low: u64::from_be_bytes([i, j, k, l, m, n, o, p]),
    }
}
