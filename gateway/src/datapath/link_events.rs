//! When to look at the interfaces: at every change of any link, address, routing rule or `rp_filter`, a moment later
//! again, and from time to time.
//!
//! Does not read what changed: whoever is told looks at everything, so an event that the kernel had
//! no room for (`ENOBUFS`) is an event like any other. What is detached by hand makes no event;
//! only the clock finds that. The kernel tells of an address before it makes the routes that come
//! with it: therefore the second look.

use std::io;
use std::time::Duration;

use nix::libc;
use rtnetlink::MulticastGroup;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, TokioSocket};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::DatapathError;

const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longer events are cut; nothing of them is read.
const EVENT_BYTES: usize = 64;

/// What the fast path relies on besides the links.
const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Ipv4Netconf,
];

/// Changes of links and what goes with them, from the moment this is made.
pub struct LinkEvents {
    socket: TokioSocket,
    clock: Interval,
}

impl LinkEvents {
    /// Subscribes to those of the network namespace.
    ///
    /// # Errors
    /// When the kernel refuses a netlink socket.
    pub fn subscribe() -> Result<Self, DatapathError> {
        let mut socket: TokioSocket =
            rtnetlink::sys::AsyncSocket::new(NETLINK_ROUTE).map_err(DatapathError::Netlink)?;
        let raw = socket.socket_mut();
        raw.bind_auto().map_err(DatapathError::Netlink)?;
        for group in GROUPS {
            raw.add_membership(group as u32).map_err(DatapathError::Netlink)?;
        }
        let mut clock = interval(LOOK_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { socket, clock })
    }

    /// Returns when it is time to look; the first time at once. Events that wait are one.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) {
        let mut event = Vec::with_capacity(EVENT_BYTES);
        let told = tokio::select! {
            told = self.socket.recv(&mut event) => told,
            _ = self.clock.tick() => return,
        };
        match told {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => {
                tracing::error!(%error, "changes of links are not seen; looking every {LOOK_EVERY:?} instead");
                self.clock.tick().await;
            }
        }
        while self.take_waiting(&mut event).is_ok() {}
        self.clock.reset_after(LOOK_AGAIN);
    }

    fn take_waiting(&self, event: &mut Vec<u8>) -> io::Result<usize> {
        event.clear();
        self.socket.socket_ref().recv(event, 0)
    }
}

impl std::fmt::Debug for LinkEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkEvents(..)")
    }
}
