//! Forwards that policy restricts, and those that would lead around the gateway.

use anyhow::{Context, Result, ensure};
use portreeve_tests::{Options, Route, Testbed};

use super::recordings::{events, recordings};
use super::{Check, policy};
use crate::beds::{Beds, own};
use crate::ssh::{TARGET, noise, ssh, ssh_with};

pub(super) const CHECKS: &[Check] = &[
    Check::new("a_forward_to_a_target_is_refused_with_a_text", to_targets),
    Check::new("ssh_behind_a_name_that_means_a_target_is_refused_with_a_text", behind_names),
    Check::new("a_refused_forward_is_recorded", recorded),
    Check::new("forwards_go_where_policy_lets_them", restricted),
];

/// Where a user reads that they are to connect directly.
const DIRECTLY: &str = "server is reached through this gateway alone; connect to it directly";

fn through(bed: &Testbed, destination: &str, input: &[u8]) -> Result<portreeve_tests::Finished> {
    ssh_with(bed, &["-W", destination, TARGET], input)
}

fn to_targets(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    for destination in
        ["10.1.2.3:22", "[fd00:1:2::3]:22", "127.0.0.1:22", "[::1]:22", "localhost:22", "SERVER:22"]
    {
        let finished = through(bed, destination, b"")?;
        ensure!(!finished.status.success(), "{destination}: it was forwarded");
        ensure!(finished.err().contains(DIRECTLY), "{destination}: {}", finished.err());
        ensure!(finished.stdout.is_empty(), "{destination}: {}", finished.out());
    }
    let jump = ssh(bed, &["-J", TARGET, "alice@fd00:1:2::3", "id"])?;
    ensure!(!jump.status.success() && jump.err().contains(DIRECTLY), "{}", jump.err());
    Ok(())
}

fn behind_names(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    // Resolvers read this as 10.1.2.3.
    let ssh = through(bed, "10.66051:22", b"")?;
    let answer = ssh.out();
    ensure!(
        answer.starts_with("SSH-2.0-portreeve\r\n") && answer.contains(DIRECTLY),
        "{answer:?} {}",
        ssh.err()
    );
    // And this as 127.0.0.1.
    for name in ["10.66051", "127.1"] {
        let bytes = noise(1000);
        let echoed = through(bed, &format!("{name}:7"), &bytes)?;
        ensure!(echoed.stdout == bytes, "{name}: what is no SSH does not pass: {}", echoed.err());
    }
    // A name of the open server, which no target has.
    let open = through(bed, "10.66052:22", b"")?;
    ensure!(open.out().starts_with("SSH-2.0-OpenSSH"), "{:?} {}", open.out(), open.err());
    Ok(())
}

fn recorded(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    through(&bed, "localhost:22", b"")?;
    let recording = recordings(&bed, 3)?.pop().context("no recording")?;
    let events = events(&bed, &recording)?;
    let open = events.iter().find(|event| event["event"] == "channel-open").context("no open")?;
    let refused = events.iter().find(|event| event["event"] == "refused").context("no refusal")?;
    ensure!(open["destination"] == "localhost" && open["channel"] == refused["channel"], "{events:?}");
    ensure!(refused["what"].as_str().is_some_and(|what| what.contains(DIRECTLY)), "{refused}");
    ensure!(events.iter().any(|event| event["event"] == "channel-closed"), "{events:?}");
    Ok(())
}

fn restricted(_: &Beds) -> Result<()> {
    let rules = "usernames = [\"alice\"], forwards = [
        { action = \"deny\", destination = \"10.1.2.4\" },
        { action = \"allow\", kind = \"local\", port = 7 },
    ]";
    let policy = policy("\"alice\"", "").replacen("usernames = [\"alice\"]", &rules.replace('\n', " "), 1);
    let bed = own(&Options { policy: Some(policy), ..Options::default() })?;
    let bytes = noise(1000);
    ensure!(through(&bed, "127.0.0.1:7", &bytes)?.stdout == bytes, "what is allowed does not pass");
    for destination in ["10.1.2.4:7", "127.0.0.1:80", "some.name:7"] {
        let refused = through(&bed, destination, b"")?;
        let told = refused.err().contains("not granted by the policy of this gateway");
        ensure!(!refused.status.success() && told, "{destination}: {}", refused.err());
    }
    let remote =
        ssh(&bed, &["-o", "ExitOnForwardFailure=yes", "-R", "127.0.0.1:0:127.0.0.1:7", TARGET, "id"])?;
    ensure!(!remote.status.success(), "a remote forward was not refused: {}", remote.out());
    Ok(())
}
