//! What a session may do beside running commands.

use std::fmt;

use serde::Serialize;

/// What a session may do beside running commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SshPermissions {
    /// Terminals.
    pub pty: bool,
    /// TCP and unix-socket forwards.
    pub port_forwarding: bool,
    /// Agent forwarding.
    pub agent_forwarding: bool,
    /// X11 forwarding.
    pub x11_forwarding: bool,
    /// `~/.ssh/rc` on the target.
    pub user_rc: bool,
    /// Files by sftp, scp and rsync.
    pub file_transfer: TransferRights,
}

/// Which way files may be transferred; `Display` is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TransferRights {
    /// To the target, and changes there.
    pub upload: bool,
    /// From the target.
    pub download: bool,
}

impl TransferRights {
    /// Both ways.
    pub const ALL: Self = Self { upload: true, download: true };

    /// Neither way.
    pub const NONE: Self = Self { upload: false, download: false };

    /// Whether nothing is missing.
    #[must_use]
    pub const fn is_all(self) -> bool {
        self.upload && self.download
    }

    /// Whether these allow all that `needed` does.
    #[must_use]
    pub const fn cover(self, needed: Self) -> bool {
        (self.upload || !needed.upload) && (self.download || !needed.download)
    }

    /// What either allows.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self { upload: self.upload || other.upload, download: self.download || other.download }
    }
}

impl fmt::Display for TransferRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.upload, self.download) {
            (true, true) => "files both ways",
            (true, false) => "files to the target only",
            (false, true) => "files from the target only",
            (false, false) => "no files",
        })
    }
}

impl SshPermissions {
    /// Everything, which is what a policy grants that says nothing about it.
    pub const ALL: Self = Self {
        pty: true,
        port_forwarding: true,
        agent_forwarding: true,
        x11_forwarding: true,
        user_rc: true,
        file_transfer: TransferRights::ALL,
    };

    /// Commands only.
    pub const NONE: Self = Self {
        pty: false,
        port_forwarding: false,
        agent_forwarding: false,
        x11_forwarding: false,
        user_rc: false,
        file_transfer: TransferRights::NONE,
    };

    /// What either permits.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self {
            pty: self.pty || other.pty,
            port_forwarding: self.port_forwarding || other.port_forwarding,
            agent_forwarding: self.agent_forwarding || other.agent_forwarding,
            x11_forwarding: self.x11_forwarding || other.x11_forwarding,
            user_rc: self.user_rc || other.user_rc,
            file_transfer: self.file_transfer.union(other.file_transfer),
        }
    }
}
