//! Who may use whom inside `gateway` and `gateway/core`, and which crates stay in one place. Pure.
//!
//! The tables are the architecture; `ARCHITECTURE.md` tells their reasons. A module that has no row
//! is an error, so that each new module's place is decided when it is made. Edges between packages
//! need no rule: Cargo refuses cycles, and `manifests` holds what each package may depend on.

use super::SourceFile;
use super::finding::Finding;
use super::uses::{NamedPath, named_paths};

/// A top-level module and the modules of the same package that it may use.
struct Row {
    module: &'static str,
    may_use: &'static [&'static [&'static str]],
}

/// A package whose modules are layered.
struct Package {
    source: &'static str,
    name: &'static str,
    rows: &'static [Row],
}

const fn row(module: &'static str, may_use: &'static [&'static [&'static str]]) -> Row {
    Row { module, may_use }
}

/// Layer 0 of core: values.
const VALUES: &[&str] = &["id", "login", "net", "port", "prefix", "suggest", "utc", "utf8"];
/// Layer 1 of core: who and what decisions are about.
const SUBJECTS: &[&str] = &["geo", "identity", "target"];
/// Layer 2 of core that others of layer 2 decide with.
const RULES: &[&str] = &["access_group", "expression", "rule"];
/// Layer 2 of core: decisions.
const DECISIONS: &[&str] = &["infrastructure", "network_policy"];

const CORE: &[Row] = &[
    row("id", &[]),
    row("net", &[]),
    row("login", &[]),
    row("port", &[]),
    row("prefix", &[]),
    row("suggest", &[]),
    row("utc", &[]),
    row("utf8", &[]),
    row("access_event", &[VALUES, &["alert", "record"]]),
    row("geo", &[VALUES]),
    row("identity", &[VALUES]),
    row("target", &[VALUES]),
    row("expression", &[VALUES, SUBJECTS]),
    row("rule", &[VALUES, SUBJECTS]),
    row("access_group", &[VALUES, SUBJECTS, &["rule"]]),
    row("network_policy", &[VALUES, SUBJECTS, RULES]),
    row("infrastructure", &[VALUES, SUBJECTS, RULES]),
    row("certificate", &[VALUES, SUBJECTS, DECISIONS]),
    row("clock", &[&["certificate"]]),
    row("host_key", &[VALUES]),
    row("host_certificate", &[VALUES, SUBJECTS, &["host_key"]]),
    row("envelope", &[VALUES, &["record"]]),
    row("manifest", &[VALUES, &["envelope"]]),
    row("asciicast", &[&["utf8"]]),
    row("record", &[VALUES, SUBJECTS, DECISIONS]),
    row("alert", &[VALUES, SUBJECTS, DECISIONS, &["expression", "inspection", "record"]]),
    row("inspection", &[&["envelope", "record"]]),
    row("transfer", &[&["envelope", "infrastructure", "inspection", "record"]]),
    row("command", &[&["envelope", "inspection", "record", "utf8"]]),
    row("fuzz_entry", &[&["infrastructure", "record", "transfer"], &["command", "envelope", "manifest"]]),
    row("snapshot", &[VALUES, SUBJECTS, RULES, DECISIONS, &["alert"]]),
    row(
        "config",
        &[
            VALUES,
            SUBJECTS,
            RULES,
            DECISIONS,
            &["access_event", "alert", "command", "envelope", "record", "snapshot"],
        ],
    ),
    row("shipping", &[VALUES, &["config", "envelope"]]),
];

/// What every part of the gateway may stand on.
const GROUND: &[&str] = &["capabilities", "fips", "metrics", "secret_file", "systemd", "telemetry"];
/// Edges to one outside each; they do not know each other.
const LEAVES: &[&str] =
    &["access_log", "audit", "ca", "export", "known_hosts", "listener", "recording", "ship", "ssh", "store"];
/// What `app` joins beside the leaves.
const PARTS: &[&str] = &["clock", "control", "datapath", "http", "session"];

