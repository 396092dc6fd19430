//! Where forwards may lead.
//!
//! A policy has a list of rules, asked in order: the first that matches decides, and what none matches is
//! refused. A session may forward what any policy that grants its login allows.
//!
//! A name is resolved on the target, so nobody here knows its addresses: a rule with addresses may match it. Where a
//! rule may match, a `deny` does and an `allow` does not.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::port::PortSet;
use crate::prefix;

/// What kind of forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardKind {
    /// `-L`, `-D`, `-W`: from the user to where the target can reach.
    Local,
    /// `-R`: from a port of the target to the user.
    Remote,
    /// `-L` to a unix socket of the target.
    LocalSocket,
    /// `-R` from a unix socket of the target.
    RemoteSocket,
}

/// A forward that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// What kind.
    pub kind: ForwardKind,
    /// Where it leads: an address or name, or the path of a socket. Of a remote forward: where the target listens.
    pub destination: &'a [u8],
    /// The TCP port as it was asked for, 0 of a socket. Of a remote forward 0 lets the target choose.
    pub port: u32,
}

/// One rule about forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardRule {
    /// Whether what matches is allowed.
    pub allow: bool,
    /// The kind that it is about; absent: all.
    pub kind: Option<ForwardKind>,
    /// The destinations that it is about; absent: all.
    pub destination: Option<Destination>,
    /// The TCP ports that it is about; absent: all, and sockets.
    pub ports: Option<PortSet>,
}

/// Destinations that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Addresses.
    Net(IpNet),
    /// A name, in lower case.
    Name(String),
    /// Names that end so, in lower case, with the dot in front.
    Below(String),
    /// The path of a socket.
    Path(String),
    /// Paths of sockets that begin so.
    PathsBelow(String),
}

/// What becomes of a forward that a policy allows and that leads to a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToTargets {
    /// It is refused.
    #[default]
    Refuse,
    /// It is a connection to that target like any other: decided about, terminated and recorded.
    Inspect,
}

/// What the policies that grant a session say about forwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwards(Vec<Granted>);

/// What one policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Granted {
    /// Absent: all are allowed.
    rules: Option<Arc<[ForwardRule]>>,
    to_targets: ToTargets,
}

/// A destination that no rule can be about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no destination: write an address or prefix, a name, *.NAME, the path of a socket, or a path that ends in *"
)]
pub struct NoDestination(String);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    Maybe,
    No,
}

impl Forwards {
    /// Adds the rules of a policy that grants the session; `None` where it says nothing, which allows all.
    pub(super) fn add(&mut self, rules: Option<Arc<[ForwardRule]>>, to_targets: ToTargets) {
        self.0.push(Granted { rules, to_targets });
    }

    /// Whether policy allows a forward. None allows what is no TCP port: whoever opens it may keep the lower 16 bits
    /// alone, which make another port than the rules were asked about.
    pub fn allow(&self, forward: Forward<'_>) -> bool {
        self.0.iter().any(|policy| policy.allows(forward))
    }

    /// Whether a policy that allows a forward has it inspected if it leads to a target.
    pub fn inspect(&self, forward: Forward<'_>) -> bool {
        self.0.iter().any(|policy| policy.to_targets == ToTargets::Inspect && policy.allows(forward))
    }

    /// Whether some policy says nothing, so that forwards of kinds that are not known are allowed too.
    pub fn allow_all(&self) -> bool {
        self.0.iter().any(|policy| policy.rules.is_none())
    }
}

impl Granted {
    fn allows(&self, forward: Forward<'_>) -> bool {
        let allows = |rules: &[ForwardRule]| {
            let deciding = rules.iter().find(|rule| match rule.matches(forward) {
                Match::Yes => true,
                Match::Maybe => !rule.allow,
                Match::No => false,
            });
            deciding.is_some_and(|rule| rule.allow)
        };
        forward.tcp_port().is_some() && self.rules.as_deref().is_none_or(allows)
    }
}

impl Forward<'_> {
    /// The port, if there is such a TCP port.
    pub fn tcp_port(&self) -> Option<u16> {
        u16::try_from(self.port).ok()
    }
}

