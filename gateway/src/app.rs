//! The wiring: load, build, run, drain.
//!
//! Everything that can be wrong is found before the datapath is touched, so a gateway that does not
//! start changes nothing of what ran before.

mod interfaces;
mod open_files;
mod reload;
mod shutdown;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use portreeve_core::config::daemon::Config;
use portreeve_core::config::policy::LoadedPolicy;
use portreeve_core::id::Generation;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::interfaces::Interfaces;
use crate::access_log::AccessLog;
use crate::ca::host::HostSigner;
use crate::ca::{Signer, key};
use crate::datapath::Datapath;
use crate::fips;
use crate::http::{Endpoint, Readiness};
use crate::known_hosts::KnownHosts;
use crate::listener::Listener;
use crate::listener::admission::Admission;
use crate::listener::socket::Listeners;
use crate::metrics::Metrics;
use crate::recording::recipient;
use crate::recording::spool::Spool;
use crate::session::registry::Registry;
use crate::session::{self, Gateway};
use crate::ssh::shown_keys::KeyRing;
use crate::store::{self, FileWatch, PolicyStore};
use crate::telemetry::with_causes;

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// When it cannot start, with what to do about it.
pub async fn run(config: Config) -> anyhow::Result<()> {
    fips::check()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), fips = fips::BUILD, "starting");
    let mut signals = Signals::new()?;
    open_files::raise_limit(config.limits.connections);
    // Watched before it is read, so that no change falls between.
    let watch = FileWatch::new(&config.policy_file)?;
    let policy = store::load(&config.policy_file, Generation(1))?;
    reload::log_warnings(&policy.warnings);
    let endpoint = match config.metrics_listen {
        Some(addr) => Some(Endpoint::bind(addr).await?),
        None => None,
    };
    let sockets = Listeners::bind().context("cannot open the transparent listeners")?;
    let metrics = Metrics::default();
    let gateway = Arc::new(gateway(config, policy, metrics.clone())?);

    // From before they are attached, so that no change is missed.
    let mut interfaces = Interfaces::watch()?;
    let (datapath, listener) = steer(&gateway, sockets).await?;
    let datapath = Arc::new(Mutex::new(datapath));
    let mut background = JoinSet::new();
    if let Some(kernel_log) = lock(&datapath).take_kernel_log() {
        background.spawn(kernel_log.run());
    }
    let (changed, mut policy_changes) = mpsc::channel(1);
    background.spawn(watch.report(changed));
    let ready = Readiness::default();
    if let Some(endpoint) = endpoint {
        background.spawn(endpoint.serve(metrics.exposition(counters(&datapath)), ready.clone()));
    }
    interfaces.look(&datapath, &gateway.metrics, &ready);

    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                sessions.spawn(session::serve(Arc::clone(&gateway), accepted));
            }
            Some(finished) = sessions.join_next() => shutdown::log_panic(finished),
            () = interfaces.changed() => interfaces.look(&datapath, &gateway.metrics, &ready),
            Some(()) = policy_changes.recv() => reload::policy(&gateway, &datapath),
            told = signals.next() => match told {
                Told::Reload => {
                    reload::access_log(&gateway);
                    reload::policy(&gateway, &datapath);
                }
                Told::Stop(signal) => {
                    tracing::info!(signal, "stopping");
                    break;
                }
            },
            Some(finished) = background.join_next() => shutdown::log_panic(finished),
        }
    }
    ready.set(false);
    drop(listener);
    shutdown::drain(&gateway, sessions).await;
    background.shutdown().await;
    shutdown::stop_datapath(datapath).await
}

/// Loads keys and opens files; touches nothing outside the state directory, spool and access log.
fn gateway(config: Config, policy: LoadedPolicy, metrics: Metrics) -> anyhow::Result<Gateway> {
    metrics.policy_applied(policy.snapshot.generation.0);
    let (ca, host_ca) = key::load_cas(&config.state_dir, config.downstream.host_certificates)?;
    Ok(Gateway {
        policy: PolicyStore::new(policy.snapshot),
        known_hosts: KnownHosts::open(&config.state_dir)?,
        key_ring: KeyRing::new(key::load_account_secret(&config.state_dir)?),
        signer: Signer::new(ca),
        host_signer: host_ca.map(HostSigner::new),
        recipient: recipient::load(&config.recording.recipient_key_file)?,
        spool: Spool::open(&config.recording.spool_dir)?,
        registry: Arc::new(Registry::default()),
        access_log: AccessLog::open(config.access_log.clone(), metrics.clone())?,
        metrics,
        config,
    })
}

/// Attaches the kernel programs, gives them the targets of the policy, and listens for what they
/// steer. What fails after the first step takes the routes down again.
async fn steer(gateway: &Gateway, sockets: Listeners) -> anyhow::Result<(Datapath, Listener)> {
    let (mut datapath, warnings) = Datapath::attach(&gateway.config.datapath).await?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    match serve(gateway, &mut datapath, sockets) {
        Ok(listener) => Ok((datapath, listener)),
        Err(error) => {
            if let Err(undo) = datapath.abandon().await {
                tracing::error!(error = with_causes(&undo), "not all of an unfinished start was undone");
            }
            Err(error)
        }
    }
}

fn serve(gateway: &Gateway, datapath: &mut Datapath, sockets: Listeners) -> anyhow::Result<Listener> {
    let steered = datapath.apply(&gateway.policy.current().infrastructure.steered())?;
    tracing::info!(
        added = steered.added,
        removed = steered.removed,
        changed = steered.changed,
        "targets are steered"
    );
    let admission = Admission::new(gateway.config.limits);
    let listener = Listener::new(sockets, admission, gateway.metrics.clone())
        .context("cannot listen for steered connections")?;
    // Last: what fails before leaves the listeners of a gateway that runs in place.
    datapath.listen(listener.fds())?;
    Ok(listener)
}

/// Reads the kernel's counters while the datapath lives.
fn counters(datapath: &Arc<Mutex<Datapath>>) -> impl Fn() -> Vec<(&'static str, u64)> + use<> {
    let datapath = Arc::downgrade(datapath);
    move || match datapath.upgrade().map(|datapath| lock(&datapath).counters()) {
        Some(Ok(counters)) => counters,
        Some(Err(error)) => {
            tracing::error!(%error, "cannot read the counters of the kernel program");
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn lock(datapath: &Mutex<Datapath>) -> std::sync::MutexGuard<'_, Datapath> {
    datapath.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The signals that a gateway listens to.
struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// What a signal asks for.
enum Told {
    Reload,
    Stop(&'static str),
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            reload: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.reload.recv() => Told::Reload,
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
        }
    }
}
