//! Whether a forward of a live session may be opened, and whether it may carry SSH.
//!
//! A forward must not lead around the gateway: a session on one target is no way to another target, or to the same
//! one, that is neither decided about nor recorded. An address says at once whether it is a target's. A name is
//! resolved on the target, so it is forwarded first; should SSH begin there, the gateway's own answer for the name
//! is asked. Where policy has such forwards inspected, a name is looked up before: an inner connection needs an address.

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
    /// It leads to this target, on a port where connections are intercepted: it is refused.
    ToTarget(Arc<Target>),
    /// It leads to a target here, and policy has it inspected.
    Inspect(OriginalDst),
    /// It may lead to a target, and policy has it inspected then: [`name_verdict`] is asked.
    InspectIfTarget,
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
            let inspect = forwards.inspect(forward);
            let name = name_of(forward.destination);
            if let Some(ip) = name.as_deref().and_then(known_address) {
                let dst = meant_from(outer, ip, port);
                return match set.steered_at(dst).cloned() {
                    None => ForwardVerdict::Allowed,
                    Some(_) if inspect => ForwardVerdict::Inspect(dst),
                    Some(target) => ForwardVerdict::ToTarget(target),
                };
            }
            if inspect && set.steers_port(port) {
                return ForwardVerdict::InspectIfTarget;
            }
            let target = name.and_then(|name| set.steered_by_name(&name, port).cloned());
            target.map_or(ForwardVerdict::AllowedUnlessSsh, ForwardVerdict::ToTarget)
        }
    }
}

/// Decides about a forward to a name that is inspected if it leads to a target, by the addresses that the name has as far
/// as the gateway knows. A hostname of a target that has none means the target's own address, if that is one alone.
pub fn name_verdict(
    set: &InfrastructureSet,
    outer: OriginalDst,
    forward: Forward<'_>,
    addresses: &[IpAddr],
) -> ForwardVerdict {
    let Some(port) = forward.tcp_port() else { return ForwardVerdict::NotGranted };
    let dsts = addresses.iter().map(|ip| meant_from(outer, *ip, port));
    if let Some(dst) = dsts.into_iter().find(|dst| set.steered_at(*dst).is_some()) {
        return ForwardVerdict::Inspect(dst);
    }
    let name = name_of(forward.destination);
    let Some(target) = name.and_then(|name| set.steered_by_name(&name, port).cloned()) else {
        return ForwardVerdict::AllowedUnlessSsh;
    };
    let single = target
        .addresses
        .iter()
        .map(|address| address.net)
        .find(|net| net.prefix_len() == net.max_prefix_len());
    match single {
        Some(net) => ForwardVerdict::Inspect(OriginalDst::new((net.addr(), port).into())),
        None => ForwardVerdict::ToTarget(target),
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
    let to_target = addresses.iter().find_map(|ip| set.steered_at(meant_from(outer, *ip, port)).cloned());
    match to_target {
        Some(target) => ForwardVerdict::ToTarget(target),
        None if addresses.is_empty() => ForwardVerdict::NotGranted,
        None => ForwardVerdict::Allowed,
    }
}

/// What an address means on `outer`, where its own addresses mean itself.
fn meant_from(outer: OriginalDst, ip: IpAddr, port: u16) -> OriginalDst {
    let ip = ip.to_canonical();
    let ip = if ip.is_loopback() || ip.is_unspecified() { outer.ip() } else { ip };
    OriginalDst::new((ip, port).into())
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
    use super::super::forwarding::ToTargets;
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

    fn anything(to_targets: ToTargets) -> Forwards {
        let mut forwards = Forwards::default();
        forwards.add(None, to_targets);
        forwards
    }

    fn verdict(kind: ForwardKind, destination: &str, port: u32) -> String {
        let outer = OriginalDst::new("10.0.0.1:22".parse().unwrap());
        let forward = Forward { kind, destination: destination.as_bytes(), port };
        let verdict = forward_verdict(&two_targets(), &anything(ToTargets::Refuse), outer, forward);
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
    fn where_policy_says_so_what_leads_to_a_target_is_inspected_there() {
        let (set, outer) = (two_targets(), OriginalDst::new("10.0.0.1:22".parse().unwrap()));
        let at = |text: &str| ForwardVerdict::Inspect(OriginalDst::new(text.parse().unwrap()));
        let (forwards, maybe) = (anything(ToTargets::Inspect), ForwardVerdict::InspectIfTarget);
        for (destination, port, expected) in [
            ("10.1.7.7", 2222, ForwardVerdict::Allowed),
            ("10.1.7.7", 22, at("10.1.7.7:22")),
            ("::ffff:10.0.0.1", 2222, at("10.0.0.1:2222")),
            ("localhost", 22, at("10.0.0.1:22")),
            ("10.2.0.1", 22, ForwardVerdict::Allowed),
            ("db", 22, maybe.clone()),
            ("elsewhere", 2222, maybe),
            ("elsewhere", 5432, ForwardVerdict::AllowedUnlessSsh),
        ] {
            let forward = Forward { kind: ForwardKind::Local, destination: destination.as_bytes(), port };
            assert_eq!(forward_verdict(&set, &forwards, outer, forward), expected, "{destination} {port}");
        }
        let socket = Forward { kind: ForwardKind::LocalSocket, destination: b"/run/s", port: 0 };
        assert_eq!(forward_verdict(&set, &forwards, outer, socket), ForwardVerdict::AllowedUnlessSsh);
    }

    #[test]
    fn a_name_is_inspected_at_the_first_address_that_is_a_targets() {
        let (set, outer) = (two_targets(), OriginalDst::new("10.1.0.9:22".parse().unwrap()));
        let verdict = |name: &str, addresses: &[&str]| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            let forward = Forward { kind: ForwardKind::Local, destination: name.as_bytes(), port: 22 };
            name_verdict(&set, outer, forward, &addresses)
        };
        let at = |text: &str| ForwardVerdict::Inspect(OriginalDst::new(text.parse().unwrap()));
        assert_eq!(verdict("x", &["192.0.2.1", "10.1.0.1"]), at("10.1.0.1:22"));
        assert_eq!(verdict("x", &["127.0.0.1"]), at("10.1.0.9:22"));
        assert_eq!(verdict("x", &["192.0.2.1"]), ForwardVerdict::AllowedUnlessSsh);
        assert_eq!(verdict("x", &[]), ForwardVerdict::AllowedUnlessSsh);
        assert_eq!(verdict("DB.", &[]), at("10.0.0.1:22"), "a target that has one address");
        assert!(matches!(verdict("net", &[]), ForwardVerdict::ToTarget(_)), "a target that has many");
    }

    #[test]
    fn what_policy_does_not_allow_is_not_asked_further() {
        let outer = OriginalDst::new("10.0.0.1:22".parse().unwrap());
        let forward = Forward { kind: ForwardKind::Local, destination: b"10.0.0.1", port: 22 };
        let verdict = forward_verdict(&two_targets(), &Forwards::default(), outer, forward);
        assert_eq!(verdict, ForwardVerdict::NotGranted);
    }
}
