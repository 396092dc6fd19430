//! Access events and notices of alerts on their way to syslog, OTLP and HTTP servers.
//!
//! Each export has a bounded queue and a task. Nobody waits for one: an event that finds no room is counted, and the first of
//! a row is logged. A batch is sent again, after ever longer pauses, until the server has taken it, or has said that it never
//! will. What a server does not confirm, as one of syslog does not, can be lost with its connection; one that it has closed
//! is not written to.

mod reach;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portreeve_core::access_event::{
    AccessLine, EventFormat, Outgoing, SyslogSender, Topic, otlp_request, syslog_frame,
};
use portreeve_core::alert::Notice;
use portreeve_core::config::export::{Export, ExportKind, HttpExport};
use portreeve_core::shipping::pause;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

pub use self::reach::{ReachError, reach};
use crate::metrics::ExportMetrics;
use crate::secret_file::{self, SecretFileError};
use crate::telemetry::with_causes;

/// Events that may wait for one export.
const QUEUED: usize = 4096;

/// Most events of one request.
const BATCH: usize = 256;

/// How long one attempt may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Why an export cannot be used as it is configured.
#[derive(Debug, Error)]
pub enum ExportConfigError {
    /// A token cannot be read, or can be read by others.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// A token is no text for a header.
    #[error("{0} holds no token")]
    Token(String),
    /// Certificates cannot be used.
    #[error("cannot use the certificates {0}")]
    Certificates(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address of a server is none.
    #[error("{0:?} is no server's name")]
    Name(String),
    /// The library for HTTP refuses what is configured.
    #[error("cannot speak HTTP as configured")]
    Http(#[source] reqwest::Error),
}

/// Why a batch was not sent.
#[derive(Debug, Error)]
pub enum SendError {
    /// No connection, or none any more.
    #[error("the server cannot be reached, or broke off")]
    Io(#[from] io::Error),
    /// No answer.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// An answer that is no success.
    #[error("the server answers {0}")]
    Status(reqwest::StatusCode),
    /// No answer in time.
    #[error("the server does not answer in time")]
    Stalled,
}

/// What is sent.
#[derive(Debug)]
pub enum Exported {
    /// A connection that has ended.
    Access(AccessLine),
    /// An alert in a session that lives.
    Alert(Box<Notice>),
}

enum Order {
    Send(Arc<Exported>),
    Flush(oneshot::Sender<()>),
}

/// Where events of one topic are handed in; cheap to clone.
#[derive(Clone, Debug)]
pub struct Exports {
    topic: Topic,
    queues: Vec<Queue>,
    metrics: ExportMetrics,
}

#[derive(Clone, Debug)]
struct Queue {
    kind: &'static str,
    sender: mpsc::Sender<Order>,
    /// Whether the last event found no room.
    full: Arc<AtomicBool>,
}

/// What sends the events of one export.
pub struct Exporter {
    topic: Topic,
    export: Export,
    server: Server,
    sender: SyslogSender,
    host: String,
    queue: mpsc::Receiver<Order>,
    metrics: ExportMetrics,
}

enum Server {
    Syslog {
        address: String,
        tls: Option<(TlsConnector, ServerName<'static>)>,
        stream: Option<Box<dyn Stream>>,
    },
    Http {
        client: reqwest::Client,
        url: String,
        authorization: Option<HeaderValue>,
        otlp: bool,
    },
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Exported {
    fn outgoing(&self, format: EventFormat) -> Outgoing {
        match self {
            Self::Access(line) => Outgoing::access(line, format),
            Self::Alert(notice) => Outgoing::alert(notice),
        }
    }
}

impl Exports {
    /// Reads the files that exports name.
    ///
    /// # Errors
    /// [`ExportConfigError`].
    pub fn open(
        topic: Topic,
        exports: &[Export],
        metrics: &ExportMetrics,
    ) -> Result<(Self, Vec<Exporter>), ExportConfigError> {
        let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        let mut opened = Self { topic, queues: Vec::new(), metrics: metrics.clone() };
        let mut exporters = Vec::new();
        for export in exports {
            let (sender, receiver) = mpsc::channel(QUEUED);
            metrics.begin(export.kind.name());
            opened.queues.push(Queue { kind: export.kind.name(), sender, full: Arc::default() });
            exporters.push(Exporter {
                topic,
                server: Server::open(&export.kind)?,
                export: export.clone(),
                sender: SyslogSender::new(&host, std::process::id()),
                host: host.clone(),
                queue: receiver,
                metrics: metrics.clone(),
            });
        }
        Ok((opened, exporters))
    }

    /// Whether nobody is sent anything.
    pub const fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Hands an event to every export; waits for nothing.
    pub fn offer(&self, event: Exported) {
        let event = Arc::new(event);
        for Queue { kind, sender, full } in &self.queues {
            let refused = sender.try_send(Order::Send(Arc::clone(&event))).is_err();
            if refused {
                self.metrics.dropped(kind, 1);
            }
            if !full.swap(refused, Ordering::Relaxed) && refused {
                let topic = self.topic.as_str();
                tracing::error!(kind, topic, "an export has no more room: events are lost to it");
            }
        }
    }

    /// Waits until every export has sent what it has.
    pub(super) async fn flush(&self) {
        for queue in &self.queues {
            let (done, sent) = oneshot::channel();
            if queue.sender.send(Order::Flush(done)).await.is_ok() {
                sent.await.ok();
            }
        }
    }
}

impl Exporter {
    /// Sends until nobody can hand in any more.
    pub async fn run(mut self) {
        let mut orders = Vec::new();
        while self.queue.recv_many(&mut orders, BATCH).await > 0 {
            let (mut events, mut waiting) = (Vec::new(), Vec::new());
            for order in orders.drain(..) {
                match order {
                    Order::Send(event) => events.push(event),
                    Order::Flush(done) => waiting.push(done),
                }
            }
            if !events.is_empty() {
                self.deliver(&events).await;
            }
            for done in waiting {
                // Who asked may have stopped waiting.
                done.send(()).unwrap_or_default();
            }
        }
    }

    async fn deliver(&mut self, events: &[Arc<Exported>]) {
        let (kind, topic) = (self.export.kind.name(), self.topic.as_str());
        let body = self.body(events);
        let mut failures = 0;
        loop {
            let sent = timeout(LIMIT, self.server.send(&body)).await.unwrap_or(Err(SendError::Stalled));
            let Err(error) = sent else {
                if failures > 0 {
                    tracing::info!(kind, topic, failures, "events are exported again");
                }
                self.metrics.sent(kind, events.len());
                return;
            };
            self.server.hang_up();
            let error_text = with_causes(&error);
            if let SendError::Status(status) = error
                && status.is_client_error()
                && !matches!(status.as_u16(), 401 | 403 | 404 | 408 | 429)
            {
                let lost = events.len();
                tracing::error!(kind, topic, error = error_text, lost, "events are refused for good");
                self.metrics.dropped(kind, lost);
                return;
            }
            if failures == 0 {
                let message = "events cannot be exported; it is tried again";
                tracing::warn!(kind, topic, error = error_text, "{message}");
            }
            failures += 1;
            sleep(Duration::from_millis(pause(failures, rand::random()).min(30_000))).await;
        }
    }

    fn body(&self, events: &[Arc<Exported>]) -> Vec<u8> {
        let events = events.iter().map(|event| event.outgoing(self.export.format));
        match self.export.kind {
            ExportKind::Syslog { .. } => {
                events.flat_map(|event| syslog_frame(&self.sender, &event)).collect()
            }
            ExportKind::Http(_) => events.flat_map(|event| event.into_line()).collect(),
            ExportKind::Otlp(_) => {
                let events: Vec<_> = events.collect();
                otlp_request(&self.host, self.topic, &events).to_string().into_bytes()
            }
        }
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("export", &self.export).finish_non_exhaustive()
    }
}

impl Server {
    fn open(kind: &ExportKind) -> Result<Self, ExportConfigError> {
        match kind {
            ExportKind::Syslog { address, ca_file } => {
                let tls = ca_file.as_deref().map(|path| tls(address, path)).transpose()?;
                Ok(Self::Syslog { address: address.clone(), tls, stream: None })
            }
            ExportKind::Http(http) => Self::http(http, false),
            ExportKind::Otlp(http) => Self::http(http, true),
        }
    }

    fn http(http: &HttpExport, otlp: bool) -> Result<Self, ExportConfigError> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .https_only(!http.allow_http);
        if let Some(path) = &http.ca_file {
            let unusable = |error| ExportConfigError::Certificates(path.display().to_string(), error);
            let pem = std::fs::read(path).map_err(|error| unusable(error.into()))?;
            for certificate in
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.into()))?
            {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let client = builder.build().map_err(ExportConfigError::Http)?;
        let authorization = http.token_file.as_deref().map(bearer).transpose()?;
        Ok(Self::Http { client, url: http.url.clone(), authorization, otlp })
    }

    async fn send(&mut self, body: &[u8]) -> Result<(), SendError> {
        match self {
            Self::Syslog { address, tls, stream } => {
                if let Some(kept) = stream
                    && is_closed(kept).await
                {
                    *stream = None;
                }
                let stream = match stream {
                    Some(stream) => stream,
                    None => stream.insert(connect(address, tls.as_ref()).await?),
                };
                stream.write_all(body).await?;
                Ok(stream.flush().await?)
            }
            Self::Http { client, url, authorization, otlp } => {
                let content = if *otlp { "application/json" } else { "application/x-ndjson" };
                let mut request = client.post(&*url).header(CONTENT_TYPE, content).body(body.to_vec());
                if let Some(authorization) = authorization {
                    request = request.header(AUTHORIZATION, authorization.clone());
                }
                let status = request.send().await.map_err(reqwest::Error::without_url)?.status();
                if status.is_success() { Ok(()) } else { Err(SendError::Status(status)) }
            }
        }
    }

    /// The next batch has a connection of its own.
    fn hang_up(&mut self) {
        if let Self::Syslog { stream, .. } = self {
            *stream = None;
        }
    }
}

/// Whether the server has closed a connection; syslog servers send nothing.
async fn is_closed(stream: &mut Box<dyn Stream>) -> bool {
    let mut byte = [0];
    let read = timeout(Duration::ZERO, stream.read(&mut byte)).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

async fn connect(
    address: &str,
    tls: Option<&(TlsConnector, ServerName<'static>)>,
) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(address).await?;
    match tls {
        Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), stream).await?)),
        None => Ok(Box::new(stream)),
    }
}

fn tls(address: &str, ca_file: &Path) -> Result<(TlsConnector, ServerName<'static>), ExportConfigError> {
    let unusable = |error| ExportConfigError::Certificates(ca_file.display().to_string(), error);
    let pem = std::fs::read(ca_file).map_err(|error| unusable(error.into()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unusable(error.into()))?;
        roots.add(certificate).map_err(|error| unusable(error.into()))?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|_| ExportConfigError::Name(host))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn bearer(path: &Path) -> Result<HeaderValue, ExportConfigError> {
    let secret = secret_file::read(path)?;
    let no_token = || ExportConfigError::Token(path.display().to_string());
    let text = str::from_utf8(&secret).map_err(|_| no_token())?;
    let header = Zeroizing::new(format!("Bearer {}", text.trim()));
    let mut value = HeaderValue::from_str(&header).map_err(|_| no_token())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
