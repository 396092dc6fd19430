//! The running gateway: one loop that accepts, reloads, looks at interfaces, hands over, and ends.
//!
//! Owns every task. The loop waits for nothing but its events: what takes long is a task of its own.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::charge::Charge;
use super::interfaces::Interfaces;
use super::signals::{Signals, Told};
use super::succession::{self, Order, Step};
use super::takeover::Terms;
use super::{counters, reload, shutdown};
use crate::clock;
use crate::control::Control;
use crate::datapath::{BlockedFlows, Datapath};
use crate::export::Exporter;
use crate::http::{Endpoint, Readiness};
use crate::listener::Listener;
use crate::session::{self, Gateway, Incoming};
use crate::ship::Shipping;
use crate::store::FileWatch;
use crate::systemd::{Manager, State};
use crate::telemetry::with_causes;

/// By what a gateway is told and asked from outside.
pub(super) struct Edges {
    pub(super) signals: Signals,
    /// Changes of the policy file.
    pub(super) watch: FileWatch,
    pub(super) control: Control,
    pub(super) endpoint: Option<Endpoint>,
    /// Where finished recordings go.
    pub(super) shipping: Shipping,
    /// What sends access events and notices of alerts on.
    pub(super) exporters: Vec<Exporter>,
    /// Connections in channels of live sessions.
    pub(super) inner: mpsc::Receiver<Incoming>,
}

/// A gateway that steers, or drains.
pub(super) struct Daemon {
    gateway: Arc<Gateway>,
    listener: Listener,
    charge: Charge,
    interfaces: Interfaces,
    ready: Readiness,
    signals: Signals,
    policy_changes: mpsc::Receiver<()>,
    orders: mpsc::Receiver<Order>,
    inner: mpsc::Receiver<Incoming>,
    sessions: JoinSet<()>,
    /// The load of a policy file that is under way; one at a time.
    reloading: JoinSet<()>,
    /// The file may have changed since that began.
    reload_again: bool,
    /// Tasks that run as long as the process.
    background: JoinSet<()>,
    /// Tasks that run as long as it is in charge.
    charged: JoinSet<()>,
}

impl Daemon {
    /// Starts every task.
    pub(super) fn new(
        gateway: Arc<Gateway>,
        edges: Edges,
        interfaces: Interfaces,
        listener: Listener,
        mut datapath: Datapath,
    ) -> Self {
        let ready = Readiness::of(&gateway.metrics);
        let (mut background, mut charged) = (JoinSet::new(), JoinSet::new());
        if let Some(kernel_log) = datapath.take_kernel_log() {
            charged.spawn(kernel_log.run());
        }
        match datapath.take_blocked_flows() {
            Ok(flows) => {
                charged.spawn(log_blocked(Arc::clone(&gateway), flows));
            }
            // They are counted all the same.
            Err(error) => {
                tracing::error!(error = with_causes(&error), "blocked flows have no access-log lines")
            }
        }
        let datapath = Arc::new(Mutex::new(datapath));
        if let Some(endpoint) = edges.endpoint {
            let exposition = gateway.metrics.clone().exposition(counters(&datapath));
            charged.spawn(endpoint.serve(exposition, ready.clone()));
        }
        charged.spawn(edges.shipping.run());
        for exporter in edges.exporters {
            background.spawn(exporter.run());
        }
        let heads = Arc::clone(&gateway.audit)
            .write_heads(gateway.spool.root().into(), gateway.config.recording.chain_head_interval);
        background.spawn(heads);
        let (changed, policy_changes) = mpsc::channel(1);
        background.spawn(edges.watch.report(changed));
        background.spawn(gateway.spool.clone().watch_space());
        background.spawn(clock::watch(gateway.config.state_dir.clone(), gateway.metrics.clone()));
        let (order, orders) = mpsc::channel(1);
        background.spawn(succession::serve(
            edges.control,
            Terms::of(&gateway.config.datapath),
            (Arc::clone(&gateway.registry), ready.clone()),
            order,
        ));
        Self {
            gateway,
            listener,
            charge: Charge::Own(datapath),
            interfaces,
            ready,
            signals: edges.signals,
            policy_changes,
            orders,
            inner: edges.inner,
            sessions: JoinSet::new(),
            reloading: JoinSet::new(),
            reload_again: false,
            background,
            charged,
        }
    }