impl ForwardRule {
    fn matches(&self, forward: Forward<'_>) -> Match {
        if self.kind.is_some_and(|kind| kind != forward.kind) {
            return Match::No;
        }
        let port = match &self.ports {
            None => Match::Yes,
            Some(_) if forward.kind.is_socket() => Match::No,
            // The target chooses one.
            Some(_) if forward.port == 0 => Match::Maybe,
            Some(ports) => Match::from(forward.tcp_port().is_some_and(|port| ports.contains(port))),
        };
        let destination = self.destination.as_ref().map_or(Match::Yes, |rule| rule.matches(forward));
        match (port, destination) {
            (Match::No, _) | (_, Match::No) => Match::No,
            (Match::Yes, Match::Yes) => Match::Yes,
            _ => Match::Maybe,
        }
    }
}

impl Destination {
    /// Reads what an operator wrote.
    ///
    /// # Errors
    /// [`NoDestination`].
    pub fn parse(text: &str) -> Result<Self, NoDestination> {
        let wrong = || NoDestination(text.to_owned());
        if text.starts_with('/') {
            return Ok(match text.strip_suffix('*') {
                Some(start) => Self::PathsBelow(start.to_owned()),
                None => Self::Path(text.to_owned()),
            });
        }
        if let Ok(net) = prefix::parse(text) {
            return Ok(Self::Net(net));
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || !name.chars().all(is_name) || !name.contains(|c: char| c.is_ascii_alphabetic())
        {
            return Err(wrong());
        }
        let name = name.to_ascii_lowercase();
        Ok(if text.starts_with("*.") { Self::Below(format!(".{name}")) } else { Self::Name(name) })
    }

    fn matches(&self, forward: Forward<'_>) -> Match {
        let asked = str::from_utf8(forward.destination);
        if forward.kind.is_socket() {
            return Match::from(asked.is_ok_and(|path| match self {
                Self::Path(rule) => rule == path,
                // A path with `..` may lead anywhere.
                Self::PathsBelow(start) => {
                    path.starts_with(start.as_str()) && !path.split('/').any(|part| part == "..")
                }
                Self::Net(_) | Self::Name(_) | Self::Below(_) => false,
            }));
        }
        let address = asked.ok().and_then(address);
        let name = asked.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        match (self, address) {
            (Self::Net(net), Some(address)) => Match::from(net.contains(&address)),
            (Self::Net(_), None) => Match::Maybe,
            (Self::Name(rule), None) => Match::from(name.is_ok_and(|name| &name == rule)),
            (Self::Below(rule), None) => Match::from(name.is_ok_and(|name| name.ends_with(rule.as_str()))),
            // A name of this address may be meant.
            (Self::Name(_) | Self::Below(_), Some(_)) => Match::No,
            (Self::Path(_) | Self::PathsBelow(_), _) => Match::No,
        }
    }
}

/// The address that a text is, written in the usual way; an IPv4 address in an IPv6 one is taken out.
pub fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|address: IpAddr| address.to_canonical())
}

impl ForwardKind {
    const fn is_socket(self) -> bool {
        matches!(self, Self::LocalSocket | Self::RemoteSocket)
    }
}

impl From<bool> for Match {
    fn from(matches: bool) -> Self {
        if matches { Self::Yes } else { Self::No }
    }
}

