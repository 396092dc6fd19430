//! Properties: no text panics, and what is written is what is evaluated.
//!
//! The second one has an evaluator of its own, over a model of the language that knows neither
//! tokens nor precedence nor sets; the model is printed with no more brackets than it needs.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[derive(Clone, Debug)]
enum Model {
    Or(Vec<Model>),
    And(Vec<Model>),
    Not(Box<Model>),
    PortIs { negated: bool, port: u16, quoted: bool },
    PortOrder(&'static str, u16),
    PortIn(Vec<(u16, u16)>),
    AddressIs { negated: bool, address: IpAddr },
    AddressInRange(IpAddr, IpAddr),
    EmailIs { negated: bool, email: &'static str },
    EmailEndsWith(&'static str),
    AnyGroupIs { negated: bool, group: &'static str },
    AnyCheckIn(Vec<&'static str>),
}

#[derive(Clone, Debug)]
struct World {
    client: (IpAddr, u16),
    port: u16,
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

impl Model {
    fn print(&self) -> String {
        match self {
            Self::Or(parts) => parts.iter().map(|part| part.print_inside(1)).collect::<Vec<_>>().join(" or "),
            Self::And(parts) => {
                parts.iter().map(|part| part.print_inside(2)).collect::<Vec<_>>().join(" and ")
            }
            Self::Not(part) => format!("not {}", part.print_inside(3)),
            Self::PortIs { negated, port, quoted: false } => {
                format!("net.dst.port {} {port}", equal_or_not(*negated))
            }
            Self::PortIs { negated, port, quoted: true } => {
                format!("net.dst.port {} \"{port}\"", equal_or_not(*negated))
            }
            Self::PortOrder(operator, port) => format!("net.dst.port {operator} {port}"),
            Self::PortIn(ranges) => {
                let items = ranges.iter().map(|(first, last)| {
                    if first == last { first.to_string() } else { format!("{first}..{last}") }
                });
                format!("net.dst.port in {{{}}}", items.collect::<Vec<_>>().join(" "))
            }
            Self::AddressIs { negated, address } => {
                format!("net.src.ip {} {address}", equal_or_not(*negated))
            }
            Self::AddressInRange(first, last) => format!("net.src.ip in {{{first}..{last}}}"),
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
            Self::PortIs { negated, port, .. } => (world.port == *port) != *negated,
            Self::PortOrder("<", port) => world.port < *port,
            Self::PortOrder("<=", port) => world.port <= *port,
            Self::PortOrder(">", port) => world.port > *port,
            Self::PortOrder(_, port) => world.port >= *port,
            Self::PortIn(ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&world.port)),
            Self::AddressIs { negated, address } => (world.client.0 == *address) != *negated,
            Self::AddressInRange(first, last) => (*first..=*last).contains(&world.client.0),
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

fn atom() -> impl Strategy<Value = Model> {
    let ends = |(a, b)| if a <= b { (a, b) } else { (b, a) };
    prop_oneof![
        (any::<bool>(), port(), any::<bool>()).prop_map(|(negated, port, quoted)| Model::PortIs {
            negated,
            port,
            quoted
        }),
        (select(vec!["<", "<=", ">", ">="]), port()).prop_map(|(op, port)| Model::PortOrder(op, port)),
        prop::collection::vec((port(), port()).prop_map(ends), 1..5).prop_map(Model::PortIn),
        (any::<bool>(), address()).prop_map(|(negated, address)| Model::AddressIs { negated, address }),
        (address(), address()).prop_filter_map("one family, in order", |(first, last)| {
            (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Model::AddressInRange(first, last))
        }),
        (any::<bool>(), select(&EMAILS[..])).prop_map(|(negated, email)| Model::EmailIs { negated, email }),
        select(&SUFFIXES[..]).prop_map(Model::EmailEndsWith),
        (any::<bool>(), select(&NAMES[..])).prop_map(|(negated, group)| Model::AnyGroupIs { negated, group }),
        prop::collection::vec(select(&NAMES[..]), 1..3).prop_map(Model::AnyCheckIn),
    ]
}

fn model() -> impl Strategy<Value = Model> {
    atom().prop_recursive(5, 32, 4, |inner| {
        let chain = || prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            chain().prop_map(Model::Or),
            chain().prop_map(Model::And),
            inner.clone().prop_map(|part| Model::Not(Box::new(part))),
        ]
    })
}

fn world() -> impl Strategy<Value = World> {
    let names = || prop::collection::vec(select(&NAMES[..]), 0..3);
    (address(), any::<u16>(), port(), prop::option::of(select(&EMAILS[..])), names(), names()).prop_map(
        |(address, client_port, port, email, groups, checks)| World {
            client: (address, client_port),
            port,
            email,
            groups,
            checks,
        },
    )
}

fn evaluate(expression: &Expression, world: &World) -> bool {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let identity = world.email.map(|email| Identity {
        groups: owned(&world.groups),
        device_posture: owned(&world.checks),
        ..Identity::from_email(Email::new(email).unwrap())
    });
    let facts = FlowFacts {
        flow: FlowTuple {
            client: ClientAddr::new(world.client.into()),
            original_dst: OriginalDst::new((IpAddr::from([192, 0, 2, 1]), world.port).into()),
        },
        identity: identity.as_ref(),
        ..unknown()
    };
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
