//! The daemon's own account of its connections, from its metrics.
//!
//! Only reads what they say; what it should be is for [`super::coverage`].

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};

const LIMIT: Duration = Duration::from_secs(5);
/// Longer answers are not the gateway's.
const LONGEST: u64 = 1 << 22;

/// Connections since the daemon began.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Ended, by outcome.
    pub(super) ended: BTreeMap<String, u64>,
    /// Relaying.
    pub(super) active: u64,
}

impl Account {
    /// Asks the daemon; `None` when nobody listens there.
    ///
    /// # Errors
    /// When who listens does not answer as the gateway does.
    pub(super) fn ask(metrics: SocketAddr) -> anyhow::Result<Option<Self>> {
        let mut stream = match TcpStream::connect_timeout(&metrics, LIMIT) {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot reach the metrics at {metrics}"));
            }
        };
        stream.set_read_timeout(Some(LIMIT))?;
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: {metrics}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(LONGEST).read_to_string(&mut answer).with_context(|| format!("metrics of {metrics}"))?;
        let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_default();
        ensure!(head.split(' ').nth(1) == Some("200"), "{metrics} does not answer with metrics");
        Self::parse(text).map(Some)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut account = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let number = || value.parse().with_context(|| format!("metrics: {line:?}"));
            let outcome = name.strip_prefix("portreeve_connections_total{outcome=\"");
            if let Some(outcome) = outcome.and_then(|rest| rest.strip_suffix("\"}")) {
                account.ended.insert(outcome.to_owned(), number()?);
            } else if name == "portreeve_sessions_active" {
                account.active = number()?;
            }
        }
        Ok(account)
    }

    /// All connections that it knows of.
    pub(super) fn connections(&self) -> u64 {
        self.ended.values().sum::<u64>() + self.active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_read_from_metrics() {
        let text = "# TYPE portreeve_connections counter\nportreeve_connections_total{outcome=\"denied\"} 2\n\
                    portreeve_connections_total{outcome=\"closed\"} 5\nportreeve_sessions_active 1\n# EOF\n";
        let account = Account::parse(text).unwrap();
        assert_eq!((account.connections(), account.active, account.ended["denied"]), (8, 1, 2));
        assert!(Account::parse("portreeve_sessions_active many").is_err());
    }
}
