//! Every format, of a session and of a connection that was refused.

use super::*;
use crate::alert::{AlertFacts, AlertRule, AlertRules, Notice, Subject};
use crate::expression::FlowFacts;
use crate::infrastructure::fixture::flow;
use crate::record::{ChannelNumber, RecordEvent, Severity};

fn session() -> AccessLine {
    let line = json!({
        "time": "2026-01-02T03:04:05.678901Z", "started": "2026-01-02T03:04:00.000000Z",
        "session": "ffffffff-ffff-4fff-bfff-ffffffffffff", "client": "192.0.2.10:40000",
        "ingress_interface": "lan0", "target": "[2001:db8::1]:22", "hostname": "db1",
        "email": "alice@example.com", "login": "postgres", "generation": 3,
        "granted_by": ["databases/staff"], "certificate_serial": 7, "outcome": "closed",
        "reason": "closed by the user", "duration_ms": 5678, "client_bytes": 10, "target_bytes": 20
    });
    line.as_object().unwrap().clone()
}

fn blocked() -> AccessLine {
    let line = json!({
        "time": "2026-01-02T03:04:05.678901Z", "started": "2026-01-02T03:04:05.000000Z", "session": "s",
        "client": "192.0.2.10:40000", "target": "10.1.2.3:22", "generation": 3, "network_policy": "no ssh",
        "outcome": "blocked", "reason": "a network policy blocks it", "duration_ms": 0, "client_bytes": 0,
        "target_bytes": 0
    });
    line.as_object().unwrap().clone()
}

/// Every value of the line is somewhere in the event.
fn holds_all(event: &Value, line: &AccessLine) {
    let written = event.to_string();
    for (field, value) in line {
        let told = match field.as_str() {
            // Counted otherwise.
            "time" | "started" | "outcome" | "duration_ms" | "client_bytes" | "target_bytes" => continue,
            "client" | "target" => endpoint(line, field).unwrap().0,
            _ => value.to_string(),
        };
        assert!(written.contains(&told), "{field} = {told} is missing in {written}");
    }
}

#[test]
fn nothing_is_lost_in_any_format() {
    for format in [EventFormat::Portreeve, EventFormat::Ocsf, EventFormat::Ecs, EventFormat::Logpush] {
        holds_all(&format.write(&session()), &session());
        holds_all(&format.write(&blocked()), &blocked());
    }
}

#[test]
fn ocsf() {
    let event = EventFormat::Ocsf.write(&session());
    assert_eq!(event["metadata"]["version"], "1.3.0");
    assert_eq!((&event["class_uid"], &event["type_uid"]), (&json!(4007), &json!(400_702)));
    assert_eq!((&event["activity_id"], &event["status_id"]), (&json!(2), &json!(1)));
    assert_eq!(event["time"], 1_767_323_045_678_u64);
    assert_eq!(event["src_endpoint"], json!({"ip": "192.0.2.10", "port": 40000, "interface_name": "lan0"}));
    assert_eq!(event["dst_endpoint"], json!({"ip": "2001:db8::1", "port": 22, "hostname": "db1"}));
    assert_eq!(event["traffic"], json!({"bytes_out": 10, "bytes_in": 20, "bytes": 30}));
    assert_eq!(event["unmapped"]["login"], "postgres");
    let refused = EventFormat::Ocsf.write(&blocked());
    assert_eq!((&refused["type_uid"], &refused["disposition"]), (&json!(400_705), &json!("Blocked")));
    assert_eq!(refused["policy"]["name"], "no ssh");
    assert_eq!(refused.get("actor"), None, "nobody is known");
}

#[test]
fn ecs() {
    let event = EventFormat::Ecs.write(&session());
    assert_eq!(
        (&event["@timestamp"], &event["ecs"]["version"]),
        (&json!("2026-01-02T03:04:05.678901Z"), &json!("8.17.0"))
    );
    assert_eq!(event["event"]["duration"], 5_678_000_000_u64);
    assert_eq!(
        (&event["user"]["email"], &event["user"]["target"]["name"]),
        (&json!("alice@example.com"), &json!("postgres"))
    );
    let refused = EventFormat::Ecs.write(&blocked());
    assert_eq!(
        (&refused["event"]["outcome"], &refused["event"]["type"]),
        (&json!("failure"), &json!(["connection", "denied"]))
    );
    assert_eq!(refused["rule"]["name"], "no ssh");
}

