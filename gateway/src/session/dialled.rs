//! Both SSH handshakes of a connection, up to the login that the user asks for.
//!
//! Owns their order: what runs at once, and what waits for the target's host key. Does not judge that key
//! ([`super::target`]) and decides nothing about the login ([`super::steps`]).

use std::time::Duration;

use portreeve_core::host_certificate::{HostCertificateSpec, HostCertificates};
use portreeve_ssh::text::TerminalText;
use ssh_key::HashAlg;

use super::outcome::{Ending, SessionOutcome};
use super::refusal::Refusal;
use super::steps::{Asked, KnownUser};
use super::target::{DialledTarget, ShownTarget};
use crate::known_hosts::HostKeyVerdict;
use crate::metrics::ConnectionOutcome as Outcome;
use crate::recording::Reservation;
use crate::ssh::byte_stream::ByteStream;
use crate::ssh::downstream::{self, Greeted, LoginAttempt};
use crate::ssh::shown_keys::ShownKeys;
use crate::telemetry::with_causes;

/// A known user, a reserved recording, and a target that has said what it is.
pub(super) struct Dialled<'g> {
    pub(super) user: KnownUser<'g>,
    pub(super) reservation: Reservation,
    pub(super) target: DialledTarget,
    /// What a host certificate would say.
    pub(super) vouching: HostCertificateSpec,
}

impl<'g> Dialled<'g> {
    /// The target's handshake and the user's, under the derived host keys, up to the login that is asked
    /// for. They run at once; the user's waits for the target's host key when it is about to show one.
    pub(super) async fn ask_login(
        self,
        stream: ByteStream,
        outcome: &mut SessionOutcome,
    ) -> Result<(LoginAttempt, Asked<'g>), Ending> {
        let Self { user, reservation, target, vouching } = self;
        let (target, greeted) = meet(&user, target, stream, outcome).await?;
        if target.has_changed() {
            user.gateway.metrics.host_key_changes.inc();
            tracing::error!(
                "the target's host key is none of the pinned ones; see `portreeve host-keys --help`"
            );
        }
        let (keys, certificates) = match keys_to_show(&user, &target, &vouching) {
            Ok(ready) => ready,
            Err(refusal) => return refuse(greeted, refusal).await,
        };
        // Under a changed key most clients break off here, with their own warning.
        let failed = if target.has_changed() { Outcome::HostKeyChanged } else { Outcome::ClientFailed };
        let limit = handshake_left(&user, outcome);
        let asked = greeted.ask_login(keys, certificates.as_ref(), limit).await;
        let attempt = asked.map_err(|error| Ending::new(failed, with_causes(&error)))?;
        outcome.facts().login = Some(TerminalText::new(attempt.login_text()).to_string());
        match attempt.login().cloned() {
            Some(login) => Ok((attempt, Asked { user, reservation, target, login })),
            None => {
                let refusal = Refusal::new(Outcome::Denied, "this login cannot be a unix account");
                attempt.refuse(refusal.text.as_str()).await;
                Err(refusal.ending)
            }
        }
    }
}

/// The target's key exchange, and the proposals of the user's.
async fn meet(
    user: &KnownUser<'_>,
    target: DialledTarget,
    stream: ByteStream,
    outcome: &mut SessionOutcome,
) -> Result<(ShownTarget, Greeted), Ending> {
    let gateway = user.gateway;
    let identification = target.identification().to_vec();
    let limit = handshake_left(user, outcome);
    let greet = |certificates| downstream::greet(stream, &identification, certificates, limit);
    let showing = target.show(gateway, user.flow);
    let (shown, greeted) = if gateway.host_signer.is_none() {
        tokio::join!(showing, greet(false))
    } else {
        // No certificate may be proposed for a changed key, so that is known first.
        let shown = showing.await;
        let certificates = shown.as_ref().is_ok_and(|target| !target.has_changed());
        (shown, greet(certificates).await)
    };
    if let Ok(target) = &shown {
        note_host_key(outcome, target);
    }
    let greeted = greeted.map_err(|error| Ending::new(Outcome::ClientFailed, with_causes(&error)))?;
    match shown {
        Ok(target) => Ok((target, greeted)),
        Err(refusal) => refuse(greeted, refusal).await,
    }
}

/// What the user is shown in the place of the target.
fn keys_to_show(
    user: &KnownUser<'_>,
    target: &ShownTarget,
    vouching: &HostCertificateSpec,
) -> Result<(ShownKeys, Option<HostCertificates>), Refusal> {
    let keys = target.shown_keys(user.gateway)?;
    let certificates = target.certificates(user.gateway, &keys, vouching)?;
    Ok((keys, certificates))
}

fn note_host_key(outcome: &mut SessionOutcome, target: &ShownTarget) {
    let facts = outcome.facts();
    facts.legacy_algorithms = target.upstream.legacy_algorithms();
    facts.host_key = Some(target.upstream.host_key().fingerprint(HashAlg::Sha256).to_string());
    facts.host_key_verdict = Some(match target.host_key {
        HostKeyVerdict::FirstSight => "first-sight",
        HostKeyVerdict::Known { .. } => "known",
        HostKeyVerdict::Changed { .. } => "changed",
    });
}

/// How long the user's handshake may still take.
fn handshake_left(user: &KnownUser<'_>, outcome: &SessionOutcome) -> Duration {
    user.gateway.config.limits.handshake_timeout.saturating_sub(outcome.elapsed())
}

async fn refuse<T>(greeted: Greeted, refusal: Refusal) -> Result<T, Ending> {
    greeted.refuse(refusal.text.as_str()).await;
    Err(refusal.ending)
}
