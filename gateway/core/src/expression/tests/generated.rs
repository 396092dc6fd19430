//! Properties: no text panics, and what is written is what is evaluated.
//!
//! The second one has an evaluator of its own, over a model of the language that knows neither
//! tokens nor precedence nor sets; the model is printed with no more brackets than it needs.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// An expression that is known without having been parsed.
#[derive(Clone, Debug)]
pub(crate) enum Model {
    Or(Vec<Model>),
    And(Vec<Model>),
    Not(Box<Model>),
    PortIs { side: Side, negated: bool, port: u16, quoted: bool },
    PortOrder(Side, &'static str, u16),
    PortIn(Side, Vec<(u16, u16)>),
    AddressIs { side: Side, negated: bool, address: IpAddr },
    AddressInRange(Side, IpAddr, IpAddr),
    ProtocolIs { negated: bool, protocol: &'static str },
    ProtocolMatches(&'static str),
    EmailIs { negated: bool, email: &'static str },
    EmailEndsWith(&'static str),
    AnyGroupIs { negated: bool, group: &'static str },
    AnyCheckIn(Vec<&'static str>),
}

/// Whose address or port.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// What expressions are asked about.
#[derive(Clone, Debug)]
pub(crate) struct World {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    email: Option<&'static str>,
    groups: Vec<&'static str>,
    checks: Vec<&'static str>,
}

const EMAILS: [&str; 4] = ["alice@example.com", "bob@example.com", "alice@exampleXcom", "BOB@EXAMPLE.ORG"];
const SUFFIXES: [&str; 3] = ["@example.com", ".org", "xcom"];
const NAMES: [&str; 4] = ["ops", "a \"b\"", "back\\slash", "ä.*"];

const PIECES: [&str; 38] = [
    "net.dst.port",
    "net.src.ip",
    "identity.email",
    "identity.groups[*].name",
    "any",
    "(",
    ")",
    "{",
    "}",
    "[*]",
    "..",
    "==",
    "!=",
    "<",
    ">=",
    "in",
    "matches",
    "and",
    "or",
    "not",
    "22",
    "65536",
    "10.0.0.1",
    "10.0.0.0/8",
    "::1",
    "\"22\"",
    "\"a@b\"",
    "\"(\"",
    "\"\\\\.\"",
    "\"",
    "\\",
    "$office",
    "$",
    ",",
    "\n",
    "ä",
    "\"x\\n/\"",
    "net.src.ip ==",
];

fn equal_or_not(negated: bool) -> &'static str {
    if negated { "!=" } else { "==" }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Side {
    fn key(self) -> &'static str {
        match self {
            Self::Source => "src",
            Self::Destination => "dst",
        }
    }
}

impl World {
    fn side(&self, side: Side) -> (IpAddr, u16) {
        match side {
            Side::Source => self.source,
            Side::Destination => self.destination,
        }
    }

    pub(crate) fn flow(&self) -> FlowTuple {
        FlowTuple {
            client: ClientAddr::new(self.source.into()),
            original_dst: OriginalDst::new(self.destination.into()),
        }
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        self.email.map(|email| Identity {
            groups: owned(&self.groups),
            device_posture: owned(&self.checks),
            ..Identity::from_email(Email::new(email).unwrap())
        })
    }
}

impl Model {
    pub(crate) fn print(&self) -> String {
        match self {
            Self::Or(parts) => parts.iter().map(|part| part.print_inside(1)).collect::<Vec<_>>().join(" or "),
            Self::And(parts) => {
                parts.iter().map(|part| part.print_inside(2)).collect::<Vec<_>>().join(" and ")
            }
            Self::Not(part) => format!("not {}", part.print_inside(3)),
            Self::PortIs { side, negated, port, quoted: false } => {
                format!("net.{}.port {} {port}", side.key(), equal_or_not(*negated))
            }
            Self::PortIs { side, negated, port, quoted: true } => {
                format!("net.{}.port {} \"{port}\"", side.key(), equal_or_not(*negated))
            }
            Self::PortOrder(side, operator, port) => format!("net.{}.port {operator} {port}", side.key()),
            Self::PortIn(side, ranges) => {
                let items = ranges.iter().map(|(first, last)| {
                    if first == last { first.to_string() } else { format!("{first}..{last}") }
                });
                format!("net.{}.port in {{{}}}", side.key(), items.collect::<Vec<_>>().join(" "))
            }
            Self::AddressIs { side, negated, address } => {
                format!("net.{}.ip {} {address}", side.key(), equal_or_not(*negated))
            }
            Self::AddressInRange(side, first, last) => {
                format!("net.{}.ip in {{{first}..{last}}}", side.key())
            }
            Self::ProtocolIs { negated, protocol } => {
                format!("net.protocol {} {}", equal_or_not(*negated), quoted(protocol))
            }
            Self::ProtocolMatches(pattern) => format!("net.protocol matches {}", quoted(pattern)),
            Self::EmailIs { negated, email } => {
                format!("identity.email {} {}", equal_or_not(*negated), quoted(email))
            }
            Self::EmailEndsWith(suffix) => {
                format!("identity.email matches {}", quoted(&format!("{}$", suffix.replace('.', "\\."))))
            }
            Self::AnyGroupIs { negated, group } => {
                format!("any(identity.groups[*].name {} {})", equal_or_not(*negated), quoted(group))
            }
            Self::AnyCheckIn(checks) => {
                let checks: Vec<_> = checks.iter().map(|check| quoted(check)).collect();
                format!("any(device_posture.checks.passed[*] in {{{}}})", checks.join(" "))
            }
        }
    }

    /// Brackets only where the surroundings bind as tight (a chain in a chain) or tighter.
    fn print_inside(&self, surroundings: u8) -> String {
        let own = if matches!(self, Self::Or(_)) {
            1
        } else if matches!(self, Self::And(_)) {
            2
        } else {
            4
        };
        if own <= surroundings { format!("({})", self.print()) } else { self.print() }
    }

    fn holds(&self, world: &World) -> bool {
        match self {
            Self::Or(parts) => parts.iter().any(|part| part.holds(world)),
            Self::And(parts) => parts.iter().all(|part| part.holds(world)),
            Self::Not(part) => !part.holds(world),
            Self::PortIs { side, negated, port, .. } => (world.side(*side).1 == *port) != *negated,
            Self::PortOrder(side, "<", port) => world.side(*side).1 < *port,
            Self::PortOrder(side, "<=", port) => world.side(*side).1 <= *port,
            Self::PortOrder(side, ">", port) => world.side(*side).1 > *port,
            Self::PortOrder(side, _, port) => world.side(*side).1 >= *port,
            Self::PortIn(side, ranges) => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&world.side(*side).1))
            }
            Self::AddressIs { side, negated, address } => (world.side(*side).0 == *address) != *negated,
            Self::AddressInRange(side, first, last) => (*first..=*last).contains(&world.side(*side).0),
            Self::ProtocolIs { negated, protocol } => (*protocol == "tcp") != *negated,
            Self::ProtocolMatches(pattern) => *pattern == "^t",
            Self::EmailIs { negated, email } => {
                world.email.is_some_and(|own| own.eq_ignore_ascii_case(email) != *negated)
            }
            Self::EmailEndsWith(suffix) => {
                world.email.is_some_and(|own| own.to_lowercase().ends_with(&suffix.to_lowercase()))
            }
            Self::AnyGroupIs { negated, group } => {
                world.email.is_some() && world.groups.iter().any(|own| (own == group) != *negated)
            }
            Self::AnyCheckIn(checks) => {
                world.email.is_some() && world.checks.iter().any(|own| checks.contains(own))
            }
        }
    }
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![select(vec![0, 1, 21, 22, 23, 8080, 65534, 65535]), any::<u16>()]
}

fn address() -> impl Strategy<Value = IpAddr> {
    let near = (0..4_u8).prop_map(|last| IpAddr::from([10, 0, 0, last]));
    let near6 = (0..4_u16).prop_map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]));
    prop_oneof![near, near6]
}

