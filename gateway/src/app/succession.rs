//! The gateway's side of the control socket: who asks about sessions or whether it serves, and who asks for the datapath.
//!
//! Questions are answered at once, also while a takeover is under way. Speaks the protocol of
//! [`super::takeover`] with one successor at a time, and tells the main loop what to do, step by step. Holds
//! nothing of the datapath itself. Invariant: at most [`HEARD`] peers have not said yet what they want or
//! are being answered, each for twice [`ASK_LIMIT`] at most, and [`WAITING`] wait to be successors.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use super::shutdown::log_panic;
use super::takeover::{Answer, Request, Standing, Terms};
use crate::admin;
use crate::control::{Control, Peer};
use crate::http::Readiness;
use crate::session::registry::Registry;

/// How long a peer may take to say what it wants.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// Peers that are heard at a time; further ones wait in the socket's queue.
const HEARD: usize = 16;

/// Successors that wait for the end of another's takeover.
const WAITING: usize = 4;

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
pub(super) async fn serve(
    control: Control,
    terms: Terms,
    known: (Arc<Registry>, Readiness),
    orders: mpsc::Sender<Order>,
) {
    let (ready, mut successors) = mpsc::channel(WAITING);
    let mut hearing = JoinSet::new();
    let mut succession = pin!(succeed_one(&mut successors, &orders));
    loop {
        tokio::select! {
            () = &mut succession => return,
            peer = control.accept(), if hearing.len() < HEARD => {
                hearing.spawn(hear(peer, terms.clone(), known.clone(), ready.clone()));
            }
            Some(heard) = hearing.join_next() => log_panic(heard),
        }
    }
}

/// Hears what a peer wants; answers it, or lets it wait to be the successor.
async fn hear(
    mut peer: Peer,
    terms: Terms,
    (registry, readiness): (Arc<Registry>, Readiness),
    ready: mpsc::Sender<Peer>,
) {
    let pid = peer.pid();
    match timeout(ASK_LIMIT, peer.receive()).await {
        Ok(Ok(Some(Request::Takeover(wanted)))) if wanted == terms => {
            if let Err(error) = ready.try_send(peer) {
                tracing::warn!(pid, "a takeover is refused: too many others wait");
                refuse(&mut error.into_inner(), "too many others want to take over").await;
            }
        }
        Ok(Ok(Some(Request::Takeover(_)))) => {
            tracing::warn!(pid, "a takeover with another pin_dir, mark or route_table is refused");
            let reason = "its datapath.pin_dir, mark and route_table are not those of the configuration: stop it, \
                          then start the new one";
            refuse(&mut peer, reason).await;
        }
        Ok(Ok(Some(Request::Sessions(question)))) => {
            let answered = timeout(ASK_LIMIT, admin::answer(&mut peer, &registry, question)).await;
            if !matches!(answered, Ok(Ok(()))) {
                tracing::warn!(pid, ?answered, "who asked about sessions did not take the answer");
            }
        }
        Ok(Ok(Some(Request::Standing))) => {
            // Who has gone does not want to know any more.
            timeout(ASK_LIMIT, peer.send(&Standing { serves: readiness.is_ready() })).await.ok();
        }
        // Who only looks whether anybody is there.
        Ok(Ok(None)) => {}
        other => tracing::warn!(pid, ?other, "the control socket was asked for nothing that is known"),
    }
}

async fn refuse(peer: &mut Peer, reason: &str) {
    // It has gone when it does not hear the reason.
    timeout(ASK_LIMIT, peer.send(&Answer::Refused(reason.to_owned()))).await.ok();
}

/// Yields when one of them is in charge.
async fn succeed_one(successors: &mut mpsc::Receiver<Peer>, orders: &mpsc::Sender<Order>) {
    while let Some(peer) = successors.recv().await {
        if succeed(peer, orders).await {
            return;
        }
    }
}

