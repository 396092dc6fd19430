//! Opening: bytes of a file in, packets out.
//!
//! [`Opener`] is fed the file in pieces of any size and keeps at most one block. Everything that is
//! intact before the first damage is delivered; then the damage is reported, again and again.

use hpke::{Deserializable as _, OpModeR};
use thiserror::Error;

use super::header::MAX_HEADER;
use super::packet::split_packet;
use super::{Aead, Header, HeaderError, Kdf, Kem, MAX_BLOCK, PREFIX, Packet, RecipientPrivateKey, TAG};

type Context = hpke::aead::AeadCtxR<Aead, Kdf, Kem>;

/// Opens one file.
pub struct Opener<'k> {
    private_key: &'k RecipientPrivateKey,
    input: Vec<u8>,
    consumed: usize,
    offset: u64,
    header: Option<(Header, Box<Context>)>,
    block: Vec<u8>,
    read: usize,
    blocks: u64,
}

/// What is wrong with a file. Offsets count bytes from its start.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file ends inside its header.
    #[error("the file is truncated: it ends inside its header")]
    TruncatedHeader,
    /// The header says it is longer than any header is.
    #[error("not a log file: its header would have {0} bytes")]
    OversizedHeader(u32),
    /// The header cannot be read.
    #[error("not a log file, or its header was altered")]
    Header(#[from] HeaderError),
    /// The header names another recipient.
    #[error("wrong private key: the file is sealed to recipient key {sealed_to}, this is the key of {given}")]
    WrongKey {
        /// Id of the recipient key it is sealed to.
        sealed_to: String,
        /// Id of the key that was given.
        given: String,
    },
    /// The first block does not open, and the header does not say which key would open it.
    #[error("wrong private key, or the start of the file was altered")]
    WrongKeyOrAltered,
    /// The encapsulated key is none.
    #[error("the encapsulated key in the header was altered")]
    EncapsulatedKey,
    /// The file ends inside a block.
    #[error("the file is truncated: its last whole block ends at byte {offset}")]
    Truncated {
        /// Where the last whole block ends.
        offset: u64,
    },
    /// Whole blocks are missing at the end.
    #[error("the file is truncated: it was finished with {expected} blocks and has {found}")]
    MissingBlocks {
        /// Blocks when it was finished.
        expected: u64,
        /// Blocks found.
        found: u64,
    },
    /// The length of a block is not possible.
    #[error("the file was altered: the block at byte {offset} would have {length} bytes")]
    BlockLength {
        /// Where the block starts.
        offset: u64,
        /// Its length, tag included.
        length: u32,
    },
    /// A block does not open.
    #[error("the file was altered: the block at byte {offset} does not open")]
    Altered {
        /// Where the block starts.
        offset: u64,
    },
    /// A block opens, and does not hold packets.
    #[error("the block that ends at byte {offset} does not hold whole packets")]
    Malformed {
        /// Where the block ends.
        offset: u64,
    },
}

impl<'k> Opener<'k> {
    /// Starts on a new file.
    pub fn new(private_key: &'k RecipientPrivateKey) -> Self {
        Self {
            private_key,
            input: Vec::new(),
            consumed: 0,
            offset: 0,
            header: None,
            block: Vec::new(),
            read: 0,
            blocks: 0,
        }
    }

