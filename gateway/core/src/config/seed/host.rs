//! Names and words of a host, and its small files: settings of the kernel, resolver and time servers.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::File;

/// A host's name (RFC 1123 section 2.1), of one label.
pub(super) fn hostname(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let edges = text.starts_with('-') || text.ends_with('-');
    if !text.is_empty() && text.len() <= 63 && text.bytes().all(good) && !edges {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no name for a host: at most 63 letters, digits and -"))
}

/// An address or a name of a server.
pub(super) fn server(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':');
    if !text.is_empty() && text.len() <= 253 && text.bytes().all(good) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no address or name of a server"))
}

/// The name of an account, none of those that a system has.
pub(super) fn account(text: &str) -> Result<String, String> {
    const TAKEN: [&str; 4] = ["root", "nobody", "daemon", "bin"];
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if begins && text.len() <= 31 && text.bytes().all(good) && !TAKEN.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no name for the account: lower-case letters, digits, - and _, and none of the system's"
    ))
}

/// A hash of crypt(5) that is worth it: yescrypt, scrypt, bcrypt, SHA-512 or SHA-256.
pub(super) fn password_hash(text: &str) -> Result<String, String> {
    const METHODS: [&str; 6] = ["$y$", "$gy$", "$7$", "$2b$", "$6$", "$5$"];
    let good = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b';' | b'*' | b'!' | b'\\');
    if METHODS.iter().any(|method| text.starts_with(method)) && text.len() >= 20 && text.bytes().all(good) {
        return Ok(text.to_owned());
    }
    // The text may be the password itself: it is not repeated.
    Err("this is no hash of a password: make one with `mkpasswd` or `openssl passwd -6`".to_owned())
}

/// An account secret: 64 hex digits.
pub(super) fn account_secret(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_owned());
    }
    Err("this is no account secret: 64 hex digits, as in STATE/account_secret".to_owned())
}

/// A file's name in the configuration's directory, none of those that the seed is rendered into.
pub(super) fn file_name(text: &str) -> Result<String, String> {
    let taken = text.ends_with(".toml") || text.starts_with("recipient");
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(good) && !text.starts_with('.') && !taken {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no name for a file here: letters, digits, -, _ and ., and none that the seed makes"
    ))
}

/// Settings of the kernel: the machine's name, and that it forwards.
pub(super) fn settings(hostname: &str) -> File {
    let text =
        format!("kernel.hostname = {hostname}\nnet.ipv4.ip_forward = 1\nnet.ipv6.conf.all.forwarding = 1\n");
    File { path: "/run/sysctl.d/90-portreeve.conf".to_owned(), mode: 0o644, text }
}

/// Servers of names for the machine itself (resolved.conf(5)).
pub(super) fn resolver(dns: &[IpAddr]) -> File {
    let servers: Vec<String> = dns.iter().map(IpAddr::to_string).collect();
    let text = format!("[Resolve]\nDNS={}\n", servers.join(" "));
    File { path: "/run/systemd/resolved.conf.d/portreeve.conf".to_owned(), mode: 0o644, text }
}

/// Sources of chrony.
pub(super) fn time_servers(ntp: &[String]) -> File {
    let mut text = String::new();
    for server in ntp {
        writeln!(text, "server {server} iburst").unwrap_or_default();
    }
    File { path: "/run/chrony-dhcp/portreeve.sources".to_owned(), mode: 0o644, text }
}
