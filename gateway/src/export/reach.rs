//! Whether the server of an export answers, and takes the token. Sends no event.

use portreeve_core::config::export::Export;
use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;
use thiserror::Error;
use tokio::time::timeout;

use super::{ExportConfigError, LIMIT, SendError, Server, connect};

/// Why an export would not get through.
#[derive(Debug, Error)]
pub enum ReachError {
    /// What is configured cannot be used.
    #[error(transparent)]
    Config(#[from] ExportConfigError),
    /// The server cannot be spoken to, or refuses the token.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Connects to the server of an export, with TLS where it is configured, and asks a server of HTTP for the head of its URL.
///
/// # Errors
/// [`ReachError`].
pub async fn reach(export: &Export) -> Result<(), ReachError> {
    let server = Server::open(&export.kind)?;
    Ok(timeout(LIMIT, server.reach()).await.unwrap_or(Err(SendError::Stalled))?)
}

impl Server {
    /// Any answer of HTTP will do but one that refuses the token: servers of events need not know the method.
    async fn reach(&self) -> Result<(), SendError> {
        match self {
            Self::Syslog { address, tls, .. } => Ok(connect(address, tls.as_ref()).await.map(drop)?),
            Self::Http { client, url, authorization, .. } => {
                let mut request = client.head(url);
                if let Some(authorization) = authorization {
                    request = request.header(AUTHORIZATION, authorization.clone());
                }
                let status = request.send().await.map_err(reqwest::Error::without_url)?.status();
                let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
                if refused { Err(SendError::Status(status)) } else { Ok(()) }
            }
        }
    }
}
