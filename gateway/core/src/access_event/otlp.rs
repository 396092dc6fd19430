//! Events as an OTLP/HTTP request in JSON (OpenTelemetry protocol 1.x, "JSON Protobuf Encoding").

use serde_json::{Value, json};

use super::{Outgoing, Topic};
use crate::utc::UtcTime;

/// A request for `/v1/logs` with events of one topic.
pub fn otlp_request(host: &str, topic: Topic, events: &[Outgoing]) -> Value {
    let records: Vec<Value> = events.iter().map(record).collect();
    let scope = format!("portreeve.{}", topic.as_str());
    json!({"resourceLogs": [{
        "resource": {"attributes": [attribute("service.name", "portreeve"), attribute("host.name", host)]},
        "scopeLogs": [{"scope": {"name": scope}, "logRecords": records}],
    }]})
}

fn record(event: &Outgoing) -> Value {
    // 64-bit integers are strings in this encoding.
    let millis = event.time.parse().map_or(0, UtcTime::unix_millis);
    let time = millis.saturating_mul(1_000_000).to_string();
    let (number, name) = event.weight.otlp();
    let attributes = event.attributes.iter();
    let attributes: Vec<Value> =
        attributes.map(|(name, value)| attribute(&format!("portreeve.{name}"), value)).collect();
    json!({
        "timeUnixNano": time,
        "observedTimeUnixNano": time,
        "severityNumber": number,
        "severityText": name,
        "body": {"stringValue": event.body},
        "attributes": attributes,
    })
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}
