//! Alerts: notices at a real HTTP server and at rsyslog while the session lives, and sessions that a rule ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::netns::Netns;
use portreeve_tests::topology::at;
use portreeve_tests::{Companion, Options, Testbed};
use serde_json::Value;

use super::recordings::{events, recordings};
use super::sessions::at_a_terminal;
use super::{Check, SOON, access_event, metric, policy};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, noise, scratch, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("a_command_that_is_asked_for_or_typed_is_told_within_two_seconds", commands),
    Check::new("a_download_above_the_limit_is_told_while_it_goes_on", download),
    Check::new("a_rule_ends_the_session_with_a_text_that_the_user_reads", ended),
    Check::new("a_webhook_that_is_down_stalls_nothing_and_is_told_when_it_is_back", webhook_down),
];

/// From what happened to its notice.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// Ports in the gateway's namespace.
const HTTP_PORT: u16 = 8080;
const SYSLOG_PORT: u16 = 5514;

/// Both places, in the gateway's own namespace.
const EXPORTS: &str = "\
[[alerts.export]]
kind = \"http\"
url = \"http://127.0.0.1:8080/hook\"
allow_http = true
[[alerts.export]]
kind = \"syslog\"
address = \"127.0.0.1:5514\"
tls = false
";

const WIPE: &str = "[[alerts]]\nname = \"wipe\"\nseverity = \"critical\"\ncommand = '\\brm\\s+-rf\\s+/'\n";
const PIPE: &str =
    "[[alerts]]\nname = \"download and run\"\nseverity = \"high\"\ncommand = '\\bcurl\\b.*\\|\\s*sh\\b'\n";

/// Meets [`WIPE`] and does nothing.
const NOTHING: &str = "rm -rf /home/alice/nothing";

/// What a webhook was sent, and when.
type Notices = Arc<Mutex<Vec<(Instant, Value)>>>;

/// An HTTP server that takes notices.
struct Webhook {
    notices: Notices,
    stop: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Webhook {
    fn start(netns: &Netns) -> Result<Self> {
        let listener = netns.enter(|| Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, HTTP_PORT))?))?;
        listener.set_nonblocking(true)?;
        let (notices, stop) = (Notices::default(), Arc::new(AtomicBool::new(false)));
        let (kept, stopped) = (Arc::clone(&notices), Arc::clone(&stop));
        let serving = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => drop(take(stream, &kept)),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Ok(Self { notices, stop, serving: Some(serving) })
    }

    fn all(&self) -> Vec<(Instant, Value)> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the notice of a rule and takes it; says when it came.
    fn notice(&self, rule: &str, limit: Duration) -> Result<(Instant, Value)> {
        let found = until("the notice", limit, || {
            let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
            let at = notices.iter().position(|(_, notice)| notice["rule"] == rule);
            Ok(at.map(|at| notices.remove(at)))
        });
        found.with_context(|| format!("of {rule:?}; there are {:?}", self.all()))
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.serving.take().map(JoinHandle::join);
    }
}

/// One request with a line for each notice.
fn take(stream: TcpStream, notices: &Notices) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SOON))?;
    let mut stream = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    while stream.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let came = Instant::now();
    for line in String::from_utf8(body)?.lines() {
        let notice = serde_json::from_str(line)?;
        notices.lock().unwrap_or_else(PoisonError::into_inner).push((came, notice));
    }
    stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")?;
    Ok(())
}

/// An rsyslog in the gateway's namespace that writes what it gets to a file.
struct Rsyslog {
    messages: std::path::PathBuf,
    _daemon: Companion,
}

impl Rsyslog {
    fn start(bed: &Testbed) -> Result<Self> {
        let dir = scratch(bed, "rsyslog")?;
        let messages = dir.join("messages");
        let rules = format!(
            "module(load=\"imtcp\")\ninput(type=\"imtcp\" port=\"{SYSLOG_PORT}\" address=\"127.0.0.1\")\n\
             template(name=\"message\" type=\"string\" string=\"%syslogfacility% %syslogseverity% %msgid% %msg%\\n\")\n\
             action(type=\"omfile\" file=\"{}\" template=\"message\")\n",
            messages.display()
        );
        let config = dir.join("rsyslog.conf");
        fs::write(&config, rules)?;
        let gateway = &bed.topology().gateway;
        let log = File::create(dir.join("rsyslogd.log"))?;
        let mut command = gateway.command("rsyslogd");
        command.arg("-n").arg("-f").arg(&config).arg("-i").arg(dir.join("pid"));
        let daemon = Companion::spawn(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))
            .context("rsyslogd: run `cargo xtask setup`")?;
        until("rsyslogd listens", LIMIT, || Ok(gateway.connect(at(Ipv4Addr::LOCALHOST, SYSLOG_PORT)).ok()))?;
        Ok(Self { messages, _daemon: daemon })
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.messages).unwrap_or_default()
    }
}

