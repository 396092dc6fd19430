//! `portreeve sessions`: live sessions as an operator sees and ends them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::raw_client::{Message, RawClient};
use portreeve_tests::terminal::Terminal;
use portreeve_tests::topology::{SSH_PORT, TARGET4, at};
use portreeve_tests::{Companion, Finished, Options, Testbed, run};
use serde_json::Value;

use super::{Check, SOON, access_event, policy};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET};

pub(super) const CHECKS: &[Check] = &[
    Check::new("a_live_session_is_listed_and_shown", shown),
    Check::new("a_typed_command_is_shown_while_its_session_lives", typed),
    Check::new("an_operator_ends_a_live_session_within_two_seconds", ended),
    Check::new("a_terminal_is_watched_with_the_private_key_alone", watched),
    Check::new("what_is_watched_ends_with_a_killed_gateway", cut),
    Check::new("another_user_learns_nothing_of_sessions", strangers),
    Check::new("twenty_live_sessions_are_listed", many),
];

const SESSIONS: usize = 20;

pub(super) fn sessions(bed: &Testbed, words: &[&str]) -> Result<Finished> {
    let files = bed.gateway()?.files();
    let mut command = Command::new(files.binary());
    command.arg("sessions").args(words).arg("--state-dir").arg(files.state_dir());
    run(&mut command, b"", LIMIT)
}

fn listed(bed: &Testbed) -> Result<Vec<Value>> {
    let lines = sessions(bed, &["ls", "--json"])?.success()?;
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// The one live session of a user that the gateway tells a command of which holds `text`.
pub(super) fn session_with(bed: &Testbed, text: &str) -> Result<Value> {
    until("the session in the list", SOON, || {
        let has = |session: &Value| session["command"].as_str().is_some_and(|command| command.contains(text));
        Ok(listed(bed)?.into_iter().find(has))
    })
}

pub(super) fn text<'a>(session: &'a Value, key: &str) -> Result<&'a str> {
    session[key].as_str().with_context(|| format!("no {key} in {session}"))
}

/// A session at a terminal that runs a command and stays.
pub(super) fn at_a_terminal(bed: &Testbed, words: &[&str]) -> Result<Terminal> {
    let mut command = bed.client("setsid");
    command.args(["--ctty", "ssh", "-F"]).arg(bed.ssh_config()).args(words);
    Terminal::spawn(&mut command, 90, 30)
}

fn shown(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let mut command = bed.client_ssh("ssh");
    command.args([TARGET, "printf 1234567; sleep 100 # \u{1b}[31m \u{9b}31m"]);
    let live =
        Companion::spawn(command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()))?;
    let session = session_with(&bed, "sleep 100")?;
    for (key, value) in [
        ("user", "alice@example.com"),
        ("login", "alice"),
        ("target", "10.1.2.3:22"),
        ("hostname", "server"),
        ("command", "printf 1234567; sleep 100 # \u{1b}[31m \u{9b}31m"),
    ] {
        ensure!(session[key] == value, "{key} is not {value:?}: {session}");
    }
    ensure!(text(&session, "client")?.starts_with("10.1.1.2:"), "{session}");
    ensure!(session["channels"] == 1, "{session}");
    until("the bytes of its output", SOON, || {
        Ok((session_with(&bed, "sleep 100")?["target_bytes"] == 7).then_some(()))
    })?;

    let id = text(&session, "session")?;
    let prefix = id.get(..6).context("a short id")?;
    for words in [&["ls"][..], &["show", prefix], &["show", id], &["ls", "--json"], &["show", id, "--json"]] {
        let out = sessions(&bed, words)?.success()?;
        for part in [id, "alice@example.com", "sleep 100 # \\u001b[31m \\u009b31m"] {
            ensure!(out.contains(part), "{words:?}: no {part:?} in {out:?}");
        }
        ensure!(!out.contains(|c: char| c.is_control() && c != '\n'), "{words:?}: {out:?}");
    }
    let unknown = sessions(&bed, &["show", "no-such-id"])?;
    ensure!(unknown.ending() == "exit 1" && unknown.err().contains("no live session"), "{}", unknown.err());

    drop(live);
    until("an empty list", SOON, || Ok(listed(&bed)?.is_empty().then_some(())))?;
    bed.gateway_mut()?.stop()?;
    let nobody = sessions(&bed, &["ls"])?;
    ensure!(nobody.ending() == "exit 1" && nobody.err().contains("no gateway runs"), "{}", nobody.err());
    Ok(())
}