fn side() -> impl Strategy<Value = Side> {
    select(vec![Side::Source, Side::Destination])
}

/// What asks for addresses, ports and protocol only.
fn flow_atom() -> impl Strategy<Value = Model> {
    let ends = |(a, b)| if a <= b { (a, b) } else { (b, a) };
    prop_oneof![
        3 => (side(), any::<bool>(), port(), any::<bool>())
            .prop_map(|(side, negated, port, quoted)| Model::PortIs { side, negated, port, quoted }),
        3 => (side(), select(vec!["<", "<=", ">", ">="]), port())
            .prop_map(|(side, op, port)| Model::PortOrder(side, op, port)),
        3 => (side(), prop::collection::vec((port(), port()).prop_map(ends), 1..5))
            .prop_map(|(side, ranges)| Model::PortIn(side, ranges)),
        3 => (side(), any::<bool>(), address())
            .prop_map(|(side, negated, address)| Model::AddressIs { side, negated, address }),
        3 => (side(), address(), address()).prop_filter_map("one family, in order", |(side, first, last)| {
            (first.is_ipv4() == last.is_ipv4() && first <= last)
                .then_some(Model::AddressInRange(side, first, last))
        }),
        1 => (any::<bool>(), select(vec!["tcp", "udp"]))
            .prop_map(|(negated, protocol)| Model::ProtocolIs { negated, protocol }),
        1 => select(vec!["^t", "^c"]).prop_map(Model::ProtocolMatches),
    ]
}

