//! Data types of RFC 4251 section 5 and the unencrypted binary packet of RFC 4253 section 6.
//!
//! Invariant: whatever is encoded here decodes with the length fields that the RFC demands; a
//! [`Reader`] never reads past its input and never allocates by a length that the input merely
//! claims.

use thiserror::Error;

/// Longest payload that every peer must accept (RFC 4253 section 6.1), in bytes.
pub const MAX_PAYLOAD: usize = 32_768;

/// A payload that no peer needs to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a packet payload has at most 32768 bytes")]
pub struct PayloadTooLong;

/// Why bytes are no SSH message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// The input ends inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// Bytes are left over after the last field.
    #[error("the message has bytes after its last field")]
    Trailing,
    /// A field holds what its type does not allow.
    #[error("a field of the message is malformed")]
    Malformed,
}

/// Reads the fields of one message in order.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `n` bytes as they are.
    ///
    /// # Errors
    /// [`WireError::Truncated`] when fewer are left.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// A `byte`.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u8(&mut self) -> Result<u8, WireError> {
        let (&first, rest) = self.rest.split_first().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    /// A `boolean`: every value but 0 is true.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn boolean(&mut self) -> Result<bool, WireError> {
        Ok(self.u8()? != 0)
    }

    /// A `uint32`.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, WireError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*head))
    }

    /// A `uint64`.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, WireError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*head))
    }

    /// A `string`: arbitrary bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn string(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.u32()?).map_err(|_| WireError::Truncated)?;
        self.bytes(length)
    }

    /// A `string` that must be UTF-8.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn text(&mut self) -> Result<&'a str, WireError> {
        str::from_utf8(self.string()?).map_err(|_| WireError::Malformed)
    }

    /// A `string` that names something: a channel type or a request (RFC 4250 section 4.6.1).
    ///
    /// Implementations compare such names as C strings, so a NUL in one would make it mean something
    /// else to them than to us.
    ///
    /// # Errors
    /// [`WireError::Malformed`] when it is empty or has anything but printable US-ASCII.
    pub fn name(&mut self) -> Result<&'a [u8], WireError> {
        let name = self.string()?;
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return Err(WireError::Malformed);
        }
        Ok(name)
    }

    /// A `string` that holds an `mpint` (RFC 4251 section 5): magnitude without leading zeros.
    ///
    /// # Errors
    /// [`WireError::Malformed`] when it is negative.
    pub fn positive_mpint(&mut self) -> Result<&'a [u8], WireError> {
        let bytes = self.string()?;
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            return Err(WireError::Malformed);
        }
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.get(zeros..).ok_or(WireError::Malformed)
    }

    /// What is left.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Ends the message.
    ///
    /// # Errors
    /// [`WireError::Trailing`] when bytes are left.
    pub fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing) }
    }
}

