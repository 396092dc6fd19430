//! Boxes of flows: ranges of addresses and ports on both sides, and unions of such boxes.
//!
//! Owns the interval arithmetic that conditions on addresses and ports are compiled with. Invariants: a
//! box is never empty; both addresses of a flow are of one family, as they are in every packet; no box of
//! a [`Region`] lies within another one of it, and a region has at most [`MAX_BOXES`].

use std::net::IpAddr;

use thiserror::Error;

use super::FlowTuple;

/// Boxes of one region; more are refused, so that work and memory are bounded.
pub const MAX_BOXES: usize = 256;

/// An inclusive range; `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<T> {
    /// The least member.
    pub first: T,
    /// The greatest member.
    pub last: T,
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// All flows within four ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowBox {
    /// The family of both addresses; `None` for either, with all addresses then.
    pub family: Option<Family>,
    /// Address of the user's side as a number, most significant octet first; an IPv4 address is below 2^32.
    pub src: Span<u128>,
    /// Original destination address, likewise.
    pub dst: Span<u128>,
    /// TCP port of the user's side.
    pub src_port: Span<u16>,
    /// Original destination TCP port.
    pub dst_port: Span<u16>,
}

/// A union of boxes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region(Vec<FlowBox>);

/// A region would have more than [`MAX_BOXES`] boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it takes more than {MAX_BOXES} ranges of addresses and ports")]
pub struct TooManyBoxes;

/// Numbers whose ranges are counted with.
pub trait Number: Copy + Ord {
    /// The least.
    const MIN: Self;
    /// The greatest.
    const MAX: Self;
    /// The next greater one.
    fn next(self) -> Option<Self>;
    /// The next smaller one.
    fn previous(self) -> Option<Self>;
}

macro_rules! number {
    ($type:ty) => {
        impl Number for $type {
            const MIN: Self = <$type>::MIN;
            const MAX: Self = <$type>::MAX;

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    };
}

number!(u16);
number!(u128);

/// An address as a number, and its family.
pub fn number(address: IpAddr) -> (Family, u128) {
    match address {
        IpAddr::V4(address) => (Family::V4, address.to_bits().into()),
        IpAddr::V6(address) => (Family::V6, address.to_bits()),
    }
}

impl<T: Number> Span<T> {
    /// Every number.
    pub const ALL: Self = Self { first: T::MIN, last: T::MAX };

    /// Whether `value` is a member.
    pub fn contains(self, value: T) -> bool {
        self.first <= value && value <= self.last
    }

    /// The numbers of `self` that none of `spans` has; `spans` are ascending and do not overlap.
    pub fn without(self, spans: &[Self]) -> Vec<Self> {
        let mut gaps = Vec::new();
        let mut from = Some(self.first);
        for span in spans {
            let before = span.first.previous();
            gaps.extend(from.zip(before).and_then(|(first, last)| Self::new(first, last)));
            from = span.last.next();
        }
        gaps.extend(from.and_then(|first| Self::new(first, self.last)));
        gaps
    }

    fn new(first: T, last: T) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    fn within(self, other: Self) -> bool {
        other.first <= self.first && self.last <= other.last
    }

    fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }
}

impl Family {
    /// Every address of the family.
    pub const fn addresses(self) -> Span<u128> {
        match self {
            Self::V4 => Span { first: 0, last: (1 << 32) - 1 },
            Self::V6 => Span { first: 0, last: u128::MAX },
        }
    }
}

impl FlowBox {
    /// Every flow.
    pub const ALL: Self = Self {
        family: None,
        src: Span::<u128>::ALL,
        dst: Span::<u128>::ALL,
        src_port: Span::<u16>::ALL,
        dst_port: Span::<u16>::ALL,
    };

    /// Every flow of a family.
    pub const fn of_family(family: Family) -> Self {
        let addresses = family.addresses();
        Self { family: Some(family), src: addresses, dst: addresses, ..Self::ALL }
    }

    /// Whether a flow is in the box.
    pub fn contains(&self, flow: FlowTuple) -> bool {
        let (family, src) = number(flow.client.ip());
        let (_, dst) = number(flow.original_dst.ip());
        self.family.is_none_or(|own| own == family)
            && self.src.contains(src)
            && self.dst.contains(dst)
            && self.src_port.contains(flow.client.socket_addr().port())
            && self.dst_port.contains(flow.original_dst.port())
    }

