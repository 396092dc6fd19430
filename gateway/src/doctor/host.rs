//! The machine: kernel, settings, interfaces, clock, disk, and whether a gateway runs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, statvfs};
use portreeve_core::config::daemon::{Config, DatapathConfig};
use tokio::time::timeout;

use super::Finding;
use crate::clock;
use crate::control::Peer;
use crate::datapath;
use crate::telemetry::with_causes;

/// The smallest MTU of IPv6 (RFC 8200 section 5).
const LEAST_MTU: u64 = 1280;

/// How long a program of the system may take.
const PROGRAM_LIMIT: Duration = Duration::from_secs(5);

/// Share of the file system's inodes that should be free, in percent: each recording takes three at least.
const FREE_INODES: u64 = 5;

/// What steering rests on, and whether it is in place.
pub(super) fn kernel(config: &DatapathConfig) -> Vec<Finding> {
    let (looks, warnings) = datapath::examine(config);
    let mut findings: Vec<Finding> = looks
        .into_iter()
        .map(|look| Finding::of(look.about, look.outcome.map(|()| "as steering needs it".to_owned())))
        .collect();
    findings
        .extend(warnings.iter().map(|warning| Finding::told("settings of the network", warning.to_string())));
    let about = "steering";
    findings.push(match datapath::status(config) {
        Ok(Some(status)) if status.not_attached.is_empty() => Finding::good(
            about,
            format!("{} addresses and prefixes on {}", status.targets, status.interfaces.join(", ")),
        ),
        Ok(Some(status)) => Finding::bad(
            about,
            format!("not attached to {}: what comes in there reaches targets", status.not_attached.join(", ")),
            "make the interface, or take it out of [datapath] interfaces; `portreeve datapath attach` attaches it",
        ),
        Ok(None) => Finding::bad(
            about,
            "nothing is attached: targets are open to all that passes",
            "start the gateway, or `portreeve datapath attach` to close them until it runs",
        ),
        Err(error) => Finding::of_error(about, &error),
    });
    findings
}

/// The configured interfaces.
pub(super) fn interfaces(names: &[String]) -> Vec<Finding> {
    let sizes: Vec<(&str, u64)> =
        names.iter().filter_map(|name| Some((name.as_str(), datapath::device(name).ok()?.mtu))).collect();
    names.iter().map(|name| interface(name)).chain(judge_sizes(&sizes)).collect()
}

/// Packets that one interface takes and another does not.
fn judge_sizes(sizes: &[(&str, u64)]) -> Option<Finding> {
    let (_, first) = sizes.first()?;
    if sizes.iter().all(|(_, mtu)| mtu == first) {
        return None;
    }
    let told: Vec<String> = sizes.iter().map(|(name, mtu)| format!("{mtu} on {name}")).collect();
    let advice = "large packets between them are lost unless ICMP (packet too big, fragmentation needed) gets through: give them one \
                  MTU where the links take it";
    Some(Finding::warning("MTU", told.join(", "), advice))
}

fn interface(name: &str) -> Finding {
    let about = format!("interface {name}");
    let device = match datapath::device(name) {
        Ok(device) => device,
        Err(error) => return Finding::of_error(about, &error),
    };
    let found = format!("MTU {}", device.mtu);
    if device.mtu < LEAST_MTU {
        let advice = format!("IPv6 needs an MTU of {LEAST_MTU} at least (`ip link set {name} mtu`)");
        return Finding::bad(about, found, advice);
    }
    if device.is_down {
        return Finding::warning(
            about,
            "is down: nothing comes in there",
            "look at cable, port and `ip link`",
        );
    }
    Finding::good(about, found)
}

/// Whether the clock is kept right: certificates are good for 90 s before and after it.
pub(super) async fn clock(state_dir: &Path) -> Finding {
    if let Some(doubt) = clock::doubt(state_dir) {
        let advice = "set it (`timedatectl set-time`), and set up time servers that this machine reaches";
        return Finding::bad("clock", doubt.to_string(), advice);
    }
    let text = told("timedatectl", &["show", "--property=NTPSynchronized", "--value"]).await;
    judge_clock(text.as_deref().map(str::trim))
}

