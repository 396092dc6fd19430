//! The seed: one file that makes a machine into a gateway, read at its first start and kept.
//!
//! Owns its keys and what it is rendered into: the files of the gateway ([`Seed::gateway_files`], written once) and
//! those of the host ([`Seed::host_files`], made anew at every start). Invariant: a [`Seed`] is whole: the configuration
//! and the policy that it renders have been read by their own loaders, and every problem is told at once with line and
//! key of the seed. Deliberately absent: finding, writing and applying, which is the caller's.

pub mod answers;
mod firewall;
mod host;
mod network;
mod networkd;
mod origin;
mod peers;
mod routing;
mod wireguard;

use std::collections::BTreeMap;

use toml::{Table, Value};

use self::firewall::Firewall;
use self::network::Interface;
use self::routing::Routing;
use super::reader::{Object, Problems};
use super::tree::{self, Node};
use super::{ConfigErrors, Format, daemon, policy};
use crate::envelope::RecipientKey;
use crate::id::Generation;
use crate::target::Steered;

/// Directory of the gateway's configuration.
const CONFIG_DIR: &str = "/etc/portreeve";
/// The first line of a seed that stands where other files may, such as the user data of a cloud.
pub const MARK: &str = "#portreeve-seed";

const KEYS: &[&str] = &[
    "hostname",
    "dns",
    "ntp",
    "recipients",
    "break_glass",
    "interfaces",
    "firewall",
    "routing",
    "keys",
    "files",
    "gateway",
    "policy",
];

/// A file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Absolute.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it holds.
    pub text: String,
}

/// The account that may log in on the console.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Hash of its password (crypt(5)).
    pub password: String,
}

/// Keys of an account of gateways, where they are given; else they are made at the first start.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The CA key, in OpenSSH's format.
    pub ca: String,
    /// The account secret, as 64 hex digits.
    pub account_secret: String,
    /// The host CA key, in OpenSSH's format.
    pub host_ca: Option<String>,
}

/// A seed that can be used as it is.
#[derive(Clone)]
pub struct Seed {
    hostname: String,
    /// Who may log in on the console; absent: nobody.
    pub account: Option<Account>,
    /// Keys to be used.
    pub keys: Option<Keys>,
    interfaces: Vec<Interface>,
    dns: Vec<std::net::IpAddr>,
    ntp: Vec<String>,
    firewall: Firewall,
    routing: Routing,
    metrics_port: Option<u16>,
    targets: Steered,
    files: Vec<File>,
    kept: String,
}

impl Seed {
    /// The seed as it is to be kept: without the keys, which have files of their own.
    pub fn kept(&self) -> &str {
        &self.kept
    }

    /// The gateway's files, to be written once, the configuration last.
    pub fn gateway_files(&self) -> &[File] {
        &self.files
    }

    /// WireGuard interfaces, each with its private key where the seed gives it.
    pub fn wireguard(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.interfaces.iter().filter_map(Interface::wireguard)
    }

    /// The host's files, in directories that are empty after a start. `made` are the private keys of WireGuard interfaces that
    /// the seed does not give, by the interfaces' names.
    pub fn host_files(&self, made: &BTreeMap<String, String>) -> Vec<File> {
        let mut files = networkd::files(&self.interfaces, &self.dns, made);
        files.push(host::settings(&self.hostname));
        files.push(host::resolver(&self.dns));
        files.push(host::time_servers(&self.ntp));
        let asked = self.interfaces.iter().filter(|interface| interface.dhcp_server);
        let asked = asked.map(|interface| interface.name.as_str());
        let listen = self.interfaces.iter().filter_map(Interface::listen_port);
        files.push(firewall::file(&self.firewall, self.metrics_port, (asked, listen), &self.targets));
        files.extend(routing::files(&self.routing));
        files
    }

    /// Whether the machine needs FRR.
    pub const fn has_frr(&self) -> bool {
        self.routing.has_frr()
    }
}

