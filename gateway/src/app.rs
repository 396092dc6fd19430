//! The wiring: load, build, run, drain.
//!
//! Everything that can be wrong is found before the datapath is touched, so a gateway that does not
//! start changes nothing of what ran before.

mod charge;
mod daemon;
mod interfaces;
mod open_files;
mod reload;
mod shutdown;
mod signals;
mod succession;
mod takeover;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use portreeve_core::access_event::Topic;
use portreeve_core::config::daemon::Config;
use portreeve_core::config::policy::LoadedPolicy;
use portreeve_core::id::Generation;
use tokio::sync::mpsc;

use self::daemon::{Daemon, Edges};
use self::interfaces::Interfaces;
use self::signals::Signals;
use self::takeover::Predecessor;
pub use self::takeover::{Request, Standing};
use crate::access_log::AccessLog;
use crate::audit::AuditChain;
use crate::ca::host::HostSigner;
use crate::ca::{Signer, key};
use crate::control::Control;
use crate::datapath::Datapath;
use crate::export::{Exporter, Exports};
use crate::fips;
use crate::http::Endpoint;
use crate::known_hosts::KnownHosts;
use crate::listener::Listener;
use crate::listener::admission::Admission;
use crate::listener::socket::Listeners;
use crate::metrics::{KernelCounters, Metrics};
use crate::recording::recipient::RecipientKeys;
use crate::recording::spool::Spool;
use crate::session::registry::Registry;
use crate::session::{Gateway, Incoming};
use crate::ship::Shipping;
use crate::ssh::shown_keys::KeyRing;
use crate::store::{self, FileWatch, PolicyStore};
use crate::systemd::{Manager, State};
use crate::telemetry::with_causes;

/// Connections in channels of live sessions that may wait to be served.
const QUEUED_INNER: usize = 256;

/// How a gateway starts where another one runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It does not.
    Fresh,
    /// It takes over.
    Takeover,
}

/// Runs the gateway until it is told to stop, or another one has taken over and its sessions are done.
///
/// # Errors
/// When it cannot start, with what to do about it.
pub async fn run(config: Config, start: Start) -> anyhow::Result<()> {
    fips::check()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), fips = fips::BUILD, "starting");
    let signals = Signals::new()?;
    open_files::raise_limit(config.limits.connections);
    // Watched before it is read, so that no change falls between.
    let watch = FileWatch::new(&config.policy_file)?;
    let policy = store::load(&config.policy_file, Generation(1))?;
    reload::log_warnings(&config, &policy);
    let endpoint = match (config.metrics_listen, start) {
        (Some(addr), Start::Fresh) => Some(Endpoint::bind(addr).await?),
        (Some(addr), Start::Takeover) => Some(Endpoint::bind_or_wait(addr).await?),
        (None, _) => None,
    };
    let sockets = Listeners::bind().context("cannot open the transparent listeners")?;
    let (begin_inner, inner) = mpsc::channel(QUEUED_INNER);
    let (gateway, exporters) = gateway(config, policy, Metrics::default(), begin_inner)?;
    let gateway = Arc::new(gateway);
    let control = Control::bind(&gateway.config.state_dir)?;
    let shipping = {
        let Config { recording, ship, .. } = &gateway.config;
        let metrics = gateway.metrics.ship.clone();
        Shipping::open(
            &recording.spool_dir,
            ship.clone(),
            recording.retention,
            metrics,
            Arc::clone(&gateway.audit),
        )?
    };
    let mut edges = Edges { signals, watch, control, endpoint, shipping, exporters, inner };

    // From before they are attached, so that no change is missed.
    let interfaces = Interfaces::watch()?;
    // As long as it is not relieved, any failure here gives the datapath back to it.
    let predecessor = match start {
        Start::Takeover => Predecessor::ask(&gateway.config).await?,
        Start::Fresh => None,
    };
    let (datapath, listener) = steer(&gateway, sockets).await?;
    if let Some(predecessor) = predecessor {
        predecessor.relieve().await;
    }
    if let Err(error) = edges.control.publish() {
        // It steers already; only the next takeover will not find it.
        tracing::error!(error = with_causes(&error), "this gateway cannot be asked for anything");
    }
    let mut manager = Manager::of_this_process();
    let mut daemon = Daemon::new(gateway, edges, interfaces, listener, datapath);
    daemon.serve(&mut manager).await;
    manager.tell(State::Stopping);
    manager.during(daemon.end()).await
}

/// Loads keys and opens files, and yields what sends events on; touches nothing outside the state directory, spool and
/// access log.
fn gateway(
    config: Config,
    policy: LoadedPolicy,
    metrics: Metrics,
    inner: mpsc::Sender<Incoming>,
) -> anyhow::Result<(Gateway, Vec<Exporter>)> {
    metrics.policy_applied(policy.snapshot.generation.0);
    let (ca, host_ca) = key::load_cas(&config.state_dir, config.downstream.host_certificates)?;
    let audit = Arc::new(AuditChain::open(&config.state_dir)?);
    let mut access_log = AccessLog::open(config.access_log.clone(), metrics.clone())?;
    let mut exporters = access_log.export(&config.access_exports)?;
    let (notices, further) = Exports::open(Topic::Alert, &config.alert_exports, &metrics.alert_exports)?;
    exporters.extend(further);
    let gateway = Gateway {
        policy: PolicyStore::new(policy.snapshot),
        known_hosts: KnownHosts::open(&config.state_dir)?,
        key_ring: KeyRing::new(key::load_account_secret(&config.state_dir)?),
        signer: Signer::new(ca),
        host_signer: host_ca.map(HostSigner::new),
        recipients: RecipientKeys::open(&config.recording.recipient_key_files)?,
        spool: Spool::open_signed(&config.recording.spool_dir, Arc::clone(&audit))?
            .with(config.recording.spool.clone(), metrics.clone())
            .keeping(config.recording.input.clone()),
        audit,
        inner,
        registry: Arc::new(Registry::default()),
        access_log,
        notices,
        metrics,
        config,
    };
    Ok((gateway, exporters))
}

/// Attaches the kernel programs, gives them the targets of the policy, and listens for what they
/// steer. What fails leaves the connections of a gateway that runs alone, since the listeners are last.
async fn steer(gateway: &Gateway, sockets: Listeners) -> anyhow::Result<(Datapath, Listener)> {
    let (mut datapath, warnings) = Datapath::attach(&gateway.config.datapath).await?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let steered = reload::apply(&mut datapath, &gateway.policy.current())?;
    tracing::info!(
        added = steered.added,
        removed = steered.removed,
        changed = steered.changed,
        "targets are steered"
    );
    let admission = Admission::new(gateway.config.limits, gateway.metrics.clone());
    let listener = Listener::new(sockets, admission, gateway.metrics.clone())
        .context("cannot listen for steered connections")?;
    datapath.listen(listener.fds()).await?;
    Ok((datapath, listener))
}

/// Reads the kernel's counters while the datapath lives.
fn counters(datapath: &Arc<Mutex<Datapath>>) -> impl Fn() -> KernelCounters + use<> {
    let datapath = Arc::downgrade(datapath);
    move || {
        let read = datapath.upgrade().map(|datapath| lock(&datapath).counters());
        read.transpose().map(Option::unwrap_or_default).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the counters of the kernel programs");
            KernelCounters::default()
        })
    }
}

fn lock(datapath: &Mutex<Datapath>) -> std::sync::MutexGuard<'_, Datapath> {
    datapath.lock().unwrap_or_else(PoisonError::into_inner)
}
