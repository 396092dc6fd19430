//! The testbed's configuration and policy, and what a caller puts in their place.
//!
//! Files may hold placeholders `@NAME@` (capital letters, digits, `_`) for what only the testbed
//! knows: @TARGET4@ @TARGET6@ @OPEN4@ @OPEN6@ @CLIENT4@ @CLIENT6@ @STRANGER4@ @REFUSING4@ @ABSENT4@
//! @LOGIN@ @DENIED_LOGIN@, and in the configuration @STATE_DIR@ @POLICY_FILE@ @SPOOL_DIR@ @PIN_DIR@
//! @RECIPIENT_KEY_FILE@ @METRICS_LISTEN@ @ACCESS_LOG@. A policy replaces the testbed's own whole; a
//! configuration is laid over it key by key.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::server::HOSTNAME;
use crate::server::accounts::{DENIED_LOGIN, LOGIN};
use crate::topology::{
    ABSENT4, CLIENT4, CLIENT6, GATEWAY_INTERFACES, GATEWAY4, METRICS_PORT, OPEN4, OPEN6, REFUSING4,
    STRANGER4, TARGET4, TARGET6,
};

/// The default policy: alice@example.com, known by the client's addresses, may log in to the
/// target as `alice`.
pub const POLICY: &str = include_str!("template/policy.toml");

/// Names and what stands for them.
pub type Placeholders = BTreeMap<&'static str, String>;

/// Files of the gateway that a configuration names.
#[derive(Clone, Copy, Debug)]
pub struct GatewayPaths<'a> {
    /// `state_dir`.
    pub state_dir: &'a Path,
    /// `policy_file`.
    pub policy_file: &'a Path,
    /// `recording.spool_dir`.
    pub spool_dir: &'a Path,
    /// `recording.recipient_key_file`.
    pub recipient_key_file: &'a Path,
    /// `datapath.pin_dir`.
    pub pin_dir: &'a Path,
    /// `access_log.path`.
    pub access_log: &'a Path,
}

/// What every testbed has in common.
pub fn addresses() -> Placeholders {
    BTreeMap::from([
        ("TARGET4", TARGET4.to_string()),
        ("TARGET6", TARGET6.to_string()),
        ("OPEN4", OPEN4.to_string()),
        ("OPEN6", OPEN6.to_string()),
        ("CLIENT4", CLIENT4.to_string()),
        ("CLIENT6", CLIENT6.to_string()),
        ("STRANGER4", STRANGER4.to_string()),
        ("REFUSING4", REFUSING4.to_string()),
        ("ABSENT4", ABSENT4.to_string()),
        ("HOSTNAME", HOSTNAME.to_owned()),
        ("LOGIN", LOGIN.to_owned()),
        ("DENIED_LOGIN", DENIED_LOGIN.to_owned()),
    ])
}

/// Replaces placeholders.
///
/// # Errors
/// The first that `values` does not have.
pub fn fill(text: &str, values: &Placeholders) -> Result<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        filled += before;
        let name = after.split('@').next().filter(|name| after.len() > name.len() && is_name(name));
        match name {
            Some(name) => {
                let Some(value) = values.get(name) else {
                    let known = values.keys().copied().collect::<Vec<_>>().join(" ");
                    bail!("unknown placeholder @{name}@; known are: {known}");
                };
                filled += value;
                rest = after.get(name.len() + 1..).unwrap_or_default();
            }
            None => {
                filled.push('@');
                rest = after;
            }
        }
    }
    Ok(filled + rest)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// The gateway's configuration: the testbed's own with `overlay` laid over it.
///
/// # Errors
/// When the overlay is no TOML, or names an unknown placeholder.
pub fn config(paths: GatewayPaths<'_>, overlay: Option<&str>) -> Result<String> {
    let text = |path: &Path| Value::String(path.display().to_string());
    let listen = format!("{GATEWAY4}:{METRICS_PORT}");
    let interfaces = GATEWAY_INTERFACES.map(|name| Value::String(name.to_owned())).to_vec();
    let mut config = Table::from_iter([
        ("state_dir".to_owned(), text(paths.state_dir)),
        ("policy_file".to_owned(), text(paths.policy_file)),
        (
            "datapath".to_owned(),
            section([("interfaces", Value::Array(interfaces)), ("pin_dir", text(paths.pin_dir))]),
        ),
        (
            "recording".to_owned(),
            section([
                ("recipient_key_file", text(paths.recipient_key_file)),
                ("spool_dir", text(paths.spool_dir)),
                // The machine that tests may be short of space.
                ("reserve", Value::String("0".to_owned())),
            ]),
        ),
        ("metrics".to_owned(), section([("listen", Value::String(listen.clone()))])),
        ("access_log".to_owned(), section([("path", text(paths.access_log))])),
    ]);
    if let Some(overlay) = overlay {
        let mut values = addresses();
        for (name, path) in [
            ("STATE_DIR", paths.state_dir),
            ("POLICY_FILE", paths.policy_file),
            ("SPOOL_DIR", paths.spool_dir),
            ("PIN_DIR", paths.pin_dir),
            ("RECIPIENT_KEY_FILE", paths.recipient_key_file),
            ("ACCESS_LOG", paths.access_log),
        ] {
            values.insert(name, path.display().to_string());
        }
        values.insert("METRICS_LISTEN", listen);
        lay_over(&mut config, fill(overlay, &values)?.parse().context("the configuration")?);
    }
    Ok(config.to_string())
}

fn section<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Lays keys over those of a table, which keeps what they do not name.
pub fn lay_over(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> GatewayPaths<'static> {
        let path = |text: &'static str| Path::new(text);
        GatewayPaths {
            state_dir: path("/s"),
            policy_file: path("/p"),
            spool_dir: path("/q"),
            recipient_key_file: path("/r"),
            pin_dir: path("/b"),
            access_log: path("/a"),
        }
    }

    #[test]
    fn placeholders_are_filled_and_addresses_of_people_left_alone() {
        let filled = fill("a@example.com @TARGET4@ @lower@ x@y@Z @", &addresses()).unwrap();
        assert_eq!(filled, "a@example.com 10.1.2.3 @lower@ x@y@Z @");
        let error = fill("@TARGET5@", &addresses()).unwrap_err();
        assert!(error.to_string().contains("@TARGET5@") && error.to_string().contains("TARGET4"), "{error}");
    }

    #[test]
    fn the_default_policy_has_no_placeholder_left() {
        let policy: Table = fill(POLICY, &addresses()).unwrap().parse().unwrap();
        assert!(policy.contains_key("targets") && policy.contains_key("identities"));
    }

    #[test]
    fn an_overlay_replaces_only_the_keys_it_names() {
        let overlay = "[limits]\nhandshake_timeout = \"2s\"\n[datapath]\npin_dir = \"@STATE_DIR@/x\"\n";
        let config: Table = config(paths(), Some(overlay)).unwrap().parse().unwrap();
        assert_eq!(config["datapath"]["pin_dir"].as_str(), Some("/s/x"));
        assert_eq!(config["datapath"]["interfaces"].as_array().map(Vec::len), Some(2));
        assert_eq!(config["limits"]["handshake_timeout"].as_str(), Some("2s"));
        assert_eq!(config["state_dir"].as_str(), Some("/s"));
    }
}
