//! Which sessions a verb is about.
//!
//! Names are compared without regard to case, as parts: `--user alice` finds alice@example.com. What a session holds
//! about user and target is sealed, so that only its start can be asked for without the key.

use std::time::{Duration, SystemTime};

use portreeve_core::record::SessionSummary;
use portreeve_core::utc::UtcTime;

/// Filters of `ls` and `search`.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct FilterArgs {
    /// Only sessions of users whose e-mail holds this
    #[arg(long, value_name = "TEXT")]
    user: Option<String>,
    /// Only sessions to targets whose hostname or address holds this
    #[arg(long, value_name = "TEXT")]
    target: Option<String>,
    /// Only sessions under this login
    #[arg(long, value_name = "NAME")]
    login: Option<String>,
    /// Only sessions that started at or after this: a time in UTC, or how long ago, as 90m, 12h or 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<UtcTime>,
    /// Only sessions that started before this
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<UtcTime>,
}

impl FilterArgs {
    /// Whether a session that started then may be meant.
    pub(super) fn is_in_time(&self, started: UtcTime) -> bool {
        self.since.is_none_or(|since| started >= since) && self.until.is_none_or(|until| started < until)
    }

    /// Whether it takes the key to tell.
    pub(super) const fn needs_key(&self) -> bool {
        self.user.is_some() || self.target.is_some() || self.login.is_some()
    }

    /// Whether a session of which this much is known is meant.
    pub(super) fn admits(&self, session: &SessionSummary) -> bool {
        let holds = |wanted: &Option<String>, facts: &[&Option<String>]| {
            let holds = |wanted: &String| {
                let wanted = wanted.to_lowercase();
                facts
                    .iter()
                    .any(|fact| fact.as_ref().is_some_and(|fact| fact.to_lowercase().contains(&wanted)))
            };
            wanted.as_ref().is_none_or(holds)
        };
        holds(&self.user, &[&session.email])
            && holds(&self.target, &[&session.hostname, &session.target])
            && self.login.as_ref().is_none_or(|login| session.login.as_ref() == Some(login))
    }
}

/// A point in time, or how long before now.
fn time(text: &str) -> Result<UtcTime, String> {
    let ago = text.split_at_checked(text.len().saturating_sub(1)).and_then(|(number, unit)| {
        let unit = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            _ => return None,
        };
        number.parse().ok().and_then(|number: u64| number.checked_mul(unit))
    });
    match ago {
        Some(seconds) => Ok(UtcTime::from(SystemTime::now()).before(Duration::from_secs(seconds))),
        None => {
            text.parse().map_err(|error| format!("{error}, or how long ago as \"90m\", \"12h\" or \"7d\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_told_apart_by_who_where_and_when() {
        let session = SessionSummary {
            email: Some("Alice@example.com".into()),
            login: Some("root".into()),
            target: Some("10.1.2.3:22".into()),
            hostname: Some("db-1".into()),
            ..SessionSummary::default()
        };
        let some = |text: &str| Some(text.to_owned());
        for (user, target, login, admitted) in [
            (None, None, None, true),
            (some("alice@"), some("DB"), some("root"), true),
            (None, some("10.1.2."), None, true),
            (some("bob"), None, None, false),
            (None, some("web"), None, false),
            (None, None, some("roo"), false),
        ] {
            let filter = FilterArgs { user, target, login, ..FilterArgs::default() };
            assert_eq!(filter.admits(&session), admitted, "{filter:?}");
            assert!(!filter.needs_key() || !filter.admits(&SessionSummary::default()));
        }
        let filter = FilterArgs {
            since: "2026-11-21".parse().ok(),
            until: "2026-11-22".parse().ok(),
            ..FilterArgs::default()
        };
        for (at, is_in) in [("2026-11-20T23:59:59", false), ("2026-11-21", true), ("2026-11-22", false)] {
            assert_eq!(filter.is_in_time(at.parse().unwrap()), is_in, "{at}");
        }
        let hour_ago = time("1h").unwrap();
        assert!(hour_ago < UtcTime::from(SystemTime::now()).before(Duration::from_secs(3590)));
        assert!(time("yesterday").unwrap_err().contains("7d"));
    }
}