    /// Hands over the next bytes of the file.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.drain(..self.consumed);
        self.consumed = 0;
        self.input.extend_from_slice(bytes);
    }

    /// The header, once [`Opener::next_packet`] has come past it.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref().map(|(header, _)| header)
    }

    /// The next packet; `None` when more bytes are needed.
    ///
    /// # Errors
    /// Any but the truncations; the same error when called again.
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, OpenError> {
        if self.header.is_none() && !self.open_header()? {
            return Ok(None);
        }
        if self.read == self.block.len() && !self.open_block()? {
            return Ok(None);
        }
        let unread = self.block.get(self.read..).unwrap_or_default();
        match split_packet(unread) {
            Ok((packet, rest)) => {
                self.read = self.block.len() - rest.len();
                Ok(Some(packet))
            }
            Err(_) => Err(OpenError::Malformed { offset: self.offset }),
        }
    }

    /// Says whether the file may end here; to be called when all bytes were fed and all packets taken.
    /// A file that was never finished (a crash) may end after any whole block.
    ///
    /// # Errors
    /// The truncations.
    pub fn finish(&self) -> Result<(), OpenError> {
        let Some((header, _)) = &self.header else { return Err(OpenError::TruncatedHeader) };
        if self.consumed < self.input.len() {
            return Err(OpenError::Truncated { offset: self.offset });
        }
        match header.blocks {
            Some(expected) if expected != self.blocks => {
                Err(OpenError::MissingBlocks { expected, found: self.blocks })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn open_header(&mut self) -> Result<bool, OpenError> {
        let unread = self.input.get(self.consumed..).unwrap_or_default();
        let Some((prefix, rest)) = unread.split_first_chunk::<PREFIX>() else { return Ok(false) };
        let length = u32::from_be_bytes(*prefix);
        let size = checked(length, MAX_HEADER).ok_or(OpenError::OversizedHeader(length))?;
        let Some(text) = rest.get(..size) else { return Ok(false) };
        let header = Header::decode(text)?;
        let context = self.context(&header)?;
        self.header = Some((header, Box::new(context)));
        self.advance(PREFIX + size);
        Ok(true)
    }

    fn context(&self, header: &Header) -> Result<Context, OpenError> {
        let given = self.private_key.recipient_key().id();
        if let Some(sealed_to) = header.recipient.as_ref().filter(|id| **id != given) {
            return Err(OpenError::WrongKey { sealed_to: sealed_to.clone(), given });
        }
        let encapsulated = <Kem as hpke::Kem>::EncappedKey::from_bytes(&header.encapsulated_key)
            .map_err(|_| OpenError::EncapsulatedKey)?;
        let private_key = self.private_key.to_hpke();
        hpke::setup_receiver::<Aead, Kdf, Kem>(&OpModeR::Base, &private_key, &encapsulated, &[])
            .map_err(|_| OpenError::EncapsulatedKey)
    }

    fn open_block(&mut self) -> Result<bool, OpenError> {
        let unread = self.input.get(self.consumed..).unwrap_or_default();
        let Some((prefix, rest)) = unread.split_first_chunk::<PREFIX>() else { return Ok(false) };
        let length = u32::from_be_bytes(*prefix);
        let size = checked(length, MAX_BLOCK + TAG).filter(|size| *size > TAG);
        let size = size.ok_or(OpenError::BlockLength { offset: self.offset, length })?;
        let Some((ciphertext, tag)) = rest.get(..size).and_then(|body| body.split_last_chunk::<TAG>()) else {
            return Ok(false);
        };
        let Some((header, context)) = &mut self.header else { return Ok(false) };
        let altered = if self.blocks == 0 && header.recipient.is_none() {
            OpenError::WrongKeyOrAltered
        } else {
            OpenError::Altered { offset: self.offset }
        };
        let mut plaintext = ciphertext.to_vec();
        let opened = hpke::aead::AeadTag::<Aead>::from_bytes(tag)
            .and_then(|tag| context.open_inout_detached(plaintext.as_mut_slice().into(), &[], &tag));
        if opened.is_err() {
            return Err(altered);
        }
        self.block = plaintext;
        self.read = 0;
        self.blocks += 1;
        self.advance(PREFIX + size);
        Ok(true)
    }

    fn advance(&mut self, bytes: usize) {
        self.consumed += bytes;
        self.offset += bytes as u64;
    }
}

fn checked(length: u32, most: usize) -> Option<usize> {
    usize::try_from(length).ok().filter(|size| *size <= most)
}

/// What is whole of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// Where it ends, in bytes.
    pub end: u64,
    /// Blocks up to there.
    pub blocks: u64,
}

/// Finds what is whole of a file of `file_size` bytes, without a key; `read_at` fills a buffer from an offset. A
/// recorder cuts the file there after a crash. `None` when not even the header is whole.
///
/// A block that was half written when its writer ended reaches past the end of the file. After a loss of power a file
/// system may instead have zeros for what was not on the disk yet, from anywhere within the file on: a header or block
/// of no bytes, or one whose tag is zeros, was never written.
///
/// # Errors
/// Those of `read_at`.
pub fn whole_blocks<E>(
    file_size: u64,
    mut read_at: impl FnMut(&mut [u8], u64) -> Result<(), E>,
) -> Result<Option<Whole>, E> {
    let mut whole: Option<Whole> = None;
    loop {
        let offset = whole.map_or(0, |whole| whole.end);
        if offset + PREFIX as u64 > file_size {
            return Ok(whole);
        }
        let mut prefix = [0; PREFIX];
        read_at(&mut prefix, offset)?;
        let length = u64::from(u32::from_be_bytes(prefix));
        let end = offset + PREFIX as u64 + length;
        // Where it has one; what is too short for a tag is for who opens the file to tell.
        let mut tag = [u8::from(length != 0); TAG];
        if length >= TAG as u64 && end <= file_size {
            read_at(&mut tag, end - TAG as u64)?;
        }
        if end > file_size || tag == [0; TAG] {
            return Ok(whole);
        }
        whole = Some(Whole { end, blocks: whole.map_or(0, |whole| whole.blocks + 1) });
    }
}
