//! OCSF 1.3.0: category Network Activity, class SSH Activity (4007), profiles `host` and `security_control`.

use serde_json::{Value, json};

use super::{AccessLine, Class, endpoint, millis, number, present, rest, text};

/// The version of the schema.
const VERSION: &str = "1.3.0";
const CATEGORY: u64 = 4;
const CLASS: u64 = 4007;

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
    "network_policy",
    "outcome",
    "reason",
    "duration_ms",
    "client_bytes",
    "target_bytes",
];

pub(super) fn event(line: &AccessLine) -> Value {
    let class = Class::of(line);
    let (activity, activity_name) = match class {
        Class::Session => (2, "Close"),
        Class::Ended => (3, "Reset"),
        Class::Failed => (4, "Fail"),
        Class::Refused => (5, "Refuse"),
    };
    let side = |field| endpoint(line, field).map(|(ip, port)| json!({"ip": ip, "port": port}));
    let mut source = side("client").unwrap_or_default();
    let mut destination = side("target").unwrap_or_default();
    for (endpoint, name, field) in
        [(&mut source, "interface_name", "ingress_interface"), (&mut destination, "hostname", "hostname")]
    {
        if let (Some(endpoint), Some(value)) = (endpoint.as_object_mut(), line.get(field)) {
            endpoint.insert(name.to_owned(), value.clone());
        }
    }
    let (sent, received) = (number(line, "client_bytes"), number(line, "target_bytes"));
    // What the gateway logs in with; nobody is logged in without it.
    let by_certificate = line.contains_key("certificate_serial");
    present(json!({
        "metadata": {
            "version": VERSION,
            "profiles": ["host", "security_control"],
            "product": {"name": "portreeve", "vendor_name": "portreeve"},
            "uid": text(line, "session"),
            "log_name": "access",
        },
        "category_uid": CATEGORY,
        "category_name": "Network Activity",
        "class_uid": CLASS,
        "class_name": "SSH Activity",
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": CLASS * 100 + activity,
        "type_name": format!("SSH Activity: {activity_name}"),
        "severity_id": if class == Class::Refused { 2 } else { 1 },
        "severity": if class == Class::Refused { "Low" } else { "Informational" },
        "status_id": if class.allowed() { 1 } else { 2 },
        "status": if class.allowed() { "Success" } else { "Failure" },
        "status_code": text(line, "outcome"),
        "status_detail": text(line, "reason"),
        "action_id": if class == Class::Refused { 2 } else { 1 },
        "action": if class == Class::Refused { "Denied" } else { "Allowed" },
        "disposition_id": if class == Class::Refused { 2 } else { 1 },
        "disposition": if class == Class::Refused { "Blocked" } else { "Allowed" },
        "policy": {"name": text(line, "network_policy")},
        "time": millis(line, "time"),
        "start_time": millis(line, "started"),
        "end_time": millis(line, "time"),
        "duration": number(line, "duration_ms"),
        "actor": {"user": {"email_addr": text(line, "email")}},
        "src_endpoint": source,
        "dst_endpoint": destination,
        "connection_info": {"protocol_name": "tcp", "protocol_num": 6, "direction_id": 1, "direction": "Inbound"},
        "traffic": {"bytes_out": sent, "bytes_in": received, "bytes": sent.saturating_add(received)},
        "auth_type_id": by_certificate.then_some(1),
        "auth_type": by_certificate.then_some("Certificate Based"),
        "unmapped": rest(line, MAPPED),
    }))
}
