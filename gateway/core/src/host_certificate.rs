//! What a host certificate says, which vouches for derived host keys; holds no key and signs nothing.
//!
//! For users whose `known_hosts` has a `@cert-authority` line. OpenSSH compares the principals with the
//! name that the user typed, or with its `HostKeyAlias`, in lower case and without a port (its
//! sshconnect.c), so they are the target's hostname and the address that the connection went to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ssh_key::Certificate;

use crate::id::SessionId;
use crate::net::OriginalDst;
use crate::target::Hostname;

/// How long before its issue a certificate is valid already, for users' clocks that are slow.
const BEFORE: Duration = Duration::from_secs(5 * 60);

/// How long after its issue a certificate is valid, for users' clocks that are fast and for users who
/// take their time over the host key. A session lives on: a client looks at the validity once.
const AFTER: Duration = Duration::from_secs(60 * 60);

/// The contents of the host certificates (OpenSSH's PROTOCOL.certkeys) of one connection: no critical
/// options, no extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCertificateSpec {
    /// Names of the host; never empty, as that would stand for every host.
    pub principals: Vec<String>,
    /// Session id, hostname, address and port: `ssh -v` shows it.
    pub key_id: String,
    /// Start of validity, seconds since 1970.
    pub valid_after: u64,
    /// End of validity, seconds since 1970.
    pub valid_before: u64,
}

/// Certificates for both keys of [`crate::host_key::DerivedHostKeys`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCertificates {
    /// For the Ed25519 key.
    pub ed25519: Certificate,
    /// For the P-256 key.
    pub p256: Certificate,
}

impl HostCertificateSpec {
    /// The certificates that `session` shows for the target `hostname` at `dst`: valid from five minutes
    /// before `now` to one hour after.
    pub fn for_target(hostname: &Hostname, dst: OriginalDst, session: SessionId, now: SystemTime) -> Self {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            principals: vec![hostname.as_str().to_owned(), dst.ip().to_string()],
            key_id: format!("{session} {hostname} {dst}"),
            valid_after: now.saturating_sub(BEFORE).as_secs(),
            valid_before: now.saturating_add(AFTER).as_secs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(hostname: &str, dst: &str, now: SystemTime) -> HostCertificateSpec {
        let dst = OriginalDst::new(dst.parse().unwrap());
        let session = SessionId::from_random_bytes([7; 16]);
        HostCertificateSpec::for_target(&Hostname::new(hostname).unwrap(), dst, session, now)
    }

    #[test]
    fn a_host_certificate_names_the_target_as_users_type_it() {
        let now = UNIX_EPOCH + Duration::from_millis(1_700_000_000_900);
        let expected = HostCertificateSpec {
            principals: vec!["db1.example".to_owned(), "10.1.2.3".to_owned()],
            key_id: "07070707-0707-4707-8707-070707070707 db1.example 10.1.2.3:2222".to_owned(),
            valid_after: 1_700_000_000 - 300,
            valid_before: 1_700_000_000 + 3600,
        };
        assert_eq!(spec("DB1.example", "10.1.2.3:2222", now), expected);
        let v6 = spec("db1", "[2001:DB8:0::3]:22", now);
        assert_eq!(v6.principals, ["db1", "2001:db8::3"]);
        assert_eq!(spec("db1", "[::ffff:10.1.2.3]:22", now).principals, ["db1", "10.1.2.3"]);
    }

    #[test]
    fn a_clock_at_the_epoch_does_not_wrap() {
        let spec = spec("db1", "10.1.2.3:22", UNIX_EPOCH - Duration::from_secs(5));
        assert_eq!((spec.valid_after, spec.valid_before), (0, 3600));
    }
}
