//! The daemon's own file: `portreeve.toml`.
//!
//! Owns its keys, their defaults and their bounds. Paths are absolute, so that they mean the same
//! whatever directory the daemon is started in.

mod recording;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::export::{self, Export};
use super::reader::{Object, Problems};
use super::shipping::{self, Destination};
use super::tree::{self, Node};
use super::{ConfigErrors, Format, duration};
use crate::net::interface::InterfaceName;

pub use recording::{Fsync, OnRecordingFailure, RecordingConfig, SpoolConfig};

const SECTIONS: &[&str] = &[
    "state_dir",
    "policy_file",
    "datapath",
    "downstream",
    "upstream",
    "recording",
    "metrics",
    "access_log",
    "alerts",
    "limits",
    "ship",
];

/// Routing tables that the kernel uses itself: default, main, local (`rt_tables`).
const KERNEL_TABLES: [u32; 3] = [253, 254, 255];

/// A validated daemon configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Keys, pins of host keys, and by default the spool (default `/var/lib/portreeve`).
    pub state_dir: PathBuf,
    /// The policy file (default `/etc/portreeve/policy.toml`).
    pub policy_file: PathBuf,
    /// Steering.
    pub datapath: DatapathConfig,
    /// What users see.
    pub downstream: DownstreamConfig,
    /// Logging in to targets.
    pub upstream: UpstreamConfig,
    /// Recording.
    pub recording: RecordingConfig,
    /// Where `/metrics`, `/livez` and `/readyz` are served; absent: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Where the access log goes.
    pub access_log: AccessLog,
    /// Where access events go beside it.
    pub access_exports: Vec<Export>,
    /// Where notices of alerts go.
    pub alert_exports: Vec<Export>,
    /// Bounds on what one source may cost.
    pub limits: Limits,
    /// Where finished recordings are copied to.
    pub ship: Vec<Destination>,
}

/// Steering of flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatapathConfig {
    /// Interfaces whose ingress is matched; at least one.
    pub interfaces: Vec<String>,
    /// Directory below a bpffs mount that holds pinned links and maps (default `/sys/fs/bpf/portreeve`).
    pub pin_dir: PathBuf,
    /// Firewall mark of steered packets, not 0 (default 0x7072).
    pub mark: u32,
    /// Routing table whose only route delivers marked packets locally (default 28786).
    pub route_table: u32,
    /// Which sources reach targets (default strict).
    pub reverse_path: ReversePath,
    /// New connections to targets in a second, of all sources (default 50000); 0 is no limit.
    pub new_connections: u32,
    /// New connections to targets in a second, of one IPv4 address or IPv6 /64 (default 1000); 0 is no limit.
    pub new_connections_per_source: u32,
    /// Whether kernel programs log each decision through aya-log (default false).
    pub kernel_log: bool,
    /// How other traffic is forwarded past the stack, by interface; absent: not at all.
    pub fast_path: BTreeMap<String, FastPathMode>,
    /// Whether the fast path may skip firewall rules, NAT and IPsec policies of the host (default false).
    pub fast_path_ignores_firewall: bool,
}

/// How the fast path takes frames from an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastPathMode {
    /// In the driver.
    Native,
    /// Behind the driver: works with every interface, and saves little.
    Generic,
}

/// Which sources reach targets through an interface (RFC 3704).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReversePath {
    /// Those that the router would send to by the same interface.
    Strict,
    /// All.
    Off,
}

/// What users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownstreamConfig {
    /// Whether host keys are shown with certificates of the host CA too (default false).
    pub host_certificates: bool,
}

/// Logging in to targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// Limit for the TCP connection (default 10 s).
    pub connect_timeout: Duration,
    /// Limit for key exchange and log-in, each (default 30 s).
    pub handshake_timeout: Duration,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Standard output (default).
    Stdout,
    /// Appended to a file, which is reopened on SIGHUP.
    File(PathBuf),
}

/// Bounds on what one source may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From accept to a decided log-in (default 30 s).
    pub handshake_timeout: Duration,
    /// Connections of one source address whose log-in is not decided yet (default 32).
    pub handshakes_per_source: u32,
    /// Connections of one source address in all (default 512).
    pub connections_per_source: u32,
    /// Connections in all (default 16384).
    pub connections: u32,
    /// How long a gateway that another one took over from may keep its sessions (default 8 h).
    pub drain_timeout: Duration,
}

