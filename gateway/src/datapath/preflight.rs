//! What would break steering, found before anything is changed.
//!
//! Errors are what makes steering impossible; warnings are what an operator may want so. Reads
//! only. Settings of interfaces are read of the network namespace of the calling thread.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use portreeve_core::config::daemon::DatapathConfig;

use super::header::Header;
use super::master::refuse_port;
use super::{DatapathError, features};

/// Something that works, though perhaps not as the operator means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The host does not forward a family: its traffic goes nowhere, and with a strict reverse path targets
    /// are closed.
    ForwardingOff {
        /// Name of the setting.
        key: &'static str,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForwardingOff { key } => write!(
                f,
                "{key} is 0: no traffic is forwarded, and targets are closed too, as the kernel does not say where \
                 a source address is (`sysctl -w {key}=1`)"
            ),
        }
    }
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Ways in which a packet to the gateway itself is forwarded to an address further inside of it.
const SOURCE_ROUTING: [&[&str]; 3] = [
    &["ipv4", "conf", "all", "accept_source_route"],
    &["ipv6", "conf", "all", "seg6_enabled"],
    &["ipv6", "conf", "all", "rpl_seg_enabled"],
];

/// What `src_valid_mark` does.
const NOT_ANSWERED: &str =
    "marked packets fail the reverse-path check, and no connection to a target is answered";

/// Checks what loading and attaching the programs rests on, but for the interfaces.
pub(super) fn can_attach(config: &DatapathConfig) -> Result<(), DatapathError> {
    own_capabilities()?;
    features::check()?;
    bpffs(&config.pin_dir)
}

fn own_capabilities() -> Result<(), DatapathError> {
    let status = Path::new("/proc/self/status");
    let text =
        fs::read_to_string(status).map_err(|source| DatapathError::Proc { path: status.into(), source })?;
    capabilities(&text)
}

/// One thing that steering rests on.
#[derive(Debug)]
pub struct Look {
    /// What was looked at.
    pub about: String,
    /// What is wrong with it.
    pub outcome: Result<(), DatapathError>,
}

/// Looks at everything that steering rests on, and goes on after what is wrong. Warnings that cannot be looked up are
/// none.
pub(super) fn examine(config: &DatapathConfig) -> (Vec<Look>, Vec<Warning>) {
    let look = |about: &str, outcome| Look { about: about.to_owned(), outcome };
    let mut looks = vec![
        look("capabilities", own_capabilities()),
        look("kernel", features::check()),
        look("directory of pins", bpffs(&config.pin_dir)),
        look("settings of the network", settings(&config.interfaces, sysctl)),
    ];
    for name in &config.interfaces {
        looks.push(Look { about: format!("frames on {name}"), outcome: interface(name) });
    }
    (looks, forwarding().unwrap_or_default())
}

/// Checks everything that steering rests on, but for the interfaces.
pub(super) fn check(config: &DatapathConfig) -> Result<Vec<Warning>, DatapathError> {
    can_attach(config)?;
    settings(&config.interfaces, sysctl)?;
    forwarding()
}

/// Whether the host forwards.
fn forwarding() -> Result<Vec<Warning>, DatapathError> {
    let forwarding = [
        ("net.ipv4.ip_forward", ["ipv4", "ip_forward"].as_slice()),
        ("net.ipv6.conf.all.forwarding", &["ipv6", "conf", "all", "forwarding"]),
    ];
    let mut warnings = Vec::new();
    for (key, path) in forwarding {
        if sysctl(path)?.as_deref() == Some("0") {
            warnings.push(Warning::ForwardingOff { key });
        }
    }
    Ok(warnings)
}

/// Checks the settings that must be off, as `sysctl` reads them.
fn settings(
    interfaces: &[String],
    sysctl: impl Fn(&[&str]) -> Result<Option<String>, DatapathError>,
) -> Result<(), DatapathError> {
    let must_be_off = |path: &[&str], effect| match sysctl(path)? {
        Some(value) if value != "0" => {
            let key = format!("net.{}", path.join("."));
            Err(DatapathError::Sysctl { key, value, wanted: "0", effect })
        }
        _ => Ok(()),
    };
    let effect = "a packet may name a target as a later hop and so pass the gateway by";
    for path in SOURCE_ROUTING {
        must_be_off(path, effect)?;
    }
    must_be_off(&["ipv4", "conf", "all", "src_valid_mark"], NOT_ANSWERED)?;
    for interface in interfaces {
        must_be_off(&["ipv4", "conf", interface, "src_valid_mark"], NOT_ANSWERED)?;
        let effect = "a packet to a target may stand behind MPLS labels and so pass the gateway by";
        must_be_off(&["mpls", "conf", interface, "input"], effect)?;
    }
    let effect = "answers to intercepted connections inherit the mark and never leave the gateway";
    must_be_off(&["ipv4", "tcp_fwmark_accept"], effect)
}

