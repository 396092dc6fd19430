//! The testbed: network, server, and on the intercepted route a gateway.
//!
//! Owns the order of starting, the directory, and what a command inside sees. Tearing down is the
//! keeper's, whichever way this value or its process ends.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::execute::run;
use crate::gateway::{Gateway, GatewayFiles};
use crate::keeper::{self, Keeper, Record};
use crate::netns::Netns;
use crate::requirement;
use crate::server::Server;
use crate::server::accounts::{DENIED_LOGIN, LOGIN, authorize_key};
use crate::topology::{GATEWAY4, METRICS_PORT, OPEN4, OPEN6, SSH_PORT, TARGET4, TARGET6, Topology};

/// Whether the gateway stands between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// A router that forwards; users log in by a key.
    Direct,
    /// The gateway intercepts; users have no key.
    Intercepted,
}

/// What may differ between testbeds.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A policy in place of [`crate::template::POLICY`], with placeholders.
    pub policy: Option<String>,
    /// Keys laid over the gateway's configuration, with placeholders.
    pub config: Option<String>,
    /// Lines for the server's sshd_config, ahead of the testbed's own; sshd takes the first it finds.
    pub sshd_config: Option<String>,
    /// A directory, new or empty, that stays when the testbed goes.
    pub keep: Option<PathBuf>,
    /// The `portreeve` program, in place of the one built last.
    pub binary: Option<PathBuf>,
}

/// A running testbed; dropping it tears it down.
#[derive(Debug)]
pub struct Testbed {
    route: Route,
    dir: PathBuf,
    topology: Topology,
    gateway: Option<Gateway>,
    server: Server,
    // Last: it must end what the fields above have started.
    keeper: Arc<Keeper>,
}

impl Route {
    /// The word for it, as in `--route`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Intercepted => "intercepted",
        }
    }
}

impl Testbed {
    /// Makes the network, and starts server and gateway.
    ///
    /// # Errors
    /// What the machine lacks, or what failed to start; nothing is left behind.
    pub fn start(route: Route, options: &Options) -> Result<Self> {
        requirement::check()?;
        let binary = match route {
            Route::Direct => None,
            Route::Intercepted => Some(requirement::gateway_binary(options.binary.as_deref())?),
        };
        let _open = keeper::starting()?;
        keeper::remove_leftovers()?;
        let id = new_id()?;
        let dir = make_dir(options.keep.as_deref(), &id)?;
        let topology = Topology::named(&id);
        let namespaces = topology.names();
        let record = Record { id, dir: dir.clone(), keep_dir: options.keep.is_some(), namespaces };
        let keeper = Keeper::start(&record)?;
        let files = prepare(&topology, &dir, binary, options)?;
        let server = Server::start(&topology.server, &dir.join("server"))?;
        let gateway = match files {
            Some(files) => {
                server.trust(&files.ca_public_key()?)?;
                Some(Gateway::start(files, &topology)?)
            }
            None => None,
        };
        let mut bed = Self { route, dir, topology, gateway, server, keeper };
        bed.write_client_files()?;
        Ok(bed)
    }

    fn write_client_files(&mut self) -> Result<()> {
        let dir = self.dir.join("client");
        fs::create_dir(&dir)?;
        let mut config = format!(
            "UserKnownHostsFile \"{}\"\nGlobalKnownHostsFile none\nStrictHostKeyChecking accept-new\n",
            dir.join("known_hosts").display()
        );
        if self.route == Route::Direct {
            let key = dir.join("id_ed25519");
            let public = make_user_key(&key)?;
            for login in [LOGIN, DENIED_LOGIN] {
                authorize_key(&self.dir.join("server"), login, &public)?;
            }
            config += &format!("IdentityFile \"{}\"\nIdentitiesOnly yes\n", key.display());
        }
        Ok(fs::write(self.ssh_config(), config)?)
    }

