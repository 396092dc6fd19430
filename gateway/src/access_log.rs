//! The access log: one JSON line per connection with who, what, which rule, how it ended.
//!
//! Never holds commands, terminal contents or secrets. Invariants: nobody waits for the log, because one
//! thread writes what a bounded queue holds, in its order; a line that does not get into the queue or
//! cannot be written whole is counted and named in the daemon's log; what a full disk left of a line does
//! not run into the next one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use portreeve_core::access_event::Topic;
use portreeve_core::config::daemon::AccessLog as Destination;
use portreeve_core::config::export::Export;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::export::{ExportConfigError, Exported, Exporter, Exports};
use crate::metrics::Metrics;

/// Lines that may wait for the writer; one takes less than a kibibyte as a rule.
const QUEUED_LINES: usize = 4096;

/// One connection, once it has ended.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AccessEvent {
    /// When the connection ended, RFC 3339 in UTC.
    pub time: String,
    /// When it was accepted, RFC 3339 in UTC.
    pub started: String,
    /// The session's id.
    pub session: String,
    /// Id of the session in whose channel this connection was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outer_session: Option<String>,
    /// The user's address and port.
    pub client: String,
    /// The interface that the connection came in on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_interface: Option<String>,
    /// The target's address and port.
    pub target: String,
    /// The address and port that the target was dialled from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialled_from: Option<String>,
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
    /// Whether it went on without a recording, as only sessions of break-glass identities may.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unrecorded: bool,
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

/// Where access events go; cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: mpsc::Sender<Order>,
    destination: Destination,
    /// What the writer goes on with, after a rotation.
    reopened: Arc<Mutex<Option<File>>>,
    /// Where lines go beside it.
    exports: Option<Exports>,
    metrics: Metrics,
}

/// What the writer is told.
#[derive(Debug)]
enum Order {
    /// To write the line of a session.
    Write { session: String, line: Vec<u8> },
    /// To say when everything before is written.
    Flush(oneshot::Sender<()>),
}

impl AccessLog {
    /// Opens the destination for appending and starts the thread that writes; a new file gets mode 0640.
    ///
    /// # Errors
    /// [`AccessLogError`] when the file cannot be opened or the thread not be started.
    pub fn open(destination: Destination, metrics: Metrics) -> Result<Self, AccessLogError> {
        let mut lines = Lines { out: open(&destination)?, line_begun: false };
        let (queue, mut orders) = mpsc::channel(QUEUED_LINES);
        let log = Self { queue, destination, reopened: Arc::default(), exports: None, metrics };
        let (reopened, metrics) = (Arc::clone(&log.reopened), log.metrics.clone());
        let write = move || {
            while let Some(order) = orders.blocking_recv() {
                let next = reopened.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(out) = next {
                    lines = Lines { out, line_begun: false };
                }
                match order {
                    Order::Write { session, line } => {
                        if let Err(error) = lines.write(&line) {
                            lost(&metrics, &session, &error);
                        }
                    }
                    // Who asked may have stopped waiting.
                    Order::Flush(done) => done.send(()).unwrap_or_default(),
                }
            }
        };
        match std::thread::Builder::new().name("access-log".to_owned()).spawn(write) {
            Ok(_) => Ok(log),
            Err(source) => Err(AccessLogError { path: name(&log.destination), source }),
        }
    }

    /// Exports events too, as far as the tasks that this returns run.
    ///
    /// # Errors
    /// [`ExportConfigError`].
    pub fn export(&mut self, exports: &[Export]) -> Result<Vec<Exporter>, ExportConfigError> {
        let (exports, exporters) = Exports::open(Topic::Access, exports, &self.metrics.exports)?;
        self.exports = Some(exports);
        Ok(exporters)
    }

    /// Opens the file anew, for log rotation; on failure the old file stays in use.
    ///
    /// # Errors
    /// [`AccessLogError`] when the file cannot be opened.
    pub fn reopen(&self) -> Result<(), AccessLogError> {
        let file = open(&self.destination)?;
        *self.reopened.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
    }

    /// Hands one event to the writer; waits for nothing.
    pub fn write(&self, event: &AccessEvent) {
        let queued = match serde_json::to_vec(event) {
            Ok(mut line) => {
                if let Some(exports) = self.exports.as_ref().filter(|exports| !exports.is_empty())
                    && let Ok(event) = serde_json::from_slice(&line)
                {
                    exports.offer(Exported::Access(event));
                }
                line.push(b'\n');
                let order = Order::Write { session: event.session.clone(), line };
                self.queue.try_send(order).map_err(io::Error::other)
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = queued {
            lost(&self.metrics, &event.session, &error);
        }
    }

    /// Waits until every event so far is written, or is known to be lost.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Order::Flush(done)).await.is_ok() {
            written.await.ok();
        }
        if let Some(exports) = &self.exports {
            exports.flush().await;
        }
    }
}

/// A line that is missing from the log.
fn lost(metrics: &Metrics, session: &str, error: &io::Error) {
    metrics.access_log_failures.inc();
    tracing::error!(session, %error, "a line of the access log is lost");
}

/// Whole lines, appended to a file or pipe.
struct Lines<W> {
    out: W,
    /// The last write left a line without its end.
    line_begun: bool,
}

