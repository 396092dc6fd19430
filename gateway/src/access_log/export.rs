//! Access events on their way to syslog, OTLP and HTTP servers.
//!
//! Each export has a bounded queue and a task. Nobody waits for one: an event that finds no room is counted. A batch is
//! sent again, after ever longer pauses, until the server has taken it, or has said that it never will. What a server does not
//! confirm, as one of syslog does not, can be lost with its connection.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portreeve_core::access_event::{AccessLine, SyslogSender, otlp_request, syslog_frame};
use portreeve_core::config::access_export::{AccessExport, ExportKind, HttpExport};
use portreeve_core::shipping::pause;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

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
enum SendError {
    #[error("the server cannot be reached, or broke off")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("the server answers {0}")]
    Status(reqwest::StatusCode),
    #[error("the server does not answer in time")]
    Stalled,
}

enum Order {
    Send(Arc<AccessLine>),
    Flush(oneshot::Sender<()>),
}

/// Where the access log hands events in; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Exports {
    queues: Vec<(&'static str, mpsc::Sender<Order>)>,
    metrics: ExportMetrics,
}

/// What sends the events of one export.
pub struct Exporter {
    export: AccessExport,
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

impl Exports {
    /// Reads the files that exports name.
    ///
    /// # Errors
    /// [`ExportConfigError`].
    pub(super) fn open(
        exports: &[AccessExport],
        metrics: &ExportMetrics,
    ) -> Result<(Self, Vec<Exporter>), ExportConfigError> {
        let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        let mut opened = Self { queues: Vec::new(), metrics: metrics.clone() };
        let mut exporters = Vec::new();
        for export in exports {
            let (queue, receiver) = mpsc::channel(QUEUED);
            opened.queues.push((export.kind.name(), queue));
            exporters.push(Exporter {
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

    /// Hands an event to every export; waits for nothing.
    pub(super) fn offer(&self, line: &[u8]) {
        if self.queues.is_empty() {
            return;
        }
        let Ok(line) = serde_json::from_slice::<AccessLine>(line).map(Arc::new) else { return };
        for (kind, queue) in &self.queues {
            if queue.try_send(Order::Send(Arc::clone(&line))).is_err() {
                self.metrics.dropped(kind, 1);
            }
        }
    }

    /// Waits until every export has sent what it has.
    pub(super) async fn flush(&self) {
        for (_, queue) in &self.queues {
            let (done, sent) = oneshot::channel();
            if queue.send(Order::Flush(done)).await.is_ok() {
                sent.await.ok();
            }
        }
    }
}

impl Exporter {
    /// Sends until the access log is gone.
    pub async fn run(mut self) {
        let mut orders = Vec::new();
        while self.queue.recv_many(&mut orders, BATCH).await > 0 {
            let (mut lines, mut waiting) = (Vec::new(), Vec::new());
            for order in orders.drain(..) {
                match order {
                    Order::Send(line) => lines.push(line),
                    Order::Flush(done) => waiting.push(done),
                }
            }
            if !lines.is_empty() {
                self.deliver(&lines).await;
            }
            for done in waiting {
                // Who asked may have stopped waiting.
                done.send(()).unwrap_or_default();
            }
        }
    }

    async fn deliver(&mut self, lines: &[Arc<AccessLine>]) {
        let kind = self.export.kind.name();
        let body = self.body(lines);
        let mut failures = 0;
        loop {
            let sent = timeout(LIMIT, self.server.send(&body)).await.unwrap_or(Err(SendError::Stalled));
            let Err(error) = sent else {
                if failures > 0 {
                    tracing::info!(kind, failures, "access events are exported again");
                }
                self.metrics.sent(kind, lines.len());
                return;
            };
            self.server.hang_up();
            let error_text = with_causes(&error);
            if let SendError::Status(status) = error
                && status.is_client_error()
                && !matches!(status.as_u16(), 401 | 403 | 404 | 408 | 429)
            {
                tracing::error!(
                    kind,
                    error = error_text,
                    lost = lines.len(),
                    "access events are refused for good"
                );
                self.metrics.dropped(kind, lines.len());
                return;
            }
            if failures == 0 {
                tracing::warn!(
                    kind,
                    error = error_text,
                    "access events cannot be exported; it is tried again"
                );
            }
            failures += 1;
            sleep(Duration::from_millis(pause(failures, rand::random()).min(30_000))).await;
        }
    }

    fn body(&self, lines: &[Arc<AccessLine>]) -> Vec<u8> {
        let written = |line: &AccessLine| self.export.format.write(line);
        match self.export.kind {
            ExportKind::Syslog { .. } => lines
                .iter()
                .flat_map(|line| syslog_frame(&self.sender, line, &written(line).to_string()))
                .collect(),
            ExportKind::Http(_) => {
                lines.iter().flat_map(|line| format!("{}\n", written(line)).into_bytes()).collect()
            }
            ExportKind::Otlp(_) => {
                let events: Vec<_> = lines.iter().map(|line| ((**line).clone(), written(line))).collect();
                otlp_request(&self.host, &events).to_string().into_bytes()
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
