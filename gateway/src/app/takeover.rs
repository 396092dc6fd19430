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
//! | old before `lent` | its sessions are cut. The new one asks who is in charge then, and starts as after a crash if nobody is |
//! | new before `serving` | the socket closes: the old one takes the lock, puts its programs, targets and listeners back. If the new listeners were in the map already, connections in their queue are reset, and targets are closed until the old ones are back, some milliseconds |
//! | new after `serving` | as when any gateway is killed: targets are closed until the next start. The old one drains |
//! | old at any later step | its sessions are cut. The new one goes on, and is in charge when it is done; until its listeners are in the map, targets are closed |
//!
//! Nothing of this opens a target: programs, links and targets stay in place throughout.
//!
//! There is no limit of time: as long as the new one lives and has not failed, the old one serves with the
//! kernel's state as it is, and says in its log that it waits.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use portreeve_core::config::daemon::{Config, DatapathConfig};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::admin::Question;
use crate::control::Peer;

/// How long gateways are asked that end before they answer.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// After its socket is closed, a gateway that dies lets the lock on the pins go within this time.
const ENDING: Duration = Duration::from_millis(100);

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
    /// One that ends before it answers has lent nothing: whoever is in charge after it is asked, if anybody is.
    ///
    /// # Errors
    /// When it refuses, or each that was asked within [`ASK_AGAIN`] has ended; it is not disturbed then.
    pub(super) async fn ask(config: &Config) -> anyhow::Result<Option<Self>> {
        let terms = Terms::of(&config.datapath);
        let give_up = Instant::now() + ASK_AGAIN;
        while let Some(mut peer) = Peer::connect(&config.state_dir).await? {
            let pid = peer.pid();
            tracing::info!(pid, "taking over");
            match answer(&mut peer, terms.clone()).await.context("the gateway that runs did not answer")? {
                Some(Answer::Lent) => return Ok(Some(Self { peer })),
                Some(Answer::Refused(reason)) => {
                    bail!("the gateway that runs refuses to be taken over: {reason}")
                }
                Some(Answer::Released) | None if Instant::now() >= give_up => {
                    bail!("the gateway that ran has ended, or was taken over by another: start again")
                }
                Some(Answer::Released) | None => {
                    tracing::warn!(pid, "the gateway that ran has ended, or was taken over by another");
                    sleep(ENDING).await;
                }
            }
        }
        tracing::info!("no gateway runs here: there is nothing to take over");
        Ok(None)
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

/// What the gateway that runs answers; `None` when it is gone.
async fn answer(peer: &mut Peer, terms: Terms) -> io::Result<Option<Answer>> {
    let answered = match peer.send(&Request::Takeover(terms)).await {
        Ok(()) => peer.receive().await,
        Err(error) => Err(error),
    };
    match answered {
        // It has died before it read the question.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
            Ok(None)
        }
        answered => answered,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use portreeve_core::config::daemon;

    use super::*;
    use crate::control::Control;

    fn config(state_dir: &Path) -> Config {
        let state_dir = state_dir.display();
        let text = format!(
            "state_dir = \"{state_dir}\"\n[datapath]\ninterfaces = [\"eth0\"]\n\
             [recording]\nrecipient_key_file = \"/k.pub\"\n"
        );
        daemon::load(&text, "portreeve.toml").unwrap()
    }

    fn in_charge(config: &Config) -> Control {
        let mut control = Control::bind(&config.state_dir).unwrap();
        control.publish().unwrap();
        control
    }

    async fn asked(control: &Control) -> Peer {
        let mut peer = control.accept().await;
        assert!(matches!(peer.receive().await.unwrap(), Some(Request::Takeover(_))));
        peer
    }

    #[tokio::test]
    async fn a_gateway_that_ends_before_it_answers_leaves_the_question_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let first = in_charge(&config);
        let others = async {
            drop(asked(&first).await);
            // Nobody reads what this one is asked.
            drop(first.accept().await);
            let second = in_charge(&config);
            drop(first);
            asked(&second).await.send(&Answer::Lent).await.unwrap();
        };
        let (predecessor, ()) = tokio::join!(Predecessor::ask(&config), others);
        assert!(predecessor.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_gateway_that_is_killed_before_it_answers_leaves_nothing_to_take_over() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let control = in_charge(&config);
        let killed = async {
            let peer = asked(&control).await;
            drop(control);
            drop(peer);
        };
        let (predecessor, ()) = tokio::join!(Predecessor::ask(&config), killed);
        assert!(predecessor.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn gateways_that_never_answer_are_told_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let control = in_charge(&config);
        let deaf = async {
            loop {
                drop(asked(&control).await);
            }
        };
        let error = tokio::select! {
            asked = Predecessor::ask(&config) => asked.unwrap_err(),
            () = deaf => unreachable!(),
        };
        assert!(error.to_string().ends_with("start again"), "{error}");
    }
}
