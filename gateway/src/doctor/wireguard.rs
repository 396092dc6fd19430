//! WireGuard interfaces: whether peers are heard, and whether what comes out of them is intercepted.
//!
//! Asks `wg` for the times of handshakes alone, which shows no key but public ones. Without `wg`, or without such an
//! interface, there is nothing to find.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Finding;
use super::host::told;

/// How long ago a peer that sends has shaken hands at the most, in seconds (`REJECT_AFTER_TIME`).
const FRESH: u64 = 180;

pub(super) async fn interfaces(configured: &[String]) -> Vec<Finding> {
    let Some(text) = told("wg", &["show", "all", "latest-handshakes"]).await else { return Vec::new() };
    let Some(names) = told("wg", &["show", "interfaces"]).await else { return Vec::new() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut peers: BTreeMap<&str, Vec<u64>> =
        names.split_whitespace().map(|name| (name, Vec::new())).collect();
    for (interface, handshake) in text.lines().filter_map(parse) {
        peers.entry(interface).or_default().push(handshake);
    }
    peers.iter().flat_map(|(name, handshakes)| judge(name, handshakes, now, configured)).collect()
}

/// Interface, public key and time of the last handshake, 0 for none.
fn parse(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_whitespace();
    let (interface, _, handshake) = (words.next()?, words.next()?, words.next()?);
    Some((interface, handshake.parse().ok()?))
}

/// `handshakes`: when each peer last shook hands, in seconds since 1970.
fn judge(name: &str, handshakes: &[u64], now: u64, configured: &[String]) -> Vec<Finding> {
    let about = format!("WireGuard {name}");
    let heard = handshakes.iter().filter(|at| **at != 0).count();
    let fresh = handshakes.iter().filter(|at| **at != 0 && now.saturating_sub(**at) <= FRESH).count();
    let found =
        format!("{} peers, {heard} heard since it came up, {fresh} in the last 3 minutes", handshakes.len());
    let advice = "does UDP come in on its port, and does each side have the other's public key (`wg show`)?";
    let mut findings = vec![match heard {
        0 => Finding::warning(about.clone(), found, advice),
        _ => Finding::good(about.clone(), found),
    }];
    if !configured.iter().any(|configured| configured == name) {
        findings.push(Finding::warning(
            about,
            "is none of [datapath] interfaces: what comes out of it reaches targets past the gateway",
            "drop what is forwarded from it to targets by the firewall, unless that is meant",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn peers_that_were_never_heard_are_told() {
        let configured = ["wg0".to_owned()];
        for (handshakes, grade, word) in [
            (&[][..], Grade::Warning, "0 peers"),
            (&[0, 0], Grade::Warning, "2 peers, 0 heard"),
            (&[0, 100, 990], Grade::Good, "3 peers, 2 heard since it came up, 1 in"),
        ] {
            let findings = judge("wg0", handshakes, 1000, &configured);
            assert!(findings[0].grade == grade && findings[0].found.contains(word), "{findings:?}");
            assert_eq!(findings.len(), 1);
        }
    }

    #[test]
    fn an_interface_around_the_gateway_is_told() {
        let findings = judge("wg1", &[990], 1000, &["lan0".to_owned()]);
        assert!(findings[1].grade == Grade::Warning && findings[1].found.contains("past the gateway"));
    }

    #[test]
    fn times_of_handshakes_are_read() {
        assert_eq!(parse("wg0\tAbC=\t1700000000"), Some(("wg0", 1_700_000_000)));
        assert_eq!(parse("wg0"), None);
    }
}
