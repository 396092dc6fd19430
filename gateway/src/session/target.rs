//! The target's side of a session up to its log-in.

use std::net::SocketAddr;
use std::time::SystemTime;

use portreeve_core::certificate::CertificateSpec;
use portreeve_core::host_certificate::{HostCertificateSpec, HostCertificates};
use portreeve_core::infrastructure::AccessGrant;
use portreeve_core::net::{FlowTuple, OriginalDst};
use portreeve_core::target::Target;
use ssh_key::PublicKey;
use tokio::sync::oneshot;

use super::Gateway;
use super::dial::dial;
use super::outcome::SessionOutcome;
use super::refusal::{Refusal, internal, login_refused, unreachable};
use super::steps::KnownUser;
use crate::known_hosts::{HostKeyVerdict, KnownHosts, fingerprints};
use crate::metrics::ConnectionOutcome as Outcome;
use crate::ssh::shown_keys::ShownKeys;
use crate::ssh::upstream::{self, Identified, Upstream, UpstreamSession};
use crate::telemetry::with_causes;

/// A target that has said what it is; keys are being exchanged.
pub(super) struct DialledTarget {
    identified: Identified,
    dialled_from: SocketAddr,
}

/// A target that has shown its host key; nobody is logged in.
pub(super) struct ShownTarget {
    pub(super) upstream: Upstream,
    dialled_from: SocketAddr,
    pub(super) host_key: HostKeyVerdict,
}

/// A target whose host key is not a changed one.
pub(super) struct TrustedTarget {
    upstream: Upstream,
    dialled_from: SocketAddr,
    /// What is pinned; nothing at first sight.
    pinned: Vec<PublicKey>,
}

/// Host keys that a target may prove to own while its session runs.
pub(super) struct FurtherHostKeys {
    dst: OriginalDst,
    shown: PublicKey,
    proven: oneshot::Receiver<Vec<PublicKey>>,
}

const UNREADABLE: &str = "the gateway cannot read its record of the target's host key";

impl DialledTarget {
    /// Connects from where the target's entry says, and learns what the target says it is; where the entry
    /// says `legacy` it is offered old algorithms too.
    pub(super) async fn dial(gateway: &Gateway, flow: FlowTuple, target: &Target) -> Result<Self, Refusal> {
        let limit = gateway.config.upstream.connect_timeout;
        let (stream, dialled_from) = dial(flow, target.source_address, limit).await?;
        let preferred = gateway
            .known_hosts
            .preferred_algorithms(flow.original_dst)
            .map_err(|error| internal(&error, UNREADABLE))?;
        let limit = gateway.config.upstream.handshake_timeout;
        let identified = upstream::connect(stream, &preferred, target.legacy, limit)
            .await
            .map_err(|error| unreachable(flow, &error))?;
        Ok(Self { identified, dialled_from })
    }

    /// The address and port that the target sees.
    pub(super) const fn dialled_from(&self) -> SocketAddr {
        self.dialled_from
    }

    /// The target's identification line.
    pub(super) fn identification(&self) -> &[u8] {
        self.identified.identification()
    }

    /// Learns the target's host key and compares it with what is known; sends no user name.
    pub(super) async fn show(self, gateway: &Gateway, flow: FlowTuple) -> Result<ShownTarget, Refusal> {
        let limit = gateway.config.upstream.handshake_timeout;
        let upstream =
            self.identified.exchange_keys(limit).await.map_err(|error| unreachable(flow, &error))?;
        let host_key = gateway
            .known_hosts
            .check(flow.original_dst, upstream.host_key())
            .map_err(|error| internal(&error, UNREADABLE))?;
        Ok(ShownTarget { upstream, dialled_from: self.dialled_from, host_key })
    }
}

impl ShownTarget {
    /// Whether its host key is none of the pinned ones.
    pub(super) const fn has_changed(&self) -> bool {
        matches!(self.host_key, HostKeyVerdict::Changed { .. })
    }

