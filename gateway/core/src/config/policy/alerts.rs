//! `alerts`: what in a session somebody is to be told of.

use std::collections::{BTreeSet, HashMap};

use regex::RegexBuilder as TextRegexBuilder;
use regex::bytes::{Regex, RegexBuilder};

use super::super::reader::Object;
use super::super::size;
use super::super::tree::Node;
use super::Known;
use super::network_rules::read_expression;
use crate::alert::{AlertRule, AlertRules, Subject};
use crate::record::{EVENT_NAMES, Severity};

const KEYS: &[&str] = &[
    "name",
    "severity",
    "command",
    "file",
    "size",
    "forward",
    "refused",
    "event",
    "upload",
    "download",
    "traffic",
    "identity",
    "end_session",
    "reason",
];

/// Most rules, each of which is asked about every event.
const MOST: usize = 256;

/// Most bytes that one compiled pattern may take.
const PATTERN_BYTES: usize = 1 << 20;

/// What a user reads whose session a rule ends, unless the rule has a text.
const REASON: &str = "ask its operator";

pub(super) fn read(nodes: &[Node<'_>], known: &Known<'_>) -> AlertRules {
    if let Some(node) = nodes.get(MOST) {
        known.problems.error(node, format_args!("there may be {MOST} alerts"));
    }
    let (mut names, mut rules) = (HashMap::new(), Vec::new());
    for node in nodes {
        let Some(rule) = Object::open(node, known.problems, KEYS) else { continue };
        let name = rule.need_name("name", "name = \"wipe\"");
        if let (Some(name), Some(at)) = (name, rule.find("name"))
            && let Some(line) = names.insert(name, at.line)
        {
            let message = format_args!("the alert of line {line} is named {name:?} too: rename one");
            known.problems.error(at, message);
        }
        rules.extend(read_rule(rule, name, known));
    }
    AlertRules::new(rules)
}

fn read_rule(rule: Object<'_>, name: Option<&str>, known: &Known<'_>) -> Option<AlertRule> {
    let severities = Severity::ALL.map(|severity| (severity.as_str(), severity));
    let severity = rule.need("severity", "severity = \"high\"");
    let severity = severity.and_then(|node| known.problems.word(node, &severities));
    let subject = read_subject(rule, known);
    let [traffic, identity] = ["traffic", "identity"].map(|key| read_expression(rule, key, known));
    let reason = rule.find("reason");
    let text = rule.name("reason").unwrap_or(REASON);
    let end_session = rule.flag("end_session", false).then(|| text.into());
    if let Some(node) = reason.filter(|_| end_session.is_none()) {
        known.problems.error(node, "this is for end_session = true: add that, or take this out");
    }
    Some(AlertRule {
        name: name?.into(),
        severity: severity?,
        subject: subject?,
        traffic: traffic.ok()?,
        identity: identity.ok()?,
        end_session,
    })
}

/// A key that says what a rule looks at, and how its value is read.
type Reading = (&'static str, fn(Object<'_>, &Node<'_>, &Known<'_>) -> Option<Subject>);

const SUBJECTS: &[Reading] = &[
    ("command", |_, node, known| pattern(node, known).map(Subject::Command)),
    ("file", read_file),
    ("forward", |_, node, known| pattern(node, known).map(Subject::Forward)),
    ("refused", |_, node, known| pattern(node, known).map(Subject::Refused)),
    ("event", |_, node, known| read_events(node, known)),
    ("upload", |_, node, known| bytes(node, known).map(Subject::Upload)),
    ("download", |_, node, known| bytes(node, known).map(Subject::Download)),
];

fn read_subject(rule: Object<'_>, known: &Known<'_>) -> Option<Subject> {
    let mut found = SUBJECTS.iter().filter_map(|(key, read)| Some((rule.find(key)?, read)));
    let (Some((node, read)), None) = (found.next(), found.next()) else {
        let keys: Vec<&str> = SUBJECTS.iter().map(|(key, _)| *key).collect();
        let message = format_args!("say what this looks at by exactly one of {}", keys.join(", "));
        known.problems.error(rule.node, message);
        return None;
    };
    if let Some(size) = rule.find("size").filter(|_| rule.find("file").is_none()) {
        known.problems.error(size, "this is for a rule with the key file: take it out");
    }
    read(rule, node, known)
}

fn read_file(rule: Object<'_>, node: &Node<'_>, known: &Known<'_>) -> Option<Subject> {
    let path = pattern(node, known);
    let size = rule.find("size").map(|node| bytes(node, known));
    Some(Subject::File { path: path?, size: size.map_or(Some(0), |size| size)? })
}

