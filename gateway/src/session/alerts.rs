//! Alert rules at work in one session: they are asked about everything that is recorded, and who is to know is told.
//!
//! The rules are those of the policy in force at each moment. Invariants: nobody waits for a notice; a notice holds nothing
//! that the user or the target wrote; of one rule a session sends at most [`NOTICES`], so that no user can bury the notices
//! of others under their own. What policy withholds from the record is not looked at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use portreeve_core::alert::{AlertFacts, AlertRules, MetRule, Notice, Volume};
use portreeve_core::expression::FlowFacts;
use portreeve_core::id::SessionId;
use portreeve_core::identity::Identity;
use portreeve_core::infrastructure::AccessGrant;
use portreeve_core::inspection::FileProgress;
use portreeve_core::net::FlowTuple;
use portreeve_core::record::{ChannelNumber, RecordEvent, Source};
use portreeve_core::snapshot::PolicySnapshot;
use tokio::sync::watch;

use super::Gateway;
use super::registry::{End, Registry};
use crate::export::{Exported, Exports};
use crate::metrics::Metrics;
use crate::recording::Lookout;

/// Notices of one rule in one session.
const NOTICES: u32 = 100;

/// Whose session it is that is looked at.
pub(super) struct WatchedSession {
    pub(super) id: SessionId,
    pub(super) flow: FlowTuple,
    pub(super) identity: Arc<Identity>,
    /// Whether its commands are kept.
    pub(super) command_logging: bool,
}

/// Looks at what one session does.
pub(super) struct AlertLookout {
    session: WatchedSession,
    facts: AlertFacts,
    policy: watch::Receiver<Arc<PolicySnapshot>>,
    registry: Arc<Registry>,
    notices: Exports,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What crossed in the session.
    total: Volume,
    /// What was counted of channels that are open.
    channels: HashMap<ChannelNumber, Volume>,
    /// Notices by the rule's name.
    told: HashMap<Arc<str>, u32>,
}

impl AlertLookout {
    /// Looks at a session that was granted.
    pub(super) fn new(gateway: &Gateway, session: WatchedSession, grant: &AccessGrant) -> Self {
        let facts = AlertFacts {
            session: session.id.to_string(),
            email: session.identity.email.to_string(),
            login: grant.login().to_string(),
            client: session.flow.client.to_string(),
            target: session.flow.original_dst.to_string(),
            hostname: grant.target().hostname.to_string(),
        };
        Self {
            session,
            facts,
            policy: gateway.policy.follow(),
            registry: Arc::clone(&gateway.registry),
            notices: gateway.notices.clone(),
            metrics: gateway.metrics.clone(),
            state: Mutex::default(),
        }
    }

    /// Asks the rules in force, and raises an alert for each that is met.
    fn ask<F>(&self, question: F) -> Vec<RecordEvent>
    where
        F: for<'r> FnOnce(&'r AlertRules, &FlowFacts<'_>) -> Vec<MetRule<'r>>,
    {
        let policy = Arc::clone(&self.policy.borrow());
        if policy.alerts.is_empty() {
            return Vec::new();
        }
        let facts = policy.facts(self.session.flow, Some(&self.session.identity));
        question(&policy.alerts, &facts).iter().map(|met| self.raise(met)).collect()
    }

    /// Tells and counts an alert, and ends the session if that is the rule; returns what the record says of it.
    fn raise(&self, met: &MetRule<'_>) -> RecordEvent {
        let rule = met.rule;
        self.metrics.alert(rule.severity);
        if let Some(notice) = self.notice(met) {
            let (session, severity) = (&*self.facts.session, rule.severity.as_str());
            tracing::warn!(session, rule = &*rule.name, severity, met_by = met.met_by, "alert");
            self.notices.offer(Exported::Alert(Box::new(notice)));
        }
        if let Some(reason) = &rule.end_session {
            let end = End::ByAlert { rule: Arc::clone(&rule.name), reason: Arc::clone(reason) };
            self.registry.end_one(self.session.id, end);
        }
        met.event()
    }

    /// The notice of an alert, unless the session has sent enough of its rule.
    fn notice(&self, met: &MetRule<'_>) -> Option<Notice> {
        let told = {
            let mut state = self.state();
            let told = state.told.entry(Arc::clone(&met.rule.name)).or_default();
            *told = told.saturating_add(1);
            *told
        };
        let last = told == NOTICES;
        (told <= NOTICES).then(|| Notice::new(met, &self.facts, SystemTime::now().into(), last))
    }

