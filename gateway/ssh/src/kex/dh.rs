//! Diffie-Hellman in the multiplicative group of a prime field.
//!
//! The cryptography library has no finite-field agreement; the exponentiation is crypto-bigint's, in time
//! that does not depend on exponent or base. Invariants: a public value `e` has `1 < e < p - 1` (RFC 4253
//! section 8, RFC 8268 section 4), and so has the shared secret; private exponents have 512 bits, twice the
//! strength of every cipher here, which bounds the cost (RFC 4419 section 6.2). Exponent and secret are
//! wiped when dropped; what the exponentiation keeps on its way is not.

use std::cmp::Ordering;

use aws_lc_rs::rand;
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd, Resize as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::KexError;
use super::groups::{GROUP_1, GROUP_14, GROUP_16, GROUP_18};
use super::message::GexRequest;

const EXPONENT_BITS: u32 = 512;
const EXPONENT_BYTES: usize = 64;

/// A group that both sides know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownGroup {
    Oakley2,
    Modp2048,
    Modp4096,
    Modp8192,
}

/// Prime and generator.
#[derive(Clone)]
pub(super) struct Group {
    field: BoxedMontyParams,
    /// `p - 1`, the exclusive upper bound of public values.
    bound: BoxedUint,
    generator: BoxedUint,
}

/// Our half of an exchange.
pub(super) struct DhSecret {
    group: Group,
    exponent: Zeroizing<BoxedUint>,
    public: Vec<u8>,
}

impl KnownGroup {
    /// Groups for group exchange, smallest first.
    const EXCHANGEABLE: [Self; 3] = [Self::Modp2048, Self::Modp4096, Self::Modp8192];

    const fn bits(self) -> u32 {
        match self {
            Self::Oakley2 => 1024,
            Self::Modp2048 => 2048,
            Self::Modp4096 => 4096,
            Self::Modp8192 => 8192,
        }
    }

    const fn prime(self) -> &'static str {
        match self {
            Self::Oakley2 => GROUP_1,
            Self::Modp2048 => GROUP_14,
            Self::Modp4096 => GROUP_16,
            Self::Modp8192 => GROUP_18,
        }
    }

    /// What a server answers to `request`: the smallest group that is as large as preferred, else the
    /// largest within the bounds.
    pub(super) fn for_request(request: GexRequest) -> Result<Self, KexError> {
        let GexRequest { min, preferred, max } = request;
        let within = || Self::EXCHANGEABLE.into_iter().filter(|group| (min..=max).contains(&group.bits()));
        let ordered = min <= preferred && preferred <= max;
        within()
            .find(|group| group.bits() >= preferred)
            .or_else(|| within().next_back())
            .filter(|_| ordered)
            .ok_or(KexError::GroupSize { min, max })
    }
}

impl Group {
    pub(super) fn known(group: KnownGroup) -> Result<Self, KexError> {
        let prime = BoxedUint::from_str_radix_vartime(group.prime(), 16).map_err(|_| KexError::Library)?;
        Self::new(prime, BoxedUint::from(2_u8), group.bits())
    }

    /// A group that a server chose, as magnitudes. A composite `prime` is not found out: a server that
    /// wants to lose the secret has simpler ways.
    pub(super) fn chosen(prime: &[u8], generator: &[u8], request: GexRequest) -> Result<Self, KexError> {
        let bits = magnitude_bits(prime);
        if !(request.min..=request.max).contains(&bits) || generator.len() > prime.len() {
            return Err(KexError::Group(bits));
        }
        Self::new(BoxedUint::from_be_slice_vartime(prime), BoxedUint::from_be_slice_vartime(generator), bits)
    }

    fn new(prime: BoxedUint, generator: BoxedUint, bits: u32) -> Result<Self, KexError> {
        let prime = Odd::new(prime).into_option().ok_or(KexError::Group(bits))?;
        let field = BoxedMontyParams::new_vartime(prime);
        let modulus = field.modulus().as_ref();
        let precision = modulus.bits_precision();
        // The prime is odd: without its lowest bit it is one less.
        let bound = modulus.wrapping_sub(BoxedUint::one_with_precision(precision));
        let generator = generator.try_resize(precision).ok_or(KexError::Group(bits))?;
        let group = Self { bound, generator, field };
        if group.contains(&group.generator) { Ok(group) } else { Err(KexError::Group(bits)) }
    }

    /// The prime as a magnitude.
    pub(super) fn prime(&self) -> Vec<u8> {
        self.field.modulus().as_ref().to_be_bytes_trimmed_vartime().into_vec()
    }

    /// The generator as a magnitude.
    pub(super) fn generator(&self) -> Vec<u8> {
        self.generator.to_be_bytes_trimmed_vartime().into_vec()
    }

    /// Whether `1 < value < p - 1`.
    fn contains(&self, value: &BoxedUint) -> bool {
        let one = BoxedUint::one_with_precision(value.bits_precision());
        value.cmp_vartime(&one) == Ordering::Greater && value.cmp_vartime(&self.bound) == Ordering::Less
    }

