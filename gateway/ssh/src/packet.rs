//! Binary packets (RFC 4253 section 6): bytes of one direction to payloads, and back.
//!
//! [`Inbound`] cuts packets out of a byte stream and opens them in place; [`Outbound`] frames and
//! seals payloads behind each other, ready for one `write`. Invariants: a packet longer than the
//! limit is refused as soon as its length is known, before it is waited for, except where that would
//! tell an attacker about plaintext (CBC); sequence numbers start at 0 and go back to 0 only where
//! strict key exchange says so. Buffers are lent by the caller, so that an idle connection holds none.

use std::ops::Range;

use thiserror::Error;

use crate::cipher::{CipherError, LENGTH_FIELD, Opener, Sealer};

/// Longest `packet_length` before the peer is authenticated (RFC 4253 section 6.1), in bytes.
pub const MAX_PACKET_UNAUTHENTICATED: usize = 35_000;
/// Longest `packet_length` afterwards: what OpenSSH accepts, in bytes.
pub const MAX_PACKET: usize = 256 * 1024;
/// A buffer of this size holds a packet of any length, with its tag.
pub const BUFFER_SIZE: usize = LENGTH_FIELD + MAX_PACKET + 64;

/// Bytes that are no packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    /// `packet_length` is outside what is allowed or no multiple of the block.
    #[error("a packet has the impossible length {0}")]
    Length(u32),
    /// `padding_length` leaves no room for a payload.
    #[error("a packet has impossible padding")]
    Padding,
    /// The packet cannot be opened or sealed.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// As many packets as there are sequence numbers went under the keys; one more would reuse a nonce.
    #[error("too many packets under one key")]
    KeyExhausted,
    /// A payload that does not fit a packet.
    #[error("a payload of {0} bytes does not fit a packet")]
    PayloadTooLong(usize),
}

/// Packets under one set of keys (RFC 4253 section 6.4: the number of a packet has 32 bits).
const MAX_PACKETS: u64 = 1 << 32;

/// Packets that arrive.
pub struct Inbound {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The payload of the packet that was opened last, while it is there.
    opened: Range<usize>,
    /// Whole length of the packet at `start`, once its head was read.
    expected: Option<usize>,
    opener: Opener,
    sequence: u32,
    max_packet: usize,
    bytes_under_key: u64,
    packets_under_key: u64,
}

/// Packets that leave.
pub struct Outbound {
    buffer: Vec<u8>,
    start: usize,
    sealer: Sealer,
    sequence: u32,
    bytes_under_key: u64,
    packets_under_key: u64,
}

impl Default for Inbound {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            opened: 0..0,
            expected: None,
            opener: Opener::clear(),
            sequence: 0,
            max_packet: MAX_PACKET_UNAUTHENTICATED,
            bytes_under_key: 0,
            packets_under_key: 0,
        }
    }
}

