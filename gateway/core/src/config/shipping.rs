//! `[[ship]]` and the keys of `[recording]` that say when a recording may be deleted.
//!
//! Owns where recordings go, and how a destination confirms that it has them. Secrets are named by the
//! path of their file; what is in it is read by whoever uses it.

use std::path::PathBuf;
use std::time::Duration;

use super::daemon::absolute;
use super::reader::{Object, Problems};
use super::tree::Node;
use super::{duration, size};

/// Keys that every destination may have.
const COMMON: [&str; 4] = ["name", "kind", "required", "concurrency"];

/// How long shipped recordings stay where nothing else is said.
const KEEP: Duration = Duration::from_hours(7 * 24);

/// Most destinations.
const MOST: usize = 16;

/// A place that finished recordings are copied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its name in logs, in state files and in `shipped.log`: letters, digits, `-`, `_`.
    pub name: String,
    /// Whether a recording may be deleted only after this destination has confirmed it (default true).
    pub required: bool,
    /// Sessions that are copied at a time (default 4).
    pub concurrency: u32,
    /// Where it is.
    pub kind: DestinationKind,
}

/// Where a destination is, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationKind {
    /// A bucket of an S3-compatible object store.
    S3(S3),
    /// A directory of this machine.
    Directory {
        /// It must be there.
        path: PathBuf,
    },
    /// A server that takes each file by a request of its own.
    Http(Http),
}

/// A bucket of an S3-compatible object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// URL of the service; absent: that of AWS in the region.
    pub endpoint: Option<String>,
    /// Whether the endpoint may be spoken to without TLS (default false).
    pub allow_http: bool,
    /// The bucket.
    pub bucket: String,
    /// What keys begin with, without slashes at its ends; empty by default.
    pub prefix: String,
    /// The region (default `us-east-1`).
    pub region: String,
    /// A file as `~/.aws/credentials`.
    pub credentials_file: PathBuf,
    /// Certificates (PEM) that the endpoint's may be signed by, beside those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// What counts as a confirmation.
    pub confirm: StoreConfirm,
}

/// What counts as a confirmation of an object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreConfirm {
    /// It took the upload with the file's SHA-256, and says the same size and digest when asked (default).
    Checksum,
    /// What it has was read back, and has the file's SHA-256.
    Read,
}

/// A server that takes each file by a request of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// URL; `{path}` in it stands for the session directory's name, a slash and the file's path.
    pub url: String,
    /// Whether the server may be spoken to without TLS (default false).
    pub allow_http: bool,
    /// How files are sent.
    pub method: HttpMethod,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
    /// Certificates (PEM) that the server's may be signed by, beside those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// What counts as a confirmation.
    pub confirm: HttpConfirm,
}

/// How files are sent to an HTTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMethod {
    /// PUT (default).
    Put,
    /// POST.
    Post,
}

/// What counts as a confirmation of an HTTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpConfirm {
    /// Status 2xx, and the file's SHA-256 in `Repr-Digest` or `Content-Digest` of RFC 9530 (default).
    Digest,
    /// Status 2xx.
    Status,
}

/// When a finished recording is deleted from the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How long after its end; absent: as long as there is room.
    pub keep: Option<Duration>,
    /// Above how many bytes of finished recordings the oldest go before that.
    pub keep_bytes: Option<u64>,
    /// Whether what no destination has may be deleted; only where there is no destination.
    pub delete_unshipped: bool,
}

impl Destination {
    /// Its kind in metrics.
    pub const fn kind_name(&self) -> &'static str {
        match self.kind {
            DestinationKind::S3(_) => "s3",
            DestinationKind::Directory { .. } => "directory",
            DestinationKind::Http(_) => "http",
        }
    }
}

