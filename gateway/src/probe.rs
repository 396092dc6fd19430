//! The gateway as an ordinary SSH client of one target: what does it show, and does it trust the CA?
//!
//! Built on russh, an SSH implementation that shares nothing with the gateway's own, so that a target is
//! seen through other eyes than those of a session. Owns one report; changes nothing at the target and
//! pins nothing. One connection for each type of host key, and one more for the log-in.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{getsockopt, sockopt};
use portreeve_core::certificate::CertificateSpec;
use portreeve_core::login::Login;
use russh::client::{self, AuthResult, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Disconnect, Names, Preferred, SshId, cipher};
use serde::Serialize;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::ca::{IssueError, Signer};

/// How long one connection may take to its end.
const LIMIT: Duration = Duration::from_secs(10);
/// Half of a certificate's validity.
const HALF_VALIDITY: Duration = Duration::from_secs(90);
/// Above this, keys that users press are slow to come back.
const FAR: Duration = Duration::from_millis(50);

/// What the smallest MTU of IPv6, 1280 bytes (RFC 8200 section 5), leaves beside its header, TCP's, and timestamps.
const LEAST_SEGMENT: u32 = 1280 - 40 - 20 - 12;

/// The types of host keys that are asked for, in the order of a session.
const HOST_KEYS: [Algorithm; 5] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
];

/// The order of ciphers of a session.
const CIPHERS: [cipher::Name; 6] = [
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_128_CTR,
    cipher::AES_192_CTR,
    cipher::AES_256_CTR,
];

/// Why there is no report.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// No TCP connection.
    #[error("{target} does not accept a TCP connection")]
    Connect {
        /// The target.
        target: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The target took too long.
    #[error("{target} did not answer in {} s", LIMIT.as_secs())]
    TimedOut {
        /// The target.
        target: SocketAddr,
    },
    /// No SSH connection with any type of host key.
    #[error("{target} takes the connection but completes no SSH handshake; is it an SSH server?")]
    Handshake {
        /// The target.
        target: SocketAddr,
        /// The last failure.
        source: russh::Error,
    },
    /// No certificate.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Address and port.
    pub target: String,
    /// What the target calls itself.
    pub identification: String,
    /// Round-trip time of the TCP handshake, in microseconds.
    pub round_trip_us: u64,
    /// Time of TCP and SSH handshake together, in microseconds.
    pub handshake_us: u64,
    /// The largest TCP segment on the way to the target, in bytes; absent where the kernel does not tell.
    pub segment: Option<u32>,
    /// Algorithms that the gateway and the target agree on.
    pub algorithms: Algorithms,
    /// The target's host keys, one of each type.
    pub host_keys: Vec<HostKey>,
    /// Whether the target let the login in by certificate; absent where none was asked about.
    pub ca_trusted: Option<bool>,
    /// What to do about it.
    pub advice: Vec<String>,
}

/// Names of the algorithms of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Algorithms {
    /// Key exchange.
    pub key_exchange: String,
    /// Cipher.
    pub cipher: String,
    /// MAC; absent where the cipher has its own.
    pub mac: Option<String>,
}

/// One host key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostKey {
    /// Its type.
    pub algorithm: String,
    /// `SHA256:...`.
    pub fingerprint: String,
}

/// Whom to log in, and what makes the certificate for it.
#[derive(Debug)]
pub struct LogIn<'a> {
    /// The login.
    pub login: &'a Login,
    /// The gateway's CA.
    pub signer: &'a Signer,
}

