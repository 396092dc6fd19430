//! The old gateway's side of a takeover: who asks for the datapath on the control socket.
//!
//! Speaks the protocol of [`super::takeover`] with one successor at a time, and tells the main loop what to
//! do, step by step. Holds nothing of the datapath itself.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, sleep, timeout};

use super::takeover::{Answer, Request, Terms};
use crate::control::{Control, Peer};

/// How long a peer may take to say what it wants.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// How often the log says that a successor is not ready yet.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// When it is tried again to take the datapath back from a successor that is just dying; then after
/// twice the time, and so on.
const RETRY: Duration = Duration::from_millis(20);

/// The longest time between two tries, where somebody else holds the lock.
const RETRY_LIMIT: Duration = Duration::from_secs(5);

/// What the main loop is told, with the way to say that it is done; `false` means "not yet: say it again".
#[derive(Debug)]
pub(super) struct Order {
    pub(super) step: Step,
    pub(super) done: oneshot::Sender<bool>,
}

/// A step of a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To let the datapath go.
    Lend,
    /// To take it back, since the successor has failed.
    TakeBack,
    /// To drain, since the successor serves.
    HandOver,
}

/// Answers on the control socket until the datapath is handed over.
pub(super) async fn serve(control: Control, terms: Terms, orders: mpsc::Sender<Order>) {
    loop {
        let peer = control.accept().await;
        if succeed(peer, &terms, &orders).await {
            return;
        }
    }
}

/// One successor; whether it is in charge now.
async fn succeed(mut peer: Peer, terms: &Terms, orders: &mpsc::Sender<Order>) -> bool {
    let pid = peer.pid();
    match timeout(ASK_LIMIT, peer.receive()).await {
        Ok(Ok(Some(Request::Takeover(wanted)))) if wanted == *terms => {}
        Ok(Ok(Some(Request::Takeover(_)))) => {
            let reason = "its datapath.pin_dir, mark and route_table are not those of the configuration: stop it, \
                          then start the new one";
            tracing::warn!(pid, "a takeover with another pin_dir, mark or route_table is refused");
            // It has gone when it does not hear the reason.
            peer.send(&Answer::Refused(reason.to_owned())).await.ok();
            return false;
        }
        // Who only looks whether anybody is there.
        Ok(Ok(None)) => return false,
        other => {
            tracing::warn!(pid, ?other, "the control socket was asked for nothing that is known");
            return false;
        }
    }
    tracing::info!(pid, "another gateway prepares to take over");
    tell(orders, Step::Lend).await;
    let outcome = match peer.send(&Answer::Lent).await {
        Ok(()) => await_serving(&mut peer).await,
        Err(error) => Err(error),
    };
    if matches!(outcome, Ok(Some(Request::Serving))) {
        tell(orders, Step::HandOver).await;
        peer.send(&Answer::Released).await.ok();
        return true;
    }
    tracing::error!(pid, ?outcome, "the other gateway has not taken over: this one stays in charge");
    let mut pause = RETRY;
    while !tell(orders, Step::TakeBack).await {
        sleep(pause).await;
        pause = RETRY_LIMIT.min(pause * 2);
    }
    false
}

async fn await_serving(peer: &mut Peer) -> std::io::Result<Option<Request>> {
    let pid = peer.pid();
    let mut remind = interval(REMIND_EVERY);
    remind.tick().await;
    let serving = peer.receive();
    tokio::pin!(serving);
    loop {
        tokio::select! {
            said = &mut serving => return said,
            _ = remind.tick() => tracing::warn!(pid, "the other gateway is still not ready to take over"),
        }
    }
}

/// Gives an order and waits for it; for ever when the main loop has ended, which drops this task.
async fn tell(orders: &mpsc::Sender<Order>, step: Step) -> bool {
    let (done, result) = oneshot::channel();
    if orders.send(Order { step, done }).await.is_err() {
        return std::future::pending().await;
    }
    match result.await {
        Ok(result) => result,
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use portreeve_core::config::daemon;
    use tokio::task::JoinHandle;

    use super::*;

    fn terms(key: &str) -> Terms {
        let text = format!(
            "[datapath]\ninterfaces = [\"eth0\"]\n{key}\n[recording]\nrecipient_key_file = \"/k.pub\"\n"
        );
        Terms::of(&daemon::load(&text, "portreeve.toml").unwrap().datapath)
    }

    /// A successor that has asked, what the main loop is told, and whether it was relieved in the end.
    async fn asked(wanted: Terms) -> (Peer, mpsc::Receiver<Order>, JoinHandle<bool>) {
        let dir = tempfile::tempdir().unwrap();
        let mut control = Control::bind(dir.path()).unwrap();
        control.publish().unwrap();
        let mut successor = Peer::connect(dir.path()).await.unwrap().unwrap();
        let peer = control.accept().await;
        let (orders, told) = mpsc::channel(1);
        let task = tokio::spawn(async move { succeed(peer, &terms(""), &orders).await });
        successor.send(&Request::Takeover(wanted)).await.unwrap();
        (successor, told, task)
    }

    async fn obey(told: &mut mpsc::Receiver<Order>, step: Step, done: bool) {
        let order = told.recv().await.unwrap();
        assert_eq!(order.step, step);
        order.done.send(done).unwrap();
    }

    #[tokio::test]
    async fn a_successor_that_serves_is_in_charge() {
        let (mut successor, mut told, task) = asked(terms("")).await;
        obey(&mut told, Step::Lend, true).await;
        assert!(matches!(successor.receive().await.unwrap(), Some(Answer::Lent)));
        successor.send(&Request::Serving).await.unwrap();
        obey(&mut told, Step::HandOver, true).await;
        assert!(matches!(successor.receive().await.unwrap(), Some(Answer::Released)));
        assert!(task.await.unwrap());
    }

    #[tokio::test]
    async fn a_successor_that_dies_leaves_the_datapath_to_be_taken_back_until_it_is() {
        let (mut successor, mut told, task) = asked(terms("")).await;
        obey(&mut told, Step::Lend, true).await;
        assert!(matches!(successor.receive().await.unwrap(), Some(Answer::Lent)));
        drop(successor);
        obey(&mut told, Step::TakeBack, false).await;
        obey(&mut told, Step::TakeBack, true).await;
        assert!(!task.await.unwrap());
    }

    #[tokio::test]
    async fn a_successor_with_another_mark_is_refused_and_nothing_is_lent() {
        let (mut successor, mut told, task) = asked(terms("mark = 7")).await;
        let answer = successor.receive().await.unwrap();
        assert!(matches!(answer, Some(Answer::Refused(reason)) if reason.contains("mark")));
        assert!(!task.await.unwrap());
        assert!(told.recv().await.is_none());
    }
}
