//! The orderly end: live sessions are told, recordings are closed, routes are taken down.
//!
//! Kernel programs and maps stay pinned: targets stay closed while no gateway runs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::{JoinError, JoinSet};

use crate::control;
use crate::datapath::Datapath;
use crate::session::Gateway;
use crate::telemetry::with_causes;

/// How long connections may take to close.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How long recordings may take that are written after their connection has closed.
const RECORDING_LIMIT: Duration = Duration::from_secs(30);

/// How long the access log may take for its last lines, and exports for theirs.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Ends every connection and waits for them, their recordings and their access-log lines.
pub(super) async fn drain(gateway: &Gateway, mut sessions: JoinSet<()>) {
    gateway.registry.close();
    let drained = async {
        while let Some(finished) = sessions.join_next().await {
            log_panic(finished);
        }
    };
    if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
        tracing::warn!(left = sessions.len(), "some connections did not close in time");
        sessions.shutdown().await;
    }
    let left = gateway.spool.closed(RECORDING_LIMIT).await;
    if left > 0 {
        tracing::error!(left, "some recordings were not written out in time: what they held last is lost");
        gateway.metrics.recording_failures.inc_by(left as u64);
    }
    let (logged, told) = tokio::join!(
        tokio::time::timeout(FLUSH_LIMIT, gateway.access_log.flush()),
        tokio::time::timeout(FLUSH_LIMIT, gateway.notices.flush()),
    );
    if logged.is_err() {
        tracing::error!("the access log takes no lines: the last ones are lost");
    }
    if told.is_err() {
        tracing::error!("some notices of alerts could not be sent: they are lost");
    }
}

/// Takes routes and rules down.
pub(super) async fn stop_datapath(datapath: Arc<Mutex<Datapath>>) -> anyhow::Result<()> {
    let Some(datapath) = Arc::into_inner(datapath) else { return Ok(()) };
    let datapath = datapath.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    datapath.stop().await.context("the datapath could not be stopped in order")
}

/// Leaves no control socket that leads nowhere.
pub(super) fn withdraw_control(gateway: &Gateway) {
    if let Err(error) = control::withdraw(&gateway.config.state_dir) {
        tracing::warn!(error = with_causes(&error), "the control socket stays");
    }
}

/// A task that panicked is an error of the gateway: a human must know.
pub(super) fn log_panic(finished: Result<(), JoinError>) {
    if let Err(error) = finished
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by an error of the gateway");
    }
}
