//! Messages field by field: written by a test, and told in words when they come back.

use anyhow::Result;
use portreeve_ssh::message;
use portreeve_ssh::wire::{Reader, put_boolean, put_string, put_u32};

/// A message under construction; fields are appended in order.
#[derive(Clone, Debug)]
pub struct Message(pub(super) Vec<u8>);

impl Message {
    /// Starts with the message's number.
    pub fn new(number: u8) -> Self {
        Self(vec![number])
    }

    /// SSH_MSG_CHANNEL_REQUEST to channel `recipient`.
    ///
    /// # Errors
    /// When the name is too long for a message.
    pub fn request(recipient: u32, kind: &str, want_reply: bool) -> Result<Self> {
        Ok(Self::new(message::CHANNEL_REQUEST).u32(recipient).string(kind)?.boolean(want_reply))
    }

    /// SSH_MSG_GLOBAL_REQUEST.
    ///
    /// # Errors
    /// When the name is too long for a message.
    pub fn global(kind: &str, want_reply: bool) -> Result<Self> {
        Ok(Self::new(message::GLOBAL_REQUEST).string(kind)?.boolean(want_reply))
    }

    /// SSH_MSG_CHANNEL_OPEN with our number, window and largest packet.
    ///
    /// # Errors
    /// When the name is too long for a message.
    pub fn open(kind: &str, channel: u32, window: u32, packet: u32) -> Result<Self> {
        Ok(Self::new(message::CHANNEL_OPEN).string(kind)?.u32(channel).u32(window).u32(packet))
    }

    /// Appends a uint32.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        put_u32(&mut self.0, value);
        self
    }

    /// Appends a boolean.
    #[must_use]
    pub fn boolean(mut self, value: bool) -> Self {
        put_boolean(&mut self.0, value);
        self
    }

    /// Appends a string.
    ///
    /// # Errors
    /// When it is too long for a message.
    pub fn string(mut self, bytes: impl AsRef<[u8]>) -> Result<Self> {
        put_string(&mut self.0, bytes.as_ref())?;
        Ok(self)
    }
}

/// A message in words. Channel numbers are left out where the peer chose them: the gateway may
/// choose others.
pub(super) fn describe(payload: &[u8]) -> Result<String> {
    let mut fields = Reader::new(payload);
    let text =
        |fields: &mut Reader<'_>| -> Result<String> { Ok(fields.string()?.escape_ascii().to_string()) };
    Ok(match fields.u8()? {
        message::GLOBAL_REQUEST => {
            format!("global {} {} {}", text(&mut fields)?, fields.boolean()?, fields.rest().escape_ascii())
        }
        message::REQUEST_SUCCESS => format!("yes {}", fields.rest().escape_ascii()),
        message::REQUEST_FAILURE => "no".to_owned(),
        message::CHANNEL_OPEN => {
            let kind = text(&mut fields)?;
            fields.u32()?;
            format!("open {kind} {} {}", fields.u32()?, fields.u32()?)
        }
        message::CHANNEL_OPEN_CONFIRMATION => {
            let channel = fields.u32()?;
            fields.u32()?;
            format!("{channel}: opened {} {}", fields.u32()?, fields.u32()?)
        }
        message::CHANNEL_OPEN_FAILURE => {
            let (channel, code) = (fields.u32()?, fields.u32()?);
            format!("{channel}: not opened {code} {:?} {:?}", text(&mut fields)?, text(&mut fields)?)
        }
        message::CHANNEL_WINDOW_ADJUST => format!("{}: window {}", fields.u32()?, fields.u32()?),
        message::CHANNEL_DATA => format!("{}: data {}", fields.u32()?, text(&mut fields)?),
        message::CHANNEL_EXTENDED_DATA => {
            format!("{}: data of {} {}", fields.u32()?, fields.u32()?, text(&mut fields)?)
        }
        message::CHANNEL_EOF => format!("{}: eof", fields.u32()?),
        message::CHANNEL_CLOSE => format!("{}: close", fields.u32()?),
        message::CHANNEL_REQUEST => {
            let (channel, kind) = (fields.u32()?, text(&mut fields)?);
            format!("{channel}: {kind} {} {}", fields.boolean()?, fields.rest().escape_ascii())
        }
        message::CHANNEL_SUCCESS => format!("{}: yes", fields.u32()?),
        message::CHANNEL_FAILURE => format!("{}: no", fields.u32()?),
        number => format!("message {number}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_with_their_fields() {
        let request = Message::request(3, "exit-status", false).unwrap().u32(7);
        assert_eq!(describe(&request.0).unwrap(), "3: exit-status false \\x00\\x00\\x00\\x07");
        let failure = Message::new(message::CHANNEL_OPEN_FAILURE).u32(1).u32(2);
        let failure = failure.string("why").unwrap().string("").unwrap();
        assert_eq!(describe(&failure.0).unwrap(), "1: not opened 2 \"why\" \"\"");
        assert!(describe(&[message::CHANNEL_EOF, 0]).is_err());
    }

    #[test]
    fn numbers_that_the_peer_chose_are_left_out() {
        let confirmed = |theirs| {
            let message = Message::new(message::CHANNEL_OPEN_CONFIRMATION).u32(1).u32(theirs).u32(10).u32(20);
            describe(&message.0).unwrap()
        };
        assert_eq!(confirmed(0), confirmed(9));
    }
}