/// A testbed with alerts.
fn bed(alerts: &str) -> Result<Testbed> {
    let policy = format!("{}\n{alerts}", policy("\"alice\"", ""));
    own(&Options { policy: Some(policy), config: Some(EXPORTS.to_owned()), ..Options::default() })
}

/// Fails unless a notice came in time.
fn ensure_soon(what: &str, since: Instant, came: Instant) -> Result<()> {
    let took = came.saturating_duration_since(since);
    ensure!(took <= TOLD_WITHIN, "{what}: told after {took:?}");
    Ok(())
}

fn commands(_: &Beds) -> Result<()> {
    let bed = bed(&format!("{WIPE}{PIPE}"))?;
    let hook = Webhook::start(&bed.topology().gateway)?;
    let rsyslog = Rsyslog::start(&bed)?;
    let gone = bed.server().home("alice").join("gone-for-good");
    fs::create_dir(&gone)?;
    let wipe = "rm -rf /home/alice/gone-for-good";

    // As exec; it runs after it was told, so its end is no earlier.
    ssh(&bed, &[TARGET, wipe])?.success()?;
    let over = Instant::now();
    ensure!(!gone.exists(), "nothing ran");
    let (came, notice) = hook.notice("wipe", SOON)?;
    ensure_soon("exec", over, came)?;
    for (key, value) in [
        ("type", "alert"),
        ("severity", "critical"),
        ("met_by", "exec"),
        ("email", "alice@example.com"),
        ("login", "alice"),
        ("target", "10.1.2.3:22"),
        ("hostname", "server"),
    ] {
        ensure!(notice[key] == value, "{key} is not {value:?}: {notice}");
    }
    until("the message of rsyslog", TOLD_WITHIN, || {
        let text = rsyslog.text();
        Ok((text.starts_with("10 2 alert ") && text.contains("\"rule\":\"wipe\"")).then_some(()))
    })
    .with_context(|| rsyslog.text())?;

    // Typed.
    let mut terminal = at_a_terminal(&bed, &[TARGET])?;
    terminal.expect("$ ", LIMIT)?;
    for (command, rule) in [(wipe, "wipe"), ("curl -s http://127.0.0.1:1/install | sh", "download and run")] {
        terminal.send(command)?;
        let sent = Instant::now();
        terminal.send("\r")?;
        let (came, notice) = hook.notice(rule, SOON)?;
        ensure_soon(command.split(' ').next().unwrap_or_default(), sent, came)?;
        ensure!(notice["met_by"] == "command" && notice["channel"] == 0, "{notice}");
        until("the message of rsyslog", TOLD_WITHIN.saturating_sub(sent.elapsed()), || {
            let lines = rsyslog.text();
            let told = |line: &str| line.contains("\"command\"") && line.contains(&format!("\"{rule}\""));
            Ok(lines.lines().any(told).then_some(()))
        })
        .with_context(|| rsyslog.text())?;
        terminal.expect("$ ", LIMIT)?;
    }
    terminal.send("true; exit\r")?;
    terminal.finish(LIMIT)?;

    // The record has what is in no notice, log or metric.
    let recording = recordings(&bed, 3)?;
    let of_exec = events(&bed, recording.get(2).context("no recording")?)?;
    let at = of_exec.iter().position(|event| event["event"] == "exec").context("no exec")?;
    let alert = of_exec.get(at + 1).context("nothing follows the command")?;
    ensure!(alert["event"] == "alert" && alert["rule"] == "wipe" && alert["met_by"] == "exec", "{alert}");
    ensure!(alert["matched"].as_str().is_some_and(|matched| matched.starts_with("rm -rf /")), "{alert}");
    let gateway = bed.gateway()?;
    let clear = [rsyslog.text(), gateway.log()?, gateway.metrics()?];
    ensure!(
        clear.iter().all(|text| !text.contains("gone-for-good") && !text.contains("install")),
        "{clear:?}"
    );
    let critical = metric(gateway, "portreeve_alerts_total{severity=\"critical\"}")?;
    ensure!(critical > 1.5 && critical < 2.5, "{critical} critical alerts");
    ensure!(hook.all().is_empty(), "more notices than alerts: {:?}", hook.all());
    Ok(())
}