/// What asks for users.
fn identity_atom() -> impl Strategy<Value = Model> {
    prop_oneof![
        (any::<bool>(), select(&EMAILS[..])).prop_map(|(negated, email)| Model::EmailIs { negated, email }),
        select(&SUFFIXES[..]).prop_map(Model::EmailEndsWith),
        (any::<bool>(), select(&NAMES[..])).prop_map(|(negated, group)| Model::AnyGroupIs { negated, group }),
        prop::collection::vec(select(&NAMES[..]), 1..3).prop_map(Model::AnyCheckIn),
    ]
}

fn of_atoms(atom: impl Strategy<Value = Model> + 'static) -> impl Strategy<Value = Model> {
    atom.prop_recursive(5, 32, 4, |inner| {
        let chain = || prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            chain().prop_map(Model::Or),
            chain().prop_map(Model::And),
            inner.clone().prop_map(|part| Model::Not(Box::new(part))),
        ]
    })
}

/// Expressions of all kinds.
pub(crate) fn model() -> impl Strategy<Value = Model> {
    of_atoms(prop_oneof![5 => flow_atom(), 4 => identity_atom()])
}

/// Expressions that ask for addresses, ports and protocol only.
pub(crate) fn flow_model() -> impl Strategy<Value = Model> {
    of_atoms(flow_atom())
}

/// Worlds in which what expressions name is found often.
pub(crate) fn world() -> impl Strategy<Value = World> {
    let names = || prop::collection::vec(select(&NAMES[..]), 0..3);
    let addresses = (address(), address())
        .prop_filter("one family", |(source, destination)| source.is_ipv4() == destination.is_ipv4());
    (addresses, port(), port(), prop::option::of(select(&EMAILS[..])), names(), names()).prop_map(
        |((source, destination), source_port, port, email, groups, checks)| World {
            source: (source, source_port),
            destination: (destination, port),
            email,
            groups,
            checks,
        },
    )
}

fn evaluate(expression: &Expression, world: &World) -> bool {
    let identity = world.identity();
    let facts = FlowFacts { flow: world.flow(), identity: identity.as_ref(), ..unknown() };
    expression.evaluate(&facts).unwrap()
}

/// Texts made of the language's own pieces, which reach deeper than arbitrary characters do.
fn pieces() -> impl Strategy<Value = String> {
    let separator = select(vec![" ", "", "\t"]);
    prop::collection::vec((select(&PIECES[..]).prop_map(str::to_owned), separator), 0..24)
        .prop_map(|parts| parts.into_iter().map(|(piece, separator)| piece + separator).collect())
}

fn check_any_text(text: &str) {
    match Expression::parse(text, &lists()) {
        Ok(expression) => {
            let identity = alice();
            for facts in [unknown(), known(&identity)] {
                expression.evaluate(&facts).unwrap();
            }
        }
        Err(error) => {
            let line = text.split('\n').nth(error.line - 1).expect("an error is on a line of the text");
            assert!(error.column <= line.chars().count() + 1, "{error}");
            assert!(!error.message.is_empty() && !error.message.contains('\n'), "{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_and_every_error_has_a_place(text in any::<String>()) {
        check_any_text(&text);
    }

    #[test]
    fn no_sequence_of_pieces_panics(text in pieces()) {
        check_any_text(&text);
    }

    #[test]
    fn a_printed_model_evaluates_like_the_model(model in model(), worlds in prop::collection::vec(world(), 8)) {
        let source = model.print();
        let expression = Expression::parse(&source, &Lists::default())
            .unwrap_or_else(|error| panic!("{source}: {error}"));
        for world in worlds {
            prop_assert_eq!(evaluate(&expression, &world), model.holds(&world), "{} for {:?}", source, world);
        }
    }
}
