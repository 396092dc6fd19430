//! What a user certificate says; holds no key and signs nothing.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::id::SessionId;
use crate::identity::Identity;
use crate::infrastructure::{AccessGrant, SshPermissions};

/// How long before and after the moment of issue a certificate is valid: three minutes in all,
/// enough for clocks that differ by a minute and a slow log-in.
pub const HALF_VALIDITY: Duration = Duration::from_secs(90);

/// The contents of a user certificate (OpenSSH's PROTOCOL.certkeys) for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSpec {
    /// The principals: the login, alone.
    pub principals: Vec<String>,
    /// Session id and identity, for the target's own log.
    pub key_id: String,
    /// Start of validity, seconds since 1970.
    pub valid_after: u64,
    /// End of validity, seconds since 1970.
    pub valid_before: u64,
    /// The address the gateway dials from (`source-address`).
    pub source_address: IpAddr,
    /// Extension names, sorted.
    pub extensions: Vec<&'static str>,
}

impl CertificateSpec {
    /// The certificate that carries out `grant`: valid three minutes around `now`.
    pub fn for_grant(
        grant: &AccessGrant,
        session: SessionId,
        identity: &Identity,
        dialled_from: IpAddr,
        now: SystemTime,
    ) -> Self {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            principals: vec![grant.login().as_str().to_owned()],
            key_id: format!("{session} {}", identity.email),
            valid_after: now.saturating_sub(HALF_VALIDITY).as_secs(),
            valid_before: now.saturating_add(HALF_VALIDITY).as_secs(),
            source_address: dialled_from.to_canonical(),
            extensions: extensions(grant.permissions()),
        }
    }
}

/// The extensions of PROTOCOL.certkeys that grant these permissions, in the byte order that the
/// format demands.
fn extensions(permissions: SshPermissions) -> Vec<&'static str> {
    [
        (permissions.x11_forwarding, "permit-X11-forwarding"),
        (permissions.agent_forwarding, "permit-agent-forwarding"),
        (permissions.port_forwarding, "permit-port-forwarding"),
        (permissions.pty, "permit-pty"),
        (permissions.user_rc, "permit-user-rc"),
    ]
    .into_iter()
    .filter_map(|(granted, name)| granted.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infrastructure::fixture;

    #[test]
    fn a_certificate_lives_three_minutes_around_now() {
        let alice = fixture::identity("alice@example.com");
        let grant = fixture::grant(&alice, "root");
        let session = SessionId::from_random_bytes([7; 16]);
        let now = UNIX_EPOCH + Duration::from_millis(1_700_000_000_400);
        let from = "::ffff:192.0.2.1".parse().unwrap();
        let spec = CertificateSpec::for_grant(&grant, session, &alice, from, now);
        assert_eq!(
            spec,
            CertificateSpec {
                principals: vec!["root".to_owned()],
                key_id: format!("{session} alice@example.com"),
                valid_after: 1_700_000_000 - 90,
                valid_before: 1_700_000_000 + 90,
                source_address: "192.0.2.1".parse().unwrap(),
                extensions: vec![
                    "permit-X11-forwarding",
                    "permit-agent-forwarding",
                    "permit-port-forwarding",
                    "permit-pty",
                    "permit-user-rc",
                ],
            }
        );
        assert_eq!(spec.valid_before - spec.valid_after, 180);
    }

    #[test]
    fn what_is_not_permitted_is_no_extension() {
        let permissions =
            SshPermissions { port_forwarding: false, x11_forwarding: false, ..SshPermissions::ALL };
        assert_eq!(extensions(permissions), ["permit-agent-forwarding", "permit-pty", "permit-user-rc"]);
        assert!(extensions(SshPermissions::NONE).is_empty());
        assert!(extensions(SshPermissions::ALL).is_sorted());
    }

    #[test]
    fn a_clock_at_the_epoch_does_not_wrap() {
        let alice = fixture::identity("alice@example.com");
        let grant = fixture::grant(&alice, "root");
        let session = SessionId::from_random_bytes([0; 16]);
        let spec = CertificateSpec::for_grant(
            &grant,
            session,
            &alice,
            [192, 0, 2, 1].into(),
            UNIX_EPOCH - Duration::from_secs(5),
        );
        assert_eq!((spec.valid_after, spec.valid_before), (0, 90));
    }
}