fn download(_: &Beds) -> Result<()> {
    const MIB: usize = 1 << 20;
    let bed = bed("[[alerts]]\nname = \"large\"\nseverity = \"medium\"\ndownload = \"6MiB\"\n\
         [[alerts]]\nname = \"dump\"\nseverity = \"high\"\nfile = '\\.sql$'\nsize = \"4MiB\"\n\
         [[alerts]]\nname = \"any dump\"\nseverity = \"low\"\nfile = '\\.sql$'\n")?;
    let hook = Webhook::start(&bed.topology().gateway)?;
    let here = scratch(&bed, "download")?;
    fs::write(bed.server().home("alice").join("all.sql"), noise(24 * MIB))?;
    let mut command = bed.client_ssh("sftp");
    // In Kbit/s: about ten seconds for the whole.
    command.args(["-l", "20000", "-b", "-", TARGET]).current_dir(&here).stdin(Stdio::piped());
    let mut sftp = Companion::spawn(command.stdout(Stdio::null()))?;
    sftp.child().stdin.take().context("no input")?.write_all(b"get all.sql\n")?;
    let reached = |bytes: usize| {
        let file = here.join("all.sql");
        until("that much of the file", LIMIT, || {
            let length = file.metadata().map_or(0, |file| file.len());
            Ok((length >= bytes as u64).then(Instant::now))
        })
    };
    for (bytes, rule, met_by) in
        [(1, "any dump", "file-transfer"), (4 * MIB, "dump", "file-transfer"), (6 * MIB, "large", "download")]
    {
        let since = reached(bytes)?;
        let (came, notice) = hook.notice(rule, SOON)?;
        ensure_soon(rule, since, came)?;
        ensure!(notice["met_by"] == met_by, "{notice}");
        ensure!(notice["bytes"].as_u64() >= Some(bytes as u64) || rule == "any dump", "{notice}");
        ensure!(!notice.to_string().contains("all.sql"), "{notice}");
    }
    ensure!(sftp.is_running()?, "the download was over before it was told");
    drop(sftp);
    ensure!(hook.all().is_empty(), "each is told once: {:?}", hook.all());
    Ok(())
}

fn ended(_: &Beds) -> Result<()> {
    let ends = "end_session = true\nreason = \"no wiping on a Friday\"\n";
    let bed = bed(&format!("{WIPE}{ends}"))?;
    let hook = Webhook::start(&bed.topology().gateway)?;
    let begun = Instant::now();
    let finished = ssh(&bed, &[TARGET, &format!("{NOTHING}; sleep 30")])?;
    ensure!(begun.elapsed() < Duration::from_secs(15), "the session went on");
    ensure!(finished.ending() == "exit 255", "{}", finished.ending());
    let text = "portreeve: a rule of this gateway has ended this session: no wiping on a Friday";
    ensure!(finished.err().contains(text), "the user reads {:?}", finished.err());
    ensure!(hook.notice("wipe", SOON)?.1["ends_session"] == true, "the notice does not say so");

    let mut terminal = at_a_terminal(&bed, &[TARGET])?;
    terminal.expect("$ ", LIMIT)?;
    let sent = Instant::now();
    terminal.send(&format!("{NOTHING}\r"))?;
    terminal.program().wait(SOON)?;
    ensure_soon("end of a typed command's session", sent, Instant::now())?;
    let (_, said) = terminal.finish(SOON)?;
    ensure!(said.contains("has ended this session: no wiping on a Friday"), "the user reads {said:?}");
    access_event(bed.gateway()?, "an access event of the end", |event| {
        event["outcome"] == "revoked" && event["reason"] == "ended by the alert \"wipe\""
    })?;
    let events = events(&bed, recordings(&bed, 4)?.last().context("no recording")?)?;
    let alert = events.iter().find(|event| event["event"] == "alert").context("no alert in the record")?;
    ensure!(alert["ends_session"] == true && alert["met_by"] == "command", "{alert}");
    ensure!(events.last().is_some_and(|event| event["event"] == "session-ended"), "{events:?}");
    Ok(())
}

fn webhook_down(_: &Beds) -> Result<()> {
    const COMMANDS: usize = 5;
    let bed = bed(WIPE)?;
    let run = |command: &str| {
        let begun = Instant::now();
        ssh(&bed, &[TARGET, command])?.success()?;
        anyhow::Ok(begun.elapsed())
    };
    // Nobody listens on either port.
    let quiet = run("true")?;
    for _ in 0..COMMANDS {
        let took = run(NOTHING)?;
        ensure!(took < quiet + TOLD_WITHIN, "{took:?} with a webhook that is down, {quiet:?} without alerts");
    }
    let gateway = bed.gateway()?;
    until("a word in the log", SOON, || {
        Ok(gateway.log()?.contains("events cannot be exported; it is tried again").then_some(()))
    })?;
    let hook = Webhook::start(&bed.topology().gateway)?;
    let rsyslog = Rsyslog::start(&bed)?;
    for _ in 0..COMMANDS {
        hook.notice("wipe", Duration::from_secs(40))?;
    }
    until("all messages at rsyslog", Duration::from_secs(40), || {
        Ok((rsyslog.text().lines().count() == COMMANDS).then_some(()))
    })
    .with_context(|| rsyslog.text())?;
    for kind in ["http", "syslog"] {
        let lost = metric(gateway, &format!("portreeve_alert_notices_dropped_total{{kind=\"{kind}\"}}"))?;
        ensure!(lost < 0.5, "{kind}: {lost} are lost");
        let sent = metric(gateway, &format!("portreeve_alert_notices_exported_total{{kind=\"{kind}\"}}"))?;
        ensure!(sent > 4.5, "{kind}: {sent} were sent");
    }
    Ok(())
}