impl<W: Write> Lines<W> {
    /// Writes a line, on a line of its own, with one `write` where the system takes it whole.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let ended = [b"\n", line].concat();
        let mut rest = if self.line_begun { &ended } else { line };
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    let (written, unwritten) = rest.split_at(count.min(rest.len()));
                    self.line_begun = !written.ends_with(b"\n");
                    rest = unwritten;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn open(destination: &Destination) -> Result<File, AccessLogError> {
    let opened = match destination {
        Destination::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        Destination::File(path) => OpenOptions::new().append(true).create(true).mode(0o640).open(path),
    };
    opened.map_err(|source| AccessLogError { path: name(destination), source })
}

fn name(destination: &Destination) -> PathBuf {
    match destination {
        Destination::Stdout => PathBuf::from("standard output"),
        Destination::File(path) => path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    fn event(session: usize) -> AccessEvent {
        AccessEvent { session: session.to_string(), outcome: "blocked", ..AccessEvent::default() }
    }

    fn in_directory(dir: &tempfile::TempDir) -> (PathBuf, AccessLog) {
        let path = dir.path().join("access.log");
        let log = AccessLog::open(Destination::File(path.clone()), Metrics::default()).unwrap();
        (path, log)
    }

    /// An event with everything in it.
    fn full() -> AccessEvent {
        let id = "0191e2a0-7c1d-7000-8000-0123456789ab";
        AccessEvent {
            time: "2026-01-02T03:04:05.678901Z".to_owned(),
            started: "2026-01-02T03:04:04Z".to_owned(),
            session: id.to_owned(),
            outer_session: Some(id.to_owned()),
            client: "192.0.2.1:40000".to_owned(),
            ingress_interface: Some("lan0".to_owned()),
            target: "[2001:db8::1]:22".to_owned(),
            dialled_from: Some("192.0.2.9:50000".to_owned()),
            hostname: Some("db1".to_owned()),
            email: Some("alice@example.com".to_owned()),
            login: Some("root".to_owned()),
            generation: 1,
            network_policy: Some("audit".to_owned()),
            granted_by: vec!["servers/staff".to_owned()],
            host_key: Some(format!("SHA256:{}", "A".repeat(43))),
            host_key_verdict: Some("known"),
            legacy_algorithms: vec!["ssh-rsa"],
            certificate_serial: Some(1),
            unrecorded: true,
            outcome: "closed",
            reason: "closed by the user".to_owned(),
            duration_ms: 1,
            client_bytes: 1,
            target_bytes: 1,
        }
    }

    #[test]
    fn the_schema_has_the_fields_of_an_event_and_requires_those_that_are_always_there() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../docs/access-event.schema.json")).unwrap();
        let fields = |event: &AccessEvent| {
            let event = serde_json::to_value(event).unwrap();
            event.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>()
        };
        let described = schema["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields(&full()), described);
        let required =
            schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
        assert_eq!(fields(&AccessEvent::default()), required.collect());
    }

    #[tokio::test]
    async fn rotation_goes_on_in_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, log) = in_directory(&dir);
        log.write(&event(1));
        log.flush().await;
        std::fs::rename(&path, dir.path().join("access.log.1")).unwrap();
        log.reopen().unwrap();
        log.write(&event(2));
        log.flush().await;
        let line: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!((&line["outcome"], &line["session"]), (&"blocked".into(), &"2".into()));
        for fact in ["email", "legacy_algorithms"] {
            assert_eq!(line.get(fact), None, "a fact that is not known or not given is absent");
        }
    }

    /// A pipe that somebody holds open and nobody reads.
    #[tokio::test]
    async fn a_log_that_nobody_reads_holds_nobody_up_and_counts_what_it_loses() {
        const EVENTS: usize = 3 * QUEUED_LINES;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let metrics = Metrics::default();
        let log = AccessLog::open(Destination::File(path), metrics.clone()).unwrap();
        (0..EVENTS).for_each(|session| log.write(&event(session)));
        let lost = usize::try_from(metrics.access_log_failures.get()).unwrap();
        assert!(lost > 0, "the queue has no bound");
        let mut lines = BufReader::new(reader).lines();
        let mut sessions = Vec::new();
        for _ in lost..EVENTS {
            let line = lines.next().unwrap().unwrap();
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            sessions.push(event["session"].as_str().unwrap().parse::<usize>().unwrap());
        }
        assert!(sessions.is_sorted(), "the order is kept");
        log.flush().await;
    }

    /// Takes as many bytes as there is room for, as a disk does.
    struct Disk {
        held: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.held.extend_from_slice(&bytes[..count]);
            self.room -= count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_disk_left_of_a_line_stands_alone() {
        let mut lines = Lines { out: Disk { held: Vec::new(), room: 6 }, line_begun: false };
        lines.write(b"one\n").unwrap();
        lines.write(b"two\n").unwrap_err();
        lines.out.room = 1;
        lines.write(b"three\n").unwrap_err();
        lines.out.room = 100;
        lines.write(b"four\n").unwrap();
        lines.write(b"five\n").unwrap();
        assert_eq!(String::from_utf8(lines.out.held).unwrap(), "one\ntw\nfour\nfive\n");
    }
}
