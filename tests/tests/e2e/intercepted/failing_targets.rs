//! Targets that are down, refuse, or do not trust the gateway: the user reads which.

use anyhow::{Result, ensure};
use portreeve_tests::Options;

use super::{Check, access_event, ensure_refused, policy};
use crate::beds::{Beds, own};
use crate::ssh::{TARGET, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("a_target_that_refuses_is_named", refuses),
    Check::new("a_target_that_is_absent_is_named", absent),
    Check::new("a_target_without_the_ca_is_named", no_ca),
    Check::new("a_target_that_stops_ends_its_sessions_only", stops),
];

fn bed() -> Result<portreeve_tests::Testbed> {
    let config = "[upstream]\nconnect_timeout = \"1s\"\n".to_owned();
    own(&Options { policy: Some(policy("\"alice\"", "")), config: Some(config), ..Options::default() })
}

fn refuses(_: &Beds) -> Result<()> {
    let bed = bed()?;
    ensure_refused(&ssh(&bed, &["alice@10.1.2.5", "id"])?, &["10.1.2.5", "refused"])?;
    access_event(bed.gateway()?, "an access event", |event| event["outcome"] == "target_unreachable")?;
    Ok(())
}

fn absent(_: &Beds) -> Result<()> {
    ensure_refused(&ssh(&bed()?, &["alice@10.1.2.99", "id"])?, &["portreeve", "10.1.2.99"])
}

fn no_ca(_: &Beds) -> Result<()> {
    let bed = bed()?;
    bed.server().trust("")?;
    ensure_refused(&ssh(&bed, &[TARGET, "id"])?, &["TrustedUserCAKeys"])?;
    access_event(bed.gateway()?, "an access event", |event| event["outcome"] == "target_refused_login")?;
    bed.server().trust(&bed.gateway()?.files().ca_public_key()?)?;
    ssh(&bed, &[TARGET, "true"])?.success()?;
    Ok(())
}

fn stops(_: &Beds) -> Result<()> {
    let mut bed = bed()?;
    bed.server_mut().stop()?;
    ensure_refused(&ssh(&bed, &[TARGET, "id"])?, &["refused"])?;
    bed.server_mut().restart()?;
    let finished = ssh(&bed, &[TARGET, "kill -9 $PPID; sleep 5"])?;
    ensure!(!finished.status.success(), "the session outlived its server process");
    ssh(&bed, &[TARGET, "true"])?.success()?;
    Ok(())
}
