//! A testbed whose gateway has its files where the pages have them.
//!
//! Each command runs in the gateway's network namespace, or the client's, and in a mount namespace of its own in which
//! `/etc/portreeve` and `/var/lib/portreeve` are the testbed's. The service manager's part is the harness's: there is none.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context, Result, bail, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::{Companion, Finished, Options, Testbed, run};

use super::blocks::{Block, Command};
use crate::beds::own;
use crate::ssh::{LIMIT, TARGET, ssh};

/// What stands in the pages for what differs from place to place.
const EXAMPLES: &[(&str, &str)] = &[
    ("192.0.2.10", "10.1.1.2"),
    ("/mnt/archive/spool", "/var/lib/portreeve/spool"),
    ("--login postgres", "--login alice"),
    ("--login deploy", "--login alice"),
    ("ssh postgres@", "ssh -F \"$SSH_CONFIG\" alice@"),
];

/// Puts the testbed's files where the pages have them; the machine's own stay as they are.
const STAGE: &str = r#"
mkdir -p "$OVER"; mount -t tmpfs stage "$OVER"
for place in etc var/lib; do
    mkdir -p "$OVER/$place/upper" "$OVER/$place/work"
    mount -t overlay -o "lowerdir=/$place,upperdir=$OVER/$place/upper,workdir=$OVER/$place/work" stage "/$place"
done
mkdir -p /etc/portreeve /var/lib/portreeve
mount --bind "$ETC" /etc/portreeve; mount --bind "$STATE" /var/lib/portreeve
cd "$WORK"
"#;

pub(super) struct Scene {
    bed: Testbed,
    work: PathBuf,
    /// Further words of pages, and what stands for them here.
    examples: Vec<(&'static str, String)>,
    session: Option<Companion>,
}

impl Scene {
    /// A gateway that serves, and an empty directory that commands run in.
    pub(super) fn new() -> Result<Self> {
        let bed = own(&Options::default())?;
        let work = bed.dir().join("work");
        fs::create_dir_all(work.join("bin"))?;
        let files = bed.gateway()?.files();
        // The clock of the machine is not the testbed's.
        fs::write(work.join("bin/timedatectl"), "#!/bin/sh\necho yes\n")?;
        fs::set_permissions(work.join("bin/timedatectl"), fs::Permissions::from_mode(0o755))?;
        symlink(files.binary(), work.join("bin/portreeve"))?;
        Ok(Self { bed, work, examples: Vec::new(), session: None })
    }

    pub(super) fn run(&mut self, blocks: &[Block]) -> Result<()> {
        ensure!(!blocks.is_empty(), "no block of this group");
        for block in blocks {
            for command in &block.commands {
                let told = || format!("{}: {}", block.place, command.text);
                if self.manage(&command.text).with_context(told)? {
                    continue;
                }
                let finished = self.execute(command).with_context(told)?;
                let as_said = finished.status.code() == Some(block.status);
                ensure!(as_said, "{}: {}\n{}\n{}", told(), finished.ending(), finished.out(), finished.err());
                if command.text.starts_with("portreeve ca public-key") {
                    self.trust_too(&finished.out())?;
                }
            }
        }
        Ok(())
    }

    /// What the pages say to do with a CA's public key: the server has a further line for it.
    fn trust_too(&self, key: &str) -> Result<()> {
        let known = self.bed.gateway()?.files().ca_public_key()?;
        self.bed.server().trust(&format!("{}\n{}\n", known.trim(), key.trim()))
    }

