//! The algorithms that protect packets: names, lengths, limits.
//!
//! Owns what can be said of a cipher or a MAC without a key. Does not seal or open.

/// A symmetric cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// `aes128-gcm@openssh.com` (RFC 5647 with OpenSSH's negotiation).
    Aes128Gcm,
    /// `aes256-gcm@openssh.com`.
    Aes256Gcm,
    /// `chacha20-poly1305@openssh.com` (OpenSSH's PROTOCOL.chacha20poly1305).
    ChaCha20Poly1305,
    /// `aes128-ctr` (RFC 4344 section 4).
    Aes128Ctr,
    /// `aes192-ctr`.
    Aes192Ctr,
    /// `aes256-ctr`.
    Aes256Ctr,
    /// `aes128-cbc` (RFC 4253 section 6.3), for targets with a legacy profile only, like all CBC.
    Aes128Cbc,
    /// `aes192-cbc`.
    Aes192Cbc,
    /// `aes256-cbc`.
    Aes256Cbc,
    /// `3des-cbc`: blocks of 8 bytes.
    TripleDesCbc,
}

/// A message authentication code, for ciphers that are no AEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mac {
    /// `hmac-sha2-256-etm@openssh.com`: over the ciphertext.
    HmacSha256Etm,
    /// `hmac-sha2-512-etm@openssh.com`.
    HmacSha512Etm,
    /// `hmac-sha2-256` (RFC 6668): over the plaintext.
    HmacSha256,
    /// `hmac-sha2-512`.
    HmacSha512,
    /// `hmac-sha1-etm@openssh.com`, for targets with a legacy profile only.
    HmacSha1Etm,
    /// `hmac-sha1` (RFC 4253 section 6.4), for targets with a legacy profile only.
    HmacSha1,
}

/// Cipher and MAC of one direction; the MAC is set exactly when the cipher is no AEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// The cipher.
    pub cipher: Cipher,
    /// The MAC.
    pub mac: Option<Mac>,
}

impl Cipher {
    /// Every cipher that is offered without a legacy profile, cheapest first on a CPU with AES instructions.
    pub const ALL: [Self; 6] = [
        Self::Aes128Gcm,
        Self::Aes256Gcm,
        Self::ChaCha20Poly1305,
        Self::Aes128Ctr,
        Self::Aes192Ctr,
        Self::Aes256Ctr,
    ];
    /// What is offered with a legacy profile only, best first.
    pub const LEGACY: [Self; 4] = [Self::Aes128Cbc, Self::Aes192Cbc, Self::Aes256Cbc, Self::TripleDesCbc];

    /// The name in a key exchange.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128-gcm@openssh.com",
            Self::Aes256Gcm => "aes256-gcm@openssh.com",
            Self::ChaCha20Poly1305 => "chacha20-poly1305@openssh.com",
            Self::Aes128Ctr => "aes128-ctr",
            Self::Aes192Ctr => "aes192-ctr",
            Self::Aes256Ctr => "aes256-ctr",
            Self::Aes128Cbc => "aes128-cbc",
            Self::Aes192Cbc => "aes192-cbc",
            Self::Aes256Cbc => "aes256-cbc",
            Self::TripleDesCbc => "3des-cbc",
        }
    }

    /// The cipher of that name, legacy ones included.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain(Self::LEGACY).find(|cipher| cipher.name() == name)
    }

    /// Whether the cipher is offered with a legacy profile only.
    pub const fn is_legacy(self) -> bool {
        matches!(self, Self::Aes128Cbc | Self::Aes192Cbc | Self::Aes256Cbc | Self::TripleDesCbc)
    }

    /// Key length in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128Ctr | Self::Aes128Cbc => 16,
            Self::Aes192Ctr | Self::Aes192Cbc | Self::TripleDesCbc => 24,
            Self::Aes256Gcm | Self::Aes256Ctr | Self::Aes256Cbc => 32,
            Self::ChaCha20Poly1305 => 64,
        }
    }

    /// Length of the initial IV in bytes.
    pub const fn iv_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 12,
            Self::ChaCha20Poly1305 => 0,
            Self::TripleDesCbc => 8,
            Self::Aes128Ctr
            | Self::Aes192Ctr
            | Self::Aes256Ctr
            | Self::Aes128Cbc
            | Self::Aes192Cbc
            | Self::Aes256Cbc => 16,
        }
    }

    /// Length in bytes of what packets are padded to: the block, or 8 for a stream (RFC 4253 section 6).
    pub const fn block_len(self) -> usize {
        match self {
            Self::ChaCha20Poly1305 | Self::TripleDesCbc => 8,
            Self::Aes128Gcm
            | Self::Aes256Gcm
            | Self::Aes128Ctr
            | Self::Aes192Ctr
            | Self::Aes256Ctr
            | Self::Aes128Cbc
            | Self::Aes192Cbc
            | Self::Aes256Cbc => 16,
        }
    }

    /// Whether the cipher authenticates by itself.
    pub const fn is_aead(self) -> bool {
        matches!(self, Self::Aes128Gcm | Self::Aes256Gcm | Self::ChaCha20Poly1305)
    }

    /// Bytes after which keys must be exchanged again: RFC 4344 section 3.2 for blocks of 16 bytes
    /// (2^32 blocks), one GiB for shorter ones as RFC 4253 section 9 has it, and for ChaCha20 as OpenSSH
    /// does.
    pub const fn rekey_bytes(self) -> u64 {
        if self.block_len() < 16 { 1 << 30 } else { 1 << 36 }
    }
}