/// Reads `[[ship]]`.
pub(super) fn read_destinations(nodes: &[Node<'_>], problems: &Problems) -> Vec<Destination> {
    let mut read: Vec<Destination> = Vec::new();
    for node in nodes {
        let Some(destination) = read_destination(node, problems) else { continue };
        if read.iter().any(|other| other.name == destination.name) {
            problems.error(node, format_args!("two destinations are named {:?}", destination.name));
        }
        read.push(destination);
    }
    if let Some(node) = nodes.get(MOST) {
        problems.error(node, format_args!("there may be {MOST} destinations"));
    }
    if let Some(node) = nodes.first()
        && !read.is_empty()
        && read.iter().all(|destination| !destination.required)
    {
        problems.error(node, "one destination at least must be required: nothing may be deleted otherwise");
    }
    read
}

/// Reads the keys of `[recording]` that are about deletion; `shipped`: whether there is a destination.
pub(super) fn read_retention(section: &Object<'_>, problems: &Problems, shipped: bool) -> Retention {
    let keep = section.find("keep").and_then(|node| problems.parsed(node, duration::parse_age));
    let keep_bytes = section.find("keep_bytes").and_then(|node| problems.parsed(node, size::parse));
    let retention = Retention {
        keep: keep.or_else(|| shipped.then_some(KEEP)),
        keep_bytes,
        delete_unshipped: section.flag("delete_unshipped", false),
    };
    if let Some(node) = section.find("delete_unshipped").filter(|_| retention.delete_unshipped && shipped) {
        problems.error(node, "this is for a spool without destinations: take it out, or every [[ship]]");
    }
    let limit = section.find("keep").or_else(|| section.find("keep_bytes"));
    if let Some(node) = limit.filter(|_| !shipped && !retention.delete_unshipped) {
        let text = "nothing is deleted that no destination has: write a [[ship]], or delete_unshipped = true";
        problems.error(node, text);
    }
    retention
}

fn read_destination(node: &Node<'_>, problems: &Problems) -> Option<Destination> {
    const KINDS: [(&str, &[&str]); 3] = [
        (
            "s3",
            &[
                "endpoint",
                "allow_http",
                "bucket",
                "prefix",
                "region",
                "credentials_file",
                "ca_file",
                "confirm",
            ],
        ),
        ("directory", &["path"]),
        ("http", &["url", "allow_http", "method", "token_file", "ca_file", "confirm"]),
    ];
    let all: Vec<&str> =
        COMMON.iter().chain(KINDS.iter().flat_map(|(_, keys)| keys.iter())).copied().collect();
    let any = Object::open(node, problems, &all)?;
    let kind_node = any.need("kind", "kind = \"directory\"")?;
    let keys = problems.word(kind_node, &KINDS)?;
    let known: Vec<&str> = COMMON.iter().chain(keys).copied().collect();
    // Once more: a key of another kind has no meaning here.
    let table = Object::open(node, problems, &known)?;
    let name = table.need("name", "name = \"archive\"").and_then(|node| problems.parsed(node, name));
    let concurrency = table.find("concurrency").and_then(|node| problems.integer(node, 1..=16));
    let kind = match problems.text(kind_node)? {
        "s3" => read_s3(&table, problems).map(DestinationKind::S3),
        "directory" => {
            let path = table.need("path", "path = \"/srv/recordings\"");
            path.and_then(|node| problems.parsed(node, absolute))
                .map(|path| DestinationKind::Directory { path })
        }
        _ => read_http(&table, problems).map(DestinationKind::Http),
    };
    Some(Destination {
        name: name?,
        required: table.flag("required", true),
        concurrency: concurrency.unwrap_or(4),
        kind: kind?,
    })
}

fn read_s3(table: &Object<'_>, problems: &Problems) -> Option<S3> {
    let allow_http = table.flag("allow_http", false);
    let endpoint =
        table.find("endpoint").map(|node| problems.parsed(node, |text| url(text, allow_http, ALLOW_HTTP)));
    let bucket = table.need_name("bucket", "bucket = \"recordings\"");
    let credentials = table.need("credentials_file", "credentials_file = \"/etc/portreeve/s3\"");
    let credentials_file = credentials.and_then(|node| problems.parsed(node, absolute));
    let words = [("checksum", StoreConfirm::Checksum), ("read", StoreConfirm::Read)];
    let confirm = table.find("confirm").and_then(|node| problems.word(node, &words));
    Some(S3 {
        endpoint: endpoint.map_or(Some(None), |endpoint| endpoint.map(Some))?,
        allow_http,
        bucket: bucket?.to_owned(),
        prefix: table.name("prefix").unwrap_or_default().trim_matches('/').to_owned(),
        region: table.name("region").unwrap_or("us-east-1").to_owned(),
        credentials_file: credentials_file?,
        ca_file: path(table, "ca_file", problems),
        confirm: confirm.unwrap_or(StoreConfirm::Checksum),
    })
}

fn read_http(table: &Object<'_>, problems: &Problems) -> Option<Http> {
    let allow_http = table.flag("allow_http", false);
    let example = "url = \"https://collector.example.com/recordings/{path}\"";
    let template = table.need("url", example).and_then(|node| {
        problems.parsed(node, |text| {
            let named = text.matches("{path}").count() == 1;
            let text = url(text, allow_http, ALLOW_HTTP)?;
            if named { Ok(text) } else { Err(format!("write {{path}} once in it, as in {example}")) }
        })
    });
    let words = [("PUT", HttpMethod::Put), ("POST", HttpMethod::Post)];
    let method = table.find("method").and_then(|node| problems.word(node, &words));
    let words = [("digest", HttpConfirm::Digest), ("status", HttpConfirm::Status)];
    let confirm = table.find("confirm").and_then(|node| problems.word(node, &words));
    Some(Http {
        url: template?,
        allow_http,
        method: method.unwrap_or(HttpMethod::Put),
        token_file: path(table, "token_file", problems),
        ca_file: path(table, "ca_file", problems),
        confirm: confirm.unwrap_or(HttpConfirm::Digest),
    })
}

fn path(table: &Object<'_>, key: &str, problems: &Problems) -> Option<PathBuf> {
    table.find(key).and_then(|node| problems.parsed(node, absolute))
}

/// A name that may stand in a path.
fn name(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(good) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no name for a destination: at most 64 letters, digits, - and _"))
    }
}

/// The key that allows a URL without TLS.
pub(super) const ALLOW_HTTP: &str = "set allow_http = true";

/// A URL; that it is well formed is seen by whoever speaks to it. `to_allow` says how one without TLS is allowed.
///
/// # Errors
/// What is wrong with it and what to do, as a sentence.
pub fn url(text: &str, allow_http: bool, to_allow: &str) -> Result<String, String> {
    let plain = text.starts_with("http://");
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let good = rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic()));
    match (good, plain && !allow_http) {
        (true, false) => Ok(text.to_owned()),
        (true, true) => Err(format!("{text:?} is without TLS: begin it with https://, or {to_allow}")),
        (false, _) => Err(format!("{text:?} is no URL: begin it with https://")),
    }
}

#[cfg(test)]
mod tests;