#[test]
fn logpush() {
    let event = EventFormat::Logpush.write(&session());
    assert_eq!((&event["SessionID"], &event["Allowed"]), (&session()["session"], &json!(true)));
    assert_eq!((&event["Username"], event.get("Error")), (&json!("postgres"), None));
    let refused = EventFormat::Logpush.write(&blocked());
    assert_eq!(
        (&refused["Allowed"], &refused["Error"]),
        (&json!(false), &json!("a network policy blocks it"))
    );
}

/// A notice of an alert of some severity.
fn notice(severity: Severity) -> Notice {
    let command = Subject::Command(regex::bytes::Regex::new("rm").unwrap());
    let rule = AlertRule {
        name: "wipe".into(),
        severity,
        subject: command,
        traffic: None,
        identity: None,
        end_session: None,
    };
    let rules = AlertRules::new(vec![rule]);
    let facts = FlowFacts {
        flow: flow("10.0.0.1:22"),
        source_country: None,
        vnet_id: None,
        identity: None,
        target: None,
    };
    let exec = RecordEvent::Exec { channel: ChannelNumber(0), command: "rm -rf /secret".into() };
    let met = rules.of_event(&exec, &facts).pop().unwrap();
    let facts = AlertFacts {
        session: "s".into(),
        email: "alice@example.com".into(),
        login: "root".into(),
        client: "192.0.2.1:40000".into(),
        target: "10.0.0.1:22".into(),
        hostname: "db".into(),
    };
    Notice::new(&met, &facts, UtcTime::from_unix_seconds(1_700_000_000), false)
}

#[test]
fn syslog_frames_count_octets() {
    let sender = SyslogSender::new("gate way", 42);
    let mut event = Outgoing::access(&blocked(), EventFormat::Portreeve);
    event.body = "{\"ä\":1}".to_owned();
    let frame = String::from_utf8(syslog_frame(&sender, &event)).unwrap();
    let (length, message) = frame.split_once(' ').unwrap();
    assert_eq!(length.parse(), Ok(message.len()));
    assert_eq!(message, "<84>1 2026-01-02T03:04:05.678901Z gate-way portreeve 42 access - {\"ä\":1}");
    let mut event = Outgoing::access(&session(), EventFormat::Portreeve);
    event.body = "x".to_owned();
    let frame = syslog_frame(&SyslogSender::new("", 1), &event);
    assert!(frame.starts_with(b"58 <86>1 "), "{}", String::from_utf8_lossy(&frame));
}

#[test]
fn otlp_request_is_the_json_encoding() {
    let event = Outgoing::access(&session(), EventFormat::Ecs);
    let request = otlp_request("gate", Topic::Access, &[event]);
    let logs = &request["resourceLogs"][0]["scopeLogs"][0];
    assert_eq!(logs["scope"]["name"], "portreeve.access");
    let record = &logs["logRecords"][0];
    assert_eq!(
        (&record["timeUnixNano"], &record["severityNumber"]),
        (&json!("1767323045678000000"), &json!(9))
    );
    assert_eq!(record["body"]["stringValue"], EventFormat::Ecs.write(&session()).to_string());
    assert_eq!(
        record["attributes"][0],
        json!({"key": "portreeve.session", "value": {"stringValue": session()["session"]}})
    );
}

#[test]
fn notices_of_alerts_travel_by_their_severity_and_without_the_command() {
    let scales = [(5, 10), (4, 13), (3, 17), (2, 21)];
    for (severity, (syslog, otlp)) in Severity::ALL.into_iter().zip(scales) {
        let event = Outgoing::alert(&notice(severity));
        let frame = syslog_frame(&SyslogSender::new("gate", 7), &event);
        let frame = String::from_utf8(frame).unwrap();
        let begins = format!("<{}>1 2023-11-14T22:13:20.000000Z gate portreeve 7 alert - {{", 80 + syslog);
        assert!(frame.contains(&begins), "{frame}");
        let request = otlp_request("gate", Topic::Alert, &[event]);
        let logs = &request["resourceLogs"][0]["scopeLogs"][0];
        assert_eq!(logs["scope"]["name"], "portreeve.alert");
        assert_eq!(logs["logRecords"][0]["severityNumber"], otlp);
        for sent in [frame, request.to_string()] {
            assert!(sent.contains("wipe") && !sent.contains("secret") && !sent.contains("rm "), "{sent}");
        }
    }
}