    fn power(&self, base: &BoxedUint, exponent: &BoxedUint) -> Zeroizing<BoxedUint> {
        let mut power =
            BoxedMontyForm::new(base.clone(), &self.field).pow_bounded_exp(exponent, EXPONENT_BITS);
        let plain = Zeroizing::new(power.retrieve());
        power.zeroize();
        plain
    }
}

impl DhSecret {
    pub(super) fn generate(group: Group) -> Result<Self, KexError> {
        let mut bytes = Zeroizing::new([0; EXPONENT_BYTES]);
        rand::fill(bytes.as_mut_slice()).map_err(|_| KexError::Library)?;
        let exponent = BoxedUint::from_be_slice(bytes.as_slice(), EXPONENT_BITS);
        let exponent = Zeroizing::new(exponent.map_err(|_| KexError::Library)?);
        let public = group.power(&group.generator, &exponent).to_be_bytes_trimmed_vartime().into_vec();
        Ok(Self { group, exponent, public })
    }

    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// The shared secret as a magnitude, with leading zeros.
    pub(super) fn agree(&self, peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, KexError> {
        let peer = BoxedUint::from_be_slice(peer, self.group.bound.bits_precision())
            .map_err(|_| KexError::PublicValue)?;
        if !self.group.contains(&peer) {
            return Err(KexError::PublicValue);
        }
        let secret = self.group.power(&peer, &self.exponent);
        if !self.group.contains(&secret) {
            return Err(KexError::PublicValue);
        }
        Ok(Zeroizing::new(secret.to_be_bytes().into_vec()))
    }
}

/// Bits of a magnitude without leading zeros.
fn magnitude_bits(magnitude: &[u8]) -> u32 {
    let bits = magnitude.first().map_or(0, |first| magnitude.len() * 8 - first.leading_zeros() as usize);
    u32::try_from(bits).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(group: KnownGroup) -> Group {
        Group::known(group).unwrap()
    }

    /// Fermat's test with base 2 for `p` and for `(p - 1) / 2`: a wrong digit would not pass.
    #[test]
    fn known_primes_are_safe_primes() {
        for known in [KnownGroup::Oakley2, KnownGroup::Modp2048, KnownGroup::Modp4096, KnownGroup::Modp8192] {
            let prime = BoxedUint::from_str_radix_vartime(known.prime(), 16).unwrap();
            assert_eq!(prime.bits(), known.bits());
            let half = prime.shr_vartime(1).unwrap();
            for candidate in [prime, half] {
                let odd = Odd::new(candidate.clone()).into_option().unwrap();
                let two = BoxedUint::from(2_u8).try_resize(candidate.bits_precision()).unwrap();
                let field = BoxedMontyParams::new_vartime(odd);
                let exponent =
                    candidate.wrapping_sub(BoxedUint::one_with_precision(candidate.bits_precision()));
                let power = BoxedMontyForm::new(two, &field).pow(&exponent).retrieve();
                assert_eq!(power.to_be_bytes_trimmed_vartime().as_ref(), [1], "{known:?}");
            }
        }
    }

    /// Expected value: Python's `pow(g, x, p)` modulo the prime of group 14.
    #[test]
    fn the_power_is_the_one_of_an_independent_program() {
        let group = group(KnownGroup::Modp2048);
        let exponent = BoxedUint::from_be_slice(&[0xa5; EXPONENT_BYTES], EXPONENT_BITS).unwrap();
        let power = group.power(&group.generator, &exponent).to_be_bytes();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &power);
        assert_eq!(
            hex::encode(digest.as_ref()),
            "0cce96d37d612dc9ea5af500903e55793027c83c97958b8153857d68bf0967ec"
        );
    }

    #[test]
    fn both_sides_agree_and_the_secret_keeps_its_leading_zeros() {
        let (one, other) = (group(KnownGroup::Oakley2), group(KnownGroup::Oakley2));
        let (one, other) = (DhSecret::generate(one).unwrap(), DhSecret::generate(other).unwrap());
        let secret = one.agree(other.public()).unwrap();
        assert_eq!(secret, other.agree(one.public()).unwrap());
        assert_eq!(secret.len(), 128);
    }

    #[test]
    fn a_request_gets_the_group_that_is_large_enough_and_within_its_bounds() {
        let table = [
            ((2048, 3072, 8192), Some(KnownGroup::Modp4096)),
            ((1024, 2048, 8192), Some(KnownGroup::Modp2048)),
            ((1024, 1024, 8192), Some(KnownGroup::Modp2048)),
            ((2048, 3072, 3072), Some(KnownGroup::Modp2048)),
            ((2048, 8192, 8192), Some(KnownGroup::Modp8192)),
            ((4096, 8192, 20_000), Some(KnownGroup::Modp8192)),
            ((4096, 9000, 20_000), Some(KnownGroup::Modp8192)),
            ((1024, 1024, 1024), None),
            ((2049, 3000, 4095), None),
            ((8193, 9000, 10_000), None),
            ((4096, 2048, 8192), None),
            ((2048, 8192, 4096), None),
            ((u32::MAX, 0, 0), None),
        ];
        for ((min, preferred, max), expected) in table {
            let found = KnownGroup::for_request(GexRequest { min, preferred, max });
            assert_eq!(found, expected.ok_or(KexError::GroupSize { min, max }), "{min} {preferred} {max}");
        }
    }
}
