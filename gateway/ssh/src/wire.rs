//! Data types of RFC 4251 section 5 and the unencrypted binary packet of RFC 4253 section 6.
//!
//! Invariant: whatever is encoded here decodes with the length fields that the RFC demands; an
//! unencrypted packet is a multiple of eight bytes and carries at least four bytes of padding.

use thiserror::Error;

/// Longest payload that every peer must accept (RFC 4253 section 6.1), in bytes.
pub const MAX_PAYLOAD: usize = 32_768;

/// A payload that no peer needs to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a packet payload has at most 32768 bytes")]
pub struct PayloadTooLong;

/// Appends a `string`: its length as `uint32`, then its bytes.
///
/// # Errors
/// [`PayloadTooLong`] when the string alone exceeds [`MAX_PAYLOAD`].
pub fn put_string(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), PayloadTooLong> {
    if bytes.len() > MAX_PAYLOAD {
        return Err(PayloadTooLong);
    }
    out.extend_from_slice(&u32::try_from(bytes.len()).map_err(|_| PayloadTooLong)?.to_be_bytes());
    out.extend_from_slice(bytes);
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
    }

    #[test]
    fn a_payload_above_the_limit_is_refused() {
        assert_eq!(unencrypted_packet(&vec![0; MAX_PAYLOAD + 1]), Err(PayloadTooLong));
        assert_eq!(put_string(&mut Vec::new(), &vec![0; MAX_PAYLOAD + 1]), Err(PayloadTooLong));
    }
}
