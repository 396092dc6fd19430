//! What a request needs.
//!
//! Reading a file is a download; whatever changes something at the target is an upload, be it contents, names,
//! attributes or links. Looking (lists, attributes, paths) needs nothing. What is not known needs both, so that it is
//! refused as soon as anything is.

use super::super::fields::Fields;
use super::kind;
use crate::infrastructure::TransferRights;

const NOTHING: TransferRights = TransferRights::NONE;
const DOWNLOAD: TransferRights = TransferRights { upload: false, download: true };
const UPLOAD: TransferRights = TransferRights { upload: true, download: false };
const BOTH: TransferRights = TransferRights::ALL;

/// Flags of an OPEN (draft, section 6.3).
pub(super) mod flag {
    pub(in super::super) const READ: u32 = 1;
    pub(in super::super) const WRITE: u32 = 2;
}

/// What a request needs, by its type and its fields after the id. Of an OPEN path and flags must be there, of an
/// EXTENDED the name; what cannot be read counts as not known.
pub(super) fn needed(request: u8, fields: &[u8]) -> TransferRights {
    match request {
        kind::INIT
        | kind::CLOSE
        | kind::LSTAT
        | kind::FSTAT
        | kind::OPENDIR
        | kind::READDIR
        | kind::REALPATH
        | kind::STAT
        | kind::READLINK => NOTHING,
        kind::READ => DOWNLOAD,
        kind::WRITE
        | kind::SETSTAT
        | kind::FSETSTAT
        | kind::REMOVE
        | kind::MKDIR
        | kind::RMDIR
        | kind::RENAME
        | kind::SYMLINK => UPLOAD,
        kind::OPEN => of_open(fields).unwrap_or(BOTH),
        kind::EXTENDED => Fields(fields).string().map_or(BOTH, of_extended),
        _ => BOTH,
    }
}

/// OpenSSH's server opens for reading unless WRITE alone is set, whatever else is.
fn of_open(fields: &[u8]) -> Option<TransferRights> {
    let mut fields = Fields(fields);
    fields.string()?;
    Some(of_flags(fields.u32()?))
}

/// What flags of an OPEN need.
pub(super) const fn of_flags(flags: u32) -> TransferRights {
    let reads = flags & flag::READ != 0 || flags & flag::WRITE == 0;
    TransferRights { upload: flags & !flag::READ != 0, download: reads }
}

/// OpenSSH's PROTOCOL file, section 4, and draft-ietf-secsh-filexfer-extensions-00.
fn of_extended(name: &[u8]) -> TransferRights {
    match name {
        b"statvfs@openssh.com"
        | b"fstatvfs@openssh.com"
        | b"limits@openssh.com"
        | b"expand-path@openssh.com"
        | b"users-groups-by-id@openssh.com"
        | b"home-directory" => NOTHING,
        b"posix-rename@openssh.com"
        | b"hardlink@openssh.com"
        | b"fsync@openssh.com"
        | b"lsetstat@openssh.com" => UPLOAD,
        _ => BOTH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(flags: u32) -> TransferRights {
        needed(kind::OPEN, &[&b"\0\0\0\x01x"[..], &flags.to_be_bytes(), b"\0\0\0\0"].concat())
    }

    #[test]
    fn an_open_needs_what_its_flags_let_the_server_do() {
        assert_eq!(open(1), DOWNLOAD);
        assert_eq!(open(0), DOWNLOAD, "OpenSSH opens it for reading");
        for flags in [2, 2 | 8 | 16, 2 | 4, 2 | 8 | 32] {
            assert_eq!(open(flags), UPLOAD, "{flags}");
        }
        for flags in [3, 1 | 8, 4, 8, 16, 64] {
            assert_eq!(open(flags), BOTH, "{flags}");
        }
    }

    #[test]
    fn what_is_not_known_or_not_whole_needs_both() {
        for request in [0, 2, 21, 22, 99, 101, 201, 255] {
            assert_eq!(needed(request, b""), BOTH, "{request}");
        }
        assert_eq!(needed(kind::OPEN, b"\0\0\0\x09x"), BOTH);
        assert_eq!(needed(kind::EXTENDED, b"\0\0\0\x09copy-data"), BOTH);
        assert_eq!(needed(kind::EXTENDED, b"\0\0\0\x0eversion-select"), BOTH);
        assert_eq!(needed(kind::EXTENDED, b""), BOTH);
    }
}