    /// What a service manager would do; whether it is its part.
    fn manage(&mut self, text: &str) -> Result<bool> {
        let text = text.split("  #").next().unwrap_or_default().trim();
        match text {
            "systemctl stop 'portreeve@*'" => self.stop()?,
            "systemctl start portreeve@boot" => self.bed.gateway_mut()?.launch()?,
            "systemctl reload 'portreeve@*'" => self.bed.gateway()?.reload()?,
            "systemctl start portreeve@$(date +%s)" => {
                let next = self.bed.gateway()?.take_over()?;
                let before = self.bed.gateway_mut()?.adopt(next).context("no gateway was there")?;
                // It has no session and ends by itself, seconds later.
                self.session = Some(before);
            }
            // In the foreground until it is stopped.
            "portreeve run" => {
                self.bed.gateway_mut()?.launch()?;
                self.stop()?;
            }
            _ if text.starts_with("systemctl ") => bail!("nothing stands in for this"),
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        let status = self.bed.gateway_mut()?.stop()?;
        ensure!(status.success(), "the gateway ended with {status}");
        Ok(())
    }

    fn execute(&self, command: &Command) -> Result<Finished> {
        let topology = self.bed.topology();
        let netns = if command.by_user { &topology.client } else { &topology.gateway };
        let mut process = netns.command("unshare");
        process.args(["--mount", "--propagation", "private", "bash", "-euc"]);
        process.arg(format!("{STAGE}\n{}", self.filled(&command.text)));
        self.describe(&mut process)?;
        run(&mut process, b"", LIMIT)
    }

    fn describe(&self, process: &mut Process) -> Result<()> {
        let files = self.bed.gateway()?.files();
        let path = std::env::var("PATH").unwrap_or_default();
        process.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", self.work.join("bin").display()));
        process.env("SSH_CONFIG", self.bed.ssh_config());
        process.env("ETC", files.config_file().parent().context("no directory")?);
        process
            .env("STATE", files.state_dir())
            .env("WORK", &self.work)
            .env("OVER", self.bed.dir().join("over"));
        Ok(())
    }

    fn filled(&self, text: &str) -> String {
        let own = self.examples.iter().map(|(example, here)| (*example, here.as_str()));
        EXAMPLES.iter().copied().chain(own).fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// Puts a file of the repository into the directory that commands run in.
    pub(super) fn bring(&self, path: &str, name: &str) -> Result<()> {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path);
        fs::copy(&path, self.work.join(name)).with_context(|| path.display().to_string())?;
        Ok(())
    }

    /// The gateway's state is gone, as with its disk; its configuration is not.
    pub(super) fn forget_state(&mut self) -> Result<()> {
        if self.bed.gateway()?.pid().is_some() {
            self.stop()?;
        }
        let state = self.bed.gateway()?.files().state_dir();
        fs::remove_dir_all(&state)?;
        Ok(fs::create_dir(&state)?)
    }

    /// The key that the client is shown by the gateway, by a client that knows none.
    pub(super) fn host_key(&self) -> Result<String> {
        let known = self.bed.dir().join("client/known_hosts.fresh");
        let option = format!("UserKnownHostsFile={}", known.display());
        ssh(&self.bed, &["-o", &option, TARGET, "true"])?.success()?;
        let shown = fs::read_to_string(&known)?;
        fs::remove_file(known)?;
        Ok(shown)
    }

    fn bring_recipient_key(&self) -> Result<()> {
        fs::copy(self.bed.gateway()?.files().recipient_key(), self.work.join("recipient"))?;
        Ok(())
    }

    /// The spool is whole, and has at least so many sessions.
    pub(super) fn verify(&self, least: usize) -> Result<()> {
        let files = self.bed.gateway()?.files();
        let spool = files.spool_dir();
        until("finished recordings", LIMIT, || Ok((finished(&spool)? >= least).then_some(())))?;
        let text = "portreeve audit-key show --all > audit_key.pub && \
                    portreeve logs verify --audit-key audit_key.pub /var/lib/portreeve/spool";
        let finished = self.execute(&Command { by_user: false, text: text.to_owned() })?;
        ensure!(finished.status.success(), "{}{}", finished.out(), finished.err());
        Ok(())
    }

    /// A session that stays until the testbed goes.
    pub(super) fn open_session(&mut self) -> Result<()> {
        self.bring_recipient_key()?;
        let mut command = self.bed.client_ssh("ssh");
        command.args(["-tt", TARGET, "echo here; sleep 600"]);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        self.session = Some(Companion::spawn(command.stderr(std::process::Stdio::null()))?);
        let list = Command { by_user: false, text: "portreeve --json sessions ls".to_owned() };
        let id = until("a live session", LIMIT, || {
            let listed = self.execute(&list)?.success()?;
            let Some(line) = listed.lines().next() else { return Ok(None) };
            let session: serde_json::Value = serde_json::from_str(line)?;
            let is_open = session["command"].as_str().is_some_and(|command| command.contains("sleep"));
            Ok(session["session"].as_str().filter(|_| is_open).map(str::to_owned))
        })?;
        self.examples.push(("7f3a", id));
        Ok(())
    }

    /// A recording of a terminal, which the pages call `SESSION_DIR`, in a spool that they call `DIR`.
    pub(super) fn record_terminal(&mut self) -> Result<()> {
        self.bring_recipient_key()?;
        let spool = self.bed.gateway()?.files().spool_dir();
        // Two come with the testbed.
        until("finished recordings", LIMIT, || Ok((finished(&spool)? == 2).then_some(())))?;
        ssh(&self.bed, &["-tt", TARGET, "echo permission denied"])?.success()?;
        until("a finished recording", LIMIT, || Ok((finished(&spool)? == 3).then_some(())))?;
        let mut sessions = sessions(&spool)?;
        sessions.sort();
        let session = sessions.pop().context("no session")?;
        self.examples.push(("channel-0.log", format!("{}/channel-0.log", session.display())));
        self.examples.push(("SESSION_DIR", session.display().to_string()));
        self.examples.push(("DIR", spool.display().to_string()));
        Ok(())
    }
}

fn sessions(spool: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(spool)?.filter_map(Result::ok).map(|entry| entry.path());
    Ok(entries.filter(|path| path.join("manifest.json").is_file()).collect())
}

fn finished(spool: &Path) -> Result<usize> {
    Ok(sessions(spool)?.len())
}