impl Mac {
    /// Every MAC that is offered without a legacy profile, best first.
    pub const ALL: [Self; 4] = [Self::HmacSha256Etm, Self::HmacSha512Etm, Self::HmacSha256, Self::HmacSha512];
    /// What is offered with a legacy profile only, best first.
    pub const LEGACY: [Self; 2] = [Self::HmacSha1Etm, Self::HmacSha1];

    /// The name in a key exchange.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha256Etm => "hmac-sha2-256-etm@openssh.com",
            Self::HmacSha512Etm => "hmac-sha2-512-etm@openssh.com",
            Self::HmacSha256 => "hmac-sha2-256",
            Self::HmacSha512 => "hmac-sha2-512",
            Self::HmacSha1Etm => "hmac-sha1-etm@openssh.com",
            Self::HmacSha1 => "hmac-sha1",
        }
    }

    /// The MAC of that name, legacy ones included.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain(Self::LEGACY).find(|mac| mac.name() == name)
    }

    /// Whether the MAC is offered with a legacy profile only.
    pub const fn is_legacy(self) -> bool {
        matches!(self, Self::HmacSha1Etm | Self::HmacSha1)
    }

    /// Key length in bytes, which is the length of the MAC too.
    pub const fn key_len(self) -> usize {
        match self {
            Self::HmacSha256Etm | Self::HmacSha256 => 32,
            Self::HmacSha512Etm | Self::HmacSha512 => 64,
            Self::HmacSha1Etm | Self::HmacSha1 => 20,
        }
    }

    /// Whether the MAC is over the ciphertext.
    pub const fn is_etm(self) -> bool {
        matches!(self, Self::HmacSha256Etm | Self::HmacSha512Etm | Self::HmacSha1Etm)
    }
}

impl Protection {
    /// Bytes of the integrity key; 0 for an AEAD.
    pub fn mac_key_len(self) -> usize {
        self.mac.map_or(0, Mac::key_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_algorithm() {
        for cipher in Cipher::ALL.into_iter().chain(Cipher::LEGACY) {
            assert_eq!(Cipher::from_name(cipher.name()), Some(cipher));
            assert_eq!(cipher.is_legacy(), cipher.name().ends_with("-cbc"));
        }
        for mac in Mac::ALL.into_iter().chain(Mac::LEGACY) {
            assert_eq!(Mac::from_name(mac.name()), Some(mac));
            assert_eq!(mac.is_legacy(), mac.name().starts_with("hmac-sha1"));
            assert_eq!(mac.is_etm(), mac.name().ends_with("-etm@openssh.com"));
        }
        assert_eq!((Cipher::from_name("none"), Mac::from_name("none")), (None, None));
    }
}
