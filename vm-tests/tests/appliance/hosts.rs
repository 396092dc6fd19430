//! What hosts at the ends do: frames that reach the server, and a client that never stops asking.

use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use portreeve_tests::Netns;
use portreeve_tests::topology::{CLIENT4, CLIENT6, OPEN4, SSH_PORT, TARGET4, TARGET6, at};
use portreeve_tests::wire::Wire;

/// How long the prober waits for each answer.
const PATIENCE: Duration = Duration::from_millis(100);

/// Connects to both targets, and to an address that is none, all the time.
pub(crate) struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

/// Flows of the client that the server's host has seen.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen>>,
}

/// How many packets of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// TCP of the client's addresses to a target's port 22.
    pub(crate) to_targets: u64,
    /// TCP of the client's addresses to the address that is no target.
    pub(crate) to_open: u64,
}

impl Prober {
    pub(crate) fn start(client: &Netns) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (asked, client) = (Arc::clone(&stop), client.clone());
        let thread = thread::spawn(move || {
            client.enter(|| {
                while !asked.load(Ordering::Relaxed) {
                    for to in [at(TARGET4, SSH_PORT), at(TARGET6, SSH_PORT), at(OPEN4, SSH_PORT)] {
                        // Refused, lost or answered: what reaches the server is what counts.
                        drop(TcpStream::connect_timeout(&to, PATIENCE));
                    }
                }
                Ok(())
            })
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        joined(self.thread)
    }
}

impl Witness {
    /// Sees what comes to the server's host from now on.
    pub(crate) fn start(server: &Netns) -> Result<Self> {
        Self::of(server, vec![CLIENT4.into(), CLIENT6.into()])
    }

    /// The same of these addresses of the client.
    pub(crate) fn of(server: &Netns, client: Vec<IpAddr>) -> Result<Self> {
        let wire = Wire::open(server, "eth0")?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut seen = Seen::default();
            while !asked.load(Ordering::Relaxed) {
                let Some(frame) = wire.receive()?.filter(|frame| !frame.outgoing) else { continue };
                seen.count(&frame.frame, &client);
            }
            Ok(seen)
        });
        Ok(Self { stop, thread })
    }

    pub(crate) fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        joined(self.thread)
    }
}

impl Seen {
    fn count(&mut self, frame: &[u8], client: &[IpAddr]) {
        match flow(frame) {
            Some((from, to, SSH_PORT)) if client.contains(&from) => {
                self.to_targets += u64::from(to == TARGET4 || to == TARGET6);
                self.to_open += u64::from(to == OPEN4);
            }
            _ => {}
        }
    }
}

/// Source, destination and destination port of TCP without options or extension headers.
fn flow(frame: &[u8]) -> Option<(IpAddr, IpAddr, u16)> {
    let (addresses, port) = match (frame.get(12..14)?, frame.get(14..)?) {
        ([0x08, 0x00], packet) if packet.get(9) == Some(&6) => {
            let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            ((address(12)?, address(16)?), packet.get(22..24)?)
        }
        ([0x86, 0xdd], packet) if packet.get(6) == Some(&6) => {
            let address =
                |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            ((address(8)?, address(24)?), packet.get(42..44)?)
        }
        _ => return None,
    };
    Some((addresses.0, addresses.1, u16::from_be_bytes(port.try_into().ok()?)))
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result.context("a host's thread"),
        Err(_) => bail!("a host's thread panicked"),
    }
}
