//! What ssh-audit, a scanner of SSH servers, finds in the side that users see.
//!
//! The gateway offers fewer ciphers to a client that has the cheap ones, and ssh-audit has. So it is
//! asked twice: to scan, and to look up all that a client is offered who has not said what it has.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use portreeve_ssh::packet::Inbound;
use portreeve_ssh::wire::Reader;
use portreeve_tests::topology::{SSH_PORT, TARGET4, at};
use portreeve_tests::{Finished, Route, Testbed, run};
use serde_json::Value;

use super::Check;
use crate::beds::Beds;
use crate::ssh::LIMIT;

pub(super) const CHECKS: &[Check] = &[
    Check::new("ssh_audit_finds_nothing_but_what_is_accepted", scan),
    Check::new("ssh_audit_accepts_all_that_is_offered", lookup),
];

const NIST: &str = "fail: using weak elliptic curves";
const PLAIN_HMAC: &str = "warn: using encrypt-and-MAC mode";
const UNKNOWN: &str = "warn: unknown algorithm";

/// Findings that stay, as ssh-audit 2.5.0 of Debian 12 says them. Debian's sshd gets all of them but the
/// one about ML-KEM.
const ACCEPTED: &[(&str, &str)] = &[
    // Nobody has shown a weakness of NIST's curves; clients in FIPS mode have no others.
    ("ecdh-sha2-nistp256", NIST),
    ("ecdh-sha2-nistp384", NIST),
    ("ecdh-sha2-nistp521", NIST),
    // For clients whose known_hosts has an ECDSA key only. Derived, not drawn; the random number of each
    // signature comes from the cryptography library.
    ("ecdsa-sha2-nistp256", NIST),
    ("ecdsa-sha2-nistp256", "warn: using weak random number generator could reveal the key"),
    // Dropbear and other clients have HMAC in no other mode. Clients that know better choose better.
    ("hmac-sha2-256", PLAIN_HMAC),
    ("hmac-sha2-512", PLAIN_HMAC),
    // Younger than this ssh-audit: the hybrid with ML-KEM, and what ends Terrapin.
    ("mlkem768x25519-sha256", UNKNOWN),
    ("kex-strict-s-v00@openssh.com", UNKNOWN),
];

pub(super) fn ssh_audit(bed: &Testbed, args: &[&str]) -> Result<Finished> {
    let finished = run(bed.client("ssh-audit").args(args), b"", LIMIT).context("ssh-audit")?;
    // 0: all good, 2: warnings, 3: failures; everything else means that there was no audit.
    ensure!(
        matches!(finished.status.code(), Some(0 | 2 | 3)) && finished.stderr.is_empty(),
        "{}: {} {}",
        finished.ending(),
        finished.out(),
        finished.err()
    );
    Ok(finished)
}

/// Every algorithm that a report names, and each failure and warning about one.
pub(super) fn read_report(report: &str) -> (BTreeSet<&str>, Vec<(&str, String)>) {
    let (mut names, mut findings) = (BTreeSet::new(), Vec::new());
    let mut subject = "";
    for line in report.lines() {
        let named =
            ["(kex) ", "(key) ", "(enc) ", "(mac) "].into_iter().find_map(|kind| line.strip_prefix(kind));
        if let Some(name) = named.and_then(|rest| rest.split(' ').next()) {
            subject = name;
            names.insert(name);
        } else if !line.trim_start().starts_with("`- ") {
            continue;
        }
        for level in ["fail", "warn"] {
            if let Some((_, text)) = line.split_once(&format!("- [{level}] ")) {
                findings.push((subject, format!("{level}: {}", text.trim_end())));
            }
        }
    }
    (names, findings)
}

pub(super) fn ensure_accepted(findings: &[(&str, String)]) -> Result<()> {
    let accepted = |(name, text): &&(&str, String)| ACCEPTED.contains(&(*name, text.as_str()));
    let others: Vec<_> = findings.iter().filter(|finding| !accepted(finding)).collect();
    ensure!(others.is_empty(), "ssh-audit finds {others:?}");
    Ok(())
}

fn scan(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let target = TARGET4.to_string();
    let report = ssh_audit(bed, &["-n", &target])?.out();
    let (names, findings) = read_report(&report);
    for seen in ["mlkem768x25519-sha256", "ssh-ed25519", "aes128-gcm@openssh.com", "hmac-sha2-256"] {
        ensure!(names.contains(seen), "{seen} was not looked at: {report}");
    }
    // A report that cannot be read has none.
    ensure!(
        findings.iter().any(|(name, text)| (*name, text.as_str()) == ("ecdh-sha2-nistp256", NIST)),
        "{report}"
    );
    ensure_accepted(&findings)?;

    let report: Value = serde_json::from_str(&ssh_audit(bed, &["-j", &target])?.out())?;
    ensure!(report["compression"] == serde_json::json!(["none"]), "{report}");
    let kex = report["kex"].as_array().context("no key exchange methods")?;
    // The test for Terrapin of later versions of ssh-audit (CVE-2023-48795).
    ensure!(kex.iter().any(|kex| kex["algorithm"] == "kex-strict-s-v00@openssh.com"), "Terrapin: {report}");
    let sizes: Vec<_> = kex.iter().filter_map(|kex| kex["keysize"].as_u64()).collect();
    ensure!(!sizes.is_empty() && sizes.iter().all(|size| *size >= 2048), "small groups: {report}");
    Ok(())
}

/// The lists of the proposal that a client gets who sends nothing.
pub(super) fn offered(bed: &Testbed) -> Result<Vec<String>> {
    const COOKIE: usize = 16;
    const LISTS: usize = 6;
    let mut stream = bed.client_netns().connect(at(TARGET4, SSH_PORT))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    let mut inbound = Inbound::default();
    let packet = loop {
        if let Some(packet) = inbound.next_packet()? {
            break packet;
        }
        match stream.read(inbound.spare(4096))? {
            0 => bail!("closed before a proposal came"),
            n => inbound.filled(n),
        }
    };
    let mut reader = Reader::new(inbound.payload(packet));
    reader.u8()?;
    reader.bytes(COOKIE)?;
    let mut names = BTreeSet::new();
    for _ in 0..LISTS {
        names.extend(reader.text()?.split(',').map(str::to_owned));
    }
    Ok(names.into_iter().collect())
}

fn lookup(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let offered = offered(bed)?;
    for name in ["chacha20-poly1305@openssh.com", "aes256-ctr", "aes128-gcm@openssh.com", "ssh-ed25519"] {
        ensure!(offered.iter().any(|offered| offered == name), "{name} is not in {offered:?}");
    }
    let report = ssh_audit(bed, &["-n", &format!("--lookup={}", offered.join(","))])?.out();
    let (known, findings) = read_report(&report);
    ensure_accepted(&findings)?;
    let unknown = offered.iter().filter(|name| !known.contains(name.as_str()));
    // Looked up, those that are unknown are listed without a note.
    let unknown: Vec<_> = unknown.map(|name| (name.as_str(), UNKNOWN.to_owned())).collect();
    ensure_accepted(&unknown)
}
