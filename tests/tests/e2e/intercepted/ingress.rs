//! The interface that a connection comes in on, and identities that count on some alone.

use anyhow::{Result, ensure};
use portreeve_tests::{Options, Route, Testbed};

use super::bad_input::portreeve;
use super::reloads::ends_only_alice;
use super::{Check, access_event, dialled_by_the_gateway, ensure_refused, policy};
use crate::beds::{Beds, own};
use crate::ssh::{TARGET, TARGET_V6, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("the_access_log_names_the_ingress_interface", logged),
    Check::new("a_connection_behind_syn_cookies_has_its_interface_too", logged_behind_cookies),
    Check::new("an_identity_that_is_bound_elsewhere_is_nobody", bound),
    Check::new("a_session_ends_when_its_identity_is_bound_elsewhere", bound_later),
];

/// The policy of two users, alice bound to interfaces.
fn alice_on(interfaces: &str) -> String {
    let alice = "email = \"alice@example.com\", groups";
    let bound = format!("email = \"alice@example.com\", interfaces = [{interfaces}], groups");
    policy("\"alice\"", "").replace(alice, &bound)
}

fn logged(beds: &Beds) -> Result<()> {
    names_lan0(beds.shared(Route::Intercepted)?)
}

/// With SYN cookies there is nothing of the SYN when the handshake ends.
fn logged_behind_cookies(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    bed.topology().gateway.sysctl("net/ipv4/tcp_syncookies", "2")?;
    names_lan0(&bed)
}

fn names_lan0(bed: &Testbed) -> Result<()> {
    for (target, logged) in [(TARGET, "10.1.2.3:22"), (TARGET_V6, "[fd00:1:2::3]:22")] {
        let login = format!("ingress{}", target.len());
        ensure_refused(&ssh(bed, &["-l", &login, target.trim_start_matches("alice@"), "id"])?, &[&login])?;
        let event = access_event(bed.gateway()?, "an access event", |event| event["login"] == *login)?;
        ensure!(event["ingress_interface"] == "lan0" && event["target"] == logged, "{event}");
    }
    Ok(())
}

fn bound(_: &Beds) -> Result<()> {
    let bed = own(&Options { policy: Some(alice_on("\"wan0\", \"lan0\"")), ..Options::default() })?;
    let gateway = bed.gateway()?;
    let files = gateway.files();
    for target in [TARGET, TARGET_V6] {
        ssh(&bed, &[target, "true"])?.success()?;
    }
    let before = dialled_by_the_gateway(&bed)?;
    let applied = super::metric(gateway, super::sample::RELOADS_APPLIED)?;
    files.write_policy(&alice_on("\"wan0\", \"lan7\""))?;
    super::reloads::wait_for(gateway, super::sample::RELOADS_APPLIED, applied + 1.0)?;
    for (target, address) in [(TARGET, "10.1.1.2"), (TARGET_V6, "fd00:1:1::2")] {
        let refused = ssh(&bed, &[target, "id"])?;
        ensure_refused(&refused, &[address, "on the network that you came in by"])?;
        ensure!(!refused.err().contains("wan0"), "the user reads {}", refused.err());
        let event = access_event(gateway, "an access event", |event| {
            event["outcome"] == "unknown_identity"
                && event["client"].as_str().is_some_and(|client| client.contains(address))
        })?;
        let why = "is known for connections that come in on lan7, wan0 alone, and this one came in on lan0";
        ensure!(event["reason"].as_str().is_some_and(|reason| reason.ends_with(why)), "{event}");
    }
    ensure!(dialled_by_the_gateway(&bed)? == before, "the target was dialled");
    let log = gateway.log()?;
    ensure!(log.contains("\\\"lan7\\\"") || log.contains("\"lan7\""), "no warning names lan7: {log}");
    let config = files.config_file().display().to_string();
    for (interface, ending) in [("wan0", "exit 0"), ("lan0", "exit 3")] {
        let words =
            ["--from", "10.1.1.2", "--interface", interface, "--to", "10.1.2.3:22", "--login", "alice"];
        let told = portreeve(&bed, &[&["explain", "--config", &config][..], &words[..]].concat())?;
        ensure!(told.ending() == ending, "{interface}: {}", told.out());
        ensure!(ending == "exit 0" || told.out().contains("this one came in on lan0"), "{}", told.out());
    }
    Ok(())
}

fn bound_later(_: &Beds) -> Result<()> {
    let bed = own(&Options { policy: Some(alice_on("\"lan0\"")), ..Options::default() })?;
    ends_only_alice(&alice_on("\"wan0\""), &bed)
}
