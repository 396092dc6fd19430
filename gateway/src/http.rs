//! The HTTP endpoints for machines that watch the gateway: `/metrics`, `/livez`, `/readyz`.
//!
//! Read-only and without secrets; bind it to an address that only the monitoring reaches.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::metrics::Exposition;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the gateway serves connections: set while the datapath steers all interfaces to a listener.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says from now on whether the gateway serves.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }
}

/// The endpoint's address cannot be had.
#[derive(Debug, Error)]
#[error(
    "cannot listen on {addr} for metrics: set [metrics] listen to an address of this machine that is free"
)]
pub struct BindError {
    addr: SocketAddr,
    source: std::io::Error,
}

/// A bound endpoint that does not answer yet.
#[derive(Debug)]
pub struct Endpoint(TcpListener);

impl Endpoint {
    /// Binds the address.
    ///
    /// # Errors
    /// [`BindError`] when it is in use or not of this machine.
    pub async fn bind(addr: SocketAddr) -> Result<Self, BindError> {
        TcpListener::bind(addr).await.map(Self).map_err(|source| BindError { addr, source })
    }

    /// Answers until the task is dropped.
    pub async fn serve(self, exposition: Exposition, ready: Readiness) {
        let app = Router::new()
            .route("/metrics", get(metrics).with_state(Arc::new(exposition)))
            .route("/livez", get(|| async { "live\n" }))
            .route("/readyz", get(readiness).with_state(ready));
        if let Err(error) = axum::serve(self.0, app).await {
            tracing::error!(%error, "the metrics endpoint has failed");
        }
    }
}

async fn metrics(State(exposition): State<Arc<Exposition>>) -> impl IntoResponse {
    match exposition.encode() {
        Ok(text) => Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text)),
        Err(_) => Err((StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded\n")),
    }
}

async fn readiness(State(ready): State<Readiness>) -> impl IntoResponse {
    if ready.0.load(Ordering::Acquire) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not steering\n")
    }
}