    /// The host keys that stand for the target.
    pub(super) fn shown_keys(&self, gateway: &Gateway) -> Result<ShownKeys, Refusal> {
        let identity = self.host_key.identity(self.upstream.host_key());
        let keys = gateway.key_ring.keys_for(identity);
        keys.map_err(|error| internal(&error, "the gateway cannot derive a host key"))
    }

    /// What `spec` says about these keys, where certificates are switched on. None vouches for a changed
    /// key: the user is to see the change.
    pub(super) fn certificates(
        &self,
        gateway: &Gateway,
        keys: &ShownKeys,
        spec: &HostCertificateSpec,
    ) -> Result<Option<HostCertificates>, Refusal> {
        let signer = gateway.host_signer.as_ref().filter(|_| !self.has_changed());
        signer
            .map(|signer| signer.issue(spec, keys.derived()))
            .transpose()
            .map_err(|error| internal(&error, "the gateway cannot issue a host certificate"))
    }

    /// Goes on with a pinned key, or at first sight. A key that is none of the pinned ones is refused: the
    /// user saw the derived key change, and nobody logs in.
    pub(super) fn trust(self) -> Result<TrustedTarget, Refusal> {
        let pinned = match self.host_key {
            HostKeyVerdict::FirstSight => Vec::new(),
            HostKeyVerdict::Known { pinned } => pinned,
            HostKeyVerdict::Changed { pinned } => {
                return Err(Refusal::with_text(
                    Outcome::HostKeyChanged,
                    "the host key of the target has changed; nobody is let in until the operator of this \
                     gateway has confirmed the new key",
                    format!("the pinned host keys are {}", pinned.join(", ")),
                ));
            }
        };
        Ok(TrustedTarget { upstream: self.upstream, dialled_from: self.dialled_from, pinned })
    }
}

impl TrustedTarget {
    /// Logs in with a fresh certificate, and pins the host key on first sight; the target is to prove what
    /// others it has.
    pub(super) async fn log_in(
        self,
        user: &KnownUser<'_>,
        grant: &AccessGrant,
        outcome: &mut SessionOutcome,
    ) -> Result<(UpstreamSession, FurtherHostKeys), Refusal> {
        let gateway = user.gateway;
        let now = SystemTime::now();
        let spec = CertificateSpec::for_grant(grant, user.id, &user.identity, self.dialled_from.ip(), now);
        let credential = gateway
            .signer
            .issue(&spec)
            .map_err(|error| internal(&error, "the gateway cannot issue a certificate"))?;
        outcome.facts().certificate_serial = Some(credential.certificate.serial());
        let shown = self.upstream.host_key().clone();
        let limit = gateway.config.upstream.handshake_timeout;
        let mut upstream = self
            .upstream
            .log_in(grant.login(), credential.key, credential.certificate, limit)
            .await
            .map_err(|error| login_refused(user.flow, &error))?;
        let dst = user.flow.original_dst;
        let mut known = self.pinned;
        if known.is_empty() {
            gateway
                .known_hosts
                .pin(dst, &shown)
                .map_err(|error| internal(&error, "the gateway cannot pin the target's host key"))?;
            known.push(shown.clone());
        }
        let proven = upstream.learn_host_keys(known);
        Ok((upstream, FurtherHostKeys { dst, shown, proven }))
    }
}

impl FurtherHostKeys {
    /// Pins them when the target has proven them. An error costs no session: users are let in by the key
    /// that is pinned already.
    pub(super) async fn pin(self, known_hosts: &KnownHosts) {
        let Ok(proven) = self.proven.await else { return };
        match known_hosts.add(self.dst, &self.shown, proven) {
            Ok(new) if new.is_empty() => {}
            Ok(new) => tracing::info!(keys = ?fingerprints(&new), "the target has proven further host keys"),
            Err(error) => {
                tracing::error!(error = %with_causes(&error), "further host keys of the target cannot be pinned");
            }
        }
    }
}
