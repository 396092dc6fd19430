//! What is recorded, and who can read it.

use std::fs;
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::terminal::Terminal;
use portreeve_tests::{Finished, Options, Testbed, run};
use serde_json::Value;

use super::reloads::{lasting, wait_for};
use super::{Check, SOON, access_event, metric, policy, sample};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, noise, ssh, ssh_with};

pub(super) const CHECKS: &[Check] = &[
    Check::new("a_command_and_its_streams_are_recorded", command),
    Check::new("a_terminal_is_recorded_as_typed", terminal),
    Check::new("nothing_is_readable_without_the_key", sealed),
    Check::new("the_target_logs_session_identity_and_serial", certificate),
    Check::new("damaged_recordings_and_wrong_keys_are_errors", damaged),
    Check::new("without_command_logging_neither_commands_nor_streams_are_kept", without_commands),
    Check::new("command_logging_that_begins_ends_the_session_that_has_none", command_logging_begins),
];

/// Finished recordings: one directory for each session.
pub(super) fn recordings(bed: &Testbed, count: usize) -> Result<Vec<PathBuf>> {
    let spool = bed.gateway()?.files().spool_dir();
    until("finished recordings", SOON, || {
        let mut found = Vec::new();
        for entry in fs::read_dir(&spool)? {
            let path = entry?.path();
            // What is no session's, as the heads of the chain, does not begin with a number.
            let of_session = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
            if of_session && path.extension().is_none_or(|extension| extension != "part") {
                found.push(path);
            }
        }
        found.sort();
        Ok((found.len() >= count).then_some(found))
    })
}

/// The recording of the last session of `count`.
fn last_recording(bed: &Testbed, count: usize) -> Result<PathBuf> {
    recordings(bed, count)?.pop().context("no recording")
}

fn decrypt(bed: &Testbed, args: &[&str]) -> Result<Finished> {
    let files = bed.gateway()?.files();
    let mut command = Command::new(files.binary());
    command.args(["logs", "decrypt", "--key"]).arg(files.recipient_key()).args(args);
    run(&mut command, b"", LIMIT)
}

