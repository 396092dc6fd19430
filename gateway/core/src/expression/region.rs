//! From a predicate to the flows for which it holds, as far as addresses and ports tell.
//!
//! Conditions on `net.src.*`, `net.dst.*` and `net.protocol` are exact: `not` is pushed down to the
//! comparisons, where the complement of ranges is ranges again. Any other comparison counts as the caller
//! says, whether negated or not. `and` and `or` are monotonous, so if those count as never holding, the
//! predicate holds for every flow of the region whoever connects; if they count as always holding, it
//! holds for no flow outside of the region.

use std::net::IpAddr;

use super::evaluate::{MAX_MATCHED_TEXT, Predicate, Test};
use super::field::{Fact, Field, PROTOCOL};
use super::set::ValueSet;
use super::value::{TextType, ValueType};
use crate::net::flow_box::{Family, FlowBox, Number, Region, Span, TooManyBoxes, number};
use crate::target::MAX_HOSTNAME;

const _: () = assert!(MAX_HOSTNAME <= MAX_MATCHED_TEXT && PROTOCOL.len() <= MAX_MATCHED_TEXT);

/// The flows for which `predicate` holds; a comparison that addresses and ports do not decide counts as
/// `undecided`, negated or not.
///
/// # Errors
/// [`TooManyBoxes`].
pub(super) fn holding(predicate: &Predicate, undecided: bool) -> Result<Region, TooManyBoxes> {
    Compiler { undecided }.region(predicate, false)
}

/// Whether evaluation can fail for some facts: a pattern may meet a text of any length.
pub(super) fn may_fail(predicate: &Predicate) -> bool {
    match predicate {
        Predicate::Or(parts) | Predicate::And(parts) => parts.iter().any(may_fail),
        Predicate::Not(part) => may_fail(part),
        Predicate::Comparison(field, Test::Matches(_)) => !is_short(*field),
        Predicate::Comparison(_, Test::In(_) | Test::NotIn(_)) => false,
    }
}

/// Whether texts of the field are never too long for a pattern.
const fn is_short(field: Field) -> bool {
    match field.value_type() {
        ValueType::Ip | ValueType::Port => true,
        ValueType::Text(TextType::Hostname | TextType::Country | TextType::Protocol) => true,
        ValueType::Text(TextType::Email | TextType::Exact) => false,
    }
}

struct Compiler {
    undecided: bool,
}

impl Compiler {
    fn region(&self, predicate: &Predicate, negated: bool) -> Result<Region, TooManyBoxes> {
        match predicate {
            Predicate::Not(part) => self.region(part, !negated),
            Predicate::Or(parts) if negated => self.all_of(parts, negated),
            Predicate::Or(parts) => self.any_of(parts, negated),
            Predicate::And(parts) if negated => self.any_of(parts, negated),
            Predicate::And(parts) => self.all_of(parts, negated),
            Predicate::Comparison(field, test) => self.comparison(*field, test, negated),
        }
    }

    fn any_of(&self, parts: &[Predicate], negated: bool) -> Result<Region, TooManyBoxes> {
        parts.iter().try_fold(Region::default(), |any, part| any.union(&self.region(part, negated)?))
    }

    fn all_of(&self, parts: &[Predicate], negated: bool) -> Result<Region, TooManyBoxes> {
        parts.iter().try_fold(Region::all(), |all, part| all.intersection(&self.region(part, negated)?))
    }

    fn comparison(&self, field: Field, test: &Test, negated: bool) -> Result<Region, TooManyBoxes> {
        let (set, member) = match test {
            Test::In(set) => (Some(&**set), !negated),
            Test::NotIn(set) => (Some(&**set), negated),
            Test::Matches(_) => (None, !negated),
        };
        match (field, set) {
            (Field::Protocol, _) => {
                let passes = test.passes(field, Fact::Text(PROTOCOL));
                Ok(constant(passes.map_or(self.undecided, |passes| passes != negated)))
            }
            (Field::SourceIp, Some(ValueSet::Ip(ranges))) => {
                addresses(ranges.as_slice(), member, |all, src| FlowBox { src, ..all })
            }
            (Field::DestinationIp, Some(ValueSet::Ip(ranges))) => {
                addresses(ranges.as_slice(), member, |all, dst| FlowBox { dst, ..all })
            }
            (Field::SourcePort, Some(ValueSet::Port(ranges))) => {
                ports(ranges.as_slice(), member, |src_port| FlowBox { src_port, ..FlowBox::ALL })
            }
            (Field::DestinationPort, Some(ValueSet::Port(ranges))) => {
                ports(ranges.as_slice(), member, |dst_port| FlowBox { dst_port, ..FlowBox::ALL })
            }
            (_, _) => Ok(constant(self.undecided)),
        }
    }
}

fn constant(holds: bool) -> Region {
    if holds { Region::all() } else { Region::default() }
}

fn ports(
    ranges: &[(u16, u16)],
    member: bool,
    to_box: impl Fn(Span<u16>) -> FlowBox,
) -> Result<Region, TooManyBoxes> {
    let spans: Vec<_> = ranges.iter().map(|&(first, last)| Span { first, last }).collect();
    Region::of(chosen(Span::<u16>::ALL, &spans, member).into_iter().map(to_box))
}

/// `to_box` puts a range of addresses into the box of all flows of its family.
fn addresses(
    ranges: &[(IpAddr, IpAddr)],
    member: bool,
    to_box: impl Fn(FlowBox, Span<u128>) -> FlowBox,
) -> Result<Region, TooManyBoxes> {
    let of_family = |family: Family| {
        let spans: Vec<_> = ranges
            .iter()
            .map(|&(first, last)| (number(first), number(last)))
            .filter(|((own, _), _)| *own == family)
            .map(|((_, first), (_, last))| Span { first, last })
            .collect();
        let all = FlowBox::of_family(family);
        let to_box = &to_box;
        chosen(family.addresses(), &spans, member).into_iter().map(move |span| to_box(all, span))
    };
    Region::of(of_family(Family::V4).chain(of_family(Family::V6)))
}

/// The numbers that `spans` have, or those of `all` that they do not have, in as few spans as possible.
fn chosen<T: Number>(all: Span<T>, spans: &[Span<T>], member: bool) -> Vec<Span<T>> {
    let others = all.without(spans);
    if member { all.without(&others) } else { others }
}
