//! Algorithm negotiation (RFC 4253 section 7.1).
//!
//! Owns the choice that both sides make alike from two offers. Invariants: for each kind the first name of
//! the client's that the server has too; indicators such as `ext-info-c` are never chosen; a MAC is chosen
//! exactly where the cipher is no AEAD. Does not know which side we are: [`negotiate`] is told who is the
//! client. Does not decide what to offer: see [`Preferences`].

mod host_key_algorithm;
mod kex_init;
mod preferences;

use thiserror::Error;

pub use self::host_key_algorithm::HostKeyAlgorithm;
use self::kex_init::{DirectionLists, EXT_INFO_CLIENT, NameList, STRICT_CLIENT, STRICT_SERVER};
pub use self::kex_init::{Extras, KexInit, MAX_NAME_LIST, SSH_MSG_KEXINIT};
pub use self::preferences::Preferences;
use crate::cipher::{Cipher, Mac, Protection};
use crate::fips;
use crate::kex::Kex;
pub use crate::side::{Direction, Role};

/// Longest list that a [`NegotiationError`] shows, in bytes.
const MAX_SHOWN: usize = 512;

/// What two offers lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The key exchange method.
    pub kex: Kex,
    /// The host key algorithm.
    pub host_key: HostKeyAlgorithm,
    /// Protection of what the client sends.
    pub client_to_server: Protection,
    /// Protection of what the server sends.
    pub server_to_client: Protection,
    /// Both sides offered strict key exchange. Counts in the first key exchange only, for the whole
    /// connection (OpenSSH's PROTOCOL section 1.10).
    pub strict: bool,
    /// The client takes `SSH_MSG_EXT_INFO` (RFC 8308).
    pub client_ext_info: bool,
    /// A side sent a packet for a guess that is wrong: the next key exchange packet is to be dropped.
    pub ignore_next_kex_packet: bool,
}

/// Both sides have nothing in common of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no common {what}: the client offers [{client}], the server offers [{server}]")]
pub struct NegotiationError {
    /// The kind, as an operator calls it.
    pub what: &'static str,
    /// The client's list, cut where it is long.
    pub client: String,
    /// The server's list, cut where it is long.
    pub server: String,
    /// The server offers something legacy of this kind, which [`Preferences::legacy`] would have met.
    pub legacy: bool,
}

/// Names of the kinds of one direction, for errors.
struct Kinds {
    cipher: &'static str,
    mac: &'static str,
    compression: &'static str,
}

const CLIENT_TO_SERVER: Kinds = Kinds {
    cipher: "cipher from client to server",
    mac: "MAC from client to server",
    compression: "compression from client to server",
};
const SERVER_TO_CLIENT: Kinds = Kinds {
    cipher: "cipher from server to client",
    mac: "MAC from server to client",
    compression: "compression from server to client",
};

/// What both sides use from here on.
///
/// # Errors
/// [`NegotiationError`] for the first kind without a common name.
pub fn negotiate(client: &KexInit, server: &KexInit) -> Result<Negotiated, NegotiationError> {
    let kex = choose("key exchange method", &client.kex, &server.kex, Kex::from_name)?;
    let host_key =
        choose("host key algorithm", &client.host_keys, &server.host_keys, HostKeyAlgorithm::from_name)?;
    let client_to_server = protection(&CLIENT_TO_SERVER, &client.client_to_server, &server.client_to_server)?;
    let server_to_client = protection(&SERVER_TO_CLIENT, &client.server_to_client, &server.server_to_client)?;
    let guessed = client.first_packet_follows() || server.first_packet_follows();
    Ok(Negotiated {
        kex,
        host_key,
        client_to_server,
        server_to_client,
        strict: client.kex.contains(STRICT_CLIENT) && server.kex.contains(STRICT_SERVER),
        client_ext_info: client.kex.contains(EXT_INFO_CLIENT),
        ignore_next_kex_packet: guessed && !same_guess(client, server),
    })
}

