//! The gateway of a testbed: a `portreeve run` on state, policy and configuration of its own.
//!
//! Owns its files below `DIR/gateway` and its process, which tests may kill, restart and reload.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt};
use serde_json::Value;

use crate::deadline::until;
use crate::execute::{Companion, run};
use crate::netns::Netns;
use crate::template::{self, GatewayPaths};
use crate::topology::{GATEWAY4, METRICS_PORT, Topology, at};

const LIMIT: Duration = Duration::from_secs(30);

/// The gateway's files and programs, before anything runs.
#[derive(Clone, Debug)]
pub struct GatewayFiles {
    dir: PathBuf,
    binary: PathBuf,
}

/// A gateway, running or killed.
#[derive(Debug)]
pub struct Gateway {
    files: GatewayFiles,
    topology: Topology,
    daemon: Option<Companion>,
}

impl GatewayFiles {
    /// Makes CA, recipient key pair, policy and configuration below `dir`, with the gateway's own
    /// verbs, and mounts the file system for its pins there.
    ///
    /// # Errors
    /// When a verb fails; the message holds what it said.
    pub fn prepare(dir: &Path, binary: PathBuf, policy: Option<&str>, config: Option<&str>) -> Result<Self> {
        let files = Self { dir: dir.to_owned(), binary };
        for part in ["bpf", "etc"] {
            fs::create_dir_all(files.dir.join(part))?;
        }
        mount(None::<&str>, &files.dir.join("bpf"), Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("mount a file system for pins (bpffs)")?;
        files.verb(&["ca", "init", "--state-dir"], &[&files.state_dir()])?;
        files.verb(&["logs", "generate-key-pair"], &[&files.recipient_key()])?;
        files.write_policy(policy.unwrap_or(template::POLICY))?;
        let paths = GatewayPaths {
            state_dir: &files.state_dir(),
            policy_file: &files.policy_file(),
            spool_dir: &files.spool_dir(),
            recipient_key_file: &files.recipient_key().with_extension("pub"),
            pin_dir: &files.pin_dir(),
            access_log: &files.access_log_file(),
        };
        fs::write(files.config_file(), template::config(paths, config)?)?;
        Ok(files)
    }

    /// Runs a verb of the gateway and returns its output.
    ///
    /// # Errors
    /// When it does not exit with status 0.
    pub fn verb(&self, words: &[&str], paths: &[&Path]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.args(words).args(paths);
        run(&mut command, b"", LIMIT)?.success().with_context(|| format!("portreeve {}", words.join(" ")))
    }

    /// The CA's public key, as a line for TrustedUserCAKeys.
    ///
    /// # Errors
    /// When the verb fails.
    pub fn ca_public_key(&self) -> Result<String> {
        self.verb(&["ca", "public-key", "--state-dir"], &[&self.state_dir()])
    }

    /// Writes the policy file in one step (placeholders filled); a running gateway notices by itself.
    ///
    /// # Errors
    /// An unknown placeholder, or when the file cannot be written.
    pub fn write_policy(&self, text: &str) -> Result<()> {
        let next = self.dir.join("etc/policy.next");
        fs::write(&next, template::fill(text, &template::addresses()).context("the policy")?)?;
        Ok(fs::rename(next, self.policy_file())?)
    }

    /// The `portreeve` program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Where recordings are.
    pub fn spool_dir(&self) -> PathBuf {
        self.state_dir().join("spool")
    }

    /// The recipient's private key, for `portreeve logs`.
    pub fn recipient_key(&self) -> PathBuf {
        self.dir.join("recipient")
    }

    /// The daemon's configuration.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("etc/portreeve.toml")
    }

    /// The policy.
    pub fn policy_file(&self) -> PathBuf {
        self.dir.join("etc/policy.toml")
    }

    /// Where the kernel programs' links and maps are pinned.
    pub fn pin_dir(&self) -> PathBuf {
        self.dir.join("bpf/portreeve")
    }

    /// Where a map of the kernel programs is pinned.
    ///
    /// # Errors
    /// When it is not.
    pub fn map_pin(&self, name: &str) -> Result<PathBuf> {
        // The directory in between is named after the maps' layout.
        let layouts = fs::read_dir(self.pin_dir())?.filter_map(Result::ok);
        let mut pins = layouts.map(|layout| layout.path().join("maps").join(name));
        pins.find(|pin| pin.exists()).with_context(|| format!("the map {name} is not pinned"))
    }

    fn access_log_file(&self) -> PathBuf {
        self.dir.join("access.log")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("portreeve.log")
    }
}

impl Gateway {
    /// Starts the daemon on prepared files and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or does not become ready; the message holds what it logged.
    pub fn start(files: GatewayFiles, topology: &Topology) -> Result<Self> {
        let mut gateway = Self { files, topology: topology.clone(), daemon: None };
        gateway.launch()?;
        Ok(gateway)
    }

    /// Its files and verbs.
    pub fn files(&self) -> &GatewayFiles {
        &self.files
    }

