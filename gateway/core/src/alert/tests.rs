//! Rules of every kind, and that counts are told once whatever the pieces.

use proptest::prelude::*;
use regex::bytes::Regex;

use super::*;
use crate::expression::Lists;
use crate::infrastructure::fixture::{flow, identity};
use crate::record::{Change, ChannelKind, Confidence, FileChange, FileOutcome, PromptKind, Source};
use crate::utc::UtcTime;

const CHANNEL: ChannelNumber = ChannelNumber(4);

fn rule(name: &str, subject: Subject) -> AlertRule {
    let severity = Severity::High;
    AlertRule { name: name.into(), severity, subject, traffic: None, identity: None, end_session: None }
}

fn about(who: &str, rule: AlertRule) -> AlertRule {
    AlertRule { identity: Some(Expression::parse(who, &Lists::default()).unwrap()), ..rule }
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

fn with_facts<T>(ask: impl FnOnce(&FlowFacts<'_>) -> T) -> T {
    let alice = identity("alice@example.com");
    ask(&FlowFacts {
        flow: flow("10.0.0.1:22"),
        source_country: None,
        vnet_id: None,
        identity: Some(&alice),
        target: Some("db"),
    })
}

fn names(met: Vec<MetRule<'_>>) -> Vec<String> {
    met.into_iter().map(|met| met.rule.name.to_string()).collect()
}

fn met(rules: &AlertRules, event: &RecordEvent) -> Vec<String> {
    with_facts(|facts| names(rules.of_event(event, facts)))
}

fn exec(command: &str) -> RecordEvent {
    RecordEvent::Exec { channel: CHANNEL, command: command.into() }
}

fn typed(command: &str) -> RecordEvent {
    RecordEvent::Command {
        channel: CHANNEL,
        command: command.into(),
        directory: None,
        confidence: Confidence::High,
        prompt: PromptKind::Shell,
    }
}

/// The rules of the documentation's example.
fn commands() -> AlertRules {
    AlertRules::new(vec![
        rule("wipe", Subject::Command(pattern(r"\brm\s+(-\S+\s+)*-\w*[rR]\w*\s+(-\S+\s+)*/(\s|$|\*)"))),
        rule("pipe", Subject::Command(pattern(r"(?s)\b(curl|wget)\b.*\|\s*(sudo\s+)?(ba|da|z|k)?sh\b"))),
    ])
}

#[test]
fn commands_are_matched_however_they_came() {
    let none: [&str; 0] = [];
    for (command, expected) in [
        ("rm -rf /", &["wipe"][..]),
        ("sudo rm -f -R --no-preserve-root /", &["wipe"]),
        ("cd /; rm -r /*", &["wipe"]),
        ("rm -rf /srv", &none),
        ("curl -s https://x |\n sh", &["pipe"]),
        ("wget -O- x | sudo bash -s", &["pipe"]),
        ("curl x | shasum", &none),
    ] {
        assert_eq!(met(&commands(), &exec(command)), expected, "{command}");
        assert_eq!(met(&commands(), &typed(command)), expected, "{command}");
    }
}

#[test]
fn the_record_says_what_matched_and_the_notice_does_not() {
    let long = format!("rm {} -r / --", "-f ".repeat(200));
    let rules = commands();
    with_facts(|facts| {
        let met = rules.of_event(&exec(&long), facts).pop().unwrap();
        let RecordEvent::Alert { channel, alert } = met.event() else { panic!("no alert") };
        assert_eq!((channel, &*alert.rule, &*alert.met_by), (Some(CHANNEL), "wipe", "exec"));
        assert_eq!(alert.matched.unwrap().0, &long.as_bytes()[..MATCHED]);
        let facts = AlertFacts {
            session: "s".into(),
            email: "alice@example.com".into(),
            login: "root".into(),
            client: "192.0.2.1:40000".into(),
            target: "10.0.0.1:22".into(),
            hostname: "db".into(),
        };
        let time = UtcTime::from_unix_seconds(1_700_000_000);
        let notice = serde_json::to_value(Notice::new(&met, &facts, time, false)).unwrap();
        let expected = serde_json::json!({
            "type": "alert", "time": "2023-11-14T22:13:20.000000Z", "rule": "wipe", "severity": "high",
            "met_by": "exec", "channel": 4, "session": "s", "email": "alice@example.com", "login": "root",
            "client": "192.0.2.1:40000", "target": "10.0.0.1:22", "hostname": "db"
        });
        assert_eq!(notice, expected);
    });
}

#[test]
fn a_rule_is_about_whom_its_conditions_hold_for() {
    let any = |name| rule(name, Subject::Command(pattern(".")));
    let rules = AlertRules::new(vec![
        about("identity.email == \"alice@example.com\"", any("alice")),
        about("identity.email == \"bob@example.com\"", any("bob")),
    ]);
    assert_eq!(met(&rules, &exec("id")), ["alice"]);
}

#[test]
fn forwards_refusals_and_named_events_are_met() {
    let rules = AlertRules::new(vec![
        rule("database", Subject::Forward(pattern(r":5432$"))),
        rule("socket", Subject::Forward(pattern(r"docker\.sock"))),
        rule("listen", Subject::Forward(pattern(r"^0\.0\.0\.0:0$"))),
        rule("refused", Subject::Refused(pattern(""))),
        rule("agent", Subject::Event(["agent-forward".to_owned()].into())),
    ]);
    let open = |kind| RecordEvent::ChannelOpen { channel: CHANNEL, source: Source::Client, kind };
    let tcp = ChannelKind::DirectTcpip {
        destination: "10.0.0.9".into(),
        destination_port: 5432,
        originator: "127.0.0.1".into(),
        originator_port: 1,
    };
    assert_eq!(met(&rules, &open(tcp)), ["database"]);
    let unix = ChannelKind::DirectStreamlocal { path: "/run/docker.sock".into() };
    assert_eq!(met(&rules, &open(unix)), ["socket"]);
    let listen = RecordEvent::RemoteForward { listen: "0.0.0.0".into(), port: Some(0) };
    assert_eq!(met(&rules, &listen), ["listen"]);
    let refused = RecordEvent::Refused { channel: None, what: "terminal".into() };
    assert_eq!(met(&rules, &refused), ["refused"]);
    assert_eq!(met(&rules, &RecordEvent::AgentForward { channel: CHANNEL }), ["agent"]);
    assert_eq!(met(&rules, &open(ChannelKind::Session)), [""; 0]);
}

#[test]
fn files_are_matched_by_their_paths_when_asked_for_changed_or_grown() {
    let file = |name, size| rule(name, Subject::File { path: pattern("^/etc/shadow$"), size });
    let rules = AlertRules::new(vec![file("asked", 0), file("grown", 1000)]);
    let at = |path: &str, name: Option<&str>, told, bytes| {
        let name = name.map(Into::into);
        let progress = FileProgress { channel: CHANNEL, path: path.into(), name, told, bytes };
        with_facts(|facts| names(rules.of_file(&progress, facts)))
    };
    assert_eq!(at("/etc/shadow", None, None, 0), ["asked"]);
    assert_eq!(at("/etc", Some("shadow"), None, 1000), ["asked", "grown"]);
    assert_eq!(at("/etc/shadow", None, Some(0), 999), [""; 0]);
    assert_eq!(at("/etc/shadow", None, Some(999), 1001), ["grown"]);
    assert_eq!(at("/etc/shadow", None, Some(1000), 2000), [""; 0]);
    assert_eq!(at("/etc/shadow2", None, None, 5000), [""; 0]);
    let change = |path: &str, change| RecordEvent::FileChange {
        channel: CHANNEL,
        change: FileChange { path: path.into(), change, outcome: FileOutcome::Complete },
    };
    assert_eq!(met(&rules, &change("/etc/shadow", Change::Remove)), ["asked"]);
    assert_eq!(met(&rules, &change("/tmp/x", Change::Rename { to: "/etc/shadow".into() })), ["asked"]);
    assert_eq!(met(&rules, &change("/tmp/x", Change::Remove)), [""; 0]);
}

proptest! {
    #[test]
    fn a_volume_is_told_once_whatever_the_pieces(
        limit in 1u64..1000, pieces in proptest::collection::vec((any::<bool>(), 0u64..300), 0..40)
    ) {
        let rules = AlertRules::new(vec![
            rule("up", Subject::Upload(limit)), rule("down", Subject::Download(limit)),
        ]);
        let (mut volume, mut told) = (Volume::default(), Vec::new());
        for (upload, bytes) in pieces {
            let before = volume;
            if upload { volume.client += bytes } else { volume.target += bytes }
            let met = with_facts(|facts| names(rules.of_volume(before, volume, CHANNEL, facts)));
            prop_assert_eq!(rules.may_be_met(before, volume), !met.is_empty());
            told.extend(met);
        }
        let count = |name: &str| told.iter().filter(|told| *told == name).count();
        prop_assert_eq!(count("up"), usize::from(volume.client >= limit));
        prop_assert_eq!(count("down"), usize::from(volume.target >= limit));
    }

    #[test]
    fn what_matched_is_bounded_whatever_is_written(command in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let rules = AlertRules::new(vec![rule("any", Subject::Command(pattern("(?s-u).*")))]);
        let event = RecordEvent::Exec { channel: CHANNEL, command: Text(command.clone()) };
        with_facts(|facts| {
            let met = rules.of_event(&event, facts).pop().unwrap();
            let RecordEvent::Alert { alert, .. } = met.event() else { panic!("no alert") };
            assert_eq!(alert.matched.unwrap().0, &command[..command.len().min(MATCHED)]);
        });
    }
}
