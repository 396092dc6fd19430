//! The ways from client to target that are compared, all up at once.
//!
//! Three testbeds: a router that forwards, with an sshd to jump through and the russh proxy in its
//! gateway's namespace; a gateway that records; a gateway that does not. Each measure takes the routes
//! in turn within a round, so that a slow moment of the machine meets all of them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Pid;
use portreeve_tests::deadline::until;
use portreeve_tests::server::accounts::LOGIN;
use portreeve_tests::topology::{GATEWAY4, SSH_PORT, TARGET4, at};
use portreeve_tests::{Companion, Options, Server, Testbed, template};

use super::bulk::CIPHERS;

const JUMP_PORT: u16 = 2200;
/// Of the proxy under the first cipher; the others follow.
const PROXY_PORT: u16 = 2201;
/// A rule under which no streams are recorded.
pub(super) const NO_RECORDING: &str = "\n[[rules]]\nname = \"no recording\"\naction = \"audit_ssh\"\nprecedence = 1\n\
                            rule_settings = { audit_ssh = { command_logging = false } }\n";
/// One client opens all idle sessions.
const CONFIG: &str =
    "[limits]\nconnections_per_source = 8192\nhandshakes_per_source = 256\nconnections = 16384\n";

/// A way to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Route {
    Direct,
    Gateway,
    GatewayRecording,
    RusshProxy,
    Jump,
}

/// Programs built for a run.
pub(super) struct Programs {
    pub(super) gateway: PathBuf,
    pub(super) russh_proxy: PathBuf,
    pub(super) packet_floor: PathBuf,
}

/// All routes, up.
pub(super) struct Routes {
    direct: Testbed,
    gateway: Testbed,
    recording: Testbed,
    /// One for each cipher, since russh is told the target's before it knows the user's.
    proxies: [Companion; 3],
    _jump: Server,
}

impl Route {
    pub(super) const ALL: [Self; 5] =
        [Self::Direct, Self::Gateway, Self::GatewayRecording, Self::RusshProxy, Self::Jump];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Gateway => "gateway",
            Self::GatewayRecording => "gateway, recording",
            Self::RusshProxy => "russh proxy",
            Self::Jump => "ssh -J",
        }
    }
}

impl Routes {
    /// Starts everything.
    ///
    /// # Errors
    /// What does not start.
    pub(super) fn start(programs: &Programs) -> Result<Self> {
        let options = |policy: String| Options {
            policy: Some(policy),
            config: Some(CONFIG.to_owned()),
            binary: Some(programs.gateway.clone()),
            ..Options::default()
        };
        let plain = template::POLICY.replace("rules = []\n", "") + NO_RECORDING;
        let direct = Testbed::start(portreeve_tests::Route::Direct, &Options::default())?;
        let gateway = Testbed::start(portreeve_tests::Route::Intercepted, &options(plain))?;
        let recording =
            Testbed::start(portreeve_tests::Route::Intercepted, &options(template::POLICY.to_owned()))?;
        let jump = start_jump(&direct)?;
        let proxy = |cipher| start_proxy(&direct, &programs.russh_proxy, cipher);
        let proxies = [proxy(CIPHERS[0])?, proxy(CIPHERS[1])?, proxy(CIPHERS[2])?];
        Ok(Self { direct, gateway, recording, proxies, _jump: jump })
    }

    /// The testbed that a route is in.
    pub(super) fn bed(&self, route: Route) -> &Testbed {
        match route {
            Route::Direct | Route::RusshProxy | Route::Jump => &self.direct,
            Route::Gateway => &self.gateway,
            Route::GatewayRecording => &self.recording,
        }
    }

    /// Where a client dials on a route without a jump.
    pub(super) fn address(&self, route: Route) -> SocketAddr {
        match route {
            Route::RusshProxy => proxy_address(CIPHERS[0]),
            Route::Direct | Route::Gateway | Route::GatewayRecording | Route::Jump => at(TARGET4, SSH_PORT),
        }
    }

