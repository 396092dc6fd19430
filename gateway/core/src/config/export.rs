//! `[[access_log.export]]` and `[[alerts.export]]`: where access events go beside the access log, and notices of alerts.
//!
//! Owns kinds, formats and defaults. Secrets are named by the path of their file.

use std::path::PathBuf;

use super::daemon::absolute;
use super::reader::{Object, Problems};
use super::shipping::{ALLOW_HTTP, url};
use super::tree::Node;
use crate::access_event::EventFormat;

/// Most exports.
const MOST: usize = 8;

/// One place that events are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// How events are written (default as the access log).
    pub format: EventFormat,
    /// Where they go.
    pub kind: ExportKind,
}

/// Where events go, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportKind {
    /// Syslog over TCP or TLS.
    Syslog {
        /// Host and port, as `logs.example.com:6514`.
        address: String,
        /// Certificates (PEM) that sign the server's; absent: without TLS.
        ca_file: Option<PathBuf>,
    },
    /// JSON lines, posted in batches.
    Http(HttpExport),
    /// OTLP over HTTP in JSON.
    Otlp(HttpExport),
}

/// A server that is spoken to by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpExport {
    /// Where batches are posted to.
    pub url: String,
    /// Whether the server may be spoken to without TLS (default false).
    pub allow_http: bool,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
    /// Certificates (PEM) that may sign the server's, beside those that the system trusts.
    pub ca_file: Option<PathBuf>,
}

impl ExportKind {
    /// Its name in metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Syslog { .. } => "syslog",
            Self::Http(_) => "http",
            Self::Otlp(_) => "otlp",
        }
    }
}

/// Reads the tables of `access_log.export`.
pub(super) fn read(nodes: &[Node<'_>], problems: &Problems) -> Vec<Export> {
    read_all(nodes, problems, &["format"])
}

/// Reads the tables of `alerts.export`, whose events have one format.
pub(super) fn read_unformatted(nodes: &[Node<'_>], problems: &Problems) -> Vec<Export> {
    read_all(nodes, problems, &[])
}

fn read_all(nodes: &[Node<'_>], problems: &Problems, more: &[&str]) -> Vec<Export> {
    if let Some(node) = nodes.get(MOST) {
        problems.error(node, format_args!("there may be {MOST} exports"));
    }
    nodes.iter().filter_map(|node| read_one(node, problems, more)).collect()
}

/// `more`: keys that every kind has besides.
fn read_one(node: &Node<'_>, problems: &Problems, more: &[&str]) -> Option<Export> {
    const SYSLOG: &[&str] = &["kind", "address", "tls", "ca_file"];
    const HTTP: &[&str] = &["kind", "url", "allow_http", "token_file", "ca_file"];
    let any = Object::open(node, problems, &[SYSLOG, HTTP, more].concat())?;
    let words = [("syslog", SYSLOG), ("http", HTTP), ("otlp", HTTP)];
    let kind = any.need("kind", "kind = \"syslog\"")?;
    let table = Object::open(node, problems, &[problems.word(kind, &words)?, more].concat())?;
    let words = [
        ("portreeve", EventFormat::Portreeve),
        ("ocsf", EventFormat::Ocsf),
        ("ecs", EventFormat::Ecs),
        ("logpush", EventFormat::Logpush),
    ];
    let format = table.find("format").and_then(|node| problems.word(node, &words));
    let kind = match problems.text(kind)? {
        "syslog" => read_syslog(&table, problems)?,
        "http" => ExportKind::Http(read_http(&table, problems)?),
        _ => ExportKind::Otlp(read_http(&table, problems)?),
    };
    Some(Export { format: format.unwrap_or(EventFormat::Portreeve), kind })
}

fn read_syslog(table: &Object<'_>, problems: &Problems) -> Option<ExportKind> {
    let address = table.need("address", "address = \"logs.example.com:6514\"");
    let address = address.and_then(|node| problems.parsed(node, host_and_port));
    let ca_file = path(table, "ca_file", problems);
    let tls = table.flag("tls", true);
    if tls && table.find("ca_file").is_none() {
        table.need("ca_file", "ca_file = \"/etc/portreeve/logs-ca.pem\", or tls = false");
        return None;
    }
    if let Some(node) = table.find("ca_file").filter(|_| !tls) {
        problems.error(node, "this is for tls = true: take one of the two out");
    }
    Some(ExportKind::Syslog { address: address?, ca_file })
}

fn read_http(table: &Object<'_>, problems: &Problems) -> Option<HttpExport> {
    let allow_http = table.flag("allow_http", false);
    let read = table.need("url", "url = \"https://logs.example.com/v1/logs\"");
    let read = read.and_then(|node| problems.parsed(node, |text| url(text, allow_http, ALLOW_HTTP)));
    Some(HttpExport {
        url: read?,
        allow_http,
        token_file: path(table, "token_file", problems),
        ca_file: path(table, "ca_file", problems),
    })
}

fn path(table: &Object<'_>, key: &str, problems: &Problems) -> Option<PathBuf> {
    table.find(key).and_then(|node| problems.parsed(node, absolute))
}

fn host_and_port(text: &str) -> Result<String, String> {
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let named = !bare.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        named && (bare != host || !bare.contains(':')) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no host and port: write it as \"logs.example.com:6514\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::daemon::load;

    const LEAST: &str = "[datapath]\ninterfaces = [\"eth0\"]\n[recording]\nrecipient_key_file = \"/k.pub\"\n";

    #[test]
    fn every_kind() {
        let text = "[[access_log.export]]\nkind = \"syslog\"\naddress = \"[::1]:6514\"\nca_file = \"/ca\"\nformat = \"ocsf\"\n\
                    [[access_log.export]]\nkind = \"otlp\"\nurl = \"https://h/v1/logs\"\n\
                    [[access_log.export]]\nkind = \"http\"\nurl = \"http://h/\"\nallow_http = true\nformat = \"ecs\"\n";
        let read = load(&format!("{LEAST}{text}"), "f").unwrap().access_exports;
        let kinds: Vec<_> = read.iter().map(|export| (export.kind.name(), export.format)).collect();
        let expected =
            [("syslog", EventFormat::Ocsf), ("otlp", EventFormat::Portreeve), ("http", EventFormat::Ecs)];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn alerts_are_exported_likewise_in_one_format() {
        let text = "[[alerts.export]]\nkind = \"http\"\nurl = \"https://h/\"\n";
        let read = load(&format!("{LEAST}{text}"), "f").unwrap();
        assert_eq!((read.alert_exports.len(), read.access_exports.len()), (1, 0));
        let refused = load(&format!("{LEAST}{text}format = \"ecs\"\n"), "f").unwrap_err().to_string();
        assert!(refused.contains("alerts.export[0].format: there is no key \"format\" here"), "{refused}");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, told) in [
            ("kind = \"syslog\"\naddress = \"h:1\"", "access_log.export[0].ca_file: this key is missing"),
            ("kind = \"syslog\"\naddress = \"h\"\ntls = false", "is no host and port"),
            ("kind = \"syslog\"\naddress = \"::1:514\"\ntls = false", "is no host and port"),
            ("kind = \"otlp\"\nurl = \"http://h\"", "is without TLS"),
            ("kind = \"otlp\"\naddress = \"h:1\"", "there is no key \"address\" here"),
            ("kind = \"kafka\"", "\"kafka\" is not possible here"),
        ] {
            let found =
                load(&format!("{LEAST}[[access_log.export]]\n{text}\n"), "f").unwrap_err().to_string();
            assert!(found.contains(told), "{found}");
        }
    }
}