/// Reads a seed; `file` is its name in errors.
///
/// # Errors
/// All problems at once.
pub fn load(text: &str, file: &str) -> Result<Seed, ConfigErrors> {
    let named = |errors| ConfigErrors { file: file.to_owned(), errors };
    let root = tree::parse(text, Format::Toml).map_err(named)?;
    let table: Table = text.parse().unwrap_or_default();
    let problems = Problems::default();
    let read = read(&root, &problems);
    let (rendered, mut rest) = match &read {
        Some(read) => gateway(&read.recipients, &table, &root),
        // What is missing may be why the others seem wrong.
        None => (None, Vec::new()),
    };
    let read = read.and_then(|read| Some((read.seed, rendered?)));
    match problems.finish(read, &root, file) {
        Ok(((mut seed, rendered), _)) if rest.is_empty() => {
            seed.files.extend(rendered.files);
            seed.kept = kept(text, table);
            (seed.metrics_port, seed.targets) = (rendered.metrics_port, rendered.targets);
            Ok(seed)
        }
        Ok(_) => Err(named(rest)),
        Err(mut errors) => {
            errors.errors.retain(|error| rest.is_empty() || !error.key.is_empty() || error.line.is_some());
            errors.errors.append(&mut rest);
            errors.errors.sort_by_key(|error| error.line);
            Err(errors)
        }
    }
}

/// The text as it was written where nothing has to be left out.
fn kept(text: &str, mut table: Table) -> String {
    if table.remove("keys").is_some() { table.to_string() } else { text.to_owned() }
}

/// What the sections `gateway` and `policy` come to.
struct Rendered {
    files: Vec<File>,
    metrics_port: Option<u16>,
    targets: Steered,
}

/// What the rest comes to.
struct Read {
    seed: Seed,
    recipients: Vec<RecipientKey>,
}

/// Renders both files of the gateway and reads them as it will; the problems have lines and keys of the seed.
fn gateway(
    recipients: &[RecipientKey],
    table: &Table,
    root: &Node<'_>,
) -> (Option<Rendered>, Vec<super::ConfigError>) {
    let section = |name: &str| table.get(name).and_then(Value::as_table).cloned().unwrap_or_default();
    let (peers, mut policy) = (peers::known(table), section("policy"));
    let wrong = peers::fill(&mut policy, &peers);
    let (config, policy) = (with_recipients(section("gateway"), recipients.len()), policy.to_string());
    let origins = origin::Origins::of(root);
    let mut problems: Vec<_> = wrong.into_iter().map(|problem| origins.error(problem)).collect();
    let read = daemon::load(&config, "");
    let loaded = policy::load(&policy, Format::Toml, "", Generation(1));
    problems.extend(read.as_ref().err().into_iter().flat_map(|errors| origins.errors("gateway", errors)));
    problems.extend(loaded.as_ref().err().into_iter().flat_map(|errors| origins.errors("policy", errors)));
    let (Ok(read), Ok(loaded)) = (read, loaded) else { return (None, problems) };
    let passes_by = |peer: &&peers::Known| !read.datapath.interfaces.contains(&peer.interface);
    problems.extend(peers.iter().filter(passes_by).map(|peer| {
        let message = format!(
            "who comes in on {:?} is not seen: add it to gateway.datapath.interfaces",
            peer.interface
        );
        origins.error((peer.key.clone(), message))
    }));
    let mut files: Vec<File> = recipients
        .iter()
        .enumerate()
        .map(|(index, key)| private_to(recipient_file(index), 0o644, key.to_string()))
        .collect();
    files.push(private_to(format!("{CONFIG_DIR}/policy.toml"), 0o644, policy));
    files.push(private_to(format!("{CONFIG_DIR}/portreeve.toml"), 0o644, config));
    let targets = loaded.snapshot.infrastructure.steered();
    (Some(Rendered { files, metrics_port: read.metrics_listen.map(|addr| addr.port()), targets }), problems)
}

fn private_to(path: String, mode: u32, text: String) -> File {
    File { path, mode, text }
}

fn recipient_file(index: usize) -> String {
    format!("{CONFIG_DIR}/recipient-{}.pub", index + 1)
}

/// The gateway's configuration with the recipients' files in it, which the seed gives by their keys.
fn with_recipients(mut config: Table, count: usize) -> String {
    let files = (0..count).map(|index| Value::String(recipient_file(index))).collect();
    let recording = config.entry("recording").or_insert_with(|| Value::Table(Table::new()));
    if let Some(recording) = recording.as_table_mut() {
        recording.insert("recipient_key_files".to_owned(), Value::Array(files));
    }
    config.to_string()
}