/// Reads the daemon's file, which is TOML.
///
/// # Errors
/// All problems at once.
pub fn load(text: &str, file: &str) -> Result<Config, ConfigErrors> {
    let root =
        tree::parse(text, Format::Toml).map_err(|errors| ConfigErrors { file: file.to_owned(), errors })?;
    let problems = Problems::default();
    let config = Section::open(&root, &problems, SECTIONS).and_then(read);
    let (config, _) = problems.finish(config, &root, file)?;
    Ok(config)
}

/// A table of the file, or the defaults of one that is not there.
#[derive(Clone, Copy)]
struct Section<'t> {
    table: Option<Object<'t>>,
    problems: &'t Problems,
}

/// Reads every section before it gives up, so that all problems are found.
fn read(root: Section<'_>) -> Option<Config> {
    let state_dir = root.path("state_dir", "/var/lib/portreeve");
    let policy_file = root.path("policy_file", "/etc/portreeve/policy.toml");
    let datapath = read_datapath(root);
    let recording = recording::read(root, &state_dir);
    let downstream = root.section("downstream", &["host_certificates"]);
    let upstream = root.section("upstream", &["connect_timeout", "handshake_timeout"]);
    let metrics = root.section("metrics", &["listen"]);
    let access_log = root.section("access_log", &["path", "export"]);
    let alerts = root.section("alerts", &["export"]);
    let limits = root.section(
        "limits",
        &[
            "handshake_timeout",
            "handshakes_per_source",
            "connections_per_source",
            "connections",
            "drain_timeout",
        ],
    );
    let config = Config {
        downstream: DownstreamConfig { host_certificates: downstream.flag("host_certificates") },
        upstream: UpstreamConfig {
            connect_timeout: upstream.duration("connect_timeout", Duration::from_secs(10)),
            handshake_timeout: upstream.duration("handshake_timeout", Duration::from_secs(30)),
        },
        metrics_listen: metrics.find("listen").and_then(|node| read_listen(node, root.problems)),
        access_log: read_access_log(access_log),
        access_exports: export::read(access_log.list("export"), root.problems),
        alert_exports: export::read_unformatted(alerts.list("export"), root.problems),
        limits: Limits {
            handshake_timeout: limits.duration("handshake_timeout", Duration::from_secs(30)),
            handshakes_per_source: limits.count("handshakes_per_source", 128),
            connections_per_source: limits.count("connections_per_source", 512),
            connections: limits.count("connections", 16_384),
            drain_timeout: limits.duration("drain_timeout", Duration::from_hours(8)),
        },
        datapath: datapath?,
        recording: recording?,
        state_dir,
        policy_file,
        ship: shipping::read_destinations(root.list("ship"), root.problems),
    };
    Some(config)
}

fn read_datapath(root: Section<'_>) -> Option<DatapathConfig> {
    const KEYS: &[&str] = &[
        "interfaces",
        "pin_dir",
        "mark",
        "route_table",
        "reverse_path",
        "new_connections",
        "new_connections_per_source",
        "kernel_log",
        "fast_path",
        "fast_path_ignores_firewall",
    ];
    let section = root.section("datapath", KEYS);
    let mut interfaces: Vec<String> = Vec::new();
    let listed = section.need("interfaces", root, "datapath", "interfaces = [\"eth0\"]");
    let nodes = listed.map_or(&[][..], |node| section.problems.list(node));
    if let Some(node) = listed.filter(|_| nodes.is_empty()) {
        section.problems.error(node, "name at least one interface");
    }
    for node in nodes {
        let Some(name) = section.problems.parsed(node, InterfaceName::new) else { continue };
        let name = name.to_string();
        if interfaces.contains(&name) {
            section.problems.error(node, format_args!("the interface {name:?} is named twice: take one out"));
        } else {
            interfaces.push(name);
        }
    }
    let route_table = section.integer("route_table", 28_786);
    if let Some(node) = section.find("route_table").filter(|_| KERNEL_TABLES.contains(&route_table)) {
        section.problems.error(node, "tables 253 to 255 are the kernel's own: use another number");
    }
    let words = [("strict", ReversePath::Strict), ("off", ReversePath::Off)];
    let reverse_path = section.find("reverse_path").and_then(|node| section.problems.word(node, &words));
    let fast_path = read_fast_path(section, &interfaces);
    Some(DatapathConfig {
        interfaces,
        pin_dir: section.path("pin_dir", "/sys/fs/bpf/portreeve"),
        mark: section.integer("mark", 0x7072),
        route_table,
        reverse_path: reverse_path.unwrap_or(ReversePath::Strict),
        new_connections: section.rate("new_connections", 50_000),
        new_connections_per_source: section.rate("new_connections_per_source", 1_000),
        kernel_log: section.flag("kernel_log"),
        fast_path,
        fast_path_ignores_firewall: section.flag("fast_path_ignores_firewall"),
    })
}

