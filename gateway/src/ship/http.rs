//! A destination that takes each file by one HTTP request.
//!
//! A request carries the file's SHA-256 (RFC 9530) and a key under which the server may recognise one that comes
//! again. It counts as confirmed as the configuration says: by the same SHA-256 in the answer, or by its status alone.
//! Redirects are not followed: a token would go with them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portreeve_core::config::shipping::{Http, HttpConfirm, HttpMethod};
use portreeve_core::shipping::{Sha256Digest, confirmed_digest, digest_field};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Certificate, Client, Method, Response, StatusCode, redirect};
use zeroize::Zeroizing;

use super::failure::{ConnectError, ShipError};
use super::source::SourceFile;
use crate::secret_file;

/// What a file is.
const FILE_TYPE: &str = "application/octet-stream";

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long the server may say nothing once it has the file.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// How long a request may take at least, and per byte of the file: 30 kB/s.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
const LEAST_RATE: u64 = 30_000;

/// A server, and how it is spoken to.
#[derive(Clone)]
pub(super) struct HttpDestination {
    client: Client,
    config: Arc<Http>,
    authorization: Option<HeaderValue>,
}

impl HttpDestination {
    /// Reads its token.
    pub(super) fn new(http: &Http) -> Result<Self, ConnectError> {
        let authorization = http.token_file.as_deref().map(bearer).transpose()?;
        let client = client(http.allow_http, http.ca_file.as_deref())?;
        Ok(Self { client, config: Arc::new(http.clone()), authorization })
    }

    /// Sends a file, and has it confirmed.
    pub(super) async fn put(&self, file: &SourceFile, digest: &Sha256Digest) -> Result<(), ShipError> {
        // Its parts are letters, digits, `-` and `.`, or are none of a recording.
        let url = self.config.url.replace("{path}", &file.name);
        let method = match self.config.method {
            HttpMethod::Put => Method::PUT,
            HttpMethod::Post => Method::POST,
        };
        let source = tokio::fs::File::open(&file.path).await.map_err(ShipError::Unreadable)?;
        let mut request = self
            .client
            .request(method, url)
            .header(CONTENT_TYPE, FILE_TYPE)
            .header(CONTENT_LENGTH, file.size)
            .header("Content-Digest", digest_field(digest))
            .header("Repr-Digest", digest_field(digest))
            .header("Want-Repr-Digest", "sha-256=10")
            .header("Idempotency-Key", format!("\"{}-{}\"", file.name, hex::encode(digest)))
            .timeout(REQUEST_LIMIT + Duration::from_secs(file.size / LEAST_RATE))
            .body(Body::from(source));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let answer = request.send().await.map_err(|error| ShipError::Http(error.without_url()))?;
        self.judge(file, digest, &answer)
    }

    /// Asks for the head of where files go; any answer will do but one that refuses the token.
    pub(super) async fn reach(&self) -> Result<(), ShipError> {
        let mut request = self.client.head(self.config.url.replace("{path}", "")).timeout(REQUEST_LIMIT);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let answer = request.send().await.map_err(|error| ShipError::Http(error.without_url()))?;
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status());
        if refused { Err(ShipError::Refused(answer.status().to_string())) } else { Ok(()) }
    }

    fn judge(&self, file: &SourceFile, digest: &Sha256Digest, answer: &Response) -> Result<(), ShipError> {
        let not_confirmed = |found: String| ShipError::NotConfirmed { file: file.name.clone(), found };
        if !answer.status().is_success() {
            return Err(not_confirmed(format!("status {}", answer.status())));
        }
        if self.config.confirm == HttpConfirm::Status {
            return Ok(());
        }
        let fields = ["Repr-Digest", "Content-Digest"].into_iter();
        let told =
            fields.filter_map(|name| answer.headers().get(name)?.to_str().ok()).find_map(confirmed_digest);
        match told {
            Some(told) if told == *digest => Ok(()),
            Some(_) => Err(not_confirmed("another SHA-256".to_owned())),
            None => Err(not_confirmed("no SHA-256 in Repr-Digest".to_owned())),
        }
    }
}

impl fmt::Debug for HttpDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDestination").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A client that follows no redirect.
fn client(allow_http: bool, ca_file: Option<&Path>) -> Result<Client, ConnectError> {
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .https_only(!allow_http)
        .connect_timeout(CONNECT_LIMIT)
        .read_timeout(SILENCE_LIMIT);
    if let Some(path) = ca_file {
        let read = std::fs::read(path);
        let pem = read.map_err(|source| ConnectError::CaFile { path: path.to_owned(), source })?;
        for certificate in Certificate::from_pem_bundle(&pem).map_err(ConnectError::Http)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(ConnectError::Http)
}

/// The header for the token in a file.
fn bearer(path: &Path) -> Result<HeaderValue, ConnectError> {
    let secret = secret_file::read(path)?;
    let text = str::from_utf8(&secret).map_err(|_| ConnectError::Text(path.to_owned()))?;
    let header = Zeroizing::new(format!("Bearer {}", text.trim()));
    let mut value = HeaderValue::from_str(&header).map_err(|_| ConnectError::Text(path.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