fn typed(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    let mut terminal = at_a_terminal(&bed, &[TARGET])?;
    terminal.expect("$ ", LIMIT)?;
    terminal.send("echo typed-$((40 + 2))\r")?;
    terminal.expect("typed-42\r\n", LIMIT)?;
    let session = session_with(&bed, "echo typed-")?;
    ensure!(session["command"] == "echo typed-$((40 + 2))", "{session}");
    Ok(())
}

fn ended(_: &Beds) -> Result<()> {
    let bed = own(&Options { policy: Some(policy("\"alice\"", "")), ..Options::default() })?;
    let mut alice = at_a_terminal(&bed, &["-b", "10.1.1.2", TARGET, "sleep 101"])?;
    let _bob = at_a_terminal(&bed, &["-b", "10.1.1.9", TARGET, "sleep 102"])?;
    let (session, other) = (session_with(&bed, "sleep 101")?, session_with(&bed, "sleep 102")?);
    ensure!(other["user"] == "bob@example.com", "{other}");

    let id = text(&session, "session")?;
    let all = sessions(&bed, &["end", ""])?;
    ensure!(all.ending() == "exit 1" && listed(&bed)?.len() == 2, "an empty id: {}", all.err());
    let begun = Instant::now();
    sessions(&bed, &["end", id, "--reason", "the change window\u{1b}[31m is over"])?.success()?;
    alice.program().wait(Duration::from_secs(5))?;
    let took = begun.elapsed();
    ensure!(took <= Duration::from_secs(2), "the session lived for {took:?}");
    let (_, said) = alice.finish(SOON)?;
    ensure!(
        said.contains("has ended this session: the change window [31m is over"),
        "the user reads {said:?}"
    );
    access_event(bed.gateway()?, "an access event of the end", |event| {
        event["outcome"] == "revoked"
            && event["email"] == "alice@example.com"
            && event["reason"].as_str().is_some_and(|reason| reason.starts_with("ended by uid 0: the change"))
    })?;
    let left = listed(&bed)?;
    ensure!(left.len() == 1 && left.iter().all(|left| left["session"] == other["session"]), "{left:?}");
    let again = sessions(&bed, &["end", id])?;
    ensure!(again.ending() == "exit 1" && again.err().contains("no live session"), "{}", again.err());
    Ok(())
}

/// `portreeve sessions watch` at a terminal.
fn watch(bed: &Testbed, id: &str, key: &std::path::Path, further: &[&str]) -> Result<Terminal> {
    let files = bed.gateway()?.files();
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(files.binary()).args(["sessions", "watch", id, "--key"]).arg(key);
    Terminal::spawn(command.arg("--state-dir").arg(files.state_dir()).args(further), 120, 40)
}

fn watched(_: &Beds) -> Result<()> {
    let small = "[recording]\nsegment_size = \"1MiB\"\n".to_owned();
    let bed = own(&Options { config: Some(small), ..Options::default() })?;
    let mut user = at_a_terminal(&bed, &[TARGET])?;
    user.expect("$ ", LIMIT)?;
    user.send("echo early-$((40 + 2))\r")?;
    user.expect("early-42\r\n", LIMIT)?;
    let session = session_with(&bed, "echo early-")?;
    let id = text(&session, "session")?;
    let key = bed.gateway()?.files().recipient_key();

    // Who comes late sees what was, then what is, over several segments, within a second.
    let mut watching = watch(&bed, id, &key, &[])?;
    watching.expect("90 columns and 30 rows", LIMIT)?;
    watching.expect("early-42\r\n", LIMIT)?;
    user.send("seq 160000; echo late-$((40 + 3))\r")?;
    user.expect("late-43\r\n", LIMIT)?;
    let seen = watching.expect("late-43\r\n", LIMIT)?;
    let lines: String = (1..=160_000).map(|n| format!("{n}\r\n")).collect();
    ensure!(seen.contains(&lines), "lines are missing or altered");
    let written = std::path::Path::new(text(&session, "directory")?);
    ensure!(written.join("channel-0.1.log").exists(), "there is one segment only");
    user.expect("$ ", LIMIT)?;
    let begun = Instant::now();
    user.send("echo at-$((40 + 4))\r")?;
    user.expect("at-44\r\n", LIMIT)?;
    watching.expect("at-44\r\n", LIMIT)?;
    let took = begun.elapsed();
    ensure!(took < Duration::from_millis(1_500), "it was seen after {took:?}");
    user.resize(100, 35)?;
    watching.expect("\u{1b}]2;100 columns, 35 rows\u{7}", LIMIT)?;

    // Another key opens nothing, and nothing is shown.
    let other = bed.dir().join("client").join("other-key");
    run(
        Command::new(bed.gateway()?.files().binary()).args(["logs", "generate-key-pair"]).arg(&other),
        b"",
        LIMIT,
    )?
    .success()?;
    let (status, said) = watch(&bed, id, &other, &[])?.finish(LIMIT)?;
    ensure!(status.code() == Some(1) && said.contains("wrong private key"), "{said}");
    ensure!(!said.contains("early"), "{said}");

    // Who leaves changes nothing for the user; the session's end is told.
    for key in ["q", "\u{3}"] {
        let mut leaving = watch(&bed, id, &bed.gateway()?.files().recipient_key(), &["--channel", "0"])?;
        leaving.expect("at-44\r\n", LIMIT)?;
        leaving.send(key)?;
        let (status, said) = leaving.finish(LIMIT)?;
        ensure!(status.success() && said.contains("left; the session goes on"), "{said}");
    }
    user.send("exit 4\r")?;
    let (status, transcript) = user.finish(LIMIT)?;
    ensure!(status.code() == Some(4) && !transcript.contains("columns"), "{transcript:?}");
    watching.expect("was closed", LIMIT).or_else(|_| watching.expect("the session has ended", SOON))?;
    let (status, said) = watching.finish(LIMIT)?;
    ensure!(status.success(), "{said}");
    Ok(())
}