/// Whether the effective capabilities in the text of `/proc/self/status` suffice.
///
/// `CAP_PERFMON` is for the verifier: without it every branch is followed speculatively too, and the
/// TC program, 4,913 instructions of verification, comes to more than the million that are allowed.
fn capabilities(status: &str) -> Result<(), DatapathError> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective & (1 << capability) != 0;
    let mut missing = Vec::new();
    if !has(CAP_NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    if !has(CAP_BPF) && !has(CAP_SYS_ADMIN) {
        missing.push("CAP_BPF");
    }
    if !has(CAP_PERFMON) && !has(CAP_SYS_ADMIN) {
        missing.push("CAP_PERFMON");
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(DatapathError::MissingCapabilities { missing: missing.join(", ") })
}

/// Checks that the programs decide about all that comes in on an interface.
pub(super) fn interface(name: &str) -> Result<(), DatapathError> {
    Header::of(name)?;
    refuse_port(name)
}

/// Looks at the directory itself, or at the one that it will be made in.
fn bpffs(pin_dir: &Path) -> Result<(), DatapathError> {
    let not_bpffs = || DatapathError::NotBpffs { path: pin_dir.to_owned() };
    let existing = pin_dir.ancestors().find(|path| path.exists()).ok_or_else(not_bpffs)?;
    let stat = statfs(existing)
        .map_err(|errno| DatapathError::PinDir { path: existing.to_owned(), source: errno.into() })?;
    if stat.filesystem_type() == BPF_FS_MAGIC { Ok(()) } else { Err(not_bpffs()) }
}

/// A setting below `net`; `None` where the kernel does not have it.
pub(super) fn sysctl(path: &[&str]) -> Result<Option<String>, DatapathError> {
    let mut file = PathBuf::from("/proc/sys/net");
    file.extend(path);
    match fs::read_to_string(&file) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DatapathError::Proc { path: file, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(mask: &str) -> Option<String> {
        match capabilities(&format!("Name:\tx\nCapEff:\t{mask}\n")) {
            Err(DatapathError::MissingCapabilities { missing }) => Some(missing),
            _ => None,
        }
    }

    #[test]
    fn capabilities_are_told_apart() {
        assert_eq!(missing("000001ffffffffff"), None);
        assert_eq!(missing("000000c000001000"), None, "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN suffice");
        assert_eq!(missing("0000000000201000"), None, "CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON");
        assert_eq!(missing("0000004000001000").as_deref(), Some("CAP_BPF"));
        assert_eq!(missing("0000008000001000").as_deref(), Some("CAP_PERFMON"));
        assert_eq!(missing("000000c000000000").as_deref(), Some("CAP_NET_ADMIN"));
        for none in ["0000000000000000", ""] {
            assert_eq!(missing(none).as_deref(), Some("CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON"));
        }
    }

    /// What is said of a host on which one setting is on, and those of MPLS may not be there.
    fn refused(on: &str) -> Option<String> {
        let interfaces = ["lan0", "lan1.100"].map(str::to_owned);
        let sysctl = |path: &[&str]| {
            let path = path.join("/");
            let there = !path.starts_with("mpls/") || on.starts_with("mpls/");
            Ok(there.then(|| String::from(if path == on { "1" } else { "0" })))
        };
        settings(&interfaces, sysctl).err().map(|error| error.to_string())
    }

    #[test]
    fn settings_that_open_or_break_steering_are_named() {
        assert_eq!(refused("none"), None);
        for (on, key) in [
            ("ipv4/conf/all/accept_source_route", "net.ipv4.conf.all.accept_source_route"),
            ("ipv6/conf/all/rpl_seg_enabled", "net.ipv6.conf.all.rpl_seg_enabled"),
            ("ipv4/conf/lan1.100/src_valid_mark", "net.ipv4.conf.lan1.100.src_valid_mark"),
            ("ipv4/tcp_fwmark_accept", "net.ipv4.tcp_fwmark_accept"),
            ("mpls/conf/lan0/input", "net.mpls.conf.lan0.input"),
            ("mpls/conf/lan1.100/input", "net.mpls.conf.lan1.100.input"),
        ] {
            let error = refused(on).unwrap_or_default();
            assert!(error.contains(&format!("{key} is 1")) && error.contains("set it to 0"), "{on}: {error}");
        }
        for other in ["mpls/conf/wan0/input", "ipv4/conf/wan0/src_valid_mark"] {
            assert_eq!(refused(other), None, "not configured");
        }
    }

    #[test]
    fn ordinary_directory_is_no_bpffs() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("not/there/yet");
        assert!(matches!(bpffs(&absent), Err(DatapathError::NotBpffs { path }) if path == absent));
    }
}
