//! What the documents say. Nothing here is about a user, a target or a command.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::document::SignedContent;
use super::{AuditPublicKey, FileFacts, Sha256};
use crate::envelope::LogKind;

/// Names a chain: 128 random bits, drawn when a gateway signs for the first time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(#[serde(with = "hex::serde")] [u8; 16]);

/// What a session directory holds, and its place in the chain. Its file is `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The chain that it belongs to.
    pub chain: ChainId,
    /// Its number in the chain; the first is 1.
    pub sequence: u64,
    /// SHA-256 of the file of the manifest before it; [`Sha256::NONE`] for the first.
    pub previous: Sha256,
    /// Name of the session's directory.
    pub directory: String,
    /// Start of the session, milliseconds since 1970.
    pub started_ms: u64,
    /// When the manifest was made, milliseconds since 1970.
    pub closed_ms: u64,
    /// How the recording ended.
    pub ended: Ended,
    /// Every other file of the directory, ordered by path.
    pub files: Vec<FileEntry>,
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// With its last event.
    Finished,
    /// Without one: the gateway gave it up, or a file could not be written to the end.
    Abandoned,
    /// A crash; the next start closed what was there.
    Crash,
}

/// One sealed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path below the session's directory, parts joined by `/`.
    pub path: String,
    /// What it holds; absent if its header cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<LogKind>,
    /// Id of the key it is sealed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Number of the segment in its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<u32>,
    /// Whether the log ends with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
    /// Bytes.
    pub size: u64,
    /// Whole blocks.
    pub blocks: u64,
    /// Of the whole file, as it finally is.
    pub sha256: Sha256,
    /// Of its header with the length prefix, so that a changed header is told from changed blocks.
    pub header_sha256: Sha256,
}

/// How a file differs from its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFault {
    /// Its end is missing.
    Cut {
        /// Bytes that are there.
        size: u64,
        /// Bytes that were there.
        expected: u64,
    },
    /// Something was added at its end.
    Grown {
        /// Bytes that are there.
        size: u64,
        /// Bytes that were there.
        expected: u64,
    },
    /// Its header was changed.
    Header,
    /// Its header is as it was, its blocks are not.
    Blocks,
}

/// How far the chain had come at some time. Its file is `heads/<chain>-<sequence>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// The chain.
    pub chain: ChainId,
    /// Number of its newest manifest.
    pub sequence: u64,
    /// SHA-256 of that manifest's file.
    pub manifest: Sha256,
    /// When, milliseconds since 1970.
    pub time_ms: u64,
}

/// A key takes over from the one that signs this. Its file is `heads/key-<id of the successor>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySuccession {
    /// The key that signs from now on.
    pub successor: AuditPublicKey,
    /// When, milliseconds since 1970.
    pub time_ms: u64,
}

/// A session that the gateway deleted from the spool: a destination has confirmed it, or it might go without. One document of
/// `shipped.log`, which is a list of documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipped {
    /// The chain of its manifest.
    pub chain: ChainId,
    /// The number of its manifest.
    pub sequence: u64,
    /// SHA-256 of its manifest's file.
    pub manifest: Sha256,
    /// Name of its directory.
    pub directory: String,
    /// Name of the destination that confirmed it; empty where it was deleted without being shipped.
    pub destination: String,
    /// When it was deleted, milliseconds since 1970.
    pub time_ms: u64,
}

impl SignedContent for Manifest {
    const NAMESPACE: &'static str = "portreeve-manifest";
}

impl SignedContent for ChainHead {
    const NAMESPACE: &'static str = "portreeve-head";
}

impl SignedContent for KeySuccession {
    const NAMESPACE: &'static str = "portreeve-key";
}

impl SignedContent for Shipped {
    const NAMESPACE: &'static str = "portreeve-shipped";
}

impl Manifest {
    /// Name of the file.
    pub const FILE: &'static str = "manifest.json";

    /// Most bytes of the file that a reader accepts: some 200,000 sealed files.
    pub const MAX_SIZE: u64 = 64 * 1024 * 1024;
}

impl FileEntry {
    /// The entry of a file at `path` below the session's directory.
    pub fn new(path: String, facts: &FileFacts) -> Self {
        Self {
            path,
            kind: facts.header.as_ref().and_then(|header| header.kind),
            recipient: facts.header.as_ref().and_then(|header| header.recipient.clone()),
            segment: facts.header.as_ref().and_then(|header| header.segment),
            last: facts.header.as_ref().is_some_and(|header| header.last),
            size: facts.size,
            blocks: facts.blocks,
            sha256: facts.sha256,
            header_sha256: facts.header_sha256,
        }
    }

    /// Whether the path leads to a file below the directory and nowhere else.
    pub fn path_is_safe(&self) -> bool {
        let parts = || self.path.split('/');
        parts().count() <= 2 && parts().all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
    }

    /// How a file differs from what it was; empty where it does not.
    pub fn compare(&self, facts: &FileFacts) -> Vec<FileFault> {
        let (size, expected) = (facts.size, self.size);
        let mut faults = Vec::new();
        match size.cmp(&expected) {
            std::cmp::Ordering::Less => faults.push(FileFault::Cut { size, expected }),
            std::cmp::Ordering::Greater => faults.push(FileFault::Grown { size, expected }),
            std::cmp::Ordering::Equal => {}
        }
        if facts.header_sha256 != self.header_sha256 {
            faults.push(FileFault::Header);
        } else if facts.sha256 != self.sha256 && faults.is_empty() {
            faults.push(FileFault::Blocks);
        }
        faults
    }
}

impl ChainHead {
    /// Name of the file: chains of several gateways do not collide where they are shipped to one place.
    pub fn file_name(&self) -> String {
        format!("{}-{}.json", self.chain, self.sequence)
    }
}

impl KeySuccession {
    /// Name of the file.
    pub fn file_name(&self) -> String {
        format!("key-{}.json", self.successor.id())
    }
}

impl ChainId {
    /// Makes an id from 16 random bytes.
    pub const fn from_random_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { size, expected } => write!(f, "cut: {size} of {expected} bytes are there"),
            Self::Grown { size, expected } => {
                write!(f, "altered: it has {size} bytes, not {expected}")
            }
            Self::Header => f.write_str("altered: its header was changed"),
            Self::Blocks => f.write_str("altered: its blocks were changed"),
        }
    }
}