    /// Serves until it is told to stop, or has drained.
    pub(super) async fn serve(&mut self, manager: &mut Manager) {
        self.look();
        manager.tell(State::Serving);
        loop {
            let idle = self.sessions.is_empty();
            tokio::select! {
                accepted = self.listener.accept() => {
                    self.serve_one(accepted.into());
                }
                Some(incoming) = self.inner.recv() => self.serve_one(incoming),
                Some(finished) = self.sessions.join_next() => shutdown::log_panic(finished),
                () = self.interfaces.changed(), if !self.charge.is_over() => self.look(),
                () = manager.beat() => {}
                Some(()) = self.policy_changes.recv() => self.reload(),
                told = self.signals.next() => match told {
                    Told::Reload => {
                        manager.tell(State::Reloading);
                        reload::access_log(&self.gateway);
                        self.reload();
                    }
                    Told::Stop(signal) => {
                        tracing::info!(signal, "stopping");
                        return;
                    }
                },
                Some(finished) = self.reloading.join_next() => {
                    self.reloaded(finished);
                    manager.tell(self.state());
                }
                Some(order) = self.orders.recv() => {
                    self.obey(order).await;
                    manager.tell(self.state());
                }
                () = self.charge.drained(idle) => {
                    tracing::info!(sessions = self.gateway.registry.len(), "drained");
                    return;
                }
                Some(finished) = self.background.join_next() => shutdown::log_panic(finished),
                Some(finished) = self.charged.join_next() => shutdown::log_panic(finished),
            }
        }
    }

    /// The orderly end.
    ///
    /// # Errors
    /// When the datapath cannot be stopped in order.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.ready.set(false);
        // They end as those do that are on their way already.
        while let Ok(incoming) = self.inner.try_recv() {
            self.serve_one(incoming);
        }
        drop(self.listener);
        settle(&mut self.reloading).await;
        shutdown::drain(&self.gateway, self.sessions).await;
        self.background.shutdown().await;
        self.gateway.audit.write_head_now(self.gateway.spool.root().into()).await;
        self.charged.shutdown().await;
        match self.charge {
            Charge::Own(datapath) => {
                shutdown::withdraw_control(&self.gateway);
                shutdown::stop_datapath(datapath).await
            }
            // They are the successor's.
            Charge::Lent(_) | Charge::Draining { .. } => Ok(()),
        }
    }

    /// What the service manager is told when nothing is under way.
    const fn state(&self) -> State {
        if self.charge.is_over() { State::Draining } else { State::Serving }
    }

    fn serve_one(&mut self, incoming: Incoming) {
        self.sessions.spawn(session::serve(Arc::clone(&self.gateway), incoming));
    }

    fn look(&mut self) {
        if let Some(datapath) = self.charge.datapath() {
            self.interfaces.look(datapath, &self.gateway.metrics, &self.ready);
        }
    }

    /// Loads the policy file on a thread for such: a large one takes seconds, in which connections come.
    fn reload(&mut self) {
        if !self.reloading.is_empty() {
            self.reload_again = true;
            return;
        }
        let (gateway, datapath) = (Arc::clone(&self.gateway), self.charge.datapath().map(Arc::clone));
        self.reloading.spawn_blocking(move || {
            reload::recipients(&gateway);
            reload::policy(&gateway, datapath.as_deref());
        });
    }

    fn reloaded(&mut self, finished: Result<(), JoinError>) {
        shutdown::log_panic(finished);
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        }
    }

    /// Who has the datapath changes between loads of the policy only.
    async fn obey(&mut self, Order { step, done }: Order) {
        settle(&mut self.reloading).await;
        if std::mem::take(&mut self.reload_again) {
            self.reload();
            settle(&mut self.reloading).await;
        }
        if step == Step::HandOver {
            self.charged.shutdown().await;
        }
        let obeyed = self.charge.obey(step, &self.gateway, &self.listener);
        if step == Step::TakeBack && obeyed {
            self.look();
        }
        // Who asked waits for the answer, or is gone.
        done.send(obeyed).ok();
    }
}

/// Waits for the load that is under way.
async fn settle(reloading: &mut JoinSet<()>) {
    while let Some(finished) = reloading.join_next().await {
        shutdown::log_panic(finished);
    }
}

/// Writes an access-log line for each flow that the kernel blocked.
async fn log_blocked(gateway: Arc<Gateway>, mut flows: BlockedFlows) {
    loop {
        let (flow, ingress) = flows.next().await;
        session::blocked_in_kernel(&gateway, flow, ingress);
    }
}
