//! What is offered to users and to targets. Pure.
//!
//! Towards targets our order decides (RFC 4253 section 7.1), towards users theirs does, so the choice
//! there is made by offering less: where the client has AES-GCM and this machine has instructions for
//! it, nothing else is offered, as ChaCha20-Poly1305 costs five times as much.

use portreeve_ssh::cipher::Cipher;
use portreeve_ssh::negotiation::{Direction, HostKeyAlgorithm, KexInit, Preferences};
use ssh_key::Algorithm;

const AES_GCM: [Cipher; 2] = [Cipher::Aes128Gcm, Cipher::Aes256Gcm];

/// What targets are asked for; `pinned` are the algorithms of the host keys that are known already, best
/// first: a target that lacks the first of them can show another. With `legacy` old algorithms follow the
/// others.
pub(super) fn towards_targets(pinned: &[Algorithm], legacy: bool) -> Preferences {
    let mut preferences = if legacy { Preferences::legacy() } else { Preferences::default() };
    preferences.ciphers = by_cost(preferences.ciphers, has_aes());
    // Stable: nothing else moves, so that the same target always shows the same key. Among those for a
    // pinned RSA key SHA-1 stays last.
    let place = |algorithm| pinned.iter().position(|pinned| is_for(algorithm, pinned));
    preferences.host_keys.sort_by_key(|algorithm| place(*algorithm).unwrap_or(pinned.len()));
    preferences
}

/// What users are offered who have not said what they have: host keys of the two kinds that are derived,
/// each `with_certificates` before the plain key.
pub(super) fn towards_users(with_certificates: bool) -> Preferences {
    use HostKeyAlgorithm::{EcdsaP256, EcdsaP256Cert, Ed25519, Ed25519Cert};
    let preferences = Preferences::default();
    let mut host_keys = vec![Ed25519Cert, Ed25519, EcdsaP256Cert, EcdsaP256];
    host_keys.retain(|algorithm| with_certificates || !algorithm.is_certificate());
    Preferences { ciphers: by_cost(preferences.ciphers, has_aes()), host_keys, ..preferences }
}

/// The cheapest ciphers that the client has in both directions, if some are much cheaper than others;
/// which of them is up to the client.
pub(super) fn narrowed(asked: &KexInit) -> Option<Vec<Cipher>> {
    narrowed_with(has_aes(), asked)
}

fn narrowed_with(has_aes: bool, asked: &KexInit) -> Option<Vec<Cipher>> {
    let cheap: &[Cipher] = if has_aes { &AES_GCM } else { &[Cipher::ChaCha20Poly1305] };
    let ours = Preferences::default().ciphers;
    let shared = |cipher: &Cipher| {
        [Direction::ClientToServer, Direction::ServerToClient]
            .into_iter()
            .all(|direction| ours.contains(cipher) && asked.offers_cipher(direction, *cipher))
    };
    let shared: Vec<Cipher> = cheap.iter().copied().filter(shared).collect();
    (!shared.is_empty()).then_some(shared)
}

fn by_cost(mut ciphers: Vec<Cipher>, has_aes: bool) -> Vec<Cipher> {
    if !has_aes {
        ciphers.sort_by_key(|cipher| *cipher != Cipher::ChaCha20Poly1305);
    }
    ciphers
}

/// Whether a host key of type `key` can be shown as `algorithm`; a stored RSA key names no hash.
fn is_for(algorithm: HostKeyAlgorithm, key: &Algorithm) -> bool {
    let name = if matches!(key, Algorithm::Rsa { .. }) { "ssh-rsa" } else { key.as_str() };
    let certified = algorithm.key_type().strip_suffix("-cert-v01@openssh.com");
    certified.unwrap_or(algorithm.key_type()) == name
}

fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    let has = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

#[cfg(test)]
mod tests {
    use portreeve_ssh::fips;
    use portreeve_ssh::negotiation::{Extras, Role};
    use ssh_key::{EcdsaCurve, HashAlg};

    use super::*;