/// The events of a recording, in order.
pub(super) fn events(bed: &Testbed, recording: &std::path::Path) -> Result<Vec<Value>> {
    let file = recording.join("events.log").display().to_string();
    let lines = decrypt(bed, &[&file])?.success()?;
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// A file of a decrypted stream recording.
pub(super) fn stream(bed: &Testbed, recording: &std::path::Path, name: &str) -> Result<Vec<u8>> {
    let file = recording.join("channel-0.log").display().to_string();
    let finished = decrypt(bed, &["--output", "-", &file])?;
    ensure!(finished.status.success(), "{}", finished.err());
    let mut archive = zip::ZipArchive::new(Cursor::new(finished.stdout))?;
    let mut bytes = Vec::new();
    archive.by_name(name).with_context(|| name.to_owned())?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A testbed of one's own: starting it makes one recording for each address family.
pub(super) fn bed() -> Result<Testbed> {
    own(&Options::default())
}

fn command(_: &Beds) -> Result<()> {
    let bed = bed()?;
    let input = noise(300_000);
    let finished = ssh_with(&bed, &[TARGET, "sha256sum; echo done >&2; exit 7"], &input)?;
    ensure!(finished.ending() == "exit 7", "{}", finished.err());
    let recording = last_recording(&bed, 3)?;
    let events = events(&bed, &recording)?;
    let first = events.first().context("no event")?;
    ensure!(first["event"] == "session-started" && first["email"] == "alice@example.com", "{first}");
    let exec = events.iter().find(|event| event["event"] == "exec").context("no exec event")?;
    ensure!(exec["command"] == "sha256sum; echo done >&2; exit 7", "{exec}");
    ensure!(events.iter().any(|event| event["event"] == "exit"), "no exit event: {events:?}");
    ensure!(events.last().is_some_and(|event| event["event"] == "session-ended"), "{events:?}");
    ensure!(stream(&bed, &recording, "data_from_client.txt")? == input, "the input was not recorded");
    let output = String::from_utf8(stream(&bed, &recording, "data_from_server.txt")?)?;
    ensure!(output.contains(&finished.out()) && output.contains("done\n"), "{output:?}");
    Ok(())
}

fn terminal(_: &Beds) -> Result<()> {
    let bed = bed()?;
    let mut command = bed.client("setsid");
    command.args(["--ctty", "ssh", "-F"]).arg(bed.ssh_config()).arg(TARGET);
    let mut terminal = Terminal::spawn(&mut command, 90, 30)?;
    terminal.expect("$ ", LIMIT)?;
    terminal.send("echo typed-$((40 + 2))\r")?;
    terminal.expect("typed-42\r\n", LIMIT)?;
    terminal.expect("$ ", LIMIT)?;
    terminal.send("exit 4\r")?;
    let (status, transcript) = terminal.finish(LIMIT)?;
    ensure!(status.code() == Some(4), "{transcript}");
    let recording = last_recording(&bed, 3)?;
    let recorded = String::from_utf8_lossy(&stream(&bed, &recording, "term_data.txt")?).into_owned();
    ensure!(
        recorded.contains("echo typed-$((40 + 2))\r\n") && recorded.contains("typed-42\r\n"),
        "{recorded:?}"
    );
    let times = stream(&bed, &recording, "term_times.txt")?;
    ensure!(!times.is_empty(), "no times");
    let pty = events(&bed, &recording)?.into_iter().find(|event| event["event"] == "pty");
    let pty = pty.context("no pty event")?;
    ensure!(pty["pty"]["width"] == 90 && pty["pty"]["height"] == 30, "{pty}");
    Ok(())
}

fn sealed(_: &Beds) -> Result<()> {
    let bed = bed()?;
    ssh_with(&bed, &[TARGET, "cat; : a-secret-command"], b"a-secret-input")?.success()?;
    let recording = last_recording(&bed, 3)?;
    let gateway = bed.gateway()?;
    for entry in fs::read_dir(&recording)? {
        let bytes = fs::read(entry?.path())?;
        for clear in ["a-secret", "alice", "10.1.2.3"] {
            ensure!(!bytes.windows(clear.len()).any(|part| part == clear.as_bytes()), "{clear} in the clear");
        }
    }
    for text in [gateway.log()?, format!("{:?}", gateway.access_log()?)] {
        ensure!(!text.contains("a-secret"), "a command or input is in a log");
    }
    Ok(())
}

fn certificate(_: &Beds) -> Result<()> {
    let bed = bed()?;
    ssh(&bed, &[TARGET, "true"])?.success()?;
    let closed = |event: &Value| event["outcome"] == "closed" && event["certificate_serial"].is_u64();
    let event = access_event(bed.gateway()?, "an access event of the session", closed)?;
    let session = event["session"].as_str().context("no session id")?;
    let key_id = format!("ID \"{session} alice@example.com\" (serial {})", event["certificate_serial"]);
    let log = bed.server().log()?;
    ensure!(log.contains(&key_id), "{key_id} is not in the target's log:\n{log}");
    ensure!(event["granted_by"] == serde_json::json!(["servers/staff"]), "{event}");
    Ok(())
}

fn damaged(_: &Beds) -> Result<()> {
    let bed = bed()?;
    let recording = last_recording(&bed, 2)?;
    let whole = fs::read(recording.join("events.log"))?;
    let file = bed.dir().join("client/damaged.log");
    let name = file.display().to_string();
    let mut altered = whole.clone();
    if let Some(last) = altered.last_mut() {
        *last ^= 1;
    }
    for bytes in [&altered[..], whole.get(..whole.len() - 5).unwrap_or_default(), b"", b"\xff\xff\xff\xff"] {
        fs::write(&file, bytes)?;
        let finished = decrypt(&bed, &[&name])?;
        ensure!(finished.ending() == "exit 1", "{}: {}", finished.ending(), finished.err());
        ensure!(finished.err().contains("damaged.log"), "the file is not named: {}", finished.err());
    }
    let files = bed.gateway()?.files();
    let other = bed.dir().join("client/other");
    files.verb(&["logs", "generate-key-pair"], &[&other])?;
    let events = recording.join("events.log");
    let wrong = files.verb(&["logs", "decrypt", "--key"], &[&other, &events]);
    ensure!(wrong.is_err(), "a wrong key opens the recording");
    Ok(())
}

/// A policy that audits all SSH, with or without commands and streams.
fn audit(command_logging: bool) -> String {
    let rule = "{ name = \"audit\", action = \"audit_ssh\", precedence = 1, \
                rule_settings = { audit_ssh = { command_logging = LOGGING } } }";
    policy("\"alice\"", &rule.replace("LOGGING", &command_logging.to_string()))
}

fn audited_without_commands() -> Result<Testbed> {
    own(&Options { policy: Some(audit(false)), ..Options::default() })
}

fn without_commands(_: &Beds) -> Result<()> {
    let bed = audited_without_commands()?;
    let finished = ssh(&bed, &["-o", "SetEnv=TOKEN=a-secret", TARGET, "echo a-secret-$((40 + 2)); exit 7"])?;
    ensure!(finished.ending() == "exit 7" && finished.out() == "a-secret-42\n", "{}", finished.err());
    let recording = last_recording(&bed, 3)?;
    let files = fs::read_dir(&recording)?.map(|file| Ok(file?.file_name()));
    let mut files = files.collect::<Result<Vec<_>>>()?;
    files.sort();
    ensure!(files == ["events.log", "manifest.json"], "streams are kept: {files:?}");
    let events = events(&bed, &recording)?;
    for (kind, text) in [("exec", "command"), ("env", "value")] {
        let event = events.iter().find(|event| event["event"] == kind).with_context(|| kind.to_owned())?;
        ensure!(event[text] == "[withheld]" && event["withheld"] == true, "{event}");
    }
    ensure!(!format!("{events:?}").contains("a-secret"), "{events:?}");
    ensure!(events.iter().any(|event| event["event"] == "exit"), "no exit event: {events:?}");
    Ok(())
}

fn command_logging_begins(_: &Beds) -> Result<()> {
    let bed = audited_without_commands()?;
    let gateway = bed.gateway()?;
    let mut session = lasting(&bed, "10.1.1.2", "unrecorded")?;
    gateway.files().write_policy(&audit(true))?;
    session.wait(SOON)?;
    let said = fs::read_to_string(bed.dir().join("client/unrecorded"))?;
    ensure!(said.contains("what you may do in this session has changed"), "the user reads {said:?}");
    access_event(gateway, "an access event of the revocation", |event| event["outcome"] == "revoked")?;
    let mut session = lasting(&bed, "10.1.1.2", "recorded")?;
    let before = metric(gateway, sample::RELOADS_APPLIED)?;
    gateway.files().write_policy(&audit(false))?;
    wait_for(gateway, sample::RELOADS_APPLIED, before + 1.0)?;
    ensure!(session.is_running()?, "a session that is recorded more than asked for ended");
    Ok(())
}
