//! Telling a user why there is no session, before any key exchange.
//!
//! A server may send SSH_MSG_DISCONNECT as soon as it has identified itself (RFC 4253 section 11.1);
//! clients print its text. No host key is involved, so a target that is down does not make users
//! store a key that is not the target's.

use crate::IDENTIFICATION;
use crate::message;
use crate::text::TerminalText;
use crate::wire::{put_string, put_u32, unencrypted_packet};

/// Everything a server sends to refuse a connection: its identification line and one DISCONNECT.
pub fn refusal_bytes(reason: u32, text: &TerminalText) -> Vec<u8> {
    let mut payload = vec![message::DISCONNECT];
    put_u32(&mut payload, reason);
    let mut bytes = format!("{IDENTIFICATION}\r\n").into_bytes();
    let framed = put_string(&mut payload, text.as_str().as_bytes())
        .and_then(|()| put_string(&mut payload, b""))
        .and_then(|()| unencrypted_packet(&payload));
    // A TerminalText is far below the payload limit; without it the identification alone is still valid.
    if let Ok(packet) = framed {
        bytes.extend_from_slice(&packet);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_is_identification_then_disconnect() {
        let bytes = refusal_bytes(message::reason::BY_APPLICATION, &TerminalText::new("no"));
        let (line, packet) = bytes.split_at(19);
        assert_eq!(line, b"SSH-2.0-portreeve\r\n");
        // length 20 = 1 + payload 15 + padding 4; DISCONNECT, reason 11, "no", language "".
        assert_eq!(packet, b"\0\0\0\x14\x04\x01\0\0\0\x0b\0\0\0\x02no\0\0\0\0\0\0\0\0");
    }
}