    fn names(pinned: &[Algorithm]) -> Vec<&'static str> {
        towards_targets(pinned, false).host_keys.into_iter().map(HostKeyAlgorithm::name).collect()
    }

    #[test]
    fn the_pinned_algorithms_are_asked_for_first_and_nothing_is_lost() {
        let all = names(&[]);
        let rsa_names = [
            "rsa-sha2-512-cert-v01@openssh.com",
            "rsa-sha2-256-cert-v01@openssh.com",
            "rsa-sha2-512",
            "rsa-sha2-256",
        ];
        assert_eq!(all[..2], ["ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519"]);
        for hash in [None, Some(HashAlg::Sha256)] {
            let rsa = names(&[Algorithm::Rsa { hash }]);
            assert_eq!(rsa[..4], rsa_names);
            assert_eq!(rsa[4..6], all[..2]);
        }
        let p384 = names(&[Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 }]);
        assert_eq!(p384[1], "ecdsa-sha2-nistp384");
        assert_eq!(p384.len(), all.len());
        assert_eq!(names(&[Algorithm::Dsa]), all);
        let p256 = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
        let several = names(&[p256, Algorithm::Rsa { hash: None }, Algorithm::Ed25519]);
        assert_eq!(several[1], "ecdsa-sha2-nistp256");
        assert_eq!(several[2..6], rsa_names);
        assert_eq!(several[6..8], all[..2]);
        assert_eq!(several.len(), all.len());
    }

    fn asked(ciphers: &[Cipher]) -> KexInit {
        let preferences = Preferences { ciphers: ciphers.to_vec(), ..Preferences::default() };
        KexInit::new(Role::Client, &preferences, [0; 16], Extras { ext_info: false, strict: false })
    }

    #[test]
    fn only_what_is_cheap_here_is_offered_where_the_client_has_it() {
        use Cipher::{Aes128Ctr, Aes128Gcm, Aes256Gcm, ChaCha20Poly1305};
        let table = [
            (true, &[ChaCha20Poly1305, Aes128Ctr, Aes256Gcm, Aes128Gcm][..], Some(AES_GCM.to_vec())),
            (true, &[ChaCha20Poly1305, Aes256Gcm], Some(vec![Aes256Gcm])),
            (true, &[ChaCha20Poly1305, Aes128Ctr], None),
            (false, &[Aes128Gcm, ChaCha20Poly1305], (!fips::BUILD).then(|| vec![ChaCha20Poly1305])),
            (false, &[Aes128Gcm, Aes128Ctr], None),
        ];
        for (has_aes, ciphers, expected) in table {
            assert_eq!(narrowed_with(has_aes, &asked(ciphers)), expected, "{has_aes} {ciphers:?}");
        }
    }

    #[test]
    fn the_order_of_cost_loses_nothing() {
        let ordered = |has_aes| by_cost(Cipher::ALL.to_vec(), has_aes);
        assert_eq!(ordered(true)[..2], AES_GCM);
        assert_eq!(ordered(false)[0], Cipher::ChaCha20Poly1305);
        assert_eq!(ordered(false).len(), Cipher::ALL.len());
    }

    #[test]
    fn a_fips_build_offers_what_is_approved_whoever_asks_and_whatever_it_costs() {
        let approved = Preferences::approved();
        for offered in [towards_users(true), towards_targets(&[], false), towards_targets(&[], true)] {
            let host_keys = offered.host_keys.clone();
            let others = Preferences { host_keys: approved.host_keys.clone(), ..offered };
            assert_eq!(others == approved, fips::BUILD, "{others:?}");
            let outside = host_keys.iter().any(|algorithm| !approved.host_keys.contains(algorithm));
            assert!(!(fips::BUILD && outside), "{host_keys:?}");
        }
        for has_aes in [true, false] {
            let narrowed = narrowed_with(has_aes, &asked(&Cipher::ALL)).unwrap_or_default();
            let outside = narrowed.iter().any(|cipher| !approved.ciphers.contains(cipher));
            assert_eq!(outside, !has_aes && !fips::BUILD, "{narrowed:?}");
        }
    }

    #[test]
    fn legacy_algorithms_follow_the_others_and_no_user_is_offered_them() {
        let (modern, legacy) = (towards_targets(&[], false), towards_targets(&[], true));
        assert!(modern.ciphers.iter().chain(&towards_users(true).ciphers).all(|cipher| !cipher.is_legacy()));
        assert!(legacy.kex.starts_with(&modern.kex) && legacy.macs.starts_with(&modern.macs));
        assert!(legacy.host_keys.starts_with(&modern.host_keys));
        assert!(legacy.ciphers.starts_with(&modern.ciphers));
        let opened = !fips::BUILD;
        assert_eq!(legacy.kex.len() > modern.kex.len(), opened);
        assert_eq!(legacy.host_keys.last() == Some(&HostKeyAlgorithm::SshRsa), opened);
        assert_eq!(legacy.ciphers.ends_with(&Cipher::LEGACY), opened);
        assert_eq!(legacy.macs.len() > modern.macs.len(), opened);
    }

    #[test]
    fn users_are_offered_host_keys_of_the_kinds_that_are_derived() {
        use HostKeyAlgorithm::{EcdsaP256, EcdsaP256Cert, Ed25519, Ed25519Cert};
        for (with_certificates, host_keys) in
            [(false, vec![Ed25519, EcdsaP256]), (true, vec![Ed25519Cert, Ed25519, EcdsaP256Cert, EcdsaP256])]
        {
            let offered = towards_users(with_certificates);
            let expected =
                Preferences { ciphers: offered.ciphers.clone(), host_keys, ..Preferences::default() };
            assert_eq!(offered, expected);
        }
    }

    #[test]
    fn a_pinned_rsa_key_is_asked_for_with_sha1_only_after_its_other_signatures() {
        let rsa = towards_targets(&[Algorithm::Rsa { hash: None }], true).host_keys;
        assert_eq!(rsa[4] == HostKeyAlgorithm::SshRsa, !fips::BUILD);
        assert!(rsa[..4].iter().all(|algorithm| algorithm.name().starts_with("rsa-sha2-")), "{rsa:?}");
    }
}