/// What a program of the system prints; `None` where it is not there, fails or takes too long.
pub(super) async fn told(program: &'static str, args: &'static [&'static str]) -> Option<String> {
    let ask = move || Command::new(program).args(args).output();
    let output = timeout(PROGRAM_LIMIT, tokio::task::spawn_blocking(ask)).await.ok()?.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn judge_clock(synchronized: Option<&str>) -> Finding {
    let about = "clock";
    let advice = "set up chrony or systemd-timesyncd: targets refuse certificates of a gateway that is more than 90 s off";
    match synchronized {
        Some("yes") => Finding::good(about, "synchronized"),
        Some("no") => Finding::bad(about, "not synchronized", advice),
        Some(_) | None => {
            Finding::warning(about, "timedatectl does not tell whether it is synchronized", advice)
        }
    }
}

/// The file system of the spool.
pub(super) fn disk(config: &Config) -> Finding {
    let spool = &config.recording.spool_dir;
    let about = format!("spool {}", spool.display());
    let (existing, reserve) = (existing(spool), config.recording.spool.reserve);
    let stat = match statvfs(existing) {
        Ok(stat) => stat,
        Err(error) => return Finding::of_error(about, &error),
    };
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    let inodes = (stat.files_available(), stat.files());
    let read_only = stat.flags().contains(FsFlags::ST_RDONLY);
    judge_disk(about, free, reserve, inodes, read_only)
}

fn judge_disk(about: String, free: u64, reserve: u64, inodes: (u64, u64), read_only: bool) -> Finding {
    let found = format!("{} MiB free, {} MiB of it in reserve", free >> 20, reserve >> 20);
    if read_only {
        return Finding::bad(about, "read-only", "sessions are refused until it is writable: see `dmesg`");
    }
    if free < reserve {
        let advice = "sessions are refused: make room, or ship recordings and delete them ([[ship]], [recording] keep)";
        return Finding::bad(about, found, advice);
    }
    if inodes.0.saturating_mul(100) < inodes.1.saturating_mul(FREE_INODES) {
        let found = format!("{} of {} inodes are free", inodes.0, inodes.1);
        return Finding::bad(about, found, "delete files, or make a file system with more inodes");
    }
    if free < reserve.saturating_mul(2) {
        let advice =
            "it is soon full: make room, or ship recordings and delete them ([[ship]], [recording] keep)";
        return Finding::warning(about, found, advice);
    }
    Finding::good(about, found)
}

/// The path, or what is there of the way to it.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(path)
}

/// Whether a gateway runs on this state directory.
pub(super) async fn gateway(state_dir: &Path) -> Finding {
    let about = "gateway";
    match Peer::connect(state_dir).await {
        Ok(Some(peer)) => {
            let pid = peer.pid().map(|pid| format!(" as process {pid}")).unwrap_or_default();
            Finding::good(about, format!("runs{pid}"))
        }
        Ok(None) => Finding::warning(about, "does not run", "start it: `systemctl start portreeve@boot`"),
        Err(error) => Finding::bad(about, with_causes(&error), "look at its log"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn a_clock_that_nobody_keeps_is_bad_and_one_that_cannot_be_asked_for_is_told() {
        for (told, grade) in [
            (Some("yes"), Grade::Good),
            (Some("no"), Grade::Bad),
            (Some(""), Grade::Warning),
            (None, Grade::Warning),
        ] {
            assert_eq!(judge_clock(told).grade, grade, "{told:?}");
        }
    }

    #[test]
    fn a_disk_is_judged_by_the_reserve_and_by_inodes() {
        const MIB: u64 = 1 << 20;
        let judge =
            |free, inodes, read_only| judge_disk("spool".to_owned(), free, 100 * MIB, inodes, read_only);
        for (free, inodes, read_only, grade, word) in [
            (500 * MIB, (50, 100), false, Grade::Good, "500 MiB free, 100 MiB"),
            (150 * MIB, (50, 100), false, Grade::Warning, "150 MiB free"),
            (99 * MIB, (50, 100), false, Grade::Bad, "99 MiB free"),
            (500 * MIB, (4, 100), false, Grade::Bad, "4 of 100 inodes"),
            // Some file systems count none.
            (500 * MIB, (0, 0), false, Grade::Good, "500 MiB free"),
            (500 * MIB, (50, 100), true, Grade::Bad, "read-only"),
        ] {
            let finding = judge(free, inodes, read_only);
            assert!(finding.grade == grade && finding.found.contains(word), "{finding:?}");
        }
    }

    #[test]
    fn interfaces_of_different_mtu_are_told() {
        assert_eq!(judge_sizes(&[]), None);
        assert_eq!(judge_sizes(&[("lan0", 1500), ("lan1", 1500)]), None);
        let finding = judge_sizes(&[("lan0", 1500), ("lan1", 1500), ("wg0", 1420)]).unwrap();
        assert!(finding.grade == Grade::Warning && finding.found.contains("1420 on wg0"), "{finding:?}");
    }

    #[test]
    fn what_is_not_there_is_looked_for_further_up() {
        assert_eq!(existing(Path::new("/proc/none/of/these")), Path::new("/proc"));
    }
}
