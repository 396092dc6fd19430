//! What the record says of files that were transferred or changed.
//!
//! Paths are as they were asked for, joined to the directory that the target started in where that is known.
//! Deliberately absent: how it is found out (`transfer`).

use serde::{Deserialize, Serialize};

use super::Text;

/// A file that was read from or written to a target, or was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTransfer {
    /// How it was transferred.
    pub protocol: TransferProtocol,
    /// The path at the target: for sftp that of the file, for scp and rsync what their command line names.
    pub path: Text,
    /// For scp the name in the protocol, below the directories that it went down to: the file is `path`, or
    /// `name` in `path` where that is a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text>,
    /// Which way it was asked for.
    pub direction: TransferDirection,
    /// Bytes of the file that went to the target; for rsync bytes of its protocol.
    pub uploaded: u64,
    /// Bytes of the file that came from the target; for rsync bytes of its protocol.
    pub downloaded: u64,
    /// SHA-256 of the whole file as it was transferred, in hexadecimal.
    pub sha256: Option<String>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256_missing: Option<HashMissing>,
    /// Microseconds from the session's start to when it was asked for.
    pub started_us: u64,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: FileOutcome,
}

/// A change at a target that moves no contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// What it is about; empty for a request that names no file.
    pub path: Text,
    /// What was asked for.
    #[serde(flatten)]
    pub change: Change,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: FileOutcome,
}

/// How a file was transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferProtocol {
    /// The SSH file transfer protocol; also what `scp` uses since OpenSSH 9.0.
    Sftp,
    /// The protocol of `rcp`: `scp -O`.
    Scp,
    /// One run of rsync; its files are not told apart.
    Rsync,
}

/// Which way a file was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferDirection {
    /// To the target.
    Upload,
    /// From the target.
    Download,
    /// Opened for reading and writing.
    Both,
}

/// What was changed at a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// A file was renamed.
    Rename {
        /// Its new path.
        to: Text,
    },
    /// A file was removed.
    Remove,
    /// A directory was made.
    Mkdir,
    /// A directory was removed.
    Rmdir,
    /// Size, owner, mode or times were set.
    Setstat,
    /// A symbolic link was made at the path.
    Symlink {
        /// What it points to.
        to: Text,
    },
    /// A further name of the file was made.
    Hardlink {
        /// The further name.
        to: Text,
    },
    /// The target copied contents of the file itself.
    CopyData {
        /// The file that they were copied to.
        to: Text,
    },
    /// An extended request that is not known here.
    Extended {
        /// Its name.
        name: Text,
    },
}

/// What came of a transfer or a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum FileOutcome {
    /// All of it was done.
    Complete,
    /// It was cut, or less was read than the file holds; a change that was not answered.
    Partial,
    /// The target or the user's program could not.
    Failed {
        /// What it said.
        status: Text,
    },
    /// Policy does not grant it; the target did not get to see it.
    Refused,
    /// Not looked into: how its program ended is in the channel's `exit`.
    NotFollowed,
}

/// Why there is no SHA-256 of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashMissing {
    /// The file was not transferred whole.
    Incomplete,
    /// Its pieces came in an order that could not be put right in bounded memory.
    OutOfOrder,
    /// A part of it was transferred twice.
    Overlapping,
    /// A part of it was not transferred.
    Gap,
    /// It was both read and written.
    BothDirections,
    /// The protocol is not looked into.
    NotFollowed,
}