    /// The process in the middle, where it is one.
    pub(super) fn middle(&self, route: Route, cipher: &str) -> Option<Pid> {
        match route {
            Route::Direct | Route::Jump => None,
            Route::RusshProxy => {
                let (_, proxy) = CIPHERS.iter().zip(&self.proxies).find(|(name, _)| **name == cipher)?;
                Some(proxy.pid())
            }
            Route::Gateway | Route::GatewayRecording => {
                let pid = self.bed(route).gateway().ok()?.pid()?;
                Some(Pid::from_raw(i32::try_from(pid).ok()?))
            }
        }
    }

    /// `ssh OPTIONS DESTINATION` with one cipher and one key exchange on every leg of the client's.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub(super) fn ssh(&self, route: Route, cipher: &str, options: &[&str]) -> Result<Command> {
        let bed = self.bed(route);
        let config = bed.ssh_config().with_file_name(format!("bench-{cipher}"));
        if !config.exists() {
            // The jump's own ssh takes these from the file only.
            let ours = format!(
                "Ciphers {cipher}\nKexAlgorithms curve25519-sha256\nLogLevel ERROR\nControlPath none\n"
            );
            fs::write(&config, ours + &fs::read_to_string(bed.ssh_config())?)?;
        }
        let mut command = bed.client("ssh");
        command.arg("-F").arg(config).args(options);
        match route {
            Route::Direct | Route::Gateway | Route::GatewayRecording => {}
            Route::RusshProxy => {
                let address = proxy_address(cipher);
                let (host, port) = (format!("HostName={}", address.ip()), address.port().to_string());
                command.args(["-o", &host, "-p", &port]);
            }
            Route::Jump => {
                command.args(["-J", &format!("{LOGIN}@{GATEWAY4}:{JUMP_PORT}")]);
            }
        }
        command.arg(format!("{LOGIN}@{TARGET4}"));
        Ok(command)
    }

    /// Tears everything down.
    ///
    /// # Errors
    /// When something is left behind.
    pub(super) fn stop(self) -> Result<()> {
        let Self { direct, gateway, recording, proxies, _jump: jump } = self;
        drop((proxies, jump));
        [direct, gateway, recording].into_iter().try_for_each(Testbed::stop)
    }
}

/// An sshd in the gateway's namespace. It listens on its own address besides the usual ones, which
/// that namespace does not have.
fn start_jump(bed: &Testbed) -> Result<Server> {
    let root = bed.dir().join("jump");
    fs::create_dir(&root)?;
    Server::prepare(&root, &format!("ListenAddress {}\n", at(GATEWAY4, JUMP_PORT)))?;
    let server = Server::start(&bed.topology().gateway, &root).context("the sshd to jump through")?;
    server.authorize_key(LOGIN, &fs::read_to_string(key(bed).with_extension("pub"))?)?;
    Ok(server)
}

fn start_proxy(bed: &Testbed, program: &Path, cipher: &str) -> Result<Companion> {
    let (listen, target) = (proxy_address(cipher), at(TARGET4, SSH_PORT));
    let mut command = bed.topology().gateway.command(program);
    command.args([listen.to_string(), target.to_string(), LOGIN.to_owned()]).arg(key(bed)).arg(cipher);
    let proxy = Companion::spawn(command.stdin(Stdio::null()))?;
    until("the russh proxy", Duration::from_secs(10), || Ok(bed.client_netns().connect(listen).ok()))?;
    Ok(proxy)
}

fn proxy_address(cipher: &str) -> SocketAddr {
    let ports = PROXY_PORT..;
    let (_, port) = CIPHERS.iter().zip(ports).find(|(name, _)| **name == cipher).unwrap_or((&"", PROXY_PORT));
    at(GATEWAY4, port)
}

fn key(bed: &Testbed) -> PathBuf {
    bed.dir().join("client/id_ed25519")
}
