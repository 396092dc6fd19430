//! Where the running kernel has members of its structures, from its own type information (BTF).
//!
//! Owns reading the little of the format that this takes (Documentation/bpf/btf.rst of Linux). Invariant: what is not
//! as the format says is an error, never another place.

use std::fs;

use super::DatapathError;

/// Where a kernel shows it.
const PATH: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u32 = 0xeb9f;
/// Bytes of a type before what its kind adds.
const HEAD: usize = 12;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// Bytes of a member.
const MEMBER: usize = 12;
/// Structures in one another.
const DEEPEST: u32 = 8;

/// The type information of a kernel.
pub(super) struct KernelTypes {
    bytes: Vec<u8>,
    /// Where the strings begin.
    strings: usize,
    /// Where each type is; the first one is number 1.
    types: Vec<usize>,
}

/// A structure or union.
struct Composite {
    /// Where its members are, and how many.
    members: (usize, usize),
    /// Whether the size of a bit field stands in front of each member's offset.
    has_bit_fields: bool,
}

impl KernelTypes {
    /// Those of the running kernel.
    ///
    /// # Errors
    /// [`DatapathError::KernelTypes`].
    pub(super) fn of_this_kernel() -> Result<Self, DatapathError> {
        let unusable = |source| DatapathError::KernelTypes { path: PATH, source };
        let bytes = fs::read(PATH).map_err(|error| unusable(Some(error)))?;
        Self::parse(bytes).ok_or_else(|| unusable(None))
    }

    /// Bytes from the start of a structure to a member of it, or of what stands in it without a name.
    ///
    /// # Errors
    /// [`DatapathError::KernelTypes`] when there is none.
    pub(super) fn offset(&self, structure: &str, member: &str) -> Result<u32, DatapathError> {
        let of_name = |at: &&usize| {
            self.kind(**at) == Some(STRUCT) && self.word(**at).is_some_and(|name| self.is(name, structure))
        };
        let found = self.types.iter().find(of_name).and_then(|at| self.bits(*at, member, DEEPEST));
        let whole = found.filter(|bits| bits % 8 == 0).map(|bits| bits / 8);
        whole.ok_or(DatapathError::KernelTypes { path: PATH, source: None })
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let mut parsed = Self { bytes, strings: 0, types: Vec::new() };
        // Magic and version, length of the header, where types begin and their length, where strings begin.
        let [magic, header, begin, length, strings] = [0, 4, 8, 12, 16]
            .map(|at| parsed.word(at))
            .into_iter()
            .collect::<Option<Vec<_>>>()?
            .try_into()
            .ok()?;
        if magic & 0xffff != MAGIC {
            return None;
        }
        let place = |offset: u32| usize::try_from(header.checked_add(offset)?).ok();
        parsed.strings = place(strings)?;
        let (mut at, end) = (place(begin)?, place(begin.checked_add(length)?)?);
        parsed.bytes.get(..end)?;
        while at < end {
            parsed.types.push(at);
            at += parsed.size(at)?;
        }
        Some(parsed)
    }

    /// Bytes of the type at `at`.
    fn size(&self, at: usize) -> Option<usize> {
        let count = self.count(at)?;
        let added = match self.kind(at)? {
            // Integers, variables and tags of declarations have a word.
            1 | 14 | 17 => 4,
            3 => 12,
            STRUCT | UNION | 15 | 19 => MEMBER * count,
            // Enumerations and parameters of functions.
            6 | 13 => 8 * count,
            2 | 7..=12 | 16 | 18 => 0,
            _ => return None,
        };
        Some(HEAD + added)
    }

