//! The proof of the record: what a gateway signs about its recordings, and how that is checked.
//!
//! Owns the signed documents (the manifest of a session, the head of the chain, the succession of
//! keys, what was deleted after shipping), the audit key that signs them, the walk over a sealed file
//! that yields what a manifest says of it, and the rules of the chain over sessions. The format is
//! docs/log-format.md, section "Manifest and chain".
//!
//! Invariants: what is read was signed by a trusted key, to the byte; nothing about user, target or
//! command stands in a document; a manifest has exactly one predecessor, named by its SHA-256.
//!
//! Deliberately absent: files, clocks and random numbers (all passed in), and when a document is made.

mod chain;
mod content;
mod digest;
mod document;
mod key;
mod scan;

pub use chain::{Chain, ChainFinding, Link};
pub use content::{ChainHead, ChainId, Ended, FileEntry, FileFault, KeySuccession, Manifest, Shipped};
pub use digest::Sha256;
pub use document::{DocumentError, Signed, SignedContent, read, read_unproven, sign};
pub use key::{AuditKey, AuditKeyError, AuditPublicKey, TrustedKeys};
pub use scan::{FileFacts, FileScan};

#[cfg(test)]
mod tests;
