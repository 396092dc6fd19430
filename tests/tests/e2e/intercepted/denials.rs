//! Who is not let in, and what they read.

use std::io::ErrorKind;

use anyhow::{Context, Result, ensure};
use portreeve_tests::topology::{SSH_PORT, TARGET4, TARGET6, at};
use portreeve_tests::{Options, Route, run};

use super::{Check, access_event, dialled_by_the_gateway, ensure_refused, metric, policy, sample};
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("a_denied_login_reads_why", denied_login),
    Check::new("a_denied_login_over_ipv6_reads_why", denied_login_v6),
    Check::new("scp_and_sftp_show_the_reason_too", denied_copy),
    Check::new("a_login_that_is_no_account_name_is_refused", odd_login),
    Check::new("an_unknown_user_reads_that_nobody_is_known", unknown_user),
    Check::new("a_user_without_any_policy_reads_why_and_the_target_is_not_dialled", no_policy),
    Check::new("a_blocked_network_gets_no_ssh_byte", blocked),
];

fn denied_login(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let finished = ssh(bed, &["deploy@10.1.2.3", "id"])?;
    ensure_refused(&finished, &["deploy", "alice@example.com", "server"])?;
    let event = access_event(bed.gateway()?, "an access event of the denial", |event| {
        event["outcome"] == "denied" && event["login"] == "deploy" && event["target"] == "10.1.2.3:22"
    })?;
    ensure!(event["email"] == "alice@example.com", "{event}");
    Ok(())
}

fn denied_login_v6(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    ensure_refused(&ssh(bed, &["deploy@fd00:1:2::3", "id"])?, &["deploy", "alice@example.com"])
}

fn denied_copy(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let copies = [("scp", vec!["deploy@10.1.2.3:x", "x"]), ("sftp", vec!["deploy@10.1.2.3:x"])];
    for (program, args) in copies {
        let finished = run(bed.client_ssh(program).args(args).current_dir(bed.dir()), b"", LIMIT)?;
        ensure!(!finished.status.success(), "{program} succeeded");
        ensure!(finished.err().contains("alice@example.com"), "{program}: {}", finished.err());
    }
    Ok(())
}

fn odd_login(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    // ssh itself refuses control characters.
    for login in ["a,b", &"x".repeat(300)] {
        ensure_refused(&ssh(bed, &["-l", login, "10.1.2.3", "id"])?, &["portreeve"])?;
    }
    Ok(())
}

fn unknown_user(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let finished = ssh(bed, &["-b", "10.1.1.9", TARGET, "id"])?;
    ensure_refused(&finished, &["10.1.1.9"])?;
    access_event(bed.gateway()?, "an access event of the stranger", |event| {
        event["outcome"] == "unknown_identity"
    })?;
    Ok(())
}

fn no_policy(_: &Beds) -> Result<()> {
    let others = policy("\"alice\"", "").replace(
        "include = [{ email = { email = \"bob@example.com\" } }]",
        "include = [{ email = { email = \"carol@example.com\" } }]",
    );
    let bed = own(&Options { policy: Some(others), ..Options::default() })?;
    let before = dialled_by_the_gateway(&bed)?;
    let finished = ssh(&bed, &["-b", "10.1.1.9", TARGET, "id"])?;
    ensure_refused(&finished, &["Access denied: no policy lets bob@example.com log in to server."])?;
    let event =
        access_event(bed.gateway()?, "an access event of the denial", |event| event["outcome"] == "denied")?;
    let reason = "no policy grants bob@example.com access to server";
    ensure!(event["email"] == "bob@example.com" && event["reason"] == reason, "{event}");
    ensure!(event["hostname"] == "server" && event["login"].is_null(), "{event}");
    ensure!(dialled_by_the_gateway(&bed)? == before, "the target was dialled");
    Ok(())
}

fn blocked(_: &Beds) -> Result<()> {
    let options = Options { policy: Some(policy("\"alice\"", "")), ..Options::default() };
    let bed = own(&options)?;
    let gateway = bed.gateway()?;
    let before = dialled_by_the_gateway(&bed)?;
    let block = "{ name = \"no ssh\", action = \"block\", enabled = true, precedence = 1, \
                 traffic = \"net.dst.port == 22\" }";
    let applied = metric(gateway, sample::RELOADS_APPLIED)?;
    gateway.files().write_policy(&policy("\"alice\"", block))?;
    super::reloads::wait_for(gateway, sample::RELOADS_APPLIED, applied + 1.0)?;
    for address in [at(TARGET4, SSH_PORT), at(TARGET6, SSH_PORT)] {
        // The kernel answers the first packet.
        let error = bed.client_netns().connect(address).err().context("connected")?;
        let refused = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        ensure!(refused == Some(ErrorKind::ConnectionRefused), "{address}: {error:#}");
    }
    ensure_refused(&ssh(&bed, &[TARGET, "id"])?, &[])?;
    let event = access_event(gateway, "an access event of the block", |event| event["outcome"] == "blocked")?;
    ensure!(event["network_policy"] == "no ssh" && event["ingress_interface"] == "lan0", "{event}");
    for counter in [sample::DROPPED_BY_POLICY, sample::NO_SSH] {
        ensure!(metric(gateway, counter)? >= 3.0, "{counter}");
    }
    ensure!(metric(gateway, sample::BLOCKED)? >= 1.0, "blocked connections are not counted");
    ensure!(dialled_by_the_gateway(&bed)? == before, "the target was dialled");
    Ok(())
}
