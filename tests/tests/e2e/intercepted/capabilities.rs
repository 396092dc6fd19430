//! What the running gateway may do: nothing but network administration and BPF.

use std::fs;
use std::os::unix::fs::chown;

use anyhow::{Context, Result, ensure};
use portreeve_tests::Options;

use super::Check;
use super::lifecycle::ensure_serves;
use crate::beds::{Beds, own};
use crate::ssh::LIMIT;

pub(super) const CHECKS: &[Check] = &[
    Check::new("no_thread_of_the_gateway_has_other_capabilities", threads),
    Check::new("a_file_of_another_user_is_an_error_that_says_why", others_file),
];

/// `CAP_NET_BIND_SERVICE` (10), `CAP_NET_ADMIN` (12), `CAP_PERFMON` (38), `CAP_BPF` (39).
const KEPT: &str = "000000c000001400";
const NONE: &str = "0000000000000000";

fn threads(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    // The gateway that takes over has them too; sessions make further threads.
    let daemon = bed.gateway()?.take_over()?;
    let old = bed.gateway_mut()?.adopt(daemon).context("no gateway ran")?;
    ensure_serves(&bed)?;
    let new = bed.gateway()?.pid().context("no gateway runs")?;
    let mut seen = 0;
    for pid in [old.pid().to_string(), new.to_string()] {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            let expected = [
                ("CapInh:", NONE),
                ("CapPrm:", KEPT),
                ("CapEff:", KEPT),
                ("CapBnd:", KEPT),
                ("CapAmb:", NONE),
                ("NoNewPrivs:", "1"),
            ];
            for (set, value) in expected {
                let line = status.lines().find_map(|line| line.strip_prefix(set)).context("no such set")?;
                ensure!(line.trim() == value, "{set}{line} in {status}");
            }
            seen += 1;
        }
    }
    ensure!(seen > 4, "only {seen} threads were seen");
    Ok(())
}

fn others_file(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    bed.gateway_mut()?.stop()?;
    let key = bed.gateway()?.files().state_dir().join("ca_key");
    chown(&key, Some(1234), Some(1234))?;
    let mut daemon = bed.gateway()?.spawn(&[], &bed.gateway()?.files().config_file())?;
    let status = daemon.wait(LIMIT)?;
    let log = bed.gateway()?.log()?;
    ensure!(status.code() == Some(1), "{status}: {log}");
    for text in ["ca_key", "files of other users"] {
        ensure!(log.contains(text), "{text} is not in {log}");
    }
    chown(&key, Some(0), Some(0))?;
    bed.gateway_mut()?.launch()?;
    ensure_serves(&bed)
}