/// Connects to `target` and reports; logs in if `log_in` says whom.
///
/// # Errors
/// [`ProbeError`] when there is no SSH server to report on.
pub async fn probe(target: SocketAddr, log_in: Option<LogIn<'_>>) -> Result<Report, ProbeError> {
    let mut shown = Vec::new();
    let mut failure = None;
    for algorithm in HOST_KEYS {
        match Connection::open(target, &[algorithm]).await {
            Ok(connection) => shown.push(connection.close().await),
            Err(ProbeError::Handshake { source, .. }) => failure = Some(source),
            Err(error) => return Err(error),
        }
    }
    let Some(first) = shown.first().cloned() else {
        let source = failure.unwrap_or(russh::Error::Disconnect);
        return Err(ProbeError::Handshake { target, source });
    };
    let ca_trusted = match log_in {
        Some(log_in) => Some(Connection::open(target, &HOST_KEYS).await?.log_in(log_in).await?),
        None => None,
    };
    let mut report = Report {
        target: target.to_string(),
        identification: first.identification,
        round_trip_us: micros(first.round_trip),
        handshake_us: micros(first.handshake),
        segment: first.segment,
        algorithms: first.algorithms,
        host_keys: shown.into_iter().filter_map(|shown| shown.host_key).collect(),
        ca_trusted,
        advice: Vec::new(),
    };
    report.advice = advice(&report);
    Ok(report)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What one connection showed.
#[derive(Clone, Debug, Default)]
struct Shown {
    identification: String,
    algorithms: Algorithms,
    host_key: Option<HostKey>,
    segment: Option<u32>,
    round_trip: Duration,
    handshake: Duration,
}

/// Writes down what the library calls back about.
struct Notes(Arc<Mutex<Shown>>);

impl Notes {
    fn write(&self, note: impl FnOnce(&mut Shown)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl client::Handler for Notes {
    type Error = russh::Error;

    /// Accepts any key: nothing is entrusted to the target but a certificate for itself.
    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        if let PublicKeyOrCertificate::PublicKey { key, .. } = shown {
            let host_key = HostKey {
                algorithm: key.algorithm().to_string(),
                fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            };
            self.write(|notes| notes.host_key = Some(host_key));
        }
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _shared_secret: Option<&[u8]>,
        names: &Names,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let algorithms = Algorithms {
            key_exchange: names.kex.as_ref().to_owned(),
            cipher: names.cipher.as_ref().to_owned(),
            mac: (names.cipher.as_ref().ends_with("-ctr")).then(|| names.server_mac.as_ref().to_owned()),
        };
        let identification = String::from_utf8_lossy(session.remote_sshid());
        let identification: String = identification.chars().filter(|c| !c.is_control()).collect();
        self.write(|notes| (notes.algorithms, notes.identification) = (algorithms, identification));
        Ok(())
    }
}

struct Connection {
    target: SocketAddr,
    dialled_from: SocketAddr,
    handle: client::Handle<Notes>,
    notes: Arc<Mutex<Shown>>,
}

impl Connection {
    async fn open(target: SocketAddr, host_keys: &[Algorithm]) -> Result<Self, ProbeError> {
        timeout(LIMIT, Self::handshake(target, host_keys))
            .await
            .unwrap_or(Err(ProbeError::TimedOut { target }))
    }

    async fn handshake(target: SocketAddr, host_keys: &[Algorithm]) -> Result<Self, ProbeError> {
        let failed = |source| ProbeError::Connect { target, source };
        let started = Instant::now();
        let tcp = TcpStream::connect(target).await.map_err(failed)?;
        let round_trip = started.elapsed();
        tcp.set_nodelay(true).map_err(failed)?;
        let dialled_from = tcp.local_addr().map_err(failed)?;
        let segment = getsockopt(&tcp, sockopt::TcpMaxSeg).ok();
        let config = client::Config {
            client_id: SshId::Standard("SSH-2.0-portreeve_probe".into()),
            preferred: Preferred {
                key: host_keys.to_vec().into(),
                cipher: CIPHERS.as_slice().into(),
                ..Preferred::DEFAULT
            },
            ..client::Config::default()
        };
        let notes = Arc::new(Mutex::new(Shown { segment, round_trip, ..Shown::default() }));
        let handle = client::connect_stream(Arc::new(config), tcp, Notes(Arc::clone(&notes)))
            .await
            .map_err(|source| ProbeError::Handshake { target, source })?;
        Notes(Arc::clone(&notes)).write(|notes| notes.handshake = started.elapsed());
        Ok(Self { target, dialled_from, handle, notes })
    }

    /// Whether the target accepts a certificate for the login.
    async fn log_in(mut self, log_in: LogIn<'_>) -> Result<bool, ProbeError> {
        let credential = log_in.signer.issue(&self.certificate(log_in.login))?;
        let login = log_in.login.as_str();
        let trying =
            self.handle.authenticate_openssh_cert(login, Arc::new(credential.key), credential.certificate);
        let trusted = match timeout(LIMIT, trying).await {
            Ok(result) => matches!(result, Ok(AuthResult::Success)),
            Err(_) => return Err(ProbeError::TimedOut { target: self.target }),
        };
        self.close().await;
        Ok(trusted)
    }

    /// A certificate that may do nothing but log in.
    fn certificate(&self, login: &Login) -> CertificateSpec {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        CertificateSpec {
            principals: vec![login.as_str().to_owned()],
            key_id: "portreeve probe".to_owned(),
            valid_after: now.saturating_sub(HALF_VALIDITY).as_secs(),
            valid_before: now.saturating_add(HALF_VALIDITY).as_secs(),
            source_address: self.dialled_from.ip().to_canonical(),
            extensions: Vec::new(),
        }
    }

    async fn close(self) -> Shown {
        // An error means that the target has left first.
        self.handle.disconnect(Disconnect::ByApplication, "", "").await.ok();
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One sentence for each finding that somebody should act on.
fn advice(report: &Report) -> Vec<String> {
    let mut advice = Vec::new();
    match report.ca_trusted {
        Some(true) => {}
        Some(false) => advice.push(
            "The target does not accept the gateway's certificate: put the output of `portreeve ca public-key` \
             into a file, name it by TrustedUserCAKeys in sshd_config, reload sshd, and check that the login \
             exists and is allowed to log in."
                .to_owned(),
        ),
        None => advice.push("Whether the CA is trusted was not tried: name a login with --login.".to_owned()),
    }
    if report.host_keys.iter().all(|key| key.algorithm.contains("rsa")) {
        advice.push(
            "The target has only an RSA host key: make one with `ssh-keygen -A`, before users have pinned it."
                .to_owned(),
        );
    }
    if !report.algorithms.cipher.contains("gcm") {
        advice.push(format!(
            "The target has no AES-GCM; {} costs the gateway several times the CPU.",
            report.algorithms.cipher
        ));
    }
    if !report.algorithms.key_exchange.contains("mlkem") {
        advice.push(format!(
            "The key exchange {} does not resist quantum computers: OpenSSH 9.9 and later has mlkem768x25519-sha256.",
            report.algorithms.key_exchange
        ));
    }
    if let Some(segment) = report.segment.filter(|segment| *segment < LEAST_SEGMENT) {
        advice.push(format!(
            "The way to the target takes {segment} bytes in a segment, fewer than any IPv6 network must: raise the MTU on it."
        ));
    }
    if u128::from(report.round_trip_us) > FAR.as_micros() {
        advice.push(
            "The target is far from the gateway: users feel each round trip when they type.".to_owned(),
        );
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        Report {
            target: "192.0.2.1:22".into(),
            identification: "SSH-2.0-test".into(),
            round_trip_us: 300,
            handshake_us: 9000,
            segment: Some(1448),
            algorithms: Algorithms {
                key_exchange: "mlkem768x25519-sha256".into(),
                cipher: "aes128-gcm@openssh.com".into(),
                mac: None,
            },
            host_keys: vec![HostKey { algorithm: "ssh-ed25519".into(), fingerprint: "SHA256:x".into() }],
            ca_trusted: Some(true),
            advice: Vec::new(),
        }
    }

    #[test]
    fn nothing_is_advised_where_nothing_is_wrong() {
        assert_eq!(advice(&good()), [""; 0]);
    }

    #[test]
    fn each_finding_has_its_advice() {
        type Change = fn(&mut Report);
        let table: [(Change, &str); 7] = [
            (|report| report.ca_trusted = Some(false), "TrustedUserCAKeys"),
            (|report| report.ca_trusted = None, "--login"),
            (|report| report.host_keys[0].algorithm = "ssh-rsa".into(), "ssh-keygen"),
            (|report| report.algorithms.cipher = "aes128-ctr".into(), "aes128-ctr"),
            (|report| report.algorithms.key_exchange = "curve25519-sha256".into(), "quantum"),
            (|report| report.segment = Some(1180), "1180 bytes"),
            (|report| report.round_trip_us = 60_000, "far"),
        ];
        for (change, word) in table {
            let mut report = good();
            change(&mut report);
            let advice = advice(&report);
            assert!(advice.len() == 1 && advice[0].contains(word), "{word}: {advice:?}");
        }
    }
}
