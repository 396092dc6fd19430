//! `lists`: named lists for `ip_list` and `email_list` rules and for `$name` in expressions.
//!
//! The members are checked once, by [`Lists::insert`]; what rules ask is kept beside it in a form
//! that answers quickly.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::super::reader::{Object, Problems};
use super::super::tree::Node;
use crate::expression::{ListError, ListKind, Lists};
use crate::identity::Email;
use crate::prefix::{self, PrefixTable};
use crate::suggest::instead;

/// The lists of a policy file.
#[derive(Debug, Default)]
pub(super) struct NamedLists {
    /// By name, and by id where one is given.
    by_reference: HashMap<String, NamedList>,
    /// The same lists for expressions.
    pub(super) for_expressions: Lists,
}

#[derive(Clone, Debug)]
struct NamedList {
    name: Arc<str>,
    members: Members,
}

#[derive(Clone, Debug)]
enum Members {
    Emails(Arc<HashSet<Email>>),
    Networks(Arc<PrefixTable<()>>),
    /// Of a type that only expressions use.
    Other(ListKind),
}

pub(super) fn read<'t>(nodes: &'t [Node<'t>], problems: &'t Problems) -> NamedLists {
    let mut lists = NamedLists::default();
    for node in nodes {
        lists.add(node, problems);
    }
    lists
}

impl NamedLists {
    /// Name and members of the e-mail list that `reference` names by id or name.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn emails(&self, reference: &str) -> Result<(Arc<str>, Arc<HashSet<Email>>), String> {
        let NamedList { name, members } = self.find(reference)?;
        match members {
            Members::Emails(emails) => Ok((Arc::clone(name), Arc::clone(emails))),
            Members::Networks(_) => Err(wrong_kind(name, ListKind::Ip, ListKind::Email)),
            Members::Other(kind) => Err(wrong_kind(name, *kind, ListKind::Email)),
        }
    }

    /// Name and members of the list of prefixes that `reference` names by id or name.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn networks(&self, reference: &str) -> Result<(Arc<str>, Arc<PrefixTable<()>>), String> {
        let NamedList { name, members } = self.find(reference)?;
        match members {
            Members::Networks(nets) => Ok((Arc::clone(name), Arc::clone(nets))),
            Members::Emails(_) => Err(wrong_kind(name, ListKind::Email, ListKind::Ip)),
            Members::Other(kind) => Err(wrong_kind(name, *kind, ListKind::Ip)),
        }
    }

    fn find(&self, reference: &str) -> Result<&NamedList, String> {
        self.by_reference.get(reference).ok_or_else(|| {
            let mut known: Vec<&str> = self.by_reference.keys().map(String::as_str).collect();
            known.sort_unstable();
            format!("no list has the id or name {reference:?}: {}", instead(reference, &known))
        })
    }

    fn add<'t>(&mut self, node: &'t Node<'t>, problems: &'t Problems) -> Option<()> {
        let list = Object::open(node, problems, &["id", "name", "description", "type", "items"])?;
        let name = list.need_name("name", "name = \"offices\"");
        let kind = list
            .need("type", "type = \"IP\"")
            .and_then(|node| problems.parsed(node, |text| text.parse::<ListKind>()));
        let items: Vec<&Node<'_>> =
            list.list("items").iter().filter_map(|node| item(node, problems)).collect();
        let (name, kind) = (name?, kind?);
        let items: Vec<(&Node<'_>, &str)> =
            items.into_iter().filter_map(|node| Some((node, checked(node, kind, problems)?))).collect();
        let members = read_members(kind, &items, problems);
        let values: Vec<String> = items.iter().map(|(_, text)| (*text).to_owned()).collect();
        if let Err(error) = self.for_expressions.insert(name, kind, &values) {
            problems.error(node, format_args!("{error}: rename one"));
        }
        let named = NamedList { name: name.into(), members };
        for reference in [Some(name), list.name("id")].into_iter().flatten() {
            let other = self.by_reference.insert(reference.to_owned(), named.clone());
            if other.is_some_and(|other| other.name != named.name) {
                problems.error(node, format_args!("{reference:?} is already the id or name of another list"));
            }
        }
        Some(())
    }
}

fn item<'t>(node: &'t Node<'t>, problems: &'t Problems) -> Option<&'t Node<'t>> {
    Object::open(node, problems, &["value", "description"])?.need("value", "{ value = \"…\" }")
}

/// The text of an item if it is a value of the list's kind.
fn checked<'t>(node: &'t Node<'t>, kind: ListKind, problems: &Problems) -> Option<&'t str> {
    let text = problems.text(node)?;
    match Lists::default().insert("item", kind, &[text.to_owned()]) {
        Ok(()) => return Some(text),
        Err(ListError::BadValue { reason, .. }) => problems.error(node, reason),
        Err(error @ ListError::Duplicate(_)) => problems.error(node, error),
    }
    None
}

/// Keeps what rules ask.
fn read_members(kind: ListKind, items: &[(&Node<'_>, &str)], problems: &Problems) -> Members {
    match kind {
        ListKind::Email => {
            let emails = items.iter().filter_map(|(node, text)| {
                Email::new(text).map_err(|error| problems.error(node, error)).ok()
            });
            Members::Emails(Arc::new(emails.collect()))
        }
        ListKind::Ip => {
            let mut nets = PrefixTable::default();
            for (node, text) in items {
                let members = networks(text);
                if members.is_empty() {
                    problems.error(node, "write an address, a prefix, or a range first..last");
                }
                for net in members {
                    if nets.insert(net, ()).is_err() {
                        problems.warn(node, format_args!("{net} is in this list twice"));
                    }
                }
            }
            Members::Networks(Arc::new(nets))
        }
        ListKind::Domain | ListKind::Location | ListKind::Serial | ListKind::Port => Members::Other(kind),
    }
}

/// The prefixes that an address, a prefix or a range `first..last` consists of.
fn networks(text: &str) -> Vec<IpNet> {
    let Some((first, last)) = text.split_once("..") else {
        return prefix::parse(text).into_iter().collect();
    };
    let address = |text: &str| text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    match (address(first), address(last)) {
        (Some(IpAddr::V4(first)), Some(IpAddr::V4(last))) => {
            Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
        }
        (Some(IpAddr::V6(first)), Some(IpAddr::V6(last))) => {
            Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
        }
        (Some(_) | None, Some(_) | None) => Vec::new(),
    }
}

fn wrong_kind(name: &str, is: ListKind, needed: ListKind) -> String {
    format!("the list {name:?} is of type {is}: this rule needs one of type {needed}")
}