/// One successor; whether it is in charge now.
async fn succeed(mut peer: Peer, orders: &mpsc::Sender<Order>) -> bool {
    let pid = peer.pid();
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
    use std::path::Path;

    use portreeve_core::config::daemon;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::admin::Question;

    fn terms(key: &str) -> Terms {
        let text = format!(
            "[datapath]\ninterfaces = [\"eth0\"]\n{key}\n[recording]\nrecipient_key_file = \"/k.pub\"\n"
        );
        Terms::of(&daemon::load(&text, "portreeve.toml").unwrap().datapath)
    }

    /// A gateway's side of a control socket, and what its main loop is told.
    async fn served(dir: &Path) -> (mpsc::Receiver<Order>, JoinHandle<()>) {
        let mut control = Control::bind(dir).unwrap();
        control.publish().unwrap();
        let (orders, told) = mpsc::channel(1);
        (told, tokio::spawn(serve(control, terms(""), Default::default(), orders)))
    }

    async fn asking(dir: &Path, request: &Request) -> Peer {
        let mut peer = Peer::connect(dir).await.unwrap().unwrap();
        peer.send(request).await.unwrap();
        peer
    }

    async fn obey(told: &mut mpsc::Receiver<Order>, step: Step, done: bool) {
        let order = told.recv().await.unwrap();
        assert_eq!(order.step, step);
        order.done.send(done).unwrap();
    }

    #[tokio::test]
    async fn a_successor_that_serves_is_in_charge() {
        let dir = tempfile::tempdir().unwrap();
        let (mut told, task) = served(dir.path()).await;
        let mut successor = asking(dir.path(), &Request::Takeover(terms(""))).await;
        obey(&mut told, Step::Lend, true).await;
        assert!(matches!(successor.receive().await.unwrap(), Some(Answer::Lent)));
        successor.send(&Request::Serving).await.unwrap();
        obey(&mut told, Step::HandOver, true).await;
        assert!(matches!(successor.receive().await.unwrap(), Some(Answer::Released)));
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_successor_that_dies_leaves_the_datapath_to_be_taken_back_until_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (mut told, _task) = served(dir.path()).await;
        let mut successor = asking(dir.path(), &Request::Takeover(terms(""))).await;
        obey(&mut told, Step::Lend, true).await;
        assert!(matches!(successor.receive().await.unwrap(), Some(Answer::Lent)));
        drop(successor);
        obey(&mut told, Step::TakeBack, false).await;
        obey(&mut told, Step::TakeBack, true).await;
        let _next = asking(dir.path(), &Request::Takeover(terms(""))).await;
        obey(&mut told, Step::Lend, true).await;
    }

    #[tokio::test]
    async fn a_successor_with_another_mark_is_refused_and_nothing_is_lent() {
        let dir = tempfile::tempdir().unwrap();
        let (mut told, _task) = served(dir.path()).await;
        let mut successor = asking(dir.path(), &Request::Takeover(terms("mark = 7"))).await;
        let answer = successor.receive().await.unwrap();
        assert!(matches!(answer, Some(Answer::Refused(reason)) if reason.contains("mark")));
        assert!(told.try_recv().is_err());
    }

    #[tokio::test]
    async fn questions_are_answered_while_takeovers_hang_and_successors_that_are_too_many_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut told, _task) = served(dir.path()).await;
        let _hanging = asking(dir.path(), &Request::Takeover(terms(""))).await;
        obey(&mut told, Step::Lend, true).await;
        let mut waiting = JoinSet::new();
        for _ in 0..=WAITING {
            let mut peer = asking(dir.path(), &Request::Takeover(terms(""))).await;
            waiting.spawn(async move { peer.receive().await.unwrap() });
        }
        let first = waiting.join_next().await.unwrap().unwrap();
        assert!(matches!(first, Some(Answer::Refused(_))), "{first:?}");
        let mut curious = asking(dir.path(), &Request::Sessions(Question::List)).await;
        let answer = timeout(ASK_LIMIT, curious.receive()).await.unwrap().unwrap();
        assert!(matches!(answer, Some(admin::Answer::Done)), "{answer:?}");
    }
}