fn cut(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let _user = at_a_terminal(&bed, &["-tt", TARGET, "echo begun; sleep 100"])?;
    let session = session_with(&bed, "sleep 100")?;
    let key = bed.gateway()?.files().recipient_key();
    let mut watching = watch(&bed, text(&session, "session")?, &key, &[])?;
    watching.expect("begun", LIMIT)?;
    bed.gateway_mut()?.kill9()?;
    let (status, said) = watching.finish(LIMIT)?;
    ensure!(status.code() == Some(1) && said.contains("nobody writes it any more"), "{said}");
    Ok(())
}

/// `portreeve sessions ls` as a user that is not the gateway's.
fn as_nobody(bed: &Testbed) -> Result<Finished> {
    let files = bed.gateway()?.files();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(files.binary());
    command.args(["sessions", "ls", "--state-dir"]).arg(files.state_dir());
    run(&mut command, b"", LIMIT)
}

fn strangers(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    let _live = at_a_terminal(&bed, &[TARGET, "sleep 101"])?;
    session_with(&bed, "sleep 101")?;
    let by_mode = as_nobody(&bed)?;
    ensure!(by_mode.ending() == "exit 1" && by_mode.stdout.is_empty(), "{}", by_mode.out());
    ensure!(by_mode.err().contains("Permission denied"), "{}", by_mode.err());

    // Credentials of the peer are asked for even where the modes of the files let anybody in.
    let state = bed.gateway()?.files().state_dir();
    let socket = state.join("control.sock");
    fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
    for dir in state.ancestors().take_while(|dir| dir.starts_with(bed.dir())) {
        fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    }
    let by_uid = as_nobody(&bed)?;
    ensure!(by_uid.ending() == "exit 1" && by_uid.stdout.is_empty(), "{}", by_uid.out());
    ensure!(by_uid.err().contains("its own user and root"), "{}", by_uid.err());
    let log = bed.gateway()?.log()?;
    ensure!(log.contains("refused on the control socket") && log.contains("65534"), "{log}");
    ensure!(listed(&bed)?.len() == 1, "root is not answered");
    Ok(())
}

fn many(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    let mut live = Vec::new();
    for number in 0..SESSIONS {
        let mut client = RawClient::connect_to(&bed, at(TARGET4, SSH_PORT), "alice")?;
        let channel = client.open_session(0, 1 << 20, 1 << 15)?;
        client.send(&Message::request(channel, "exec", false)?.string(format!("cat # {number}."))?)?;
        live.push(client);
    }
    for number in 0..SESSIONS {
        session_with(&bed, &format!("cat # {number}."))?;
    }
    let sessions = listed(&bed)?;
    let mut ids: Vec<_> = sessions.iter().map(|session| session["session"].to_string()).collect();
    let since: Vec<_> = sessions.iter().map(|session| session["since"].to_string()).collect();
    ids.sort();
    ids.dedup();
    ensure!(sessions.len() == SESSIONS && ids.len() == SESSIONS, "{sessions:?}");
    ensure!(since.is_sorted(), "not in the order of their start: {since:?}");
    Ok(())
}
