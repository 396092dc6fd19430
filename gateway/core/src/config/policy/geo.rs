//! `geo`: which prefixes are in which country.

use super::super::reader::{Object, Problems};
use super::super::tree::Node;
use crate::geo::{CountryCode, GeoTable};
use crate::prefix;

pub(super) fn read<'t>(nodes: &'t [Node<'t>], problems: &'t Problems) -> GeoTable {
    let mut table = GeoTable::default();
    for node in nodes {
        let Some(entry) = Object::open(node, problems, &["country", "prefixes"]) else { continue };
        let country = entry
            .need("country", "country = \"DE\"")
            .and_then(|node| problems.parsed(node, CountryCode::new));
        let prefixes = entry.need("prefixes", "prefixes = [\"192.0.2.0/24\"]");
        for node in prefixes.map_or(&[][..], |node| problems.list(node)) {
            let Some(net) = problems.parsed(node, prefix::parse) else { continue };
            let Some(country) = country.clone() else { continue };
            if let Err(taken) = table.insert(net, country) {
                problems.error(node, format_args!("{taken}: one country to a prefix"));
            }
        }
    }
    table
}
