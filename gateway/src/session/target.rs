//! The target's side of a session up to its log-in.

use std::net::SocketAddr;
use std::time::SystemTime;

use portreeve_core::certificate::CertificateSpec;
use portreeve_core::host_certificate::{HostCertificateSpec, HostCertificates};
use portreeve_core::host_key::{self, DerivedHostKeys};
use portreeve_core::infrastructure::AccessGrant;
use portreeve_core::net::FlowTuple;
use tokio::net::TcpStream;

use super::Gateway;
use super::outcome::SessionOutcome;
use super::refusal::{Refusal, internal, login_refused, unreachable};
use super::steps::KnownUser;
use crate::known_hosts::HostKeyVerdict;
use crate::metrics::ConnectionOutcome as Outcome;
use crate::ssh::upstream::{self, Upstream, UpstreamSession};

/// A target that has shown its host key; nobody is logged in.
pub(super) struct ShownTarget {
    pub(super) upstream: Upstream,
    dialled_from: SocketAddr,
    pub(super) host_key: HostKeyVerdict,
}

impl ShownTarget {
    /// Connects, exchanges keys, and compares the host key with what is known; sends no user name.
    /// With `legacy` the target is offered old algorithms too.
    pub(super) async fn dial(gateway: &Gateway, flow: FlowTuple, legacy: bool) -> Result<Self, Refusal> {
        const UNREADABLE: &str = "the gateway cannot read its record of the target's host key";
        let (stream, dialled_from) = dial_tcp(gateway, flow).await?;
        let known_hosts = &gateway.known_hosts;
        let preferred = known_hosts
            .preferred_algorithm(flow.original_dst)
            .map_err(|error| internal(&error, UNREADABLE))?;
        let limit = gateway.config.upstream.handshake_timeout;
        let upstream = upstream::connect(stream, preferred.as_ref(), legacy, limit)
            .await
            .map_err(|error| unreachable(flow, &error))?;
        let host_key = known_hosts
            .check(flow.original_dst, upstream.host_key())
            .map_err(|error| internal(&error, UNREADABLE))?;
        Ok(Self { upstream, dialled_from, host_key })
    }

    /// The host keys that stand for the target, and what `spec` says about them where certificates are
    /// switched on. None vouches for a changed key: the user is to see the change.
    pub(super) fn derived_host_keys(
        &self,
        gateway: &Gateway,
        spec: &HostCertificateSpec,
    ) -> Result<(DerivedHostKeys, Option<HostCertificates>), Refusal> {
        let keys = host_key::derive(&gateway.account_secret, self.upstream.host_key());
        let changed = matches!(self.host_key, HostKeyVerdict::Changed { .. });
        let signer = gateway.host_signer.as_ref().filter(|_| !changed);
        let certificates = signer
            .map(|signer| signer.issue(spec, &keys))
            .transpose()
            .map_err(|error| internal(&error, "the gateway cannot issue a host certificate"))?;
        Ok((keys, certificates))
    }

    /// A key that is not the pinned one: the user saw the derived key change; nobody logs in.
    pub(super) fn refuse_changed_host_key(&self) -> Result<(), Refusal> {
        match &self.host_key {
            HostKeyVerdict::FirstSight | HostKeyVerdict::Known => Ok(()),
            HostKeyVerdict::Changed { pinned } => Err(Refusal::with_text(
                Outcome::HostKeyChanged,
                "the host key of the target has changed; nobody is let in until the operator of this gateway \
                 has confirmed the new key",
                format!("the pinned host keys are {}", pinned.join(", ")),
            )),
        }
    }

    /// Logs in with a fresh certificate, and pins the host key on first sight.
    pub(super) async fn log_in(
        self,
        user: &KnownUser<'_>,
        grant: &AccessGrant,
        outcome: &mut SessionOutcome,
    ) -> Result<UpstreamSession, Refusal> {
        let gateway = user.gateway;
        let now = SystemTime::now();
        let spec = CertificateSpec::for_grant(grant, user.id, &user.identity, self.dialled_from.ip(), now);
        let credential = gateway
            .signer
            .issue(&spec)
            .map_err(|error| internal(&error, "the gateway cannot issue a certificate"))?;
        outcome.facts().certificate_serial = Some(credential.certificate.serial());
        let host_key = self.upstream.host_key().clone();
        let limit = gateway.config.upstream.handshake_timeout;
        let upstream = self
            .upstream
            .log_in(grant.login(), credential.key, credential.certificate, limit)
            .await
            .map_err(|error| login_refused(user.flow, &error))?;
        if self.host_key == HostKeyVerdict::FirstSight {
            gateway
                .known_hosts
                .pin(user.flow.original_dst, &host_key)
                .map_err(|error| internal(&error, "the gateway cannot pin the target's host key"))?;
        }
        Ok(upstream)
    }
}

async fn dial_tcp(gateway: &Gateway, flow: FlowTuple) -> Result<(TcpStream, SocketAddr), Refusal> {
    let limit = gateway.config.upstream.connect_timeout;
    let dialled = async {
        let stream = TcpStream::connect(flow.original_dst.socket_addr()).await?;
        stream.set_nodelay(true)?;
        let from = stream.local_addr()?;
        std::io::Result::Ok((stream, from))
    };
    match tokio::time::timeout(limit, dialled).await {
        Ok(Ok(dialled)) => Ok(dialled),
        Ok(Err(error)) => Err(unreachable(flow, &error)),
        Err(_) => Err(Refusal::new(
            Outcome::TargetUnreachable,
            format!("the target {} does not answer (waited {} s)", flow.original_dst, limit.as_secs_f32()),
        )),
    }
}