impl Inbound {
    /// Room for at least `at_least` more bytes; report what was put there with [`Self::filled`].
    pub fn spare(&mut self, at_least: usize) -> &mut [u8] {
        if self.buffer.len() - self.end < at_least {
            self.opened = 0..0;
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.buffer.len() - self.end < at_least {
                self.buffer.resize(self.end + at_least, 0);
            }
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// `n` bytes were put into the room that [`Self::spare`] gave.
    pub fn filled(&mut self, n: usize) {
        self.end = (self.end + n).min(self.buffer.len());
    }

    /// Bytes that are here and not consumed.
    pub fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Consumes `n` bytes that are no packet: the identification line.
    pub fn skip(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }

    /// Uses a lent buffer, which should have [`BUFFER_SIZE`] bytes; only while nothing is buffered.
    pub fn lend(&mut self, buffer: Vec<u8>) {
        if self.start == self.end {
            self.buffer = buffer;
            self.start = 0;
            self.end = 0;
            self.opened = 0..0;
        }
    }

    /// Gives the buffer back if nothing is in it.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        (self.start == self.end && !self.buffer.is_empty()).then(|| {
            self.start = 0;
            self.end = 0;
            self.opened = 0..0;
            std::mem::take(&mut self.buffer)
        })
    }

    /// Opens the next packet if all of it is here. The range is for [`Self::payload`].
    ///
    /// # Errors
    /// [`PacketError`]; the stream is unusable then.
    pub fn next_packet(&mut self) -> Result<Option<Range<usize>>, PacketError> {
        if self.packets_under_key >= MAX_PACKETS {
            return Err(PacketError::KeyExhausted);
        }
        let opened = self.open_next();
        if opened.is_err() && self.opener.must_hide_alterations() {
            self.hide_alteration();
            return self.open_next();
        }
        opened
    }

    fn open_next(&mut self) -> Result<Option<Range<usize>>, PacketError> {
        let Some(expected) = self.expected_length()? else { return Ok(None) };
        let Some(packet) = self.buffer.get_mut(self.start..self.end).and_then(|b| b.get_mut(..expected))
        else {
            return Ok(None);
        };
        self.opener.open(self.sequence, packet)?;
        let packet_length = expected - LENGTH_FIELD - self.opener.tag_len();
        let padding = packet.get(LENGTH_FIELD).copied().map_or(usize::MAX, usize::from);
        let payload_length = packet_length
            .checked_sub(1)
            .and_then(|rest| rest.checked_sub(padding))
            .filter(|length| *length > 0);
        let payload_length = payload_length.filter(|_| padding >= 4).ok_or(PacketError::Padding)?;
        let payload_start = self.start + LENGTH_FIELD + 1;
        self.start += expected;
        self.expected = None;
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes_under_key += expected as u64;
        self.packets_under_key += 1;
        self.opened = payload_start..payload_start + payload_length;
        Ok(Some(self.opened.clone()))
    }

    /// The payload of the packet that [`Self::next_packet`] opened last; valid until more is read or the
    /// buffer is changed. Nothing for any other range: a lent buffer holds what others left in it.
    pub fn payload(&mut self, range: Range<usize>) -> &mut [u8] {
        if range != self.opened {
            return &mut [];
        }
        self.buffer.get_mut(range).unwrap_or_default()
    }

    /// Opens everything from here on with fresh keys (after NEWKEYS).
    pub fn set_opener(&mut self, opener: Opener, reset_sequence: bool) {
        self.opener = opener;
        self.bytes_under_key = 0;
        self.packets_under_key = 0;
        if reset_sequence {
            self.sequence = 0;
        }
    }

    /// The peer is authenticated: long packets are accepted from now on.
    pub fn authenticated(&mut self) {
        self.max_packet = MAX_PACKET;
    }

    /// Number of the next packet.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Bytes and packets since the keys were exchanged.
    pub fn under_key(&self) -> (u64, u64) {
        (self.bytes_under_key, self.packets_under_key)
    }

    /// Whatever is wrong with the packet at hand shows as one error, once as many bytes came as the longest
    /// packet has: neither its length nor what failed can be told from outside.
    fn hide_alteration(&mut self) {
        self.expected = Some(LENGTH_FIELD + self.max_packet + self.opener.tag_len());
        self.opener = Opener::broken();
    }

    fn expected_length(&mut self) -> Result<Option<usize>, PacketError> {
        if self.expected.is_some() {
            return Ok(self.expected);
        }
        let head_len = self.opener.head_len();
        let Some(head) = self.buffer.get_mut(self.start..self.end).and_then(|b| b.get_mut(..head_len)) else {
            return Ok(None);
        };
        let length = self.opener.packet_length(self.sequence, head)?;
        let in_memory = usize::try_from(length).map_err(|_| PacketError::Length(length))?;
        let aligned = (in_memory + self.opener.length_in_blocks()).is_multiple_of(self.opener.block_len());
        // RFC 4253 section 6: at least one block, or eight bytes, whichever is larger.
        let shortest = self.opener.block_len().max(8) - self.opener.length_in_blocks();
        if !aligned || in_memory > self.max_packet || in_memory < shortest {
            return Err(PacketError::Length(length));
        }
        self.expected = Some(LENGTH_FIELD + in_memory + self.opener.tag_len());
        Ok(self.expected)
    }
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            sealer: Sealer::clear(),
            sequence: 0,
            bytes_under_key: 0,
            packets_under_key: 0,
        }
    }
}