    /// Bits from the start of the structure or union at `at` to the member.
    fn bits(&self, at: usize, member: &str, deepest: u32) -> Option<u32> {
        let Composite { members: (first, count), has_bit_fields } = self.composite(at)?;
        (0..count).find_map(|number| {
            let member_at = first + number * MEMBER;
            let (name, of, offset) =
                (self.word(member_at)?, self.word(member_at + 4)?, self.word(member_at + 8)?);
            let offset = if has_bit_fields { offset & 0x00ff_ffff } else { offset };
            if name != 0 && self.is(name, member) {
                return Some(offset);
            }
            let inner = usize::try_from(of).ok()?.checked_sub(1).and_then(|index| self.types.get(index))?;
            let nameless = name == 0 && deepest > 0;
            let within = nameless.then(|| self.bits(*inner, member, deepest - 1))??;
            offset.checked_add(within)
        })
    }

    fn composite(&self, at: usize) -> Option<Composite> {
        let is_one = matches!(self.kind(at)?, STRUCT | UNION);
        let has_bit_fields = self.word(at + 4)? >> 31 == 1;
        is_one.then_some(Composite { members: (at + HEAD, self.count(at)?), has_bit_fields })
    }

    fn kind(&self, at: usize) -> Option<u32> {
        Some((self.word(at + 4)? >> 24) & 0x1f)
    }

    fn count(&self, at: usize) -> Option<usize> {
        usize::try_from(self.word(at + 4)? & 0xffff).ok()
    }

    /// Whether the string at `offset` is this one.
    fn is(&self, offset: u32, name: &str) -> bool {
        let at = usize::try_from(offset).ok().map(|offset| self.strings + offset);
        let rest = at.and_then(|at| self.bytes.get(at..)).and_then(|rest| rest.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// An integer, a structure without a name and a bit field in it, and `s`, which has that 8 bytes from its start.
    fn small() -> Vec<u8> {
        let types = words(
            &[
                [0, 1 << 24, 4].as_slice(),
                &[32],
                &[0, 1 << 31 | 4 << 24 | 2, 8],
                &[3, 1, 0],
                &[5, 1, 7 << 24 | 35],
                &[1, 4 << 24 | 2, 16],
                &[5, 1, 8],
                &[0, 2, 64],
            ]
            .concat(),
        );
        let length = u32::try_from(types.len()).unwrap();
        let header = words(&[MAGIC | 1 << 16, 24, 0, length, length, 9]);
        [header, types, b"\0s\0a\0bb\0\0".to_vec()].concat()
    }

    #[test]
    fn a_member_is_found_in_what_has_no_name() {
        let types = KernelTypes::parse(small()).unwrap();
        assert_eq!(types.offset("s", "a").unwrap(), 8);
        assert_eq!(types.offset("s", "bb").unwrap(), 1);
        for (structure, member) in [("s", "b"), ("t", "a"), ("s", "")] {
            assert!(types.offset(structure, member).is_err(), "{structure}.{member}");
        }
    }

    #[test]
    fn a_member_that_begins_within_a_byte_has_no_place() {
        let mut bytes = small();
        // The structure without a name alone, under the name of the other one.
        bytes[24 + 16..24 + 20].copy_from_slice(&1_u32.to_ne_bytes());
        let types = KernelTypes::parse(bytes).unwrap();
        assert_eq!(types.offset("s", "a").unwrap(), 0);
        assert!(types.offset("s", "bb").is_err());
    }

    #[test]
    fn what_is_cut_is_refused_and_never_read_past_its_end() {
        let whole = small();
        assert!(KernelTypes::parse(b"\x7fELF".to_vec()).is_none());
        for end in 0..24 + 80 {
            assert!(KernelTypes::parse(whole[..end].to_vec()).is_none(), "{end}");
        }
    }

    #[test]
    fn this_kernel_says_where_a_checksum_is_to_be_written() {
        let types = KernelTypes::of_this_kernel().unwrap();
        let [start, offset] =
            ["csum_start", "csum_offset"].map(|member| types.offset("sk_buff", member).unwrap());
        assert_eq!(offset, start + 2);
        assert!(types.offset("sk_buff", "head").unwrap() > 0);
    }
}