impl Negotiated {
    /// Names of the algorithms, each once: key exchange, host key, ciphers and MACs of both directions.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names = vec![self.kex.name(), self.host_key.name()];
        for Protection { cipher, mac } in [self.client_to_server, self.server_to_client] {
            for name in [Some(cipher.name()), mac.map(Mac::name)].into_iter().flatten() {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// Those of [`Self::names`] that are offered with a legacy profile only.
    pub fn legacy_names(&self) -> Vec<&'static str> {
        let mut names = self.names();
        names.retain(|name| is_legacy(name));
        names
    }
}

/// A guess is right when both sides like the same method and the same host key algorithm best.
fn same_guess(client: &KexInit, server: &KexInit) -> bool {
    client.kex.names().next() == server.kex.names().next()
        && client.host_keys.names().next() == server.host_keys.names().next()
}

fn protection(
    kinds: &Kinds,
    client: &DirectionLists,
    server: &DirectionLists,
) -> Result<Protection, NegotiationError> {
    let cipher = choose(kinds.cipher, &client.ciphers, &server.ciphers, Cipher::from_name)?;
    let mac = if cipher.is_aead() {
        None
    } else {
        Some(choose(kinds.mac, &client.macs, &server.macs, Mac::from_name)?)
    };
    choose(kinds.compression, &client.compression, &server.compression, |name| {
        (name == "none").then_some(())
    })?;
    Ok(Protection { cipher, mac })
}

/// The first name of the client's that the server has and that means something here.
fn choose<T>(
    what: &'static str,
    client: &NameList,
    server: &NameList,
    from_name: impl Fn(&str) -> Option<T>,
) -> Result<T, NegotiationError> {
    client.names().filter_map(|name| from_name(name).filter(|_| server.contains(name))).next().ok_or_else(
        || NegotiationError {
            what,
            client: shown(client),
            server: shown(server),
            legacy: !fips::BUILD && server.names().any(is_legacy),
        },
    )
}

/// Whether an algorithm of that name, of any kind, is offered with a legacy profile only.
fn is_legacy(name: &str) -> bool {
    Kex::from_name(name).is_some_and(Kex::is_legacy)
        || HostKeyAlgorithm::from_name(name).is_some_and(HostKeyAlgorithm::is_legacy)
        || Cipher::from_name(name).is_some_and(Cipher::is_legacy)
        || Mac::from_name(name).is_some_and(Mac::is_legacy)
}

/// The list as an operator reads it; it is printable ASCII, so a cut falls between characters.
fn shown(list: &NameList) -> String {
    let list = list.as_str();
    list.get(..MAX_SHOWN).map_or_else(|| list.to_owned(), |head| format!("{head}..."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{put_boolean, put_string, put_u32};

    const CTR: &str = "aes128-ctr";
    const GCM: &str = "aes128-gcm@openssh.com";

    /// An offer with the given lists, in wire order without compression and languages.
    fn offer(lists: [&str; 6], follows: bool) -> KexInit {
        let mut payload = vec![SSH_MSG_KEXINIT];
        payload.extend_from_slice(&[0; 16]);
        for list in lists.into_iter().chain(["zlib,none", "none", "", ""]) {
            put_string(&mut payload, list.as_bytes()).unwrap();
        }
        put_boolean(&mut payload, follows);
        put_u32(&mut payload, 0);
        KexInit::parse(&payload).unwrap()
    }

    fn simple(kex: &str, host_keys: &str) -> KexInit {
        offer([kex, host_keys, CTR, CTR, "hmac-sha2-256", "hmac-sha2-256"], false)
    }

    #[test]
    fn the_first_name_of_the_client_that_the_server_has_wins() {
        let none = None;
        let table = [
            (
                "curve25519-sha256,ecdh-sha2-nistp256",
                "ecdh-sha2-nistp256,curve25519-sha256",
                Some(Kex::Curve25519),
            ),
            (
                "unknown@example.com,ecdh-sha2-nistp384",
                "unknown@example.com,ecdh-sha2-nistp384",
                Some(Kex::EcdhP384),
            ),
            ("ext-info-c,curve25519-sha256", "ext-info-c,curve25519-sha256", Some(Kex::Curve25519)),
            ("curve25519-sha256", "ecdh-sha2-nistp256", none),
            ("ext-info-c", "ext-info-c", none),
            ("curve25519", "curve25519-sha256", none),
            ("", "curve25519-sha256", none),
        ];
        for (client, server, expected) in table {
            let result = negotiate(&simple(client, "ssh-ed25519"), &simple(server, "ssh-ed25519"));
            assert_eq!(result.ok().map(|negotiated| negotiated.kex), expected, "{client} with {server}");
        }
        let result = negotiate(
            &simple("curve25519-sha256", "rsa-sha2-256,ssh-ed25519"),
            &simple("curve25519-sha256", "ssh-ed25519,rsa-sha2-256"),
        );
        assert_eq!(result.unwrap().host_key, HostKeyAlgorithm::RsaSha256);
    }

    #[test]
    fn directions_are_negotiated_apart_and_an_aead_needs_no_mac() {
        let kex = ["curve25519-sha256", "ssh-ed25519"];
        let client = offer([kex[0], kex[1], GCM, CTR, "hmac-md5", "hmac-sha1,hmac-sha2-256"], false);
        let server =
            offer([kex[0], kex[1], "aes256-ctr,aes128-gcm@openssh.com", CTR, "none", "hmac-sha2-256"], false);
        let negotiated = negotiate(&client, &server).unwrap();
        assert_eq!(negotiated.client_to_server, Protection { cipher: Cipher::Aes128Gcm, mac: None });
        let expected = Protection { cipher: Cipher::Aes128Ctr, mac: Some(Mac::HmacSha256) };
        assert_eq!(negotiated.server_to_client, expected);
    }

    #[test]
    fn an_error_names_what_is_missing_and_both_lists() {
        let client =
            offer(["curve25519-sha256", "ssh-ed25519", CTR, CTR, "hmac-sha2-256", "hmac-sha2-256"], false);
        let server =
            offer(["curve25519-sha256", "ssh-ed25519", CTR, CTR, "hmac-sha2-256", "hmac-md5"], false);
        let error = negotiate(&client, &server).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no common MAC from server to client: the client offers [hmac-sha2-256], the server offers [hmac-md5]"
        );
        let long = "x".repeat(4000);
        let error = negotiate(&simple(&long, "ssh-ed25519"), &simple("y", "ssh-ed25519")).unwrap_err();
        assert_eq!(error.what, "key exchange method");
        assert_eq!(error.client.len(), MAX_SHOWN + 3);
    }

    #[test]
    fn compression_that_both_want_but_nobody_has_is_an_error() {
        let mut payload = simple("curve25519-sha256", "ssh-ed25519").payload().to_vec();
        let position = payload.windows(9).position(|window| window == b"zlib,none").unwrap();
        payload[position..position + 9].copy_from_slice(b"zlib,nope");
        let client = KexInit::parse(&payload).unwrap();
        assert_eq!(negotiate(&client, &client).unwrap_err().what, "compression from client to server");
    }

    #[test]
    fn a_guess_is_wrong_when_either_favourite_differs() {
        let lists = |kex, host_key, follows| offer([kex, host_key, GCM, GCM, "", ""], follows);
        let (kex, host_keys) = ("curve25519-sha256,ecdh-sha2-nistp256", "ssh-ed25519,rsa-sha2-512");
        let (other_kex, other_host_keys) =
            ("ecdh-sha2-nistp256,curve25519-sha256", "rsa-sha2-512,ssh-ed25519");
        let table = [
            (lists(kex, host_keys, true), lists(kex, host_keys, false), false),
            (lists(kex, host_keys, true), lists(other_kex, host_keys, false), true),
            (lists(kex, host_keys, true), lists(kex, other_host_keys, false), true),
            (lists(kex, host_keys, false), lists(other_kex, host_keys, true), true),
            (lists(kex, host_keys, false), lists(other_kex, other_host_keys, false), false),
        ];
        for (client, server, ignore) in table {
            assert_eq!(negotiate(&client, &server).unwrap().ignore_next_kex_packet, ignore);
        }
    }

    #[test]
    fn strict_and_ext_info_count_in_the_spelling_of_the_role_only() {
        let offers = |kex: &str| simple(&format!("curve25519-sha256,{kex}"), "ssh-ed25519");
        let table = [
            (
                "kex-strict-c-v00@openssh.com,ext-info-c",
                "kex-strict-s-v00@openssh.com,ext-info-s",
                (true, true),
            ),
            ("kex-strict-c-v00@openssh.com", "kex-strict-c-v00@openssh.com,ext-info-c", (false, false)),
            ("kex-strict-s-v00@openssh.com,ext-info-s", "kex-strict-s-v00@openssh.com", (false, false)),
            ("ext-info-c", "kex-strict-s-v00@openssh.com", (false, true)),
        ];
        for (client, server, expected) in table {
            let negotiated = negotiate(&offers(client), &offers(server)).unwrap();
            let found = (negotiated.strict, negotiated.client_ext_info);
            assert_eq!(found, expected, "{client} with {server}");
        }
    }

    #[test]
    fn our_own_offers_agree_on_the_best_of_each_kind() {
        let own = |role| {
            KexInit::new(role, &Preferences::default(), [1; 16], Extras { ext_info: true, strict: true })
        };
        let negotiated = negotiate(&own(Role::Client), &own(Role::Server)).unwrap();
        let aead = Protection { cipher: Cipher::Aes128Gcm, mac: None };
        let expected = Negotiated {
            kex: if fips::BUILD { Kex::EcdhP256 } else { Kex::MlKem768X25519 },
            host_key: HostKeyAlgorithm::Ed25519Cert,
            client_to_server: aead,
            server_to_client: aead,
            strict: true,
            client_ext_info: true,
            ignore_next_kex_packet: false,
        };
        assert_eq!(negotiated, expected);
    }

    /// What an old peer and a modern one offer, on either side.
    #[test]
    fn nothing_legacy_is_agreed_on_unless_both_sides_offer_it() {
        let own = |role, preferences: &Preferences| {
            KexInit::new(role, preferences, [1; 16], Extras { ext_info: true, strict: true })
        };
        let (modern, legacy) = (Preferences::default(), Preferences::legacy());
        let ctr = vec![Cipher::Aes128Ctr];
        let old = [
            ("key exchange method", Preferences { kex: Kex::LEGACY.to_vec(), ..modern.clone() }),
            (
                "host key algorithm",
                Preferences { host_keys: vec![HostKeyAlgorithm::SshRsa], ..modern.clone() },
            ),
            (
                "cipher from client to server",
                Preferences { ciphers: Cipher::LEGACY.to_vec(), ..modern.clone() },
            ),
            (
                "MAC from client to server",
                Preferences { ciphers: ctr, macs: Mac::LEGACY.to_vec(), ..modern.clone() },
            ),
        ];
        for (what, old) in &old {
            let as_client = negotiate(&own(Role::Client, &modern), &own(Role::Server, old)).unwrap_err();
            assert_eq!((as_client.what, as_client.legacy), (*what, !fips::BUILD));
            let as_server = negotiate(&own(Role::Client, old), &own(Role::Server, &modern)).unwrap_err();
            assert_eq!((as_server.what, as_server.legacy), (*what, false), "the server has nothing old");
            let agreed = negotiate(&own(Role::Client, &legacy), &own(Role::Server, old)).ok();
            let legacy_names = agreed.map(|agreed| agreed.legacy_names().len());
            assert_eq!(legacy_names, (!fips::BUILD).then_some(1), "{what}: {agreed:?}");
        }
        let agreed = negotiate(&own(Role::Client, &legacy), &own(Role::Server, &legacy)).unwrap();
        assert_eq!(agreed, negotiate(&own(Role::Client, &modern), &own(Role::Server, &modern)).unwrap());
        assert_eq!(agreed.legacy_names(), [""; 0]);
    }

    #[test]
    fn names_are_those_of_both_directions_each_once() {
        let lists = ["diffie-hellman-group1-sha1", "ssh-rsa"];
        let offer = offer([lists[0], lists[1], "aes128-cbc", GCM, "hmac-sha1", "hmac-sha2-256"], false);
        let negotiated = negotiate(&offer, &offer).unwrap();
        let names = ["diffie-hellman-group1-sha1", "ssh-rsa", "aes128-cbc", "hmac-sha1", GCM];
        assert_eq!(negotiated.names(), names);
        assert_eq!(negotiated.legacy_names(), names[..4]);
        let both = Negotiated { server_to_client: negotiated.client_to_server, ..negotiated };
        assert_eq!(both.names(), names[..4]);
    }
}
