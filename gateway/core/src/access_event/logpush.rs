//! The field names of the Logpush datasets `ssh_logs` and `access_requests`, in one object, as far as the access log knows
//! what they hold; the rest is below `Portreeve`. `Payload` is not among them: an access event has none.

use serde_json::{Value, json};

use super::{AccessLine, Class, endpoint, present, rest, text};

/// Fields that have a place.
const MAPPED: &[&str] = &["time", "started", "session", "client", "target", "hostname", "email", "login"];

pub(super) fn event(line: &AccessLine) -> Value {
    let class = Class::of(line);
    let error = text(line, "reason").filter(|_| class != Class::Session);
    // A session that closed by itself has a reason, and no error.
    let mapped = [MAPPED, if error.is_some() { &["reason"] } else { &[] }].concat();
    present(json!({
        // ssh_logs
        "ClientAddress": text(line, "client"),
        "Datetime": text(line, "time"),
        "Error": error,
        "ServerAddress": text(line, "target"),
        "SessionFinishDatetime": text(line, "time"),
        "SessionID": text(line, "session"),
        "SessionStartDatetime": text(line, "started"),
        "TargetID": text(line, "hostname"),
        "UserEmail": text(line, "email"),
        "Username": text(line, "login"),
        // access_requests
        "Action": "login",
        "Allowed": class.allowed(),
        "AppDomain": text(line, "hostname"),
        "CreatedAt": text(line, "started"),
        "Email": text(line, "email"),
        "IPAddress": endpoint(line, "client").map(|(ip, _)| ip),
        "RayID": text(line, "session"),
        "Portreeve": rest(line, &mapped),
    }))
}
