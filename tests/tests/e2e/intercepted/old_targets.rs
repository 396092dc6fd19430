//! Targets that know old algorithms only, and the profile that opens those.

use anyhow::{Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::template::POLICY;
use portreeve_tests::{Options, Route, Testbed};
use serde_json::json;

use super::{Check, SOON, access_event, ensure_refused, metric, sample};
use crate::beds::{Beds, own};
use crate::ssh::{TARGET, noise, ssh, ssh_with};

pub(super) const CHECKS: &[Check] = &[
    Check::new("an_old_target_is_reached_with_a_legacy_profile_only", old_target),
    Check::new("a_legacy_profile_changes_nothing_for_a_modern_target", modern_target),
    Check::new("a_legacy_profile_opens_nothing_towards_users", users),
];

const OLD: &str = "KexAlgorithms diffie-hellman-group1-sha1
HostKeyAlgorithms ssh-rsa
Ciphers aes128-cbc
MACs hmac-sha1
";

fn legacy_policy() -> String {
    POLICY.replace("[[targets]]\n", "[[targets]]\nlegacy = true\n")
}

fn old_target(_: &Beds) -> Result<()> {
    let bed = Testbed::start(
        Route::Intercepted,
        &Options { sshd_config: Some(OLD.to_owned()), ..Options::default() },
    )?;
    let gateway = bed.gateway()?;
    let texts = ["no key exchange method in common", "`legacy = true`", "diffie-hellman-group1-sha1"];
    ensure_refused(&ssh(&bed, &[TARGET, "id"])?, &texts)?;
    let refused = access_event(gateway, "an access event of the refusal", |event| {
        event["outcome"] == "target_unreachable"
    })?;
    ensure!(refused.get("legacy_algorithms").is_none(), "{refused}");

    let before = metric(gateway, sample::RELOADS_APPLIED)?;
    gateway.files().write_policy(&legacy_policy())?;
    until("the new policy", SOON, || Ok((metric(gateway, sample::RELOADS_APPLIED)? > before).then_some(())))?;
    let input = noise(8 << 20);
    let echoed = ssh_with(&bed, &[TARGET, "cat"], &input)?;
    ensure!(echoed.status.success(), "{}", echoed.err());
    ensure!(echoed.stdout == input, "the echo differs");
    let closed = access_event(gateway, "an access event", |event| event["outcome"] == "closed")?;
    let names = json!(["diffie-hellman-group1-sha1", "ssh-rsa", "aes128-cbc", "hmac-sha1"]);
    ensure!(closed["legacy_algorithms"] == names, "{closed}");
    Ok(())
}

fn modern_target(_: &Beds) -> Result<()> {
    let bed = own(&Options { policy: Some(legacy_policy()), ..Options::default() })?;
    ssh(&bed, &[TARGET, "true"])?.success()?;
    let closed = access_event(bed.gateway()?, "an access event", |event| event["outcome"] == "closed")?;
    ensure!(closed.get("legacy_algorithms").is_none(), "{closed}");
    Ok(())
}

fn users(_: &Beds) -> Result<()> {
    let bed = own(&Options { policy: Some(legacy_policy()), ..Options::default() })?;
    let kex = "KexAlgorithms=diffie-hellman-group14-sha1,diffie-hellman-group1-sha1";
    for options in
        [&["-o", kex][..], &["-c", "aes128-cbc,3des-cbc"], &["-c", "aes128-ctr", "-m", "hmac-sha1"]]
    {
        let args = [options, &[TARGET, "id"]].concat();
        ensure_refused(&ssh(&bed, &args)?, &["no matching"])?;
    }
    Ok(())
}