fn read_events(node: &Node<'_>, known: &Known<'_>) -> Option<Subject> {
    let words: Vec<(&str, &str)> = EVENT_NAMES.iter().map(|name| (*name, *name)).collect();
    let names = known.problems.list(node).iter().map(|node| known.problems.word(node, &words));
    let names: Option<BTreeSet<String>> = names.map(|name| name.map(str::to_owned)).collect();
    if names.as_ref().is_some_and(BTreeSet::is_empty) {
        known.problems.error(node, "name at least one event, as [\"agent-forward\"]");
    }
    names.map(Subject::Event)
}

/// A pattern for bytes, whose `.` matches the end of a line too, since a command may have several.
fn pattern(node: &Node<'_>, known: &Known<'_>) -> Option<Regex> {
    known.problems.parsed(node, |text| {
        // The error of the text form shows the place; that of the byte form is the same without it.
        TextRegexBuilder::new(text).dot_matches_new_line(true).size_limit(PATTERN_BYTES).build()?;
        RegexBuilder::new(text).dot_matches_new_line(true).size_limit(PATTERN_BYTES).build()
    })
}

fn bytes(node: &Node<'_>, known: &Known<'_>) -> Option<u64> {
    let bytes = known.problems.parsed(node, size::parse)?;
    if bytes == 0 {
        known.problems.error(node, "write a size of at least \"1KiB\"");
        return None;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use crate::config::{Format, policy};
    use crate::id::Generation;
    use crate::record::EVENT_NAMES;

    fn load(text: &str) -> Result<policy::LoadedPolicy, String> {
        let text = format!("targets = []\n[[alerts]]\n{text}\n");
        policy::load(&text, Format::Toml, "f", Generation(1)).map_err(|errors| errors.to_string())
    }

    #[test]
    fn each_kind_of_rule_is_read() {
        let events = format!("event = {EVENT_NAMES:?}");
        for subject in [
            "command = 'rm\\s+-rf'",
            "file = '^/etc/'",
            "file = '^/etc/'\nsize = \"2GiB\"",
            "forward = ':5432$'",
            "refused = ''",
            "upload = \"1KiB\"",
            "download = \"1GiB\"\ntraffic = 'net.dst.port == 22'\nidentity = 'identity.email == \"a@b.c\"'",
            "download = \"1GiB\"\nend_session = true\nreason = \"too much\"",
            &events,
        ] {
            let read = load(&format!("name = \"n\"\nseverity = \"low\"\n{subject}"));
            assert!(!read.unwrap().snapshot.alerts.is_empty(), "{subject}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let begun = "name = \"n\"\nseverity = \"low\"\n";
        let huge = format!("{begun}command = '(\\w{{1000}}){{1000}}'");
        for (text, told) in [
            ("severity = \"low\"\ncommand = 'x'".to_owned(), "f:2: alerts[0].name: this key is missing"),
            ("name = \"n\"\ncommand = 'x'".to_owned(), "alerts[0].severity: this key is missing"),
            ("name = \"n\"\nseverity = \"hgih\"\ncommand = 'x'".to_owned(), "did you mean \"high\"?"),
            (begun.to_owned(), "f:2: alerts[0]: say what this looks at by exactly one of command, file, "),
            (format!("{begun}command = 'x'\nfile = 'y'"), "by exactly one of"),
            (
                format!("{begun}command = 'curl ('"),
                "f:5: alerts[0].command: regex parse error:\n    curl (\n         ^",
            ),
            (huge, "alerts[0].command: Compiled regex exceeds size limit of 1048576 bytes"),
            (format!("{begun}download = \"0\""), "write a size of at least"),
            (format!("{begun}download = \"1GB\""), "is no size"),
            (
                format!("{begun}command = 'x'\nsize = \"1GiB\""),
                "alerts[0].size: this is for a rule with the key file",
            ),
            (
                format!("{begun}command = 'x'\nreason = \"r\""),
                "alerts[0].reason: this is for end_session = true",
            ),
            (format!("{begun}event = [\"alert\"]"), "alerts[0].event[0]: \"alert\" is not possible here"),
            (format!("{begun}event = []"), "name at least one event"),
            (format!("{begun}command = 'x'\nidentity = 'identity.mail == 1'"), "in the expression, line 1"),
            (
                format!("{begun}command = 'x'\n[[alerts]]\n{begun}command = 'y'"),
                "the alert of line 3 is named \"n\" too",
            ),
        ] {
            let found = load(&text).unwrap_err();
            assert!(found.contains(told), "{told:?} is not in {found}");
        }
    }
}
