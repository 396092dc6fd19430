//! What can be said of a sealed file without its key: one walk over its bytes.
//!
//! A [`FileScan`] is fed the file in pieces of any size. It keeps the header, at most a mebibyte, and
//! nothing else.

use aws_lc_rs::digest;

use super::Sha256;
use crate::envelope::{Header, MAX_HEADER};

/// Walks over one file.
pub struct FileScan {
    hash: digest::Context,
    size: u64,
    /// The length prefix that is being read, and how many bytes of it are there.
    prefix: ([u8; 4], usize),
    /// Bytes that the header or block still has.
    left: u64,
    /// Base64 of the header.
    text: Vec<u8>,
    header_sha256: Option<Sha256>,
    blocks: u64,
}

/// What a walk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Bytes of the file.
    pub size: u64,
    /// Of the whole file.
    pub sha256: Sha256,
    /// Of the length prefix and the base64 of the header; of the whole file if it ends before that.
    pub header_sha256: Sha256,
    /// The header, if it can be read.
    pub header: Option<Header>,
    /// Whole blocks.
    pub blocks: u64,
}

impl Default for FileScan {
    fn default() -> Self {
        Self {
            hash: digest::Context::new(&digest::SHA256),
            size: 0,
            prefix: ([0; 4], 0),
            left: 0,
            text: Vec::new(),
            header_sha256: None,
            blocks: 0,
        }
    }
}

impl FileScan {
    /// Takes the next bytes of the file.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = if self.left == 0 { self.take_prefix(rest) } else { self.take_body(rest) };
            let (part, after) = rest.split_at_checked(taken).unwrap_or((rest, &[]));
            self.hash.update(part);
            self.size += part.len() as u64;
            if self.left == 0 && self.prefix.1 == self.prefix.0.len() {
                self.frame_ends();
            }
            rest = after;
        }
    }

    /// What the file is, once all of it was fed.
    pub fn finish(self) -> FileFacts {
        let sha256 = Sha256::from_digest(&self.hash.finish());
        FileFacts {
            size: self.size,
            sha256,
            header_sha256: self.header_sha256.unwrap_or(sha256),
            header: self.header_sha256.and_then(|_| Header::decode(&self.text).ok()),
            blocks: self.blocks,
        }
    }

    /// How many bytes of `rest` belong to the length prefix.
    fn take_prefix(&mut self, rest: &[u8]) -> usize {
        let (prefix, have) = &mut self.prefix;
        if *have == prefix.len() {
            *have = 0;
        }
        let mut taken = 0;
        for (slot, byte) in prefix.iter_mut().skip(*have).zip(rest) {
            *slot = *byte;
            taken += 1;
        }
        *have += taken;
        if *have == prefix.len() {
            self.left = u64::from(u32::from_be_bytes(*prefix));
        }
        taken
    }

    /// How many bytes of `rest` belong to the header or block.
    fn take_body(&mut self, rest: &[u8]) -> usize {
        let taken = usize::try_from(self.left).map_or(rest.len(), |left| left.min(rest.len()));
        if self.header_sha256.is_none() && self.text.len() + taken <= MAX_HEADER {
            self.text.extend_from_slice(rest.get(..taken).unwrap_or_default());
        }
        self.left -= taken as u64;
        taken
    }

    fn frame_ends(&mut self) {
        if self.header_sha256.is_none() {
            self.header_sha256 = Some(Sha256::from_digest(&self.hash.clone().finish()));
        } else {
            self.blocks += 1;
        }
    }
}
