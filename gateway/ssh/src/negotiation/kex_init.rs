//! `SSH_MSG_KEXINIT` (RFC 4253 section 7.1): what one side offers.
//!
//! Owns the payload as it travels, which the exchange hash covers, and its lists. Invariants: a list holds
//! printable ASCII of at most [`MAX_NAME_LIST`] bytes, so it may be shown to an operator; names that
//! nobody here knows are kept. Does not choose: see [`super::negotiate`].

use super::{Direction, Preferences, Role};
use crate::cipher::Cipher;
use crate::wire::{Reader, WireError, put_boolean, put_u32};

/// Message number.
pub const SSH_MSG_KEXINIT: u8 = 20;
/// Longest list that is accepted from a peer, in bytes; those of OpenSSH have some 600.
pub const MAX_NAME_LIST: usize = 4096;

pub(super) const EXT_INFO_CLIENT: &str = "ext-info-c";
pub(super) const EXT_INFO_SERVER: &str = "ext-info-s";
pub(super) const STRICT_CLIENT: &str = "kex-strict-c-v00@openssh.com";
pub(super) const STRICT_SERVER: &str = "kex-strict-s-v00@openssh.com";
const COMPRESSION: &str = "none";
const COOKIE: usize = 16;

/// Indicators that travel in the list of key exchange methods but name none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// `ext-info-c` or `ext-info-s` (RFC 8308 section 2.1); belongs into the first offer only.
    pub ext_info: bool,
    /// `kex-strict-[cs]-v00@openssh.com` (OpenSSH's PROTOCOL section 1.10); belongs into the first offer only.
    pub strict: bool,
}

/// One side's offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KexInit {
    payload: Vec<u8>,
    pub(super) kex: NameList,
    pub(super) host_keys: NameList,
    pub(super) client_to_server: DirectionLists,
    pub(super) server_to_client: DirectionLists,
    first_packet_follows: bool,
}

/// The lists of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DirectionLists {
    pub(super) ciphers: NameList,
    pub(super) macs: NameList,
    pub(super) compression: NameList,
}

/// A `name-list` (RFC 4251 section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameList(String);

impl KexInit {
    /// An offer of ours: no compression, no languages, no guessed packet.
    pub fn new(role: Role, preferences: &Preferences, cookie: [u8; 16], extras: Extras) -> Self {
        let (ext_info, strict) = match role {
            Role::Client => (EXT_INFO_CLIENT, STRICT_CLIENT),
            Role::Server => (EXT_INFO_SERVER, STRICT_SERVER),
        };
        let indicators = [(extras.ext_info, ext_info), (extras.strict, strict)];
        let indicators = indicators.into_iter().filter_map(|(wanted, name)| wanted.then_some(name));
        let kex = NameList::new(preferences.kex.iter().map(|kex| kex.name()).chain(indicators));
        let host_keys = NameList::new(preferences.host_keys.iter().map(|algorithm| algorithm.name()));
        let lists = DirectionLists {
            ciphers: NameList::new(preferences.ciphers.iter().map(|cipher| cipher.name())),
            macs: NameList::new(preferences.macs.iter().map(|mac| mac.name())),
            compression: NameList::new([COMPRESSION]),
        };
        let mut payload = vec![SSH_MSG_KEXINIT];
        payload.extend_from_slice(&cookie);
        let (ciphers, macs, compression) = (&lists.ciphers, &lists.macs, &lists.compression);
        for list in [&kex, &host_keys, ciphers, ciphers, macs, macs, compression, compression] {
            list.put(&mut payload);
        }
        for _language in [Direction::ClientToServer, Direction::ServerToClient] {
            put_u32(&mut payload, 0);
        }
        put_boolean(&mut payload, false);
        put_u32(&mut payload, 0);
        let (client_to_server, server_to_client) = (lists.clone(), lists);
        Self { payload, kex, host_keys, client_to_server, server_to_client, first_packet_follows: false }
    }

    /// An offer of the peer's.
    ///
    /// # Errors
    /// [`WireError`] when the payload is no KEXINIT, or a list is no list of names or too long.
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != SSH_MSG_KEXINIT {
            return Err(WireError::Malformed);
        }
        reader.bytes(COOKIE)?;
        let kex = NameList::read(&mut reader)?;
        let host_keys = NameList::read(&mut reader)?;
        let ciphers = [NameList::read(&mut reader)?, NameList::read(&mut reader)?];
        let macs = [NameList::read(&mut reader)?, NameList::read(&mut reader)?];
        let compression = [NameList::read(&mut reader)?, NameList::read(&mut reader)?];
        for _language in [Direction::ClientToServer, Direction::ServerToClient] {
            reader.string()?;
        }
        let first_packet_follows = reader.boolean()?;
        reader.u32()?;
        reader.finish()?;
        let [client_to_server, server_to_client] = DirectionLists::pair(ciphers, macs, compression);
        let payload = payload.to_vec();
        Ok(Self { payload, kex, host_keys, client_to_server, server_to_client, first_packet_follows })
    }

    /// The payload as it travels.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whether this side would use `cipher` in `direction`.
    pub fn offers_cipher(&self, direction: Direction, cipher: Cipher) -> bool {
        let lists = match direction {
            Direction::ClientToServer => &self.client_to_server,
            Direction::ServerToClient => &self.server_to_client,
        };
        lists.ciphers.contains(cipher.name())
    }

    /// Whether this side offers strict key exchange, in the spelling of either role.
    pub fn strict(&self) -> bool {
        self.kex.contains(STRICT_CLIENT) || self.kex.contains(STRICT_SERVER)
    }

    /// Whether this side takes `SSH_MSG_EXT_INFO`, in the spelling of either role.
    pub fn wants_ext_info(&self) -> bool {
        self.kex.contains(EXT_INFO_CLIENT) || self.kex.contains(EXT_INFO_SERVER)
    }

    /// Whether this side sends the first packet of the method that it guessed without waiting.
    pub const fn first_packet_follows(&self) -> bool {
        self.first_packet_follows
    }
}

