//! The HTTP endpoints for machines that watch the gateway: `/metrics`, `/livez`, `/readyz`.
//!
//! Read-only and without secrets; bind it to an address that only the monitoring reaches. A connection has
//! one answer, and there are few at a time, each of which ends in seconds: whoever reaches the address can
//! take no descriptors from sessions.

mod bounded;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::metrics::gauge::Gauge;
use thiserror::Error;
use tokio::net::TcpListener;

use self::bounded::Bounded;
use crate::metrics::{Exposition, Metrics};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Most connections at a time; further ones wait.
const CONNECTIONS: usize = 32;
/// When it is tried again to have an address that another process has.
const BIND_AGAIN: Duration = Duration::from_millis(100);
/// How long a connection may take in all.
const LIFETIME: Duration = Duration::from_secs(10);

/// Whether the gateway serves connections: set while the datapath steers all interfaces to a listener.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Gauge);

impl Readiness {
    /// Not ready yet; shown by the metrics too.
    pub fn of(metrics: &Metrics) -> Self {
        Self(metrics.ready.clone())
    }

    /// Says from now on whether the gateway serves.
    pub fn set(&self, ready: bool) {
        self.0.set(ready.into());
    }

    /// Whether the gateway serves.
    pub fn is_ready(&self) -> bool {
        self.0.get() == 1
    }
}

/// The endpoint's address cannot be had.
#[derive(Debug, Error)]
#[error(
    "cannot listen on {addr} for metrics: set [metrics] listen to an address of this machine that is free"
)]
pub struct BindError {
    addr: SocketAddr,
    source: io::Error,
}

/// An endpoint that does not answer yet.
#[derive(Debug)]
pub struct Endpoint {
    addr: SocketAddr,
    /// Absent: bound when another process lets go of the address.
    listener: Option<TcpListener>,
}

impl Endpoint {
    /// Binds the address.
    ///
    /// # Errors
    /// [`BindError`] when it is in use or not of this machine.
    pub async fn bind(addr: SocketAddr) -> Result<Self, BindError> {
        let bound = TcpListener::bind(addr).await;
        bound
            .map(|listener| Self { addr, listener: Some(listener) })
            .map_err(|source| BindError { addr, source })
    }

    /// Binds the address, or, where it is in use, once it is free.
    ///
    /// # Errors
    /// [`BindError`] when it is not of this machine.
    pub async fn bind_or_wait(addr: SocketAddr) -> Result<Self, BindError> {
        match Self::bind(addr).await {
            Err(error) if error.source.kind() == io::ErrorKind::AddrInUse => {
                Ok(Self { addr, listener: None })
            }
            bound => bound,
        }
    }

    /// Answers until the task is dropped.
    pub async fn serve(self, exposition: Exposition, ready: Readiness) {
        let listener = match self.listener {
            Some(listener) => listener,
            None => when_free(self.addr).await,
        };
        serve_within(listener, CONNECTIONS, LIFETIME, exposition, ready).await;
    }
}

async fn when_free(addr: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(addr).await {
            Ok(listener) => return listener,
            Err(error) if !told => tracing::warn!(%addr, %error, "no metrics until the address is free"),
            Err(_) => {}
        }
        told = true;
        tokio::time::sleep(BIND_AGAIN).await;
    }
}

async fn serve_within(
    listener: TcpListener,
    connections: usize,
    lifetime: Duration,
    exposition: Exposition,
    ready: Readiness,
) {
    let app = Router::new()
        .route("/metrics", get(metrics).with_state(Arc::new(exposition)))
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(readiness).with_state(ready))
        .layer(map_response(closing));
    if let Err(error) = axum::serve(Bounded::new(listener, connections, lifetime), app).await {
        tracing::error!(%error, "the metrics endpoint has failed");
    }
}

/// Ends the connection with its answer.
async fn closing(mut answer: Response) -> Response {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

async fn metrics(State(exposition): State<Arc<Exposition>>) -> impl IntoResponse {
    match exposition.encode() {
        Ok(text) => Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text)),
        Err(_) => Err((StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded\n")),
    }
}

async fn readiness(State(ready): State<Readiness>) -> impl IntoResponse {
    if ready.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not steering\n")
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::metrics::KernelCounters;

    #[tokio::test]
    async fn clients_that_stall_are_cut_and_make_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let exposition = Metrics::default().exposition(KernelCounters::default);
        let lifetime = Duration::from_millis(300);
        let task = tokio::spawn(serve_within(listener, 2, lifetime, exposition, Readiness::default()));

        let begun = std::time::Instant::now();
        let mut silent = TcpStream::connect(addr).await.unwrap();
        let mut slow = TcpStream::connect(addr).await.unwrap();
        slow.write_all(b"GET /livez HTTP/1.1\r\nHost").await.unwrap();
        let mut third = TcpStream::connect(addr).await.unwrap();
        third.write_all(b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        third.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("live\n"), "{answer}");
        assert!(begun.elapsed() >= lifetime, "there was room for a third");
        for stalled in [&mut silent, &mut slow] {
            assert_eq!(stalled.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        }
        task.abort();
    }

    #[tokio::test]
    async fn an_address_that_another_has_is_taken_when_it_is_free() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = other.local_addr().unwrap();
        Endpoint::bind(addr).await.unwrap_err();
        let endpoint = Endpoint::bind_or_wait(addr).await.unwrap();
        let exposition = Metrics::default().exposition(KernelCounters::default);
        let task = tokio::spawn(endpoint.serve(exposition, Readiness::default()));
        drop(other);
        let mut client = loop {
            if let Ok(client) = TcpStream::connect(addr).await {
                break client;
            }
            tokio::task::yield_now().await;
        };
        client.write_all(b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("live\n"), "{answer}");
        task.abort();
    }
}