    /// The route.
    pub fn route(&self) -> Route {
        self.route
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its namespaces.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The server, to stop or change.
    pub fn server_mut(&mut self) -> &mut Server {
        &mut self.server
    }

    /// The gateway.
    ///
    /// # Errors
    /// On the direct route, which has none.
    pub fn gateway(&self) -> Result<&Gateway> {
        self.gateway.as_ref().context("the direct route has no gateway")
    }

    /// The gateway, to kill or restart.
    ///
    /// # Errors
    /// On the direct route, which has none.
    pub fn gateway_mut(&mut self) -> Result<&mut Gateway> {
        self.gateway.as_mut().context("the direct route has no gateway")
    }

    /// The client's configuration, for `ssh -F`.
    pub fn ssh_config(&self) -> PathBuf {
        self.dir.join("client/ssh_config")
    }

    /// A command in the client's namespace, without the caller's agent.
    pub fn client(&self, program: &str) -> Command {
        let mut command = self.topology.client.command(program);
        command.env_remove("SSH_AUTH_SOCK");
        command
    }

    /// `ssh`, `scp` or `sftp` in the client's namespace with the client's configuration.
    pub fn client_ssh(&self, program: &str) -> Command {
        let mut command = self.client(program);
        command.arg("-F").arg(self.ssh_config());
        command
    }

    /// A namespace's side: the client's.
    pub fn client_netns(&self) -> &Netns {
        &self.topology.client
    }

    /// What a command inside sees; variables of the gateway are empty on the direct route.
    pub fn env(&self) -> BTreeMap<&'static str, String> {
        let path = |path: PathBuf| path.display().to_string();
        let gateway = self.gateway.as_ref();
        let of_gateway = |f: fn(&Gateway) -> String| gateway.map(f).unwrap_or_default();
        BTreeMap::from([
            ("TB_ROUTE", self.route.as_str().to_owned()),
            ("TB_TARGET4", TARGET4.to_string()),
            ("TB_TARGET6", TARGET6.to_string()),
            ("TB_PORT", SSH_PORT.to_string()),
            ("TB_LOGIN", LOGIN.to_owned()),
            ("TB_DENIED_LOGIN", DENIED_LOGIN.to_owned()),
            ("TB_SSH_CONFIG", path(self.ssh_config())),
            ("TB_OPEN4", OPEN4.to_string()),
            ("TB_OPEN6", OPEN6.to_string()),
            ("TB_SERVER_HOME", path(self.server.home(LOGIN))),
            ("TB_STATE", of_gateway(|gateway| gateway.files().state_dir().display().to_string())),
            ("TB_RECIPIENT_KEY", of_gateway(|gateway| gateway.files().recipient_key().display().to_string())),
            ("TB_METRICS_URL", of_gateway(|_| format!("http://{GATEWAY4}:{METRICS_PORT}/metrics"))),
            ("TB_GATEWAY_PID", of_gateway(|gateway| gateway.pid().unwrap_or_default().to_string())),
            ("TB_NETNS_CLIENT", self.topology.client.name().to_owned()),
            ("TB_NETNS_GATEWAY", self.topology.gateway.name().to_owned()),
            ("TB_NETNS_SERVER", self.topology.server.name().to_owned()),
        ])
    }

    /// Tears the testbed down and says whether all is gone, which dropping it cannot.
    ///
    /// # Errors
    /// When something is left behind.
    pub fn stop(self) -> Result<()> {
        self.keeper.tear_down()
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        // Before the fields: the keeper ends the processes politely, a dropped companion does not.
        self.keeper.tear_down().ok();
    }
}

/// Network, server files and gateway files need nothing of each other.
fn prepare(
    topology: &Topology,
    dir: &Path,
    binary: Option<PathBuf>,
    options: &Options,
) -> Result<Option<GatewayFiles>> {
    let (policy, config) = (options.policy.as_deref(), options.config.as_deref());
    thread::scope(|scope| {
        let network = scope.spawn(|| topology.build());
        let sshd_config = options.sshd_config.as_deref().unwrap_or_default();
        let server = scope.spawn(|| Server::prepare(&dir.join("server"), sshd_config));
        let files = binary.map(|binary| GatewayFiles::prepare(&dir.join("gateway"), binary, policy, config));
        for part in [network, server] {
            match part.join() {
                Ok(result) => result?,
                Err(_) => bail!("a part of the testbed panicked"),
            }
        }
        files.transpose()
    })
}

/// A name that no other testbed has.
///
/// # Errors
/// When there is no randomness.
pub fn new_id() -> Result<String> {
    let mut bytes = [0; 3];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::from("pt"), |id, byte| id + &format!("{byte:02x}")))
}

fn make_dir(keep: Option<&Path>, id: &str) -> Result<PathBuf> {
    let dir = match keep {
        Some(dir) => {
            fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
            if fs::read_dir(dir)?.next().is_some() {
                bail!("{} is not empty: give a new directory", dir.display());
            }
            dir.canonicalize()?
        }
        None => {
            let dir = std::env::temp_dir().join(format!("portreeve-testbed-{id}"));
            fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
            dir.canonicalize()?
        }
    };
    fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
    Ok(dir)
}

fn make_user_key(path: &Path) -> Result<String> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "client", "-f"]).arg(path);
    run(&mut command, b"", Duration::from_secs(60))?.success().context("ssh-keygen")?;
    Ok(fs::read_to_string(path.with_extension("pub"))?)
}
