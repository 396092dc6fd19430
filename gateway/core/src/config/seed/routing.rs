//! `[routing]`: what keepalived and FRR are told, in their own words.
//!
//! Owns its keys, the paths of the daemons' files and which daemons of FRR run. Deliberately absent: reading those files, which
//! the daemons complain about, and opening the firewall for them, which `[firewall]` says.

use std::fmt::Write as _;

use super::super::reader::{Object, Problems};
use super::File;

/// Daemons of FRR that run when they are named; zebra, mgmtd and staticd always do.
const DAEMONS: [&str; 17] = [
    "babeld", "bfdd", "bgpd", "eigrpd", "fabricd", "isisd", "ldpd", "nhrpd", "ospf6d", "ospfd", "pathd",
    "pbrd", "pim6d", "pimd", "ripd", "ripngd", "vrrpd",
];
/// Where they take commands: on this machine alone.
const V4_ONLY: &str = "-A 127.0.0.1";
const V6_ONLY: &str = "-A ::1";

/// What is handed to the daemons.
#[derive(Clone, Default)]
pub(super) struct Routing {
    keepalived: Option<String>,
    frr: Option<String>,
    frr_daemons: Vec<&'static str>,
}

impl Routing {
    pub(super) const fn has_frr(&self) -> bool {
        self.frr.is_some()
    }
}

pub(super) fn read(seed: &Object<'_>, problems: &Problems) -> Routing {
    let Some(object) = seed.object("routing", &["keepalived", "frr", "frr_daemons"]) else {
        return Routing::default();
    };
    let text = |key: &str| object.find(key).and_then(|node| problems.text(node)).map(str::to_owned);
    let words = DAEMONS.map(|daemon| (daemon, daemon));
    let named = object.list("frr_daemons");
    let frr = text("frr");
    if let Some(node) = named.first().filter(|_| object.find("frr").is_none()) {
        problems.error(node, "give them a configuration: frr = \"\"\"...\"\"\"");
    }
    Routing {
        keepalived: text("keepalived"),
        frr,
        frr_daemons: named.iter().filter_map(|node| problems.word(node, &words)).collect(),
    }
}

/// The files, which their units name or a link in `/etc` leads to. A file that is not there is a daemon that does not start.
pub(super) fn files(routing: &Routing) -> Vec<File> {
    let file = |path: &str, mode, text: String| File { path: format!("/run/portreeve/{path}"), mode, text };
    let mut files = Vec::new();
    if let Some(text) = &routing.keepalived {
        // Passwords of VRRP stand in it.
        files.push(file("keepalived/keepalived.conf", 0o600, text.clone()));
    }
    if let Some(text) = &routing.frr {
        files.push(file("frr/daemons", 0o644, daemons(&routing.frr_daemons)));
        files.push(file("frr/vtysh.conf", 0o644, "service integrated-vtysh-config\n".to_owned()));
        files.push(file("frr/frr.conf", 0o600, text.clone()));
    }
    files
}

/// What frrinit.sh reads: who runs, and their options.
fn daemons(named: &[&str]) -> String {
    let mut text = format!("vtysh_enable=yes\nzebra_options=\"{V4_ONLY} -s 90000000\"\n");
    for daemon in ["mgmtd", "staticd"].iter().chain(named) {
        let local = if matches!(*daemon, "ospf6d" | "ripngd" | "pim6d") { V6_ONLY } else { V4_ONLY };
        // Writing to a String cannot fail.
        writeln!(text, "{daemon}=yes\n{daemon}_options=\"{local}\"").unwrap_or_default();
    }
    text
}