/// Appends a `uint32`.
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a `boolean`.
pub fn put_boolean(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

/// Appends a `string`: its length as `uint32`, then its bytes.
///
/// # Errors
/// [`PayloadTooLong`] when the string alone exceeds [`MAX_PAYLOAD`].
pub fn put_string(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), PayloadTooLong> {
    if bytes.len() > MAX_PAYLOAD {
        return Err(PayloadTooLong);
    }
    put_u32(out, u32::try_from(bytes.len()).map_err(|_| PayloadTooLong)?);
    out.extend_from_slice(bytes);
    Ok(())
}

/// Appends an `mpint` of a non-negative number, given as big-endian magnitude.
///
/// # Errors
/// [`PayloadTooLong`] when it exceeds [`MAX_PAYLOAD`].
pub fn put_positive_mpint(out: &mut Vec<u8>, magnitude: &[u8]) -> Result<(), PayloadTooLong> {
    let zeros = magnitude.iter().take_while(|byte| **byte == 0).count();
    let magnitude = magnitude.get(zeros..).unwrap_or_default();
    let sign = magnitude.first().is_some_and(|first| first & 0x80 != 0);
    if magnitude.len() >= MAX_PAYLOAD {
        return Err(PayloadTooLong);
    }
    put_u32(out, u32::try_from(magnitude.len() + usize::from(sign)).map_err(|_| PayloadTooLong)?);
    if sign {
        out.push(0);
    }
    out.extend_from_slice(magnitude);
    Ok(())
}

/// Frames a payload as it travels before the first key exchange: no cipher, no MAC, zero padding.
///
/// # Errors
/// [`PayloadTooLong`] when the payload exceeds [`MAX_PAYLOAD`].
pub fn unencrypted_packet(payload: &[u8]) -> Result<Vec<u8>, PayloadTooLong> {
    const LENGTH_AND_PADDING_LENGTH: usize = 5;
    const BLOCK: usize = 8;
    const MIN_PADDING: usize = 4;

    if payload.len() > MAX_PAYLOAD {
        return Err(PayloadTooLong);
    }
    let unpadded = LENGTH_AND_PADDING_LENGTH + payload.len();
    let padding = (unpadded + MIN_PADDING).next_multiple_of(BLOCK) - unpadded;
    let packet_length = u32::try_from(1 + payload.len() + padding).map_err(|_| PayloadTooLong)?;
    let mut packet = Vec::with_capacity(unpadded + padding);
    packet.extend_from_slice(&packet_length.to_be_bytes());
    packet.push(u8::try_from(padding).map_err(|_| PayloadTooLong)?);
    packet.extend_from_slice(payload);
    packet.resize(unpadded + padding, 0);
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packets_are_framed_as_rfc_4253_section_6_says(payload in proptest::collection::vec(any::<u8>(), 0..600)) {
            let packet = unencrypted_packet(&payload).unwrap();
            let packet_length = u32::from_be_bytes(packet[..4].try_into().unwrap()) as usize;
            let padding = usize::from(packet[4]);
            prop_assert_eq!(packet.len() % 8, 0);
            prop_assert_eq!(packet_length + 4, packet.len());
            prop_assert!((4..=11).contains(&padding));
            prop_assert_eq!(&packet[5..packet.len() - padding], &payload[..]);
        }

        #[test]
        fn no_input_makes_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), fields in proptest::collection::vec(0_u8..7, 0..8)) {
            let mut reader = Reader::new(&bytes);
            for field in fields {
                let before = reader.rest().len();
                let read = match field {
                    0 => reader.u8().map(drop),
                    1 => reader.boolean().map(drop),
                    2 => reader.u32().map(drop),
                    3 => reader.u64().map(drop),
                    4 => reader.string().map(drop),
                    5 => reader.text().map(drop),
                    _ => reader.positive_mpint().map(drop),
                };
                prop_assert!(read.is_err() || reader.rest().len() < before);
            }
        }

        #[test]
        fn a_positive_mpint_survives(magnitude in proptest::collection::vec(any::<u8>(), 0..70)) {
            let mut out = Vec::new();
            put_positive_mpint(&mut out, &magnitude).unwrap();
            let mut reader = Reader::new(&out);
            let zeros = magnitude.iter().take_while(|byte| **byte == 0).count();
            prop_assert_eq!(reader.positive_mpint().unwrap(), &magnitude[zeros..]);
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn mpints_are_those_of_rfc_4251_section_5() {
        let encode = |magnitude: &[u8]| {
            let mut out = Vec::new();
            put_positive_mpint(&mut out, magnitude).unwrap();
            out
        };
        assert_eq!(encode(&[]), [0, 0, 0, 0]);
        assert_eq!(encode(&[0x80]), [0, 0, 0, 2, 0, 0x80]);
        assert_eq!(
            encode(&[0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7]),
            [0, 0, 0, 8, 0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7]
        );
        assert_eq!(Reader::new(&[0, 0, 0, 1, 0x80]).positive_mpint(), Err(WireError::Malformed));
    }

    #[test]
    fn a_payload_above_the_limit_is_refused() {
        assert_eq!(unencrypted_packet(&vec![0; MAX_PAYLOAD + 1]), Err(PayloadTooLong));
        assert_eq!(put_string(&mut Vec::new(), &vec![0; MAX_PAYLOAD + 1]), Err(PayloadTooLong));
    }
}