    /// The daemon's process id; `None` when it was killed or stopped.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().and_then(|daemon| u32::try_from(daemon.pid().as_raw()).ok())
    }

    /// Starts the daemon, which must not run.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn launch(&mut self) -> Result<()> {
        let mut daemon = self.spawn(&[], &self.files.config_file())?;
        self.await_ready(&mut daemon)?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Starts another daemon that takes over from the one in charge, which drains from then on.
    ///
    /// # Errors
    /// When it ends or is not in charge and ready in time; the message holds what was logged.
    pub fn take_over(&self) -> Result<Companion> {
        let mut daemon = self.spawn(&["--takeover"], &self.files.config_file())?;
        self.await_ready(&mut daemon)?;
        Ok(daemon)
    }

    /// Starts `portreeve run MORE` on a configuration, and does not wait.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, more: &[&str], config: &Path) -> Result<Companion> {
        let log = File::options().create(true).append(true).open(self.files.log_file())?;
        let mut command = self.topology.gateway.command(&self.files.binary);
        command.arg("run").args(more).arg("--config").arg(config).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Companion::spawn(&mut command)
    }

    /// Waits until a daemon is the one in charge, and ready.
    ///
    /// # Errors
    /// When it ends, or is not in time; the message holds what was logged.
    pub fn await_ready(&self, daemon: &mut Companion) -> Result<()> {
        let ready = until("a ready gateway", LIMIT, || {
            if !daemon.is_running()? {
                bail!("portreeve run ended: {:?}", daemon.wait(LIMIT)?);
            }
            if self.in_charge() != Some(daemon.pid().as_raw()) {
                return Ok(None);
            }
            Ok(self.http("/readyz").ok().filter(|(status, _)| *status == 200))
        });
        ready.map(drop).with_context(|| self.log().unwrap_or_default())
    }

    /// Makes a daemon that has taken over this one, and returns the one before.
    pub fn adopt(&mut self, daemon: Companion) -> Option<Companion> {
        self.daemon.replace(daemon)
    }

    /// The process that answers on the control socket.
    pub fn in_charge(&self) -> Option<i32> {
        let stream = UnixStream::connect(self.files.state_dir().join("control.sock")).ok()?;
        getsockopt(&stream, sockopt::PeerCredentials).ok().map(|peer| peer.pid())
    }

    /// Kills the daemon with SIGKILL, as a crash would.
    ///
    /// # Errors
    /// When none runs.
    pub fn kill9(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL)?;
        Ok(())
    }

    /// Ends the daemon with SIGTERM and returns how it ended.
    ///
    /// # Errors
    /// When none runs, or it does not end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.end(Signal::SIGTERM)
    }

    fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        let mut daemon = self.daemon.take().context("no gateway runs")?;
        daemon.signal(signal)?;
        daemon.wait(LIMIT)
    }

    /// Asks the daemon to read its policy again (SIGHUP).
    ///
    /// # Errors
    /// When none runs.
    pub fn reload(&self) -> Result<()> {
        self.daemon.as_ref().context("no gateway runs")?.signal(Signal::SIGHUP)
    }

    /// The access log's lines so far.
    ///
    /// # Errors
    /// When the file cannot be read or a line is no JSON.
    pub fn access_log(&self) -> Result<Vec<Value>> {
        let path = self.files.access_log_file();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// The metrics, as the client sees them.
    ///
    /// # Errors
    /// When they are not served.
    pub fn metrics(&self) -> Result<String> {
        match self.http("/metrics")? {
            (200, body) => Ok(body),
            (status, body) => bail!("/metrics answers {status}: {body}"),
        }
    }

    /// What `portreeve datapath status` says, which needs no daemon.
    ///
    /// # Errors
    /// When the verb fails.
    pub fn datapath_status(&self) -> Result<Value> {
        let mut command = self.topology.gateway.command(self.files.binary());
        command.args(["--json", "datapath", "status", "--config"]).arg(self.files.config_file());
        let status = run(&mut command, b"", LIMIT)?.success().context("portreeve datapath status")?;
        Ok(serde_json::from_str(&status)?)
    }

    /// What the daemon wrote to its standard streams so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.files.log_file())?)
    }

    /// Status and body of an HTTP resource of the gateway, asked for from the client.
    ///
    /// # Errors
    /// When there is no answer, or none that is HTTP.
    pub fn http(&self, path: &str) -> Result<(u16, String)> {
        http(&self.topology.client, path)
    }
}

fn http(client: &Netns, path: &str) -> Result<(u16, String)> {
    let mut stream = client.connect(at(GATEWAY4, METRICS_PORT))?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: gateway\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    parse_answer(&answer).with_context(|| format!("no HTTP answer to {path}: {answer:?}"))
}

fn parse_answer(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_answer_is_taken_apart() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno";
        assert_eq!(parse_answer(answer), Some((503, "no".to_owned())));
        assert_eq!(parse_answer("SSH-2.0-x\r\n\r\n"), None);
    }
}