impl Outbound {
    /// Appends bytes that are no packet: the identification line.
    pub fn push_raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Frames and seals a payload that is given in parts.
    ///
    /// # Errors
    /// [`PacketError::PayloadTooLong`] above [`MAX_PACKET`], [`PacketError::KeyExhausted`] after 2^32
    /// packets without fresh keys.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), PacketError> {
        if self.packets_under_key >= MAX_PACKETS {
            return Err(PacketError::KeyExhausted);
        }
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        let padding = self.sealer.padding_for(payload);
        let packet_length = 1 + payload + padding;
        let too_long = || PacketError::PayloadTooLong(payload);
        if packet_length > MAX_PACKET {
            return Err(too_long());
        }
        let length_field = u32::try_from(packet_length).map_err(|_| too_long())?;
        let packet_start = self.buffer.len();
        self.buffer.reserve(LENGTH_FIELD + packet_length + self.sealer.tag_len());
        self.buffer.extend_from_slice(&length_field.to_be_bytes());
        self.buffer.push(u8::try_from(padding).map_err(|_| too_long())?);
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        self.buffer.resize(self.buffer.len() + padding + self.sealer.tag_len(), 0);
        let packet = self.buffer.get_mut(packet_start..).unwrap_or_default();
        self.bytes_under_key += packet.len() as u64;
        self.packets_under_key += 1;
        self.sealer.seal(self.sequence, packet)?;
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }

    /// What is to be written.
    pub fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// `n` bytes of [`Self::pending`] were written.
    pub fn written(&mut self, n: usize) {
        self.start = self.start.saturating_add(n).min(self.buffer.len());
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start >= self.buffer.len() - self.start {
            // What is written must not pile up in front of what is not.
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }

    /// Uses a lent buffer; only while nothing is to be written.
    pub fn lend(&mut self, mut buffer: Vec<u8>) {
        if self.buffer.is_empty() {
            buffer.clear();
            self.buffer = buffer;
        }
    }

    /// Gives the buffer back if nothing is to be written.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        (self.buffer.is_empty() && self.buffer.capacity() > 0).then(|| std::mem::take(&mut self.buffer))
    }

    /// Seals everything from here on with fresh keys (after NEWKEYS).
    pub fn set_sealer(&mut self, sealer: Sealer, reset_sequence: bool) {
        self.sealer = sealer;
        self.bytes_under_key = 0;
        self.packets_under_key = 0;
        if reset_sequence {
            self.sequence = 0;
        }
    }

    #[cfg(test)]
    pub(crate) fn set_packets_under_key(&mut self, packets: u64) {
        self.packets_under_key = packets;
    }

    /// Bytes and packets since the keys were exchanged.
    pub fn under_key(&self) -> (u64, u64) {
        (self.bytes_under_key, self.packets_under_key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;
    use crate::cipher::{Cipher, KeyMaterial, Mac, Protection};

    fn pair(protection: Option<Protection>) -> (Outbound, Inbound) {
        let (mut outbound, mut inbound) = (Outbound::default(), Inbound::default());
        if let Some(protection) = protection {
            let keys = KeyMaterial {
                iv: Zeroizing::new(vec![1; protection.cipher.iv_len()]),
                key: Zeroizing::new((0..64).take(protection.cipher.key_len()).collect()),
                mac_key: Zeroizing::new(vec![3; protection.mac_key_len()]),
            };
            outbound.set_sealer(Sealer::new(protection, &keys).unwrap(), true);
            inbound.set_opener(Opener::new(protection, &keys).unwrap(), true);
        }
        (outbound, inbound)
    }

    fn feed(inbound: &mut Inbound, bytes: &[u8]) {
        inbound.spare(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        inbound.filled(bytes.len());
    }

    const PROTECTIONS: [Option<Protection>; 7] = [
        None,
        Some(Protection { cipher: Cipher::Aes256Gcm, mac: None }),
        Some(Protection { cipher: Cipher::ChaCha20Poly1305, mac: None }),
        Some(Protection { cipher: Cipher::Aes128Ctr, mac: Some(Mac::HmacSha256Etm) }),
        Some(Protection { cipher: Cipher::Aes128Ctr, mac: Some(Mac::HmacSha256) }),
        Some(Protection { cipher: Cipher::Aes256Cbc, mac: Some(Mac::HmacSha1Etm) }),
        Some(Protection { cipher: Cipher::TripleDesCbc, mac: Some(Mac::HmacSha1) }),
    ];

    proptest! {
        #[test]
        fn payloads_survive_any_fragmentation(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..500), 1..6),
            cut in 1_usize..700,
        ) {
            for protection in PROTECTIONS {
                let (mut outbound, mut inbound) = pair(protection);
                for payload in &payloads {
                    let (head, tail) = payload.split_at(payload.len() / 2);
                    outbound.push(&[head, tail]).unwrap();
                }
                let mut seen = Vec::new();
                for chunk in outbound.pending().chunks(cut) {
                    feed(&mut inbound, chunk);
                    while let Some(range) = inbound.next_packet().unwrap() {
                        seen.push(inbound.payload(range).to_vec());
                    }
                }
                prop_assert_eq!(&seen, &payloads);
                prop_assert!(inbound.reclaim().is_some(), "nothing is left in the buffer");
            }
        }

        #[test]
        fn no_input_makes_a_packet_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for protection in PROTECTIONS {
                let (_, mut inbound) = pair(protection);
                feed(&mut inbound, &bytes);
                while let Ok(Some(_)) = inbound.next_packet() {}
            }
        }
    }

    #[test]
    fn what_is_written_does_not_pile_up_before_what_is_not() {
        let (mut outbound, mut inbound) = pair(None);
        for round in 0..200_u32 {
            outbound.push(&[&round.to_be_bytes(), &[0; 1000]]).unwrap();
            // Something always waits, as with a peer that is a little slower than we are.
            let n = outbound.pending().len() - 100;
            let bytes = outbound.pending()[..n].to_vec();
            outbound.written(n);
            feed(&mut inbound, &bytes);
            assert!(outbound.buffer.len() < 4000, "{} bytes are kept", outbound.buffer.len());
        }
        let rest = outbound.pending().to_vec();
        feed(&mut inbound, &rest);
        for round in 0..200_u32 {
            let range = inbound.next_packet().unwrap().unwrap();
            assert_eq!(inbound.payload(range)[..4], round.to_be_bytes());
        }
    }

    #[test]
    fn an_impossible_length_is_refused_before_the_packet_is_waited_for() {
        for length in [0, 5, 13, u32::try_from(MAX_PACKET_UNAUTHENTICATED + 4).unwrap(), u32::MAX] {
            let (_, mut inbound) = pair(None);
            feed(&mut inbound, &length.to_be_bytes());
            assert_eq!(inbound.next_packet(), Err(PacketError::Length(length)));
        }
    }

    #[test]
    fn impossible_padding_is_refused() {
        for padding in [0, 3, 11, 12, 255] {
            let (_, mut inbound) = pair(None);
            feed(&mut inbound, &[0, 0, 0, 12, padding, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(inbound.next_packet(), Err(PacketError::Padding), "padding {padding}");
        }
    }

    /// CVE-2008-5161: the length, the padding and the MAC of an altered packet must not be told apart, and
    /// the length of what would be read before the MAC is checked is up to 32 bits of plaintext.
    #[test]
    fn an_altered_packet_in_cbc_mode_shows_at_the_same_byte_whatever_is_wrong_with_it() {
        const PAYLOAD: [u8; 100] = [7; 100];
        for (cipher, mac) in [(Cipher::Aes128Cbc, Mac::HmacSha1), (Cipher::TripleDesCbc, Mac::HmacSha256)] {
            let protection = Protection { cipher, mac: Some(mac) };
            let (mut outbound, _) = pair(Some(protection));
            outbound.push(&[&PAYLOAD]).unwrap();
            let sealed = outbound.pending().to_vec();
            // Within the first block: an impossible length. In a later block, or in the MAC: a wrong MAC.
            for at in [0, 5, 17, 60, sealed.len() - 1] {
                let (_, mut inbound) = pair(Some(protection));
                let mut altered = sealed.clone();
                altered[at] ^= 1;
                altered.resize(LENGTH_FIELD + MAX_PACKET_UNAUTHENTICATED + mac.key_len(), 0xa5);
                let (last, most) = altered.split_last().unwrap();
                for piece in most.chunks(999) {
                    feed(&mut inbound, piece);
                    assert_eq!(inbound.next_packet(), Ok(None), "{cipher:?}, byte {at}");
                }
                feed(&mut inbound, &[*last]);
                for _again in 0..2 {
                    let altered = PacketError::Cipher(CipherError::Altered);
                    assert_eq!(inbound.next_packet(), Err(altered), "{cipher:?}, byte {at}");
                }
            }
        }
    }

    #[test]
    fn the_longest_packet_in_cbc_mode_still_fits_the_buffer_of_an_altered_one() {
        let protection = Protection { cipher: Cipher::Aes128Cbc, mac: Some(Mac::HmacSha512) };
        let (_, mut inbound) = pair(Some(protection));
        inbound.authenticated();
        feed(&mut inbound, &[0; BUFFER_SIZE - 1]);
        assert_eq!(inbound.next_packet(), Ok(None));
        feed(&mut inbound, &[0]);
        assert_eq!(inbound.next_packet(), Err(PacketError::Cipher(CipherError::Altered)));
    }
}
