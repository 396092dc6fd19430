//! Documents about shipping, JSON each: what a destination has confirmed, what is set aside, how a destination
//! stands, and the line for a recording that was deleted.

use serde::{Deserialize, Serialize};

/// A destination has everything of a recording, or of a file of one: `.shipping/<destination>/<item>.confirmed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// Number of its files.
    pub files: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// SHA-256 of its manifest, in hexadecimal; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_sha256: Option<String>,
}

/// A recording cannot be shipped to a destination: `.shipping/<destination>/<item>.aside`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// Since when, RFC 3339 in UTC.
    pub time: String,
    /// How many times it was set aside.
    pub times: u32,
    /// When it is tried again, in seconds since 1970.
    pub retry_at: u64,
    /// Why.
    pub reason: String,
}

/// How a destination stands: `.shipping/<destination>/status.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationStatus {
    /// Its kind.
    pub kind: String,
    /// When this was written, RFC 3339 in UTC.
    pub time: String,
    /// Sessions, finished files of sessions that go on, and heads that it has not confirmed.
    pub backlog: u64,
    /// When the oldest of those sessions started, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// Those of them that are set aside.
    pub aside: u64,
    /// When it confirmed the last one, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_confirmed: Option<String>,
    /// The last failure; absent once something got through after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl Aside {
    /// First pause, in seconds; each further one is twice as long.
    const FIRST: u64 = 60 * 60;
    /// Longest pause, in seconds.
    const LONGEST: u64 = 24 * 60 * 60;

    /// Sets a thing aside, at `now` (`time`: the same as text) in seconds since 1970, after `before`.
    pub fn again(before: Option<&Self>, reason: String, now: u64, time: String) -> Self {
        let times = before.map_or(0, |aside| aside.times).saturating_add(1);
        let pause = Self::FIRST.saturating_mul(1 << times.saturating_sub(1).min(8)).min(Self::LONGEST);
        Self { time, times, retry_at: now.saturating_add(pause), reason }
    }

    /// Whether it is to be tried again at `now`, in seconds since 1970; so it is too where the clock went back.
    pub fn is_due(&self, now: u64) -> bool {
        now >= self.retry_at || self.retry_at.saturating_sub(now) > Self::LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_is_tried_again_ever_more_rarely() {
        let mut aside = Aside::again(None, "no".into(), 1_000, "then".into());
        assert_eq!((aside.times, aside.retry_at), (1, 1_000 + 3_600));
        assert!(!aside.is_due(1_000) && aside.is_due(4_600));
        for _ in 0..20 {
            aside = Aside::again(Some(&aside), "no".into(), 1_000, "then".into());
        }
        assert_eq!((aside.times, aside.retry_at), (21, 1_000 + 86_400));
        let stepped_back = Aside { retry_at: 1_000_000, ..aside };
        assert!(stepped_back.is_due(5));
    }
}
