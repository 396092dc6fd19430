//! The access log: one JSON line per connection with who, what, which rule, how it ended.
//!
//! Never holds commands, terminal contents or secrets. A line is written whole with one `write`, so
//! lines of concurrent connections do not mix.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use portreeve_core::config::daemon::AccessLog as Destination;
use serde::Serialize;
use thiserror::Error;

/// One connection, once it has ended.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AccessEvent {
    /// When the connection ended, RFC 3339 in UTC.
    pub time: String,
    /// When it was accepted, RFC 3339 in UTC.
    pub started: String,
    /// The session's id.
    pub session: String,
    /// The user's address and port.
    pub client: String,
    /// The target's address and port.
    pub target: String,
    /// Hostname of the target in the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// E-mail of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The login asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// Generation of the policy that decided.
    pub generation: u64,
    /// The network policy that matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<String>,
    /// `application/policy` of each infrastructure policy that granted the login.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub granted_by: Vec<String>,
    /// Fingerprint of the target's own host key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    /// `first-sight`, `known` or `changed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_key_verdict: Option<&'static str>,
    /// Algorithms between gateway and target that are no longer secure, by their names in a key exchange.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub legacy_algorithms: Vec<&'static str>,
    /// Serial of the certificate that logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_serial: Option<u64>,
    /// How it ended, from a closed list.
    pub outcome: &'static str,
    /// Why, in a sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// From accept to the end, in milliseconds.
    pub duration_ms: u64,
    /// Bytes of channel data from the user's side.
    pub client_bytes: u64,
    /// Bytes of channel data from the target's side.
    pub target_bytes: u64,
}

/// The access log cannot be opened.
#[derive(Debug, Error)]
#[error("cannot open the access log {path}")]
pub struct AccessLogError {
    path: PathBuf,
    source: io::Error,
}

/// Where access events are written.
#[derive(Debug)]
pub struct AccessLog {
    destination: Destination,
    /// The open file; `None` writes to standard output.
    file: Mutex<Option<File>>,
}

impl AccessLog {
    /// Opens the destination for appending; a new file gets mode 0640.
    ///
    /// # Errors
    /// [`AccessLogError`] when the file cannot be opened.
    pub fn open(destination: Destination) -> Result<Self, AccessLogError> {
        let file = open(&destination)?;
        Ok(Self { destination, file: Mutex::new(file) })
    }

    /// Opens the file anew, for log rotation; on failure the old file stays in use.
    ///
    /// # Errors
    /// [`AccessLogError`] when the file cannot be opened.
    pub fn reopen(&self) -> Result<(), AccessLogError> {
        let file = open(&self.destination)?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }

    /// Writes one event.
    ///
    /// # Errors
    /// When the event cannot be written; nothing of it was.
    pub fn write(&self, event: &AccessEvent) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match file.as_mut() {
            Some(file) => file.write_all(&line),
            None => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&line)?;
                stdout.flush()
            }
        }
    }
}

fn open(destination: &Destination) -> Result<Option<File>, AccessLogError> {
    match destination {
        Destination::Stdout => Ok(None),
        Destination::File(path) => OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)
            .map(Some)
            .map_err(|source| AccessLogError { path: path.clone(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_goes_on_in_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = AccessLog::open(Destination::File(path.clone())).unwrap();
        let event = AccessEvent { outcome: "blocked", ..AccessEvent::default() };
        log.write(&event).unwrap();
        std::fs::rename(&path, dir.path().join("access.log.1")).unwrap();
        log.reopen().unwrap();
        log.write(&event).unwrap();
        let line: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(line["outcome"], "blocked");
        for fact in ["email", "legacy_algorithms"] {
            assert_eq!(line.get(fact), None, "a fact that is not known or not given is absent");
        }
    }
}
