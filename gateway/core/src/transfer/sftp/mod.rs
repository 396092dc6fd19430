//! The SSH file transfer protocol, version 3, as OpenSSH speaks it (draft-ietf-secsh-filexfer-02; OpenSSH's PROTOCOL
//! file, section 4).
//!
//! A packet is u32 length, u8 type, then for all but INIT and VERSION u32 request id, and fields. [`frames`] cuts a
//! stream into packets, [`rights`] says what a request needs, [`inspect`] finds what became of files, [`SftpGate`] keeps
//! from the target what is not granted.

mod asked;
mod files;
mod frames;
mod gate;
mod inspect;
mod open_file;
mod rights;

use thiserror::Error;

pub use gate::SftpGate;
pub(super) use inspect::{Found, SftpInspector};

/// The longest packet: OpenSSH's limit of 256 KiB, and room for the fields around that much data.
const MAX_PACKET: u32 = 257 * 1024;

/// Types of packets (draft, section 3).
mod kind {
    pub(super) const INIT: u8 = 1;
    pub(super) const VERSION: u8 = 2;
    pub(super) const OPEN: u8 = 3;
    pub(super) const CLOSE: u8 = 4;
    pub(super) const READ: u8 = 5;
    pub(super) const WRITE: u8 = 6;
    pub(super) const LSTAT: u8 = 7;
    pub(super) const FSTAT: u8 = 8;
    pub(super) const SETSTAT: u8 = 9;
    pub(super) const FSETSTAT: u8 = 10;
    pub(super) const OPENDIR: u8 = 11;
    pub(super) const READDIR: u8 = 12;
    pub(super) const REMOVE: u8 = 13;
    pub(super) const MKDIR: u8 = 14;
    pub(super) const RMDIR: u8 = 15;
    pub(super) const REALPATH: u8 = 16;
    pub(super) const STAT: u8 = 17;
    pub(super) const RENAME: u8 = 18;
    pub(super) const READLINK: u8 = 19;
    pub(super) const SYMLINK: u8 = 20;
    pub(super) const STATUS: u8 = 101;
    pub(super) const HANDLE: u8 = 102;
    pub(super) const DATA: u8 = 103;
    pub(super) const NAME: u8 = 104;
    pub(super) const ATTRS: u8 = 105;
    pub(super) const EXTENDED: u8 = 200;
}

/// Codes of a STATUS (draft, section 7).
mod code {
    pub(super) const OK: u32 = 0;
    pub(super) const EOF: u32 = 1;
    pub(super) const PERMISSION_DENIED: u32 = 3;
}

/// Why an sftp channel cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SftpFault {
    /// A packet that is too long or empty; also what a shell says before sftp begins.
    #[error("not a packet of sftp: a length of {0} bytes")]
    Length(u32),
    /// A packet whose fields are not those of its type.
    #[error("a malformed sftp packet of type {0}")]
    Malformed(u8),
    /// A name that is too long to be held back until it can be judged.
    #[error("a name in an sftp request is longer than {0} bytes")]
    LongName(usize),
    /// Too many requests that are not answered.
    #[error("more than {0} sftp requests are not answered")]
    Outstanding(usize),
    /// Too many files are open at a time.
    #[error("more than {0} files are open by sftp")]
    OpenFiles(usize),
    /// The target speaks a version that cannot be judged.
    #[error("the target speaks version {0} of sftp, though 3 was asked for")]
    Version(u32),
}