    /// Adds what crossed a channel to the session's volume, and asks for it.
    fn crossed(&self, channel: ChannelNumber, more: Volume) -> Vec<RecordEvent> {
        let (before, now) = {
            let mut state = self.state();
            let before = state.total;
            state.total = before.plus(more);
            (before, state.total)
        };
        if !self.policy.borrow().alerts.may_be_met(before, now) {
            return Vec::new();
        }
        self.ask(|rules, facts| rules.of_volume(before, now, channel, facts))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lookout for AlertLookout {
    fn event(&self, event: &RecordEvent) -> Vec<RecordEvent> {
        let withheld = matches!(event, RecordEvent::Exec { .. } | RecordEvent::Command { .. });
        let mut raised = match withheld && !self.session.command_logging {
            true => Vec::new(),
            false => self.ask(|rules, facts| rules.of_event(event, facts)),
        };
        if let RecordEvent::ChannelClosed { channel, client_bytes, target_bytes } = event {
            // Data of forwards is not shown; what crossed them is known when they close.
            let counted = self.state().channels.remove(channel).unwrap_or_default();
            let whole = Volume { client: *client_bytes, target: *target_bytes };
            raised.extend(self.crossed(*channel, whole.beyond(counted)));
        }
        raised
    }

    fn data(&self, channel: ChannelNumber, source: Source, bytes: usize) -> Vec<RecordEvent> {
        let more = Volume::of(source, bytes as u64);
        {
            let mut state = self.state();
            let counted = state.channels.entry(channel).or_default();
            *counted = counted.plus(more);
        }
        self.crossed(channel, more)
    }

    fn file(&self, file: &FileProgress) -> Vec<RecordEvent> {
        self.ask(|rules, facts| rules.of_file(file, facts))
    }
}

#[cfg(test)]
mod tests {
    use portreeve_core::access_event::Topic;
    use portreeve_core::config::{Format, policy};
    use portreeve_core::id::Generation;
    use portreeve_core::identity::Email;
    use portreeve_core::net::{ClientAddr, OriginalDst};

    use super::*;
    use crate::store::PolicyStore;

    const CHANNEL: ChannelNumber = ChannelNumber(0);

    fn snapshot(subject: &str) -> PolicySnapshot {
        let text = format!("targets = []\n[[alerts]]\nname = \"rule\"\nseverity = \"high\"\n{subject}\n");
        policy::load(&text, Format::Toml, "test", Generation(1)).unwrap().snapshot
    }

    fn lookout(store: &PolicyStore, command_logging: bool) -> AlertLookout {
        let metrics = Metrics::default();
        let session = WatchedSession {
            id: SessionId::from_random_bytes([1; 16]),
            flow: FlowTuple {
                client: ClientAddr::new("192.0.2.1:40000".parse().unwrap()),
                original_dst: OriginalDst::new("10.1.2.3:22".parse().unwrap()),
            },
            identity: Arc::new(Identity::from_email(Email::new("alice@example.com").unwrap())),
            command_logging,
        };
        let facts = AlertFacts {
            session: session.id.to_string(),
            email: "alice@example.com".into(),
            login: "root".into(),
            client: session.flow.client.to_string(),
            target: session.flow.original_dst.to_string(),
            hostname: "db".into(),
        };
        AlertLookout {
            session,
            facts,
            policy: store.follow(),
            registry: Arc::default(),
            notices: Exports::open(Topic::Alert, &[], &metrics.alert_exports).unwrap().0,
            metrics,
            state: Mutex::default(),
        }
    }

    fn exec(command: &str) -> RecordEvent {
        RecordEvent::Exec { channel: CHANNEL, command: command.into() }
    }

    fn closed(channel: ChannelNumber, target_bytes: u64) -> RecordEvent {
        RecordEvent::ChannelClosed { channel, client_bytes: 0, target_bytes }
    }

    #[test]
    fn the_rules_in_force_count() {
        let store = PolicyStore::new(snapshot("command = 'rm'"));
        let lookout = lookout(&store, true);
        assert_eq!(lookout.event(&exec("rm x")).len(), 1);
        store.publish(snapshot("command = 'dd'"));
        assert_eq!((lookout.event(&exec("rm x")).len(), lookout.event(&exec("dd")).len()), (0, 1));
    }

    #[test]
    fn what_policy_keeps_out_of_the_record_is_not_looked_at() {
        let store = PolicyStore::new(snapshot("command = ''"));
        assert_eq!(lookout(&store, false).event(&exec("rm x")), []);
        let store = PolicyStore::new(snapshot("refused = ''"));
        let refused = RecordEvent::Refused { channel: None, what: "terminal".into() };
        assert_eq!(lookout(&store, false).event(&refused).len(), 1);
    }

    #[test]
    fn bytes_count_once_whether_they_are_shown_or_told_at_the_end() {
        let store = PolicyStore::new(snapshot("download = \"3KiB\""));
        let lookout = lookout(&store, true);
        assert_eq!(lookout.data(CHANNEL, Source::Target, 1024), []);
        assert_eq!(lookout.data(CHANNEL, Source::Client, 4096), []);
        assert_eq!(lookout.event(&closed(CHANNEL, 1024)), []);
        let forward = ChannelNumber(1);
        assert_eq!(lookout.event(&closed(forward, 2047)), []);
        assert_eq!(lookout.data(ChannelNumber(2), Source::Target, 1).len(), 1);
        assert_eq!(lookout.event(&closed(ChannelNumber(2), 5000)), [], "it was told");
    }

    #[test]
    fn a_rule_that_is_met_again_and_again_is_recorded_each_time_and_told_a_hundred_times() {
        let store = PolicyStore::new(snapshot("command = ''"));
        let lookout = lookout(&store, true);
        let policy = store.current();
        let facts = policy.facts(lookout.session.flow, None);
        let event = exec("id");
        let met = policy.alerts.of_event(&event, &facts);
        let told: Vec<bool> =
            (0..300).filter_map(|_| lookout.notice(&met[0])).map(|notice| notice.last).collect();
        assert_eq!((told.len(), told.iter().position(|last| *last)), (100, Some(99)));
        assert_eq!(lookout.event(&event).len(), 1);
    }
}
