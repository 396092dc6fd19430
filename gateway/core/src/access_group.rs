//! Access groups: rule sets with a name, which other rules refer to.
//!
//! Invariants of [`AccessGroups`]: names are unique, every reference is to a group of the table, no
//! group refers to itself by any way round, and references nest at most [`MAX_DEPTH`] deep, which
//! bounds the recursion of an evaluation. An evaluation asks each group at most once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;

use crate::rule::{AccessRule, RuleFacts, RuleOutcome, RuleSet};

/// How deep groups may refer to groups.
pub const MAX_DEPTH: usize = 32;

/// A rule set with a name.
#[derive(Clone, Debug)]
pub struct AccessGroup {
    /// Its name, unique in the table.
    pub name: Arc<str>,
    /// Who is in it.
    pub rules: RuleSet,
}

/// All access groups of a policy.
#[derive(Clone, Debug, Default)]
pub struct AccessGroups {
    by_name: HashMap<Arc<str>, RuleSet>,
}

/// Why groups make no table.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    /// Two groups have one name.
    #[error("two groups are named {0:?}: rename one")]
    Duplicate(Arc<str>),
    /// A group refers to a group that does not exist.
    #[error("the group {group:?} refers to {unknown:?}, which is no group")]
    Unknown {
        /// The group that refers.
        group: Arc<str>,
        /// The name that nothing has.
        unknown: Arc<str>,
    },
    /// Groups refer to each other in a ring.
    #[error("the group {group:?} refers to itself ({}): take one of these references out", way.join(" -> "))]
    Cycle {
        /// One group of the ring.
        group: Arc<str>,
        /// The way round, which begins and ends with that group.
        way: Vec<String>,
    },
    /// References nest too deep.
    #[error("the group {0:?} nests more than {MAX_DEPTH} groups deep: flatten it")]
    TooDeep(Arc<str>),
}

/// One evaluation against fixed facts, which asks each group at most once.
#[derive(Debug)]
pub struct Evaluation<'a> {
    groups: &'a AccessGroups,
    facts: RuleFacts<'a>,
    answers: RefCell<HashMap<&'a str, bool>>,
}

impl AccessGroups {
    /// Builds the table; groups may come in any order.
    ///
    /// # Errors
    /// [`GroupError`] names the first group that breaks an invariant of this module.
    pub fn new(groups: Vec<AccessGroup>) -> Result<Self, GroupError> {
        let mut by_name = HashMap::with_capacity(groups.len());
        let mut names = Vec::with_capacity(groups.len());
        for AccessGroup { name, rules } in groups {
            if by_name.insert(Arc::clone(&name), rules).is_some() {
                return Err(GroupError::Duplicate(name));
            }
            names.push(name);
        }
        let table = Self { by_name };
        let mut depths = HashMap::new();
        for name in &names {
            table.check(name, &mut Vec::new(), &mut depths)?;
        }
        Ok(table)
    }

    /// Whether there is a group of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// How deep the group nests, from 1. `way` holds the groups between the first one asked and
    /// this one; its length is bounded, and so is the recursion.
    fn check<'a>(
        &'a self,
        name: &'a Arc<str>,
        way: &mut Vec<&'a Arc<str>>,
        depths: &mut HashMap<&'a str, usize>,
    ) -> Result<usize, GroupError> {
        if let Some(depth) = depths.get(&**name) {
            return Ok(*depth);
        }
        if let Some(start) = way.iter().position(|earlier| *earlier == name) {
            let ring = way.iter().skip(start).chain([&name]).map(|group| group.to_string()).collect();
            return Err(GroupError::Cycle { group: Arc::clone(name), way: ring });
        }
        if way.len() >= MAX_DEPTH {
            return Err(GroupError::TooDeep(Arc::clone(way.first().unwrap_or(&name))));
        }
        let Some(rules) = self.by_name.get(name) else {
            let group = Arc::clone(way.last().unwrap_or(&name));
            return Err(GroupError::Unknown { group, unknown: Arc::clone(name) });
        };
        way.push(name);
        let mut deepest = 0;
        for referred in referred(rules) {
            deepest = deepest.max(self.check(referred, way, depths)?);
        }
        way.pop();
        let depth = deepest + 1;
        if depth > MAX_DEPTH {
            return Err(GroupError::TooDeep(Arc::clone(name)));
        }
        depths.insert(name, depth);
        Ok(depth)
    }
}

/// The groups that a rule set refers to.
pub fn referred(rules: &RuleSet) -> impl Iterator<Item = &Arc<str>> {
    rules.rules().filter_map(|rule| if let AccessRule::Group(name) = rule { Some(name) } else { None })
}

