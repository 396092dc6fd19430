//! Elastic Common Schema 8.17; what it has no field for is below `portreeve`.

use serde_json::{Value, json};

use super::{AccessLine, Class, endpoint, number, present, rest, text};

/// The version of the schema.
const VERSION: &str = "8.17.0";

/// Fields that have a place.
const MAPPED: &[&str] = &[
    "time",
    "started",
    "session",
    "client",
    "ingress_interface",
    "target",
    "hostname",
    "email",
    "login",
    "network_policy",
    "reason",
    "duration_ms",
    "client_bytes",
    "target_bytes",
];

pub(super) fn event(line: &AccessLine) -> Value {
    let class = Class::of(line);
    let (source, destination) = (endpoint(line, "client"), endpoint(line, "target"));
    let (sent, received) = (number(line, "client_bytes"), number(line, "target_bytes"));
    let kind = match class {
        Class::Session | Class::Ended => json!(["connection", "allowed", "end"]),
        Class::Refused => json!(["connection", "denied"]),
        Class::Failed => json!(["connection", "error"]),
    };
    present(json!({
        "@timestamp": text(line, "time"),
        "ecs": {"version": VERSION},
        "event": {
            "id": text(line, "session"),
            "kind": "event",
            "category": ["network", "session"],
            "type": kind,
            "action": "ssh-connection",
            "outcome": if class.allowed() { "success" } else { "failure" },
            "reason": text(line, "reason"),
            "start": text(line, "started"),
            "end": text(line, "time"),
            // Nanoseconds.
            "duration": number(line, "duration_ms").saturating_mul(1_000_000),
            "provider": "portreeve",
            "dataset": "portreeve.access",
        },
        "source": {
            "address": source.as_ref().map(|(ip, _)| ip),
            "ip": source.as_ref().map(|(ip, _)| ip),
            "port": source.as_ref().map(|(_, port)| port),
            "bytes": sent,
        },
        "destination": {
            "address": destination.as_ref().map(|(ip, _)| ip),
            "ip": destination.as_ref().map(|(ip, _)| ip),
            "port": destination.as_ref().map(|(_, port)| port),
            "domain": text(line, "hostname"),
            "bytes": received,
        },
        "network": {"transport": "tcp", "protocol": "ssh", "bytes": sent.saturating_add(received)},
        "user": {"email": text(line, "email"), "target": {"name": text(line, "login")}},
        "rule": {"name": text(line, "network_policy")},
        "observer": {
            "type": "proxy",
            "vendor": "portreeve",
            "product": "portreeve",
            "ingress": {"interface": {"name": text(line, "ingress_interface")}},
        },
        "portreeve": rest(line, MAPPED),
    }))
}
