//! Alert rules: what in a session somebody is to be told of, and what ends it.
//!
//! A rule looks at one kind of thing that is recorded, and may ask whose session it is. All rules are asked, in no order.
//! A condition on traffic or identity that cannot be evaluated holds: one alert too many is better than one too few.
//! Each question is answered from its arguments alone, so a rule that came into force a moment ago counts from then on.
//!
//! This is no boundary: what a pattern does not match goes unseen, and what it matches has happened when it is seen.
//! Deliberately absent: who is told, and how often.

mod notice;
mod subject;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use notice::{AlertFacts, Notice};
pub use subject::{MATCHED, Subject, Volume};

use crate::expression::{Expression, FlowFacts};
use crate::inspection::FileProgress;
use crate::record::{Alert, ChannelNumber, RecordEvent, Severity, Text};

/// One rule.
#[derive(Clone, Debug)]
pub struct AlertRule {
    /// Its name, unique in the set.
    pub name: Arc<str>,
    /// How grave it is.
    pub severity: Severity,
    /// What it looks at.
    pub subject: Subject,
    /// Condition on the session's flow.
    pub traffic: Option<Expression>,
    /// Condition on the user.
    pub identity: Option<Expression>,
    /// What the user reads when it ends the session; absent: it does not.
    pub end_session: Option<Arc<str>>,
}

/// All rules of a policy file.
#[derive(Clone, Debug, Default)]
pub struct AlertRules(Vec<AlertRule>);

/// A rule that was met.
#[derive(Clone, Debug)]
pub struct MetRule<'a> {
    /// The rule.
    pub rule: &'a AlertRule,
    /// The channel on which it was met; absent where that is the whole session.
    pub channel: Option<ChannelNumber>,
    /// What met it: the name of an event of the record, or `upload` or `download`.
    pub met_by: &'static str,
    /// The part of a text that matched, at most [`MATCHED`] bytes.
    matched: Option<Text>,
    bytes: Option<u64>,
}

impl AlertRules {
    /// Puts a set together.
    pub const fn new(rules: Vec<AlertRule>) -> Self {
        Self(rules)
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some rule may be met by a session whose volume was `before` and is `now`: cheap, for each piece of data.
    pub fn may_be_met(&self, before: Volume, now: Volume) -> bool {
        self.0.iter().any(|rule| rule.subject.met_by_volume(before, now).is_some())
    }

    /// The rules that an event in a session meets.
    pub fn of_event<'a>(&'a self, event: &RecordEvent, facts: &FlowFacts<'_>) -> Vec<MetRule<'a>> {
        self.met(facts, |subject| {
            let matched = subject.met_by_event(event)?;
            Some((event.channel(), event.name(), matched, None))
        })
    }

    /// The rules that a file meets that crosses, or is asked for: each once for a file.
    pub fn of_file<'a>(&'a self, file: &FileProgress, facts: &FlowFacts<'_>) -> Vec<MetRule<'a>> {
        self.met(facts, |subject| {
            let matched = subject.met_by_file(file)?;
            Some((Some(file.channel), "file-transfer", Some(matched), Some(file.bytes)))
        })
    }

    /// The rules that a session meets whose volume was `before` and is `now`, by what crossed on `channel`: each once
    /// for a session.
    pub fn of_volume<'a>(
        &'a self,
        before: Volume,
        now: Volume,
        channel: ChannelNumber,
        facts: &FlowFacts<'_>,
    ) -> Vec<MetRule<'a>> {
        self.met(facts, |subject| {
            let (way, bytes) = subject.met_by_volume(before, now)?;
            Some((Some(channel), way, None, Some(bytes)))
        })
    }

    fn met<'a>(&'a self, facts: &FlowFacts<'_>, by: impl Fn(&Subject) -> Option<Cause>) -> Vec<MetRule<'a>> {
        let met = self.0.iter().filter_map(|rule| {
            let (channel, met_by, matched, bytes) = by(&rule.subject).filter(|_| rule.is_about(facts))?;
            Some(MetRule { rule, channel, met_by, matched, bytes })
        });
        met.collect()
    }
}

/// Channel, what met a rule, the text that matched, bytes.
type Cause = (Option<ChannelNumber>, &'static str, Option<Text>, Option<u64>);

impl AlertRule {
    fn is_about(&self, facts: &FlowFacts<'_>) -> bool {
        [&self.traffic, &self.identity].into_iter().flatten().all(|rule| rule.evaluate(facts).unwrap_or(true))
    }
}

impl MetRule<'_> {
    /// What the record says of it.
    pub fn event(&self) -> RecordEvent {
        let alert = Alert {
            rule: self.rule.name.to_string(),
            severity: self.rule.severity,
            met_by: self.met_by.to_owned(),
            matched: self.matched.clone(),
            bytes: self.bytes,
            ends_session: self.rule.end_session.is_some(),
        };
        RecordEvent::Alert { channel: self.channel, alert }
    }
}
