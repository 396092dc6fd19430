//! Events as syslog messages (RFC 5424) in frames that count octets (RFC 6587 section 3.4.1, RFC 5425 section 4.3).

use super::Outgoing;

/// Security and authorisation messages, private (RFC 5424 section 6.2.1).
const FACILITY: u8 = 10;

/// What the header says of who sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogSender {
    host: String,
    process: u32,
}

impl SyslogSender {
    /// A sender; what a header cannot hold of a host's name becomes `-`.
    pub fn new(host: &str, process: u32) -> Self {
        let mut host: String = host
            .chars()
            .map(|letter| if letter.is_ascii_graphic() { letter } else { '-' })
            .take(255)
            .collect();
        if host.is_empty() {
            host.push('-');
        }
        Self { host, process }
    }
}

/// A frame with one message: the event's JSON is what it says, in UTF-8 and without a mark of byte order.
pub fn syslog_frame(sender: &SyslogSender, event: &Outgoing) -> Vec<u8> {
    let priority = FACILITY * 8 + event.weight.syslog();
    let SyslogSender { host, process } = sender;
    let Outgoing { time, topic, body, .. } = event;
    let message = format!("<{priority}>1 {time} {host} portreeve {process} {} - {body}", topic.as_str());
    format!("{} {message}", message.len()).into_bytes()
}