impl<'a> Evaluation<'a> {
    /// Prepares to evaluate rule sets against `facts`.
    pub fn new(groups: &'a AccessGroups, facts: RuleFacts<'a>) -> Self {
        Self { groups, facts, answers: RefCell::default() }
    }

    /// Evaluates a rule set. A reference to a group that does not exist does not hold.
    pub fn outcome(&self, rules: &RuleSet) -> RuleOutcome {
        rules.evaluate(&self.facts, &mut |name| self.group_is_met(name))
    }

    fn group_is_met(&self, name: &str) -> bool {
        if let Some(answer) = self.answers.borrow().get(name) {
            return *answer;
        }
        let Some((name, rules)) = self.groups.by_name.get_key_value(name) else { return false };
        let answer = self.outcome(rules).is_match();
        self.answers.borrow_mut().insert(name, answer);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Email, Identity};

    fn group(name: &str, include: &[&str], exclude: &[&str]) -> AccessGroup {
        let list = |names: &[&str]| {
            names
                .iter()
                .map(|name| match *name {
                    "*" => AccessRule::Everyone,
                    name => AccessRule::Group(name.into()),
                })
                .collect()
        };
        AccessGroup {
            name: name.into(),
            rules: RuleSet { include: list(include), require: Vec::new(), exclude: list(exclude) },
        }
    }

    #[test]
    fn groups_nest_in_any_order() {
        let groups = AccessGroups::new(vec![
            group("outer", &["nobody", "inner"], &[]),
            group("nobody", &[], &[]),
            group("inner", &["*"], &["nobody"]),
            group("shut", &["*"], &["outer"]),
        ])
        .unwrap();
        let alice = Identity::from_email(Email::new("alice@example.com").unwrap());
        let facts = RuleFacts { client: [10, 0, 0, 1].into(), identity: &alice, country: None };
        let evaluation = Evaluation::new(&groups, facts);
        for (name, expected) in [("outer", true), ("nobody", false), ("inner", true), ("shut", false)] {
            assert_eq!(evaluation.group_is_met(name), expected, "{name}");
        }
        assert!(!evaluation.group_is_met("unknown"));
    }

    #[test]
    fn a_ring_is_refused_with_its_way() {
        let ring = vec![group("a", &["b"], &[]), group("b", &["*"], &["c"]), group("c", &["b"], &[])];
        assert_eq!(
            AccessGroups::new(ring).unwrap_err().to_string(),
            "the group \"b\" refers to itself (b -> c -> b): take one of these references out"
        );
        let own = AccessGroups::new(vec![group("a", &["a"], &[])]).unwrap_err();
        assert!(matches!(own, GroupError::Cycle { .. }));
    }

    #[test]
    fn unknown_and_duplicate_names_are_refused() {
        let unknown = AccessGroups::new(vec![group("a", &["z"], &[])]).unwrap_err();
        assert_eq!(unknown, GroupError::Unknown { group: "a".into(), unknown: "z".into() });
        let twice = AccessGroups::new(vec![group("a", &[], &[]), group("a", &[], &[])]).unwrap_err();
        assert_eq!(twice, GroupError::Duplicate("a".into()));
    }

    #[test]
    fn depth_is_bounded_whatever_the_order() {
        let chain = |length: usize| -> Vec<AccessGroup> {
            let name = |n: usize| format!("g{n}");
            (0..length)
                .map(|n| {
                    if n == 0 { group(&name(0), &["*"], &[]) } else { group(&name(n), &[&name(n - 1)], &[]) }
                })
                .collect()
        };
        for reversed in [false, true] {
            let ordered = |length| {
                let mut groups = chain(length);
                if reversed {
                    groups.reverse();
                }
                AccessGroups::new(groups)
            };
            assert!(ordered(MAX_DEPTH).is_ok());
            assert!(matches!(ordered(MAX_DEPTH + 1), Err(GroupError::TooDeep(_))));
            assert!(matches!(ordered(100_000), Err(GroupError::TooDeep(_))));
        }
    }

    #[test]
    fn shared_groups_are_asked_once() {
        let name = |n: usize| format!("g{n}");
        let groups = (0..MAX_DEPTH)
            .map(|n| {
                let below = if n == 0 { Vec::new() } else { vec![name(n - 1); 8] };
                group(&name(n), &below.iter().map(String::as_str).collect::<Vec<_>>(), &[])
            })
            .collect();
        let groups = AccessGroups::new(groups).unwrap();
        let alice = Identity::from_email(Email::new("alice@example.com").unwrap());
        let facts = RuleFacts { client: [10, 0, 0, 1].into(), identity: &alice, country: None };
        assert!(!Evaluation::new(&groups, facts).group_is_met(&name(MAX_DEPTH - 1)));
    }
}