const GATEWAY: &[Row] = &[
    row("capabilities", &[]),
    row("fips", &[]),
    row("metrics", &[]),
    row("secret_file", &[]),
    row("systemd", &[]),
    row("telemetry", &[]),
    row("access_log", &[GROUND, &["export"]]),
    row("ca", &[GROUND]),
    row("export", &[GROUND]),
    row("known_hosts", &[GROUND]),
    row("listener", &[GROUND]),
    row("audit", &[GROUND]),
    row("recording", &[GROUND, &["audit"]]),
    row("ship", &[GROUND, &["audit"]]),
    row("ssh", &[GROUND]),
    row("store", &[GROUND]),
    row("clock", &[GROUND]),
    row("probe", &[GROUND, &["ca"]]),
    row("provision", &[GROUND, &["ca"]]),
    row("control", &[GROUND]),
    row("datapath", &[GROUND, &["listener"]]),
    row("http", &[GROUND]),
    row("session", &[GROUND, LEAVES]),
    row("admin", &[GROUND, &["control", "session"]]),
    row("app", &[GROUND, LEAVES, PARTS, &["admin"]]),
    row("doctor", &[GROUND, LEAVES, &["clock", "control", "datapath", "probe"]]),
    row("cli", &[GROUND, LEAVES, &["admin", "app", "control", "datapath", "doctor", "probe", "provision"]]),
    row("main", &[&["cli"]]),
];

const PACKAGES: &[Package] = &[
    Package { source: "gateway/core/src/", name: "portreeve_core", rows: CORE },
    Package { source: "gateway/src/", name: "portreeve", rows: GATEWAY },
];

/// Crates that only the files under one path of `gateway/src` may name.
const CONFINED: &[(&str, &[&str])] = &[
    ("aya", &["datapath"]),
    ("aya_log", &["datapath"]),
    ("axum", &["http"]),
    ("caps", &["capabilities"]),
    ("netlink_packet_route", &["datapath"]),
    ("portreeve_ebpf", &["datapath"]),
    ("portreeve_ssh", &["ca", "fips", "session", "ssh"]),
    ("prometheus_client", &["http", "metrics"]),
    ("rtnetlink", &["datapath"]),
    ("russh", &["probe"]),
    ("vte", &["cli"]),
];

/// Checks a Rust file against the tables.
pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    let Some(package) = PACKAGES.iter().find(|package| file.path.starts_with(package.source)) else {
        return Vec::new();
    };
    // A file that does not parse is told by the rules for Rust files.
    let Ok(parsed) = syn::parse_file(&file.text) else { return Vec::new() };
    let module = module_of(&file.path[package.source.len()..]);
    let Some(own) = module.first().filter(|_| !file.is_unit_test()) else { return Vec::new() };
    let Some(row) = row_of(package, own) else {
        let message = format!("module {own} has no row: add one to xtask/src/tidy/layers.rs");
        return vec![Finding::error(&file.path, 1, "layer", message)];
    };
    let mut findings = Vec::new();
    for path in named_paths(&parsed) {
        let message = edge(package, row, &module, &path).or_else(|| stray(package, own, &path));
        findings.extend(message.map(|message| Finding::error(&file.path, path.line, "layer", message)));
    }
    findings
}

/// What is wrong with a path that leads to another module of the package.
fn edge(package: &Package, row: &Row, module: &[String], path: &NamedPath) -> Option<String> {
    let reached = reached(package, module, path)?;
    if reached == row.module || row.may_use.iter().any(|group| group.contains(&reached.as_str())) {
        return None;
    }
    Some(if row_of(package, &reached).is_some() {
        format!("{} must not use {reached}: move what both need down, or pass it in", row.module)
    } else {
        format!("{reached} is no module with a row in xtask/src/tidy/layers.rs")
    })
}

/// What is wrong with a path that leads into a crate confined to another module.
fn stray(package: &Package, own: &str, path: &NamedPath) -> Option<String> {
    let (name, places) = CONFINED.iter().find(|(name, _)| path.segments[0] == *name)?;
    let allowed = package.name != "portreeve" || places.contains(&own);
    (!allowed).then(|| format!("{name} is named only in {}: wrap what you need there", places.join(" and ")))
}

/// The top-level module that a path leads to; `None` where it stays outside the package.
fn reached(package: &Package, module: &[String], path: &NamedPath) -> Option<String> {
    let mut at: Vec<&String> = module.iter().chain(&path.within).collect();
    let mut rest = path.segments.as_slice();
    match rest[0].as_str() {
        "crate" => at.clear(),
        "self" => {}
        "super" => {}
        name if name == package.name && module == ["main"] => at.clear(),
        _ => return None,
    }
    if rest[0] != "super" {
        rest = &rest[1..];
    }
    while let Some((first, tail)) = rest.split_first().filter(|(first, _)| *first == "super") {
        debug_assert_eq!(first, "super");
        at.pop();
        rest = tail;
    }
    at.into_iter().chain(rest).next().cloned()
}

