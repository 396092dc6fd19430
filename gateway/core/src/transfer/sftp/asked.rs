//! Requests, as far as their answers have to be understood.

use super::files::{FileNumber, Files};
use super::kind;
use crate::record::{Change, FileChange, FileOutcome, Text};
use crate::transfer::fields::Fields;

/// A request that is not answered; small, as a client may have a hundred thousand.
pub(super) enum Asked {
    Read {
        file: FileNumber,
        offset: u64,
    },
    Write {
        file: FileNumber,
        offset: u64,
        refused: bool,
    },
    Close {
        file: FileNumber,
    },
    Fstat {
        file: FileNumber,
    },
    Named(Box<Named>),
    /// One whose answer says nothing about files.
    Other,
}

/// One that holds names.
pub(super) enum Named {
    Open { path: Text, flags: u32, started_us: u64, refused: bool },
    Change { change: FileChange, refused: bool },
    Stat { path: Text },
    Home,
}

impl Asked {
    /// Reads a request by its type and its fields after the id; `None` when it is malformed.
    pub(super) fn read(
        kind: u8,
        mut fields: Fields<'_>,
        files: &Files,
        refused: bool,
        now: u64,
    ) -> Option<Self> {
        let (path, change) = match kind {
            kind::CLOSE | kind::READ | kind::WRITE | kind::FSTAT => {
                return Self::of_handle(kind, fields, files, refused);
            }
            kind::OPEN => {
                let path = files.path(fields.string()?);
                let open = Named::Open { path, flags: fields.u32()?, started_us: now, refused };
                return Some(Self::named(open));
            }
            kind::STAT | kind::LSTAT => {
                return Some(Self::named(Named::Stat { path: files.path(fields.string()?) }));
            }
            kind::REALPATH => {
                let asks_home = matches!(fields.string()?, b"" | b".") && !files.knows_home();
                return Some(if asks_home { Self::named(Named::Home) } else { Self::Other });
            }
            kind::EXTENDED => match of_extended(fields, files)? {
                Some(change) => change,
                None => return Some(Self::Other),
            },
            kind::SETSTAT => (files.path(fields.string()?), Change::Setstat),
            kind::FSETSTAT => (files.path_of(fields.string()?), Change::Setstat),
            kind::REMOVE => (files.path(fields.string()?), Change::Remove),
            kind::MKDIR => (files.path(fields.string()?), Change::Mkdir),
            kind::RMDIR => (files.path(fields.string()?), Change::Rmdir),
            kind::RENAME => {
                (files.path(fields.string()?), Change::Rename { to: files.path(fields.string()?) })
            }
            kind::SYMLINK => {
                // OpenSSH has the two the other way round than the draft, and so have all that talk to it.
                let to = fields.string()?.into();
                (files.path(fields.string()?), Change::Symlink { to })
            }
            _ => return Some(Self::Other),
        };
        let change = FileChange { path, change, outcome: FileOutcome::Partial };
        Some(Self::named(Named::Change { change, refused }))
    }

    fn of_handle(kind: u8, mut fields: Fields<'_>, files: &Files, refused: bool) -> Option<Self> {
        let Some(file) = files.number(fields.string()?) else { return Some(Self::Other) };
        Some(match kind {
            kind::READ => Self::Read { file, offset: fields.u64()? },
            kind::WRITE => Self::Write { file, offset: fields.u64()?, refused },
            kind::CLOSE => Self::Close { file },
            _ => Self::Fstat { file },
        })
    }

    fn named(named: Named) -> Self {
        Self::Named(Box::new(named))
    }

    /// Bytes of names in it.
    pub(super) fn names(&self) -> usize {
        let Self::Named(named) = self else { return 0 };
        match &**named {
            Named::Open { path, .. } | Named::Stat { path } => path.0.len(),
            Named::Change { change, .. } => change.path.0.len() + second_name(&change.change),
            Named::Home => 0,
        }
    }
}

const fn second_name(change: &Change) -> usize {
    match change {
        Change::Rename { to }
        | Change::Symlink { to }
        | Change::Hardlink { to }
        | Change::CopyData { to }
        | Change::Extended { name: to } => to.0.len(),
        Change::Remove | Change::Mkdir | Change::Rmdir | Change::Setstat => 0,
    }
}

/// What an extended request changes, if anything (OpenSSH's PROTOCOL file, section 4).
fn of_extended(mut fields: Fields<'_>, files: &Files) -> Option<Option<(Text, Change)>> {
    let name = fields.string()?;
    Some(Some(match name {
        b"posix-rename@openssh.com" => {
            (files.path(fields.string()?), Change::Rename { to: files.path(fields.string()?) })
        }
        b"hardlink@openssh.com" => {
            (files.path(fields.string()?), Change::Hardlink { to: files.path(fields.string()?) })
        }
        b"lsetstat@openssh.com" => (files.path(fields.string()?), Change::Setstat),
        b"copy-data" => {
            let from = files.path_of(fields.string()?);
            // Offset and length.
            fields.u64()?;
            fields.u64()?;
            (from, Change::CopyData { to: files.path_of(fields.string()?) })
        }
        b"fsync@openssh.com"
        | b"statvfs@openssh.com"
        | b"fstatvfs@openssh.com"
        | b"limits@openssh.com"
        | b"expand-path@openssh.com"
        | b"users-groups-by-id@openssh.com"
        | b"home-directory" => return Some(None),
        _ => (Text::default(), Change::Extended { name: name.into() }),
    }))
}
