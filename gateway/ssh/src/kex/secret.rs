//! The step that every method shares: one public value each way, one secret.
//!
//! Owns the differences in encoding: curves and the hybrid method send `string`s, finite fields send
//! `mpint`s; the hybrid secret is hashed as a `string`, every other as an `mpint`.

use zeroize::Zeroizing;

use super::dh::{DhSecret, Group, KnownGroup};
use super::ecdh::{Curve, EcdhSecret};
use super::hybrid::{self, HybridSecret};
use super::{Kex, KexError};
use crate::wire::{Reader, WireError, put_positive_mpint, put_string};

/// What a method needs to know before the public values are exchanged.
#[derive(Clone)]
pub(super) enum Method {
    Hybrid,
    Curve(Curve),
    Field(Box<Group>),
}

/// How public values travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    String,
    Mpint,
}

/// The private half of the side that sends its public value first.
pub(super) enum Secret {
    Hybrid(Box<HybridSecret>),
    Curve(EcdhSecret),
    Field(Box<DhSecret>),
}

/// The shared secret in the encoding in which it is hashed.
pub(super) type EncodedSecret = Zeroizing<Vec<u8>>;

impl Method {
    /// The method; `None` for group exchange, whose group is not known yet.
    pub(super) fn of(kex: Kex) -> Result<Option<Self>, KexError> {
        let field = |group| Group::known(group).map(|group| Self::Field(Box::new(group)));
        Ok(Some(match kex {
            Kex::MlKem768X25519 => Self::Hybrid,
            Kex::Curve25519 | Kex::Curve25519Libssh => Self::Curve(Curve::X25519),
            Kex::EcdhP256 => Self::Curve(Curve::P256),
            Kex::EcdhP384 => Self::Curve(Curve::P384),
            Kex::EcdhP521 => Self::Curve(Curve::P521),
            Kex::DhGroup1Sha1 => field(KnownGroup::Oakley2)?,
            Kex::DhGroup14Sha256 | Kex::DhGroup14Sha1 => field(KnownGroup::Modp2048)?,
            Kex::DhGroup16Sha512 => field(KnownGroup::Modp4096)?,
            Kex::DhGroup18Sha512 => field(KnownGroup::Modp8192)?,
            Kex::DhGexSha256 | Kex::DhGexSha1 => return Ok(None),
        }))
    }

    pub(super) const fn encoding(&self) -> Encoding {
        match self {
            Self::Hybrid | Self::Curve(_) => Encoding::String,
            Self::Field(_) => Encoding::Mpint,
        }
    }

    /// The answer to a client's public value, and the secret.
    pub(super) fn respond(self, public: &[u8]) -> Result<(Vec<u8>, EncodedSecret), KexError> {
        match self {
            Self::Hybrid => {
                let (answer, secret) = hybrid::respond(public)?;
                Ok((answer, encoded(Encoding::String, &secret)?))
            }
            Self::Curve(_) | Self::Field(_) => {
                let own = Secret::generate(self)?;
                let secret = own.agree(public)?;
                Ok((own.public().to_vec(), secret))
            }
        }
    }
}

impl Encoding {
    pub(super) fn put(self, out: &mut Vec<u8>, public: &[u8]) -> Result<(), KexError> {
        match self {
            Self::String => put_string(out, public)?,
            Self::Mpint => put_positive_mpint(out, public)?,
        }
        Ok(())
    }

    pub(super) fn read<'a>(self, reader: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
        match self {
            Self::String => reader.string(),
            Self::Mpint => reader.positive_mpint(),
        }
    }
}

impl Secret {
    pub(super) fn generate(method: Method) -> Result<Self, KexError> {
        Ok(match method {
            Method::Hybrid => Self::Hybrid(Box::new(HybridSecret::generate()?)),
            Method::Curve(curve) => Self::Curve(EcdhSecret::generate(curve)?),
            Method::Field(group) => Self::Field(Box::new(DhSecret::generate(*group)?)),
        })
    }

    pub(super) fn public(&self) -> &[u8] {
        match self {
            Self::Hybrid(secret) => secret.public(),
            Self::Curve(secret) => secret.public(),
            Self::Field(secret) => secret.public(),
        }
    }

    pub(super) const fn encoding(&self) -> Encoding {
        match self {
            Self::Hybrid(_) | Self::Curve(_) => Encoding::String,
            Self::Field(_) => Encoding::Mpint,
        }
    }

    pub(super) fn agree(&self, peer: &[u8]) -> Result<EncodedSecret, KexError> {
        match self {
            Self::Hybrid(secret) => encoded(Encoding::String, &secret.agree(peer)?),
            Self::Curve(secret) => encoded(Encoding::Mpint, &secret.agree(peer)?),
            Self::Field(secret) => encoded(Encoding::Mpint, &secret.agree(peer)?),
        }
    }
}

fn encoded(encoding: Encoding, secret: &[u8]) -> Result<EncodedSecret, KexError> {
    const LENGTH_AND_SIGN: usize = 5;
    // Room from the start: growing would leave an unwiped copy behind.
    let mut out = Zeroizing::new(Vec::with_capacity(secret.len() + LENGTH_AND_SIGN));
    encoding.put(&mut out, secret)?;
    Ok(out)
}
