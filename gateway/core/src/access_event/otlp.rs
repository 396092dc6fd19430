//! Events as an OTLP/HTTP request in JSON (OpenTelemetry protocol 1.x, "JSON Protobuf Encoding").

use serde_json::{Value, json};

use super::{AccessLine, Class, millis, text};

/// SeverityNumber of the log data model: WARN and INFO.
const WARN: u64 = 13;
const INFO: u64 = 9;

/// A request for `/v1/logs`; each event is the line and the same in the configured format.
pub fn otlp_request(host: &str, events: &[(AccessLine, Value)]) -> Value {
    let records: Vec<Value> = events.iter().map(|(line, event)| record(line, event)).collect();
    json!({"resourceLogs": [{
        "resource": {"attributes": [attribute("service.name", "portreeve"), attribute("host.name", host)]},
        "scopeLogs": [{"scope": {"name": "portreeve.access"}, "logRecords": records}],
    }]})
}

fn record(line: &AccessLine, event: &Value) -> Value {
    // 64-bit integers are strings in this encoding.
    let time = millis(line, "time").saturating_mul(1_000_000).to_string();
    let (number, name) = if Class::of(line) == Class::Session { (INFO, "INFO") } else { (WARN, "WARN") };
    let known = ["session", "outcome", "email", "login", "hostname"];
    let attributes: Vec<Value> = known
        .iter()
        .filter_map(|field| Some(attribute(&format!("portreeve.{field}"), text(line, field)?)))
        .collect();
    json!({
        "timeUnixNano": time,
        "observedTimeUnixNano": time,
        "severityNumber": number,
        "severityText": name,
        "body": {"stringValue": event.to_string()},
        "attributes": attributes,
    })
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}