fn read(root: &Node<'_>, problems: &Problems) -> Option<Read> {
    let seed = Object::open(root, problems, KEYS)?;
    let hostname = seed
        .need("hostname", "hostname = \"gateway-1\"")
        .and_then(|node| problems.parsed(node, host::hostname));
    let interfaces = network::read(&seed, problems);
    let recipients = read_recipients(&seed, problems);
    for section in ["gateway", "policy"] {
        if seed.find(section).is_none() {
            problems.error(root, format_args!("there is no section [{section}]: see docs/seed.md"));
        }
    }
    let address = |text: &str| text.parse().map_err(|_| format!("{text:?} is no IP address"));
    let dns = seed.list("dns").iter().filter_map(|node| problems.parsed(node, address)).collect();
    let ntp = seed.list("ntp").iter().filter_map(|node| problems.parsed(node, host::server)).collect();
    let account =
        seed.object("break_glass", &["account", "password"]).map(|object| read_account(object, problems));
    let keys =
        seed.object("keys", &["ca", "account_secret", "host_ca"]).map(|object| read_keys(object, problems));
    let files = read_files(seed.list("files"), problems);
    let firewall = firewall::read(&seed, problems);
    let read = Seed {
        hostname: hostname?,
        account: account.map_or(Some(None), |account| account.map(Some))?,
        keys: keys.map_or(Some(None), |keys| keys.map(Some))?,
        interfaces,
        dns,
        ntp,
        firewall,
        routing: routing::read(&seed, problems),
        metrics_port: None,
        targets: Steered::default(),
        files,
        kept: String::new(),
    };
    Some(Read { seed: read, recipients: recipients? })
}

fn read_recipients(seed: &Object<'_>, problems: &Problems) -> Option<Vec<RecipientKey>> {
    let node =
        seed.need("recipients", "recipients = [\"KEY\"], as `portreeve logs generate-key-pair` makes it")?;
    let keys: Vec<RecipientKey> =
        problems.list(node).iter().filter_map(|node| problems.parsed(node, str::parse)).collect();
    if keys.is_empty() {
        problems.error(node, "give the public key of one recipient at least: nothing could be recorded");
        return None;
    }
    Some(keys)
}

fn read_account(object: Object<'_>, problems: &Problems) -> Option<Account> {
    let name =
        object.need("account", "account = \"keeper\"").and_then(|node| problems.parsed(node, host::account));
    let password = object
        .need("password", "password = \"$y$...\", as `mkpasswd` prints it")
        .and_then(|node| problems.parsed(node, host::password_hash));
    Some(Account { name: name?, password: password? })
}

fn read_keys(object: Object<'_>, problems: &Problems) -> Option<Keys> {
    let text = |node: &Node<'_>| problems.text(node).map(str::to_owned);
    let ca = object.need("ca", "ca = \"\"\"-----BEGIN OPENSSH PRIVATE KEY-----...\"\"\"").and_then(text);
    let secret = object.need("account_secret", "account_secret = \"64 hex digits\"");
    let account_secret = secret.and_then(|node| problems.parsed(node, host::account_secret));
    let host_ca = object.find("host_ca").and_then(text);
    Some(Keys { ca: ca?, account_secret: account_secret?, host_ca })
}

/// Further files of the configuration's directory, such as credentials of destinations; nobody else reads them.
fn read_files(nodes: &[Node<'_>], problems: &Problems) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    for node in nodes {
        let Some(object) = Object::open(node, problems, &["name", "text"]) else { continue };
        let name = object
            .need("name", "name = \"s3-credentials\"")
            .and_then(|node| problems.parsed(node, host::file_name));
        let text = object.need("text", "text = \"...\"").and_then(|node| problems.text(node));
        let (Some(name), Some(text)) = (name, text) else { continue };
        let file = private_to(format!("{CONFIG_DIR}/{name}"), 0o600, text.to_owned());
        if files.iter().any(|other| other.path == file.path) {
            problems.error(node, format_args!("two files are named {name:?}"));
        }
        files.push(file);
    }
    files
}

#[cfg(test)]
mod tests;
