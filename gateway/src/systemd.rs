//! What the service manager is told of a gateway (sd_notify(3)): that it serves, reads its policy, ends, lives.
//!
//! Owns the messages and the pace of the watchdog. Invariants: a sign of life is sent by who accepts connections, and
//! only after a worker of the runtime has answered; nothing waits for the manager; where none asks to be told
//! (`NOTIFY_SOCKET`), all of this is nothing.

use std::env;
use std::ffi::OsStr;
use std::future::{Future, pending};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::pin::pin;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Signs of life in the time after which the manager ends who gives none.
const BEATS: u32 = 3;

/// What the manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In charge: it serves connections to targets.
    Serving,
    /// It reads policy and keys again.
    Reloading,
    /// Another gateway is in charge; this one has some sessions yet.
    Draining,
    /// It ends.
    Stopping,
}

/// The way to the manager, and the pace of signs of life.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    pace: Option<Interval>,
    /// The worker that was asked for an answer.
    asked: JoinSet<()>,
}

impl State {
    const fn message(self) -> &'static str {
        match self {
            Self::Serving => "READY=1\nSTATUS=In charge: serves connections to targets",
            Self::Reloading => "RELOADING=1\nSTATUS=In charge: reads policy and keys again",
            Self::Draining => "READY=1\nSTATUS=Drains: another gateway is in charge",
            Self::Stopping => "STOPPING=1\nSTATUS=Ends sessions and closes recordings",
        }
    }
}

impl Manager {
    /// The manager of this process; within an async runtime.
    pub fn of_this_process() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|_| ours).map(Duration::from_micros);
        Self::at(&address, limit).unwrap_or_else(|error| {
            tracing::warn!(address = %address.display(), %error, "the service manager cannot be told anything");
            Self::default()
        })
    }

    /// The manager that listens at `address`, and wants signs of life within `limit`.
    fn at(address: &OsStr, limit: Option<Duration>) -> io::Result<Self> {
        let address = match address.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address)?;
        let pace =
            limit.map(|limit| interval((limit / BEATS).max(Duration::from_millis(1)))).map(|mut pace| {
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                pace
            });
        Ok(Self { socket: Some(socket), pace, asked: JoinSet::new() })
    }

    /// Tells it.
    pub fn tell(&self, state: State) {
        self.send(state.message());
    }

    /// One sign of life when it is due, and a worker of the runtime has answered; never without a watchdog. Dropping the
    /// future loses nothing.
    pub async fn beat(&mut self) {
        let Some(pace) = &mut self.pace else { return pending().await };
        if self.asked.is_empty() {
            pace.tick().await;
            self.asked.spawn(async {});
        }
        self.asked.join_next().await;
        self.send("WATCHDOG=1");
    }

    /// Does `work` and gives signs of life meanwhile.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.beat() => {}
            }
        }
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::warn!(%error, message, "the service manager was not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(limit: Option<Duration>) -> (Manager, UnixDatagram, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (Manager::at(path.as_os_str(), limit).unwrap(), heard, dir)
    }

    fn message(heard: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = heard.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[tokio::test]
    async fn states_are_told_by_path_and_by_abstract_name() {
        let (manager, heard, _dir) = manager(None);
        for (state, first) in [
            (State::Serving, "READY=1\n"),
            (State::Reloading, "RELOADING=1\n"),
            (State::Draining, "READY=1\nSTATUS=Drains"),
            (State::Stopping, "STOPPING=1\n"),
        ] {
            manager.tell(state);
            assert!(message(&heard).starts_with(first));
        }
        let name = format!("portreeve-test-{}", std::process::id());
        let heard = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Manager::at(OsStr::new(&format!("@{name}")), None).unwrap().tell(State::Serving);
        assert!(message(&heard).starts_with("READY=1"));
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_come_three_times_in_the_limit_and_while_something_is_done() {
        let (mut manager, heard, _dir) = manager(Some(Duration::from_secs(30)));
        manager.during(tokio::time::sleep(Duration::from_secs(35))).await;
        heard.set_nonblocking(true).unwrap();
        let count = std::iter::from_fn(|| heard.recv(&mut [0; 64]).ok()).count();
        assert_eq!(count, 4, "at once, and after 10, 20 and 30 s");
    }

    /// A runtime of one thread that is held up: no worker answers.
    #[tokio::test(start_paused = true)]
    async fn no_sign_of_life_is_given_before_a_worker_has_answered() {
        let (mut manager, heard, _dir) = manager(Some(Duration::from_secs(30)));
        heard.set_nonblocking(true).unwrap();
        {
            let mut beat = pin!(manager.beat());
            assert!(futures_poll(beat.as_mut()).is_none(), "the worker has not run yet");
        }
        assert!(heard.recv(&mut [0; 64]).is_err());
        manager.beat().await;
        assert_eq!(message(&heard), "WATCHDOG=1");
    }

    fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn without_a_manager_nothing_is_told_and_nothing_is_due() {
        let mut manager = Manager::default();
        manager.tell(State::Serving);
        assert!(futures_poll(pin!(manager.beat())).is_none());
        assert_eq!(manager.during(async { 7 }).await, 7);
    }
}
