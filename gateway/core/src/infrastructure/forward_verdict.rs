//! Whether a forward of a live session may be opened, and whether it may carry SSH.
//!
//! A forward must not lead around the gateway: a session on one target is no way to another target, or to the same
//! one, that is neither decided about nor recorded. An address says at once whether it is a target's. A name is
//! resolved on the target, so it is forwarded first; should SSH begin there, the gateway's own answer for the name
//! is asked.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::InfrastructureSet;
use super::forwarding::{Forward, ForwardKind, Forwards, address};
use crate::net::OriginalDst;
use crate::target::Target;

/// What becomes of a forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardVerdict {
    /// It is opened.
    Allowed,
    /// It is opened; should SSH begin on it, [`ssh_verdict`] is asked.
    AllowedUnlessSsh,
    /// Policy does not allow it.
    NotGranted,
    /// It leads to this target, on a port where connections are intercepted.
    ToTarget(Arc<Target>),
}

/// Decides about a forward that a session on `outer` asks for.
pub fn forward_verdict(
    set: &InfrastructureSet,
    forwards: &Forwards,
    outer: OriginalDst,
    forward: Forward<'_>,
) -> ForwardVerdict {
    let Some(port) = forward.tcp_port().filter(|_| forwards.allow(forward)) else {
        return ForwardVerdict::NotGranted;
    };
    match forward.kind {
        // The user's own side: nothing of it is a target that the session could reach otherwise.
        ForwardKind::Remote | ForwardKind::RemoteSocket => ForwardVerdict::Allowed,
        ForwardKind::LocalSocket => ForwardVerdict::AllowedUnlessSsh,
        ForwardKind::Local => {
            let name = name_of(forward.destination);
            if let Some(ip) = name.as_deref().and_then(known_address) {
                let target = steered_from(set, outer, ip, port);
                return target.map_or(ForwardVerdict::Allowed, ForwardVerdict::ToTarget);
            }
            let target = name.and_then(|name| set.steered_by_name(&name, port).cloned());
            target.map_or(ForwardVerdict::AllowedUnlessSsh, ForwardVerdict::ToTarget)
        }
    }
}

/// Decides about SSH that began on a forward which [`forward_verdict`] allowed unless there is SSH: it goes on if the
/// destination has addresses, as far as the gateway knows, and none is a target's.
pub fn ssh_verdict(
    set: &InfrastructureSet,
    outer: OriginalDst,
    addresses: &[IpAddr],
    port: u16,
) -> ForwardVerdict {
    let to_target = addresses.iter().find_map(|ip| steered_from(set, outer, *ip, port));
    match to_target {
        Some(target) => ForwardVerdict::ToTarget(target),
        None if addresses.is_empty() => ForwardVerdict::NotGranted,
        None => ForwardVerdict::Allowed,
    }
}

/// The target that an address means on `outer`, where its own addresses mean itself.
fn steered_from(set: &InfrastructureSet, outer: OriginalDst, ip: IpAddr, port: u16) -> Option<Arc<Target>> {
    let ip = ip.to_canonical();
    let ip = if ip.is_loopback() || ip.is_unspecified() { outer.ip() } else { ip };
    set.steered_at(OriginalDst::new((ip, port).into())).cloned()
}

/// The destination in lower case, without the dot at its end.
fn name_of(destination: &[u8]) -> Option<String> {
    let name = str::from_utf8(destination).ok()?;
    Some(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
}

/// The address that a destination is, or always means (RFC 6761 section 6.3).
fn known_address(name: &str) -> Option<IpAddr> {
    if name.is_empty() || name == "localhost" || name.ends_with(".localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    address(name)
}

#[cfg(test)]
mod tests {
    use super::super::Application;
    use super::super::fixture::{criteria, policy, set, target};
    use super::*;
    use crate::rule::AccessRule;

    fn two_targets() -> InfrastructureSet {
        let application = Application {
            name: "app".into(),
            criteria: vec![criteria("db", 22), criteria("db", 2222)],
            policies: vec![policy("all", vec![AccessRule::Everyone], &["root"])],
        };
        set(vec![target("db", "10.0.0.1/32"), target("net", "10.1.0.0/16")], vec![application])
    }

    fn anything() -> Forwards {
        let mut forwards = Forwards::default();
        forwards.add(None);
        forwards
    }

    fn verdict(kind: ForwardKind, destination: &str, port: u32) -> String {
        let outer = OriginalDst::new("10.0.0.1:22".parse().unwrap());
        let forward = Forward { kind, destination: destination.as_bytes(), port };
        let verdict = forward_verdict(&two_targets(), &anything(), outer, forward);
        if let ForwardVerdict::ToTarget(target) = &verdict {
            return target.hostname.to_string();
        }
        format!("{verdict:?}")
    }

    #[test]
    fn a_forward_to_a_target_leads_there_under_each_of_its_names() {
        for (destination, port, expected) in [
            ("10.0.0.1", 22, "db"),
            ("::ffff:10.0.0.1", 2222, "db"),
            ("10.0.0.1", 5432, "Allowed"),
            ("10.1.7.7", 22, "net"),
            ("10.2.0.1", 22, "Allowed"),
            ("localhost", 22, "db"),
            ("LOCALHOST.", 2222, "db"),
            ("127.9.9.9", 22, "db"),
            ("::1", 22, "db"),
            ("0.0.0.0", 22, "db"),
            ("", 22, "db"),
            ("localhost", 5432, "Allowed"),
            ("DB", 22, "db"),
            ("db.", 5432, "AllowedUnlessSsh"),
            ("elsewhere.example.com", 22, "AllowedUnlessSsh"),
            ("127.1", 22, "AllowedUnlessSsh"),
            ("10.0.0.1", 65_536 + 22, "NotGranted"),
            ("elsewhere.example.com", 65_536 + 22, "NotGranted"),
        ] {
            assert_eq!(verdict(ForwardKind::Local, destination, port), expected, "{destination} {port}");
        }
        assert_eq!(verdict(ForwardKind::LocalSocket, "/run/ssh/socket", 0), "AllowedUnlessSsh");
        assert_eq!(verdict(ForwardKind::Remote, "10.0.0.1", 22), "Allowed");
    }

    #[test]
    fn ssh_to_a_name_goes_on_where_the_gateway_knows_that_it_is_no_target() {
        let (set, outer) = (two_targets(), OriginalDst::new("10.0.0.1:22".parse().unwrap()));
        let ssh = |addresses: &[&str]| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            ssh_verdict(&set, outer, &addresses, 22)
        };
        assert_eq!(ssh(&[]), ForwardVerdict::NotGranted);
        assert_eq!(ssh(&["192.0.2.1"]), ForwardVerdict::Allowed);
        assert!(matches!(ssh(&["192.0.2.1", "10.1.0.1"]), ForwardVerdict::ToTarget(_)));
        assert!(matches!(ssh(&["127.0.0.1"]), ForwardVerdict::ToTarget(_)));
    }

    #[test]
    fn what_policy_does_not_allow_is_not_asked_further() {
        let outer = OriginalDst::new("10.0.0.1:22".parse().unwrap());
        let forward = Forward { kind: ForwardKind::Local, destination: b"10.0.0.1", port: 22 };
        let verdict = forward_verdict(&two_targets(), &Forwards::default(), outer, forward);
        assert_eq!(verdict, ForwardVerdict::NotGranted);
    }
}
