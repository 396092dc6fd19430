//! One destination: finds what it has not confirmed, ships it, and writes down what became of it.
//!
//! Invariant: what is confirmed is written down after every file of it was confirmed, the manifest last.
//! The loop waits for nothing but its events; what blocks runs on threads for such.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use portreeve_core::config::shipping::Destination;
use portreeve_core::shipping::{
    Aside, Backlog, Confirmed, DestinationStatus, Failure, Item, MANIFEST_FILE, Verdict,
};
use portreeve_core::utc::UtcTime;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::board::Board;
use super::connection::Slot;
use super::failure::ShipError;
use super::source;
use super::state::StateDir;
use super::store::blocking;
use crate::audit::AuditChain;
use crate::metrics::Waiting;
use crate::telemetry::with_causes;

/// How often the spool is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is read even where nothing seems to have changed: what is set aside may be due.
const READ: Duration = Duration::from_secs(60);

/// A change within this time of a look may have come after it, on file systems that tell times coarsely.
const COARSE: Duration = Duration::from_secs(2);

/// How often it is written down how the destination stands.
const STATUS: Duration = Duration::from_secs(5);

/// What every shipper needs.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    pub(super) spool: PathBuf,
    pub(super) state: StateDir,
    /// Signs what is deleted.
    pub(super) chain: Arc<AuditChain>,
    pub(super) board: Arc<Board>,
}

/// Ships to one destination.
#[derive(Debug)]
pub(super) struct Shipper {
    ground: Ground,
    number: usize,
    destination: Destination,
    slot: Arc<Slot>,
    backlog: Backlog,
    under_way: JoinSet<(Item, Result<(), ShipError>)>,
    started: Instant,
    read_at: Option<(Instant, SystemTime)>,
    status_at: Instant,
    status: DestinationStatus,
}

impl Shipper {
    pub(super) fn new(ground: Ground, number: usize, destination: Destination) -> Self {
        let status = DestinationStatus { kind: destination.kind_name().to_owned(), ..Default::default() };
        Self {
            slot: Arc::new(Slot::new(&destination)),
            ground,
            number,
            destination,
            backlog: Backlog::default(),
            under_way: JoinSet::new(),
            started: Instant::now(),
            read_at: None,
            status_at: Instant::now(),
            status,
        }
    }

