//! One gateway takes over from another without a connection lost. The new one's side, and the protocol.
//!
//! The two talk over the control socket of the old one, a line of JSON each:
//!
//! ```text
//! new: portreeve run --takeover                     old: in charge, holds the lock on the pins
//!   files, keys, policy, listeners are ready
//!   takeover: pin directory, mark, table  ------->
//!                                                   serves on; changes nothing in the kernel from here
//!                                         <-------  lent: the lock is free (or refused, and why)
//!   takes the lock; loads the programs onto the
//!   pinned maps; updates the links; applies
//!   targets; last, its listeners into the map
//!   serving                               ------->
//!                                                   forgets the datapath, frees the metrics address
//!                                         <-------  released; drains from now on
//!   takes the control socket's path, serves metrics
//! ```
//!
//! Who holds the lock is the one that may change the kernel's state. At each moment either listener, or
//! one after the other, is in the map, so that a new connection is always in somebody's queue; and
//! connections of the old one stay its own, also those that are in the middle of their TCP handshake.
//!
//! | dies (or fails) | what follows |
//! |---|---|
//! | new before `lent` | nothing was changed |
//! | new before `serving` | the socket closes: the old one takes the lock, puts its programs, targets and listeners back. If the new listeners were in the map already, connections in their queue are reset, and targets are closed until the old ones are back, some milliseconds |
//! | new after `serving` | as when any gateway is killed: targets are closed until the next start. The old one drains |
//! | old at any step | its sessions are cut. The new one goes on, and is in charge when it is done; until its listeners are in the map, targets are closed |
//!
//! Nothing of this opens a target: programs, links and targets stay in place throughout.
//!
//! There is no limit of time: as long as the new one lives and has not failed, the old one serves with the
//! kernel's state as it is, and says in its log that it waits.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use portreeve_core::config::daemon::{Config, DatapathConfig};
use serde::{Deserialize, Serialize};

use crate::admin::Question;
use crate::control::Peer;

/// What is asked on the control socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// It is ready to take over, on these terms.
    Takeover(Terms),
    /// Something about live sessions; it is answered, and that is all.
    Sessions(Question),
    /// Whether it serves; it is answered by a [`Standing`], and that is all.
    Standing,
    /// Its listeners take the connections.
    Serving,
}

/// How a gateway stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether all configured interfaces are steered to its listeners.
    pub serves: bool,
}

/// What the old gateway answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// The kernel's state is the new one's to change.
    Lent,
    /// It is not, and why.
    Refused(String),
    /// The old one only drains.
    Released,
}

/// Where both must steer the same way, since each finds or leaves what the other has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pin_dir: PathBuf,
    mark: u32,
    route_table: u32,
}

/// The gateway to take over from, which has lent its datapath. Dropped, it takes that back.
#[derive(Debug)]
pub(super) struct Predecessor {
    peer: Peer,
}

impl Terms {
    /// Those of a configuration.
    pub(super) fn of(config: &DatapathConfig) -> Self {
        Self { pin_dir: config.pin_dir.clone(), mark: config.mark, route_table: config.route_table }
    }
}

impl Predecessor {
    /// Asks the gateway in charge for its datapath; `None` when no gateway runs.
    ///
    /// # Errors
    /// When it refuses, or ends before it answers; it is not disturbed then.
    pub(super) async fn ask(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(mut peer) = Peer::connect(&config.state_dir).await? else {
            tracing::info!("no gateway runs here: there is nothing to take over");
            return Ok(None);
        };
        let pid = peer.pid();
        tracing::info!(pid, "taking over");
        let asked = peer.send(&Request::Takeover(Terms::of(&config.datapath))).await;
        asked.context("the gateway that runs does not listen")?;
        match peer.receive().await.context("the gateway that runs did not answer")? {
            Some(Answer::Lent) => Ok(Some(Self { peer })),
            Some(Answer::Refused(reason)) => {
                bail!("the gateway that runs refuses to be taken over: {reason}")
            }
            Some(Answer::Released) | None => {
                bail!("the gateway that ran has ended, or was taken over by another: start again")
            }
        }
    }

    /// Tells that this gateway serves, and waits until the old one only drains, or is gone.
    pub(super) async fn relieve(mut self) {
        let pid = self.peer.pid();
        let told = match self.peer.send(&Request::Serving).await {
            Ok(()) => self.peer.receive::<Answer>().await,
            Err(error) => Err(error),
        };
        match told {
            Ok(Some(Answer::Released)) => tracing::info!(pid, "in charge; the gateway before drains"),
            told => tracing::warn!(pid, ?told, "in charge; the gateway before has not said that it drains"),
        }
    }
}