fn row_of<'a>(package: &'a Package, module: &str) -> Option<&'a Row> {
    package.rows.iter().find(|row| row.module == module)
}

/// `ssh/relay.rs` is `[ssh, relay]`; `lib.rs` is the root and empty.
fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, source: &str) -> Vec<String> {
        check(&SourceFile::new(path, source)).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn leaves_do_not_know_each_other() {
        let found = messages("gateway/src/ca/key.rs", "use crate::{metrics, recording::spool::Spool};");
        assert_eq!(found, ["ca must not use recording: move what both need down, or pass it in"]);
    }

    #[test]
    fn nobody_but_the_command_line_uses_app() {
        for path in ["gateway/src/session.rs", "gateway/src/datapath/mod.rs", "gateway/src/store.rs"] {
            assert_eq!(messages(path, "use crate::app::run;").len(), 1, "{path}");
        }
        assert_eq!(messages("gateway/src/cli/run.rs", "use crate::app::run;"), [""; 0]);
        assert_eq!(messages("gateway/src/main.rs", "use portreeve::app;").len(), 1);
        assert_eq!(messages("gateway/src/main.rs", "fn main() { portreeve::cli::run() }"), [""; 0]);
    }

    #[test]
    fn inline_and_relative_paths_are_edges_too() {
        assert_eq!(messages("gateway/src/ca.rs", "fn f() { crate::session::serve() }").len(), 1);
        assert_eq!(messages("gateway/src/ca/key.rs", "use super::super::session;").len(), 1);
        assert_eq!(messages("gateway/src/ca/key.rs", "use super::Signer; use self::inner::T;"), [""; 0]);
        assert_eq!(messages("gateway/src/ca.rs", "mod inner { use super::super::session; }").len(), 1);
        assert_eq!(messages("gateway/src/ca.rs", "mod inner { use super::Signer; }"), [""; 0]);
    }

    #[test]
    fn core_is_layered() {
        assert_eq!(messages("gateway/core/src/net.rs", "use crate::identity::Identity;").len(), 1);
        assert_eq!(messages("gateway/core/src/identity.rs", "use crate::net::ClientAddr;"), [""; 0]);
        assert_eq!(messages("gateway/core/src/expression/mod.rs", "use crate::config::policy;").len(), 1);
    }

    #[test]
    fn a_module_without_a_row_is_told_where_to_add_one() {
        let found = messages("gateway/src/novel.rs", "//! New.");
        assert_eq!(found, ["module novel has no row: add one to xtask/src/tidy/layers.rs"]);
        assert_eq!(messages("gateway/src/ca.rs", "use crate::novel::T;").len(), 1);
    }

    #[test]
    fn confined_crates_stay_where_they_are() {
        let found = messages("gateway/src/session.rs", "use russh::client::Session;");
        assert_eq!(found, ["russh is named only in probe: wrap what you need there"]);
        assert_eq!(messages("gateway/src/probe.rs", "use russh::client::Session;"), [""; 0]);
        assert_eq!(messages("gateway/src/app.rs", "fn f(ebpf: aya::Ebpf) {}").len(), 1);
    }

    #[test]
    fn other_packages_and_tests_are_free() {
        assert_eq!(messages("tests/src/lib.rs", "use crate::app;"), [""; 0]);
        assert_eq!(messages("gateway/src/ca.rs", "#[cfg(test)] mod tests { use crate::session; }"), [""; 0]);
        assert_eq!(messages("gateway/src/lib.rs", "pub use crate::app::run;"), [""; 0]);
    }

    #[test]
    fn the_tables_have_no_cycle_and_no_unknown_module() {
        for package in PACKAGES {
            for row in package.rows {
                for used in row.may_use.iter().copied().flatten() {
                    assert!(row_of(package, used).is_some(), "{used} has no row");
                    assert!(!reaches(package, used, row.module), "{} and {used} use each other", row.module);
                }
            }
        }
    }

    fn reaches(package: &Package, from: &str, to: &str) -> bool {
        let uses = row_of(package, from).unwrap().may_use;
        from == to || uses.iter().copied().flatten().any(|used| reaches(package, used, to))
    }
}