impl DirectionLists {
    /// Sorts lists in wire order (both directions of one kind) by direction.
    fn pair(ciphers: [NameList; 2], macs: [NameList; 2], compression: [NameList; 2]) -> [Self; 2] {
        let ([cipher_out, cipher_in], [mac_out, mac_in]) = (ciphers, macs);
        let [compression_out, compression_in] = compression;
        [
            Self { ciphers: cipher_out, macs: mac_out, compression: compression_out },
            Self { ciphers: cipher_in, macs: mac_in, compression: compression_in },
        ]
    }
}

impl NameList {
    /// Joins names of ours; what does not fit into [`MAX_NAME_LIST`] is left out.
    fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut list = String::new();
        for name in names {
            if list.len() + 1 + name.len() > MAX_NAME_LIST {
                break;
            }
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(name);
        }
        Self(list)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let text = reader.text()?;
        if text.len() > MAX_NAME_LIST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(WireError::Malformed);
        }
        Ok(Self(text.to_owned()))
    }

    fn put(&self, out: &mut Vec<u8>) {
        // At most MAX_NAME_LIST bytes: the conversion cannot fail.
        put_u32(out, u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        out.extend_from_slice(self.0.as_bytes());
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split(',').filter(|name| !name.is_empty())
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.names().any(|own| own == name)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fips;

    fn offer(role: Role) -> KexInit {
        KexInit::new(role, &Preferences::legacy(), [7; 16], Extras { ext_info: true, strict: true })
    }

    #[test]
    fn an_offer_survives_the_wire() {
        for role in [Role::Client, Role::Server] {
            let own = offer(role);
            assert_eq!(KexInit::parse(own.payload()).as_ref(), Ok(&own));
        }
    }

    #[test]
    fn an_offer_carries_the_indicators_of_its_role() {
        let client: Vec<_> = offer(Role::Client).kex.names().map(str::to_owned).collect();
        let best = if fips::BUILD { "ecdh-sha2-nistp256" } else { "mlkem768x25519-sha256" };
        assert_eq!(client.first().map(String::as_str), Some(best));
        assert!(client.ends_with(&["ext-info-c".to_owned(), "kex-strict-c-v00@openssh.com".to_owned()]));
        assert!(offer(Role::Server).kex.contains("ext-info-s"));
        assert!(offer(Role::Server).strict() && offer(Role::Server).wants_ext_info());
        let plain = KexInit::new(Role::Client, &Preferences::default(), [0; 16], Extras::default());
        assert!(!plain.strict() && !plain.wants_ext_info());
        assert!(plain.offers_cipher(Direction::ServerToClient, Cipher::Aes256Ctr));
        assert!(!plain.first_packet_follows());
    }

    #[test]
    fn malformed_offers_are_refused() {
        let own = offer(Role::Client);
        for length in 0..own.payload().len() {
            assert_eq!(KexInit::parse(&own.payload()[..length]), Err(WireError::Truncated), "{length}");
        }
        let mut other = own.payload().to_vec();
        other.push(0);
        assert_eq!(KexInit::parse(&other), Err(WireError::Trailing));
        for (position, byte) in [(0, 21), (21, b'\n'), (21, 0x80), (21, b' ')] {
            let mut other = own.payload().to_vec();
            other[position] = byte;
            assert_eq!(KexInit::parse(&other), Err(WireError::Malformed), "byte {byte} at {position}");
        }
        let mut long = own.payload()[..17].to_vec();
        put_u32(&mut long, 4097);
        long.extend_from_slice(&[b'a'; 4097]);
        assert_eq!(KexInit::parse(&long), Err(WireError::Malformed));
    }

    #[test]
    fn a_list_of_ours_is_cut_between_names() {
        let names = vec!["0123456789"; 1000];
        let list = NameList::new(names.iter().copied());
        assert!(list.as_str().len() <= MAX_NAME_LIST && list.names().all(|name| name.len() == 10));
    }

    proptest! {
        #[test]
        fn no_input_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..900, value in any::<u8>()) {
            let mut mutated = offer(Role::Client).payload().to_vec();
            if let Some(byte) = mutated.get_mut(at) {
                *byte = value;
            }
            for payload in [bytes, mutated] {
                if let Ok(parsed) = KexInit::parse(&payload) {
                    prop_assert_eq!(parsed.payload(), &payload[..]);
                }
            }
        }
    }
}
