//! The texts of an event that can be searched. Pure.
//!
//! Goes by the JSON that stands in the file (docs/log-format.md, "Events"), so that events of a later version are
//! searched too where their names say what they are about.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    /// A command, requested or typed.
    Commands,
    /// A file that was transferred or changed.
    Files,
    /// Who connected to what.
    Users,
    /// A rule that was met.
    Alerts,
    /// What a program printed.
    Output,
}

/// Fields of events about files that are no texts of theirs.
const NO_TEXTS: &[&str] = &["event", "time", "protocol", "direction", "change", "result", "sha256_missing"];

impl Place {
    /// As it is asked for.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Files => "files",
            Self::Users => "users",
            Self::Alerts => "alerts",
            Self::Output => "output",
        }
    }
}

/// The texts of an event, and what each is.
pub(super) fn texts(event: &Value) -> Vec<(Place, String)> {
    let name = event["event"].as_str().unwrap_or_default();
    let fields = |place, names: &[&str]| -> Vec<(Place, String)> {
        names.iter().filter_map(|name| Some((place, text(event.get(*name)?)?))).collect()
    };
    match name {
        "exec" | "command" => fields(Place::Commands, &["command"]),
        "session-started" => fields(Place::Users, &["email", "login", "client", "target", "hostname"]),
        // What matched stands in the event before.
        "alert" => fields(Place::Alerts, &["rule", "severity"]),
        _ if name.starts_with("file-") => {
            let all = event.as_object().into_iter().flatten();
            let own = all.filter(|(name, _)| !NO_TEXTS.contains(&name.as_str()));
            own.filter_map(|(_, value)| Some((Place::Files, text(value)?))).collect()
        }
        _ => Vec::new(),
    }
}

/// A text as docs/log-format.md has it, for reading: bytes that are not UTF-8 become replacement characters.
fn text(value: &Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let bytes = STANDARD.decode(value.get("base64")?.as_str()?).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_told_apart_by_what_they_are() {
        let exec = json!({"event": "exec", "channel": 0, "command": {"base64": "aWT/"}});
        assert_eq!(texts(&exec), [(Place::Commands, "id\u{fffd}".to_owned())]);
        let typed = json!({"event": "command", "command": "id", "directory": "/root", "confidence": "high"});
        assert_eq!(texts(&typed), [(Place::Commands, "id".to_owned())]);
        let file =
            json!({"event": "file-of-later", "time": "t", "path": "/etc/passwd", "bytes": 7, "sha256": "ab"});
        let found = texts(&file);
        assert_eq!(found, [(Place::Files, "/etc/passwd".to_owned()), (Place::Files, "ab".to_owned())]);
        let started = json!({"event": "session-started", "email": "a@example.com", "granted_by": ["x"]});
        assert_eq!(texts(&started), [(Place::Users, "a@example.com".to_owned())]);
        let alert = json!({"event": "alert", "rule": "wipe", "severity": "high", "matched": "rm -rf /"});
        let expected = ["wipe", "high"].map(|text| (Place::Alerts, text.to_owned()));
        assert_eq!(texts(&alert), expected);
        for other in [json!({"event": "env", "value": "secret"}), json!([]), json!(7)] {
            assert_eq!(texts(&other), []);
        }
    }
}
