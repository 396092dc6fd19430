//! The policy file, whose objects carry the field names of the management API.
//!
//! Owns the order in which the file is read: what others refer to first (lists, names of groups,
//! targets), then what refers to it. Every object is read even when an earlier one is wrong.

mod access_rules;
mod alerts;
mod applications;
mod forwards;
mod geo;
mod groups;
mod identities;
mod lists;
mod network_rules;
mod targets;
#[cfg(test)]
mod tests;

use groups::GroupNames;
use lists::NamedLists;
use targets::KnownTargets;

use super::reader::{Object, Problems};
use super::tree::{self, Node};
use super::{ConfigErrors, Format};
use crate::id::Generation;
use crate::infrastructure::InfrastructureSet;
use crate::snapshot::PolicySnapshot;

/// How many targets that no application covers are named in warnings.
const SHOWN_UNCOVERED: usize = 10;

/// A policy file that may be put in force.
#[derive(Clone, Debug)]
pub struct LoadedPolicy {
    /// What it says.
    pub snapshot: PolicySnapshot,
    /// What its author probably did not mean; each a sentence with file, line and key path.
    pub warnings: Vec<String>,
}

/// What the objects of the file may refer to.
struct Known<'t> {
    problems: &'t Problems,
    lists: &'t NamedLists,
    groups: &'t GroupNames<'t>,
    targets: &'t KnownTargets,
    has_geo: bool,
}

/// Reads a policy file.
///
/// # Errors
/// All problems at once.
pub fn load(
    text: &str,
    format: Format,
    file: &str,
    generation: Generation,
) -> Result<LoadedPolicy, ConfigErrors> {
    let root = tree::parse(text, format).map_err(|errors| ConfigErrors { file: file.to_owned(), errors })?;
    let problems = Problems::default();
    let snapshot = read(&root, &problems, generation);
    let (snapshot, warnings) = problems.finish(snapshot, &root, file)?;
    Ok(LoadedPolicy { snapshot, warnings })
}

fn read(root: &Node<'_>, problems: &Problems, generation: Generation) -> Option<PolicySnapshot> {
    let keys = ["targets", "applications", "groups", "lists", "rules", "identities", "geo", "alerts"];
    let file = Object::open(root, problems, &keys)?;
    // A file that was cut short must not open every target.
    if file.find("targets").is_none() {
        problems.error(
            root,
            "there are no targets, so everything would pass: write `targets = []` if that is meant",
        );
    }
    let lists = lists::read(file.list("lists"), problems);
    let geo = geo::read(file.list("geo"), problems);
    let (targets, known_targets) = targets::read(file.list("targets"), problems);
    let group_names = groups::names(file.list("groups"), problems);
    let known = Known {
        problems,
        lists: &lists,
        groups: &group_names,
        targets: &known_targets,
        has_geo: !geo.is_empty(),
    };
    let groups = groups::read(&known);
    let applications = applications::read(file.list("applications"), &known);
    let network = network_rules::read(file.list("rules"), &known);
    let identities = identities::read(file.list("identities"), problems);
    let alerts = alerts::read(file.list("alerts"), &known);
    let infrastructure = InfrastructureSet::new(targets, groups?, applications)
        .map_err(|error| problems.error(root, error))
        .ok()?;
    warn_of_uncovered(&infrastructure, &known_targets, file.list("targets"), problems);
    Some(PolicySnapshot { generation, identities: identities?, geo, network, infrastructure, alerts })
}

/// Warns of targets that no application covers: they are steered on port 22, where all is denied.
fn warn_of_uncovered(set: &InfrastructureSet, known: &KnownTargets, nodes: &[Node<'_>], problems: &Problems) {
    let uncovered =
        set.targets().iter().zip(&known.positions).filter(|(target, _)| set.ports(target).is_empty());
    let mut rest = 0_usize;
    for (index, (target, position)) in uncovered.enumerate() {
        match nodes.get(*position) {
            Some(node) if index < SHOWN_UNCOVERED => problems.warn(
                node,
                format_args!(
                    "no application covers the target {:?}: its port 22 is closed for everybody",
                    target.hostname
                ),
            ),
            Some(_) | None => rest += 1,
        }
    }
    if let Some(node) = nodes.first().filter(|_| rest > 0) {
        problems.warn(node, format_args!("no application covers {rest} more targets"));
    }
}