    /// Whether every flow of this box is in `other`.
    pub fn within(&self, other: &Self) -> bool {
        (other.family.is_none() || other.family == self.family)
            && self.src.within(other.src)
            && self.dst.within(other.dst)
            && self.src_port.within(other.src_port)
            && self.dst_port.within(other.dst_port)
    }

    /// The flows that are in both boxes.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let family = match (self.family, other.family) {
            (None, family) | (family, None) => family,
            (Some(one), Some(other)) if one == other => Some(one),
            (Some(_), Some(_)) => return None,
        };
        Some(Self {
            family,
            src: self.src.intersection(other.src)?,
            dst: self.dst.intersection(other.dst)?,
            src_port: self.src_port.intersection(other.src_port)?,
            dst_port: self.dst_port.intersection(other.dst_port)?,
        })
    }
}

impl Region {
    /// Every flow.
    pub fn all() -> Self {
        Self(vec![FlowBox::ALL])
    }

    /// The union of boxes.
    ///
    /// # Errors
    /// [`TooManyBoxes`].
    pub fn of(boxes: impl IntoIterator<Item = FlowBox>) -> Result<Self, TooManyBoxes> {
        let mut region = Self::default();
        boxes.into_iter().try_for_each(|one| region.add(one))?;
        Ok(region)
    }

    /// The boxes, none within another one.
    pub fn boxes(&self) -> &[FlowBox] {
        &self.0
    }

    /// The flows of either region.
    ///
    /// # Errors
    /// [`TooManyBoxes`].
    pub fn union(mut self, other: &Self) -> Result<Self, TooManyBoxes> {
        other.0.iter().try_for_each(|one| self.add(*one))?;
        Ok(self)
    }

    /// The flows of both regions.
    ///
    /// # Errors
    /// [`TooManyBoxes`].
    pub fn intersection(&self, other: &Self) -> Result<Self, TooManyBoxes> {
        Self::of(self.0.iter().flat_map(|one| other.0.iter().filter_map(|other| one.intersection(other))))
    }

    fn add(&mut self, new: FlowBox) -> Result<(), TooManyBoxes> {
        if self.0.iter().any(|one| new.within(one)) {
            return Ok(());
        }
        self.0.retain(|one| !one.within(&new));
        if self.0.len() == MAX_BOXES {
            return Err(TooManyBoxes);
        }
        self.0.push(new);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u16, last: u16) -> Span<u16> {
        Span { first, last }
    }

    fn ports(first: u16, last: u16) -> FlowBox {
        FlowBox { dst_port: span(first, last), ..FlowBox::ALL }
    }

    #[test]
    fn what_is_left_of_a_range() {
        let all = Span::<u16>::ALL;
        assert_eq!(all.without(&[]), [all]);
        assert_eq!(all.without(&[all]), []);
        assert_eq!(all.without(&[span(0, 21), span(22, 22)]), [span(23, 65_535)]);
        assert_eq!(all.without(&[span(22, 22), span(65_535, 65_535)]), [span(0, 21), span(23, 65_534)]);
    }

    #[test]
    fn families_do_not_meet() {
        let (v4, v6) = (FlowBox::of_family(Family::V4), FlowBox::of_family(Family::V6));
        assert_eq!(v4.intersection(&v6), None);
        assert_eq!(v6.intersection(&FlowBox::ALL), Some(v6));
        assert!(v4.within(&FlowBox::ALL) && !v4.within(&v6) && !FlowBox::ALL.within(&v4));
    }

    #[test]
    fn a_region_keeps_no_box_within_another_and_is_bounded() {
        let region = Region::of([ports(5, 6), ports(1, 9), ports(2, 3)]).unwrap();
        assert_eq!(region.boxes(), [ports(1, 9)]);
        let odd = |count: u16| Region::of((0..count).map(|n| ports(2 * n + 1, 2 * n + 1)));
        assert_eq!(odd(256).unwrap().boxes().len(), MAX_BOXES);
        assert_eq!(odd(257), Err(TooManyBoxes));
        assert_eq!(odd(256).unwrap().union(&Region::of([ports(0, 0)]).unwrap()), Err(TooManyBoxes));
        assert_eq!(odd(256).unwrap().union(&Region::all()), Ok(Region::all()));
    }
}