/// The interfaces whose word is not "off"; each must be one of `interfaces`, which TC closes for targets.
fn read_fast_path(section: Section<'_>, interfaces: &[String]) -> BTreeMap<String, FastPathMode> {
    let words =
        [("off", None), ("native", Some(FastPathMode::Native)), ("generic", Some(FastPathMode::Generic))];
    let problems = section.problems;
    let entries = section.find("fast_path").and_then(|node| problems.entries(node)).unwrap_or_default();
    let mut modes = BTreeMap::new();
    for entry in entries {
        if !interfaces.iter().any(|name| *name == entry.key) {
            let text = "this is none of datapath.interfaces: add it there, or take it out here";
            problems.error(&entry.node, text);
        } else if let Some(Some(mode)) = problems.word(&entry.node, &words) {
            modes.insert(entry.key.clone().into_owned(), mode);
        }
    }
    modes
}

fn read_access_log(section: Section<'_>) -> AccessLog {
    let log = section.find("path").and_then(|node| {
        section.problems.parsed(node, |text| match text {
            "-" => Ok(AccessLog::Stdout),
            path => absolute(path).map(AccessLog::File),
        })
    });
    log.unwrap_or(AccessLog::Stdout)
}

fn read_listen(node: &Node<'_>, problems: &Problems) -> Option<SocketAddr> {
    problems.parsed(node, |text| {
        let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
        address.ok_or_else(|| {
            format!("{text:?} is no address and port: write it as \"127.0.0.1:9470\" or \"[::1]:9470\"")
        })
    })
}

pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() && !text.contains('\0') {
        Ok(path)
    } else {
        Err(format!("{text:?} is no absolute path: begin it with /"))
    }
}

impl<'t> Section<'t> {
    fn open(node: &'t Node<'t>, problems: &'t Problems, known: &[&str]) -> Option<Self> {
        Object::open(node, problems, known).map(|table| Self { table: Some(table), problems })
    }

    fn section(self, key: &str, known: &[&str]) -> Self {
        let table = self.table.and_then(|table| table.object(key, known));
        Self { table, problems: self.problems }
    }

    fn find(self, key: &str) -> Option<&'t Node<'t>> {
        self.table.and_then(|table| table.find(key))
    }

    /// A key of the section `name` that must be there, and with it the section.
    fn need(self, key: &'static str, root: Self, name: &'static str, example: &str) -> Option<&'t Node<'t>> {
        match self.table {
            Some(table) => table.need(key, example),
            None => root
                .table
                .filter(|root| root.find(name).is_none())
                .and_then(|root| root.need(name, &format!("[{name}] with {example}"))),
        }
    }

    fn list(self, key: &str) -> &'t [Node<'t>] {
        self.table.map_or(&[], |table| table.list(key))
    }

    fn flag(self, key: &str) -> bool {
        self.table.is_some_and(|table| table.flag(key, false))
    }

    fn path(self, key: &str, default: &str) -> PathBuf {
        let found = self.find(key).and_then(|node| self.problems.parsed(node, absolute));
        found.unwrap_or_else(|| PathBuf::from(default))
    }

    fn duration(self, key: &str, default: Duration) -> Duration {
        let found = self.find(key).and_then(|node| self.problems.parsed(node, duration::parse));
        found.unwrap_or(default)
    }

    fn count(self, key: &str, default: u32) -> u32 {
        self.find(key).and_then(|node| self.problems.integer(node, 1..=1_000_000)).unwrap_or(default)
    }

    fn rate(self, key: &str, default: u32) -> u32 {
        self.find(key).and_then(|node| self.problems.integer(node, 0..=10_000_000)).unwrap_or(default)
    }

    fn integer(self, key: &str, default: u32) -> u32 {
        self.find(key).and_then(|node| self.problems.integer(node, 1..=u32::MAX)).unwrap_or(default)
    }
}

#[cfg(test)]
mod tests;
