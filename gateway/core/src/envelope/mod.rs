//! The sealed log format: what docs/log-format.md says, and nothing else.
//!
//! Owns the recipient's keys, the clear header, the packets inside, sealing and opening. A file is
//! readable only with the recipient's private key, which the gateway never holds, and every file
//! opens with the public `ssh-log-cli`.
//!
//! Invariants: one HPKE context per file, its sequence starts at 0 and is never resumed; a block
//! holds whole packets, is never empty, and has at most [`MAX_BLOCK`] bytes of plaintext; the
//! elapsed time of a packet is never below that of the packet before it.
//!
//! Deliberately absent: files, clocks and random numbers (all passed in), and authenticity of the
//! header and of the tail, which this format does not have.

mod cipher;
mod header;
mod keys;
mod name;
mod open;
mod packet;
mod seal;

pub(crate) use header::MAX_HEADER;
pub use header::{ExitHeader, FRAMED_HEADER, Header, HeaderError, LogKind, PtyHeader, RESERVED_HEADER};
pub use keys::{RecipientKey, RecipientKeyError, RecipientPrivateKey};
pub use name::{LogName, NotASegment, SegmentName};
pub use open::{OpenError, Opener, Whole, whole_blocks};
pub use packet::{Batch, Packer, Packet};
pub use seal::{SealError, Sealer};

/// Most plaintext bytes in one block.
pub const MAX_BLOCK: usize = 64 * 1024;

/// Bytes of the tag that follows each block's ciphertext (RFC 8439 section 2.8).
const TAG: usize = 16;

/// Bytes of a length prefix.
const PREFIX: usize = 4;

type Kem = hpke::kem::X25519HkdfSha256;
type Kdf = hpke::kdf::HkdfSha256;
type Aead = cipher::ChaCha20Poly1305;

#[cfg(test)]
mod tests;
