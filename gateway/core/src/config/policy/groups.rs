//! `groups`: access groups, which rules refer to by id or name.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::reader::{Object, Problems};
use super::super::tree::Node;
use super::{Known, access_rules};
use crate::access_group::{AccessGroup, AccessGroups, GroupError};
use crate::suggest::instead;

/// The groups of a policy file before their rules are read.
#[derive(Debug, Default)]
pub(super) struct GroupNames<'t> {
    /// The name for each name and id.
    by_reference: HashMap<&'t str, Arc<str>>,
    groups: Vec<(Arc<str>, Object<'t>)>,
}

impl GroupNames<'_> {
    /// The name of the group that `reference` names by id or name.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn find(&self, reference: &str) -> Result<Arc<str>, String> {
        self.by_reference.get(reference).map(Arc::clone).ok_or_else(|| {
            let mut known: Vec<&str> = self.by_reference.keys().copied().collect();
            known.sort_unstable();
            format!("no group has the id or name {reference:?}: {}", instead(reference, &known))
        })
    }
}

/// Collects the names and ids, which must all differ.
pub(super) fn names<'t>(nodes: &'t [Node<'t>], problems: &'t Problems) -> GroupNames<'t> {
    let mut names = GroupNames::default();
    for node in nodes {
        let keys = ["id", "name", "include", "require", "exclude"];
        let Some(group) = Object::open(node, problems, &keys) else { continue };
        let Some(name) = group.need_name("name", "name = \"admins\"") else { continue };
        let shared: Arc<str> = name.into();
        let id = group.name("id").filter(|id| *id != name);
        for reference in [Some(name), id].into_iter().flatten() {
            if names.by_reference.insert(reference, Arc::clone(&shared)).is_some() {
                problems
                    .error(node, format_args!("{reference:?} is already the id or name of another group"));
            }
        }
        names.groups.push((shared, group));
    }
    names
}

/// Reads the rules; `None` when the groups make no table, which has been reported.
pub(super) fn read(known: &Known<'_>) -> Option<AccessGroups> {
    let mut groups = Vec::with_capacity(known.groups.groups.len());
    for (name, group) in &known.groups.groups {
        groups.push(AccessGroup { name: Arc::clone(name), rules: access_rules::read(*group, known) });
    }
    AccessGroups::new(groups).map_err(|error| report(&error, known)).ok()
}

fn report(error: &GroupError, known: &Known<'_>) {
    let (GroupError::Cycle { group: at, .. }
    | GroupError::TooDeep(at)
    | GroupError::Unknown { group: at, .. }
    | GroupError::Duplicate(at)) = error;
    // A duplicate was reported with the names.
    if !matches!(error, GroupError::Duplicate(_))
        && let Some((_, group)) = known.groups.groups.iter().find(|(name, _)| name == at)
    {
        known.problems.error(group.node, error);
    }
}