    /// Ships for ever.
    pub(super) async fn run(mut self) {
        let mut look = Instant::now();
        loop {
            if Instant::now() >= look {
                let began = Instant::now();
                self.look().await;
                // A spool that takes long to read is read more rarely.
                look = Instant::now() + LOOK.max(began.elapsed() * 10);
            }
            let now = self.now();
            while self.under_way.len() < self.destination.concurrency as usize
                && let Some(item) = self.backlog.next(now)
            {
                let (ground, slot) = (self.ground.clone(), Arc::clone(&self.slot));
                let destination = self.destination.clone();
                self.under_way.spawn(async move {
                    let shipped = ship(&ground, &destination, &slot, &item).await;
                    (item, shipped)
                });
            }
            let full = self.under_way.len() >= self.destination.concurrency as usize;
            let next =
                self.backlog.next_at().filter(|_| !full).map(|at| self.started + Duration::from_millis(at));
            tokio::select! {
                Some(done) = self.under_way.join_next() => self.done(done).await,
                () = sleep_until(next.map_or(look, |next| next.min(look))) => {}
            }
        }
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Reads the spool where it may have changed, and shows how the destination stands.
    async fn look(&mut self) {
        let (spool, last) = (self.ground.spool.clone(), self.read_at);
        let changed = blocking(move || Ok(changed_since(&spool, last))).await;
        if changed.unwrap_or(true) {
            let now = (Instant::now(), SystemTime::now());
            let (ground, name) = (self.ground.clone(), self.destination.name.clone());
            match blocking(move || pending(&ground, &name)).await {
                Ok((pending, aside)) => {
                    self.backlog.replace(pending);
                    self.status.aside = aside;
                    self.read_at = Some(now);
                }
                Err(error) => {
                    tracing::error!(destination = self.destination.name, %error, "cannot read the spool for shipping")
                }
            }
        }
        self.show().await;
    }

    async fn show(&mut self) {
        let now = SystemTime::now();
        let oldest = self.backlog.oldest().map(|millis| UtcTime::from_unix_seconds(millis / 1000));
        let age = oldest
            .map_or(0, |oldest| UtcTime::from(now).unix_seconds().saturating_sub(oldest.unix_seconds()));
        let waiting = Waiting { backlog: self.backlog.len() as u64, aside: self.status.aside, oldest: age };
        self.ground.board.show(self.number, waiting);
        if Instant::now() < self.status_at {
            return;
        }
        self.status_at = Instant::now() + STATUS;
        self.status.time = UtcTime::from(now).to_string();
        self.status.backlog = waiting.backlog;
        self.status.oldest = oldest.map(|oldest| oldest.to_string());
        let (state, name, status) =
            (self.ground.state.clone(), self.destination.name.clone(), self.status.clone());
        if let Err(error) = blocking(move || state.write_status(&name, &status)).await {
            tracing::warn!(destination = self.destination.name, %error, "cannot write the state of shipping");
        }
    }

    /// Whether something could not be read since it is not there any more: a file of a session that went on, which is
    /// shipped with it, or an old head.
    async fn is_gone(&self, item: &Item, error: &ShipError) -> bool {
        let path = match item {
            Item::Session { .. } => return false,
            Item::Segment { .. } | Item::Head { .. } => item.written_path().unwrap_or_else(|| item.path()),
        };
        let path = self.ground.spool.join(path);
        let is_gone = blocking(move || Ok(!path.exists())).await.unwrap_or(false);
        is_gone && error.failure() == Failure::Unreadable
    }

    async fn done(&mut self, done: Result<(Item, Result<(), ShipError>), JoinError>) {
        let (item, shipped) = match done {
            Ok(done) => done,
            Err(error) => {
                // Which one it was is not known: all are found again, and what is there is not sent again.
                (self.backlog, self.read_at) = (Backlog::default(), None);
                tracing::error!(destination = self.destination.name, %error, "shipping ended by an error of the gateway");
                return;
            }
        };
        let Err(error) = shipped else {
            self.backlog.confirm(&item);
            self.status.last_confirmed = Some(now_text());
            self.status.last_error = None;
            return;
        };
        if self.is_gone(&item, &error).await {
            self.backlog.gone(&item);
            return;
        }
        self.slot.renew().await;
        let reason = with_causes(&error);
        self.ground.board.metrics.failed(self.destination.kind_name());
        self.status.last_error = Some(format!("{item}: {reason}"));
        let (name, now) = (&self.destination.name, self.now());
        match self.backlog.fail(&item, error.failure(), now, rand::random()) {
            Verdict::Again => {
                tracing::warn!(destination = name, %item, error = reason, "a recording is not shipped yet");
            }
            Verdict::SetAside => {
                tracing::error!(destination = name, %item, error = reason, "a recording is set aside: it cannot be shipped");
                self.status.aside += 1;
                let (state, name) = (self.ground.state.clone(), name.clone());
                let aside = move || {
                    let now = UtcTime::from(SystemTime::now());
                    let before = state.aside(&name, &item);
                    let aside = Aside::again(before.as_ref(), reason, now.unix_seconds(), now.to_string());
                    state.set_aside(&name, &item, &aside)
                };
                if let Err(error) = blocking(aside).await {
                    // Then it is tried again after the next reading of the spool.
                    tracing::error!(destination = self.destination.name, %error, "cannot write what is set aside");
                }
            }
        }
    }
}

/// Ships one thing, file by file.
async fn ship(ground: &Ground, destination: &Destination, slot: &Slot, item: &Item) -> Result<(), ShipError> {
    let (spool, of) = (ground.spool.clone(), item.clone());
    let files = blocking(move || source::files(&spool, &of)).await.map_err(ShipError::Unreadable)?;
    let connection = slot.connection().await?;
    let mut confirmed = Confirmed { time: String::new(), files: 0, bytes: 0, manifest_sha256: None };
    for file in files {
        let hashed = file.clone();
        let digest = blocking(move || source::digest(&hashed)).await.map_err(ShipError::Unreadable)?;
        connection.put(&file, &digest).await?;
        ground.board.metrics.shipped(destination.kind_name(), file.size);
        confirmed.files += 1;
        confirmed.bytes += file.size;
        if file.name == format!("{}/{MANIFEST_FILE}", item.path()) {
            confirmed.manifest_sha256 = Some(hex::encode(digest));
        }
    }
    confirmed.time = now_text();
    let (state, name, item) = (ground.state.clone(), destination.name.clone(), item.clone());
    blocking(move || state.confirm(&name, &item, &confirmed)).await.map_err(ShipError::State)
}

/// Whether something may have come or gone since the last reading.
fn changed_since(spool: &Path, last: Option<(Instant, SystemTime)>) -> bool {
    let Some((read_at, by_clock)) = last.filter(|(read_at, _)| read_at.elapsed() < READ) else { return true };
    let unchanged = |dir: &Path| match dir.metadata().and_then(|metadata| metadata.modified()) {
        Ok(modified) => modified + COARSE < by_clock,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    // Right after a change it is read again until that is older than what clocks tell.
    !(unchanged(spool) && unchanged(&spool.join("heads"))) && read_at.elapsed() >= LOOK
}

/// What the destination has not confirmed and is to be tried, and how much is set aside.
fn pending(ground: &Ground, destination: &str) -> io::Result<(BTreeSet<Item>, u64)> {
    let mut pending = source::items(&ground.spool)?;
    let known = ground.state.known(destination)?;
    for item in known.confirmed.union(&known.aside).filter(|item| !pending.contains(item)) {
        ground.state.forget(destination, item)?;
    }
    pending.retain(|item| !known.confirmed.contains(item));
    let now = UtcTime::from(SystemTime::now()).unix_seconds();
    let mut aside = 0;
    for item in &known.aside {
        let waits = ground.state.aside(destination, item).is_some_and(|aside| !aside.is_due(now));
        if waits && pending.remove(item) {
            aside += 1;
        }
    }
    Ok((pending, aside))
}

fn now_text() -> String {
    UtcTime::from(SystemTime::now()).to_string()
}