impl fmt::Display for ForwardKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::LocalSocket => "local-socket",
            Self::RemoteSocket => "remote-socket",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::PortRange;

    fn rule(allow: bool, kind: Option<ForwardKind>, destination: &str, port: Option<u16>) -> ForwardRule {
        let destination = (!destination.is_empty()).then(|| Destination::parse(destination).unwrap());
        let ports = port.map(|port| PortSet::from_iter(PortRange::new(port, port)));
        ForwardRule { allow, kind, destination, ports }
    }

    fn of(rules: Vec<ForwardRule>) -> Forwards {
        let mut forwards = Forwards::default();
        forwards.add(Some(rules.into()), ToTargets::Refuse);
        forwards
    }

    fn local(destination: &str, port: u32) -> Forward<'_> {
        Forward { kind: ForwardKind::Local, destination: destination.as_bytes(), port }
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_no_rule_refuses() {
        let forwards = of(vec![
            rule(false, None, "10.0.9.0/24", None),
            rule(true, Some(ForwardKind::Local), "10.0.0.0/8", Some(443)),
            rule(true, None, "*.internal", None),
        ]);
        for (destination, port, allowed) in [
            ("10.0.1.1", 443, true),
            ("10.0.1.1", 80, false),
            ("10.0.9.1", 443, false),
            ("::ffff:10.0.9.1", 443, false),
            ("::ffff:10.0.1.1", 443, true),
            ("192.0.2.1", 443, false),
        ] {
            assert_eq!(forwards.allow(local(destination, port)), allowed, "{destination} {port}");
        }
        let remote = Forward { kind: ForwardKind::Remote, ..local("10.0.1.1", 443) };
        assert!(!forwards.allow(remote));
    }

    #[test]
    fn a_name_may_be_any_address_for_deny_and_is_none_for_allow() {
        let denying = of(vec![rule(false, None, "10.0.0.0/8", None), rule(true, None, "", None)]);
        assert!(!denying.allow(local("db1.internal", 5432)), "it may be in 10.0.0.0/8");
        assert!(denying.allow(local("192.0.2.1", 5432)));
        let allowing = of(vec![rule(true, None, "10.0.0.0/8", None)]);
        assert!(!allowing.allow(local("db1.internal", 5432)));
        let named = of(vec![rule(true, None, "*.Internal", None), rule(true, None, "build", None)]);
        for (name, allowed) in [
            ("DB1.internal.", true),
            ("internal", false),
            ("xinternal", false),
            ("Build", true),
            ("10.0.0.1", false),
        ] {
            assert_eq!(named.allow(local(name, 22)), allowed, "{name}");
        }
    }

    #[test]
    fn a_port_that_the_target_chooses_matches_no_allow_with_ports_and_every_deny() {
        let any = Forward { kind: ForwardKind::Remote, destination: b"localhost", port: 0 };
        assert!(!of(vec![rule(true, None, "", Some(8080))]).allow(any));
        assert!(!of(vec![rule(false, None, "", Some(8080)), rule(true, None, "", None)]).allow(any));
        assert!(of(vec![rule(true, Some(ForwardKind::Remote), "", None)]).allow(any));
    }

    #[test]
    fn what_is_no_tcp_port_is_never_allowed() {
        let forwards = of(vec![rule(true, None, "", None)]);
        assert!(forwards.allow(local("10.0.0.1", 65_535)));
        let of_the_same_lower_bits = local("10.0.0.1", 65_536 + 22);
        assert!(!forwards.allow(of_the_same_lower_bits));
        let remote = Forward { kind: ForwardKind::Remote, ..of_the_same_lower_bits };
        assert!(!forwards.allow(remote));
        let mut says_nothing = Forwards::default();
        says_nothing.add(None, ToTargets::Refuse);
        assert!(!says_nothing.allow(of_the_same_lower_bits));
    }

    #[test]
    fn sockets_match_by_path_and_never_by_port() {
        let socket = |path| Forward { kind: ForwardKind::LocalSocket, destination: path, port: 0 };
        let forwards = of(vec![rule(true, None, "/run/app/*", None), rule(true, None, "", Some(80))]);
        assert!(forwards.allow(socket(b"/run/app/s")));
        assert!(!forwards.allow(socket(b"/run/app/../docker.sock")));
        assert!(!forwards.allow(socket(b"/run/docker.sock")));
        assert!(!forwards.allow(socket(b"/run/app/\xff")));
    }

    #[test]
    fn policies_add_up_and_one_that_says_nothing_allows_all() {
        let mut forwards = of(vec![rule(true, None, "10.0.0.1", None)]);
        assert!(!forwards.allow(local("10.0.0.2", 1)) && !forwards.allow_all());
        forwards.add(Some(vec![rule(true, None, "10.0.0.2", None)].into()), ToTargets::Refuse);
        assert!(forwards.allow(local("10.0.0.2", 1)));
        forwards.add(None, ToTargets::Refuse);
        assert!(forwards.allow(local("x", 1)) && forwards.allow_all());
        assert!(!Forwards::default().allow(local("x", 1)), "no policy at all");
    }

    #[test]
    fn a_policy_has_those_forwards_inspected_that_it_allows_itself() {
        let mut forwards = of(vec![rule(true, None, "10.0.0.1", None)]);
        assert!(!forwards.inspect(local("10.0.0.1", 22)), "refusing is the default");
        let rules = vec![rule(true, None, "10.0.0.2", None)];
        forwards.add(Some(rules.into()), ToTargets::Inspect);
        assert!(forwards.allow(local("10.0.0.1", 22)) && !forwards.inspect(local("10.0.0.1", 22)));
        assert!(forwards.inspect(local("10.0.0.2", 22)));
        assert!(!forwards.inspect(local("10.0.0.3", 22)), "nobody allows it");
        assert!(!forwards.inspect(local("10.0.0.2", 65_536 + 22)));
    }

    #[test]
    fn destinations_that_mean_nothing_are_refused() {
        for text in ["", "*", "*.", "a b", "10.0.0.0/33", "10.0.0.300", "a*b"] {
            assert!(Destination::parse(text).is_err(), "{text}");
        }
    }
}
