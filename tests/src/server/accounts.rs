//! The server's accounts: names, homes, and keys that may log in.
//!
//! No account has a password; `*` (and not `!`) keeps sshd from taking them for locked.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The account that the default policy grants.
pub const LOGIN: &str = "alice";
/// An account that the default policy does not grant.
pub const DENIED_LOGIN: &str = "deploy";
/// A third account, for log-ins that start on the server.
pub const OTHER_LOGIN: &str = "bob";

const ACCOUNTS: [(&str, u32); 3] = [(LOGIN, 61_001), (DENIED_LOGIN, 61_002), (OTHER_LOGIN, 61_003)];

/// Home directory of an account, as a path outside the server.
pub(super) fn home(root: &Path, login: &str) -> PathBuf {
    root.join("home").join(login)
}

/// Writes passwd, shadow, group and gshadow below `root/etc`, and the homes below `root/home`.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write(root: &Path) -> Result<()> {
    let mut passwd = String::from("root:x:0:0:root:/root:/bin/bash\n");
    passwd += "sshd:x:61000:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n";
    let mut group = String::from("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n");
    let mut shadow = String::from("root:*:20000::::::\nsshd:*:20000::::::\nnobody:*:20000::::::\n");
    for (login, id) in ACCOUNTS {
        passwd += &format!("{login}:x:{id}:{id}::/home/{login}:/bin/bash\n");
        group += &format!("{login}:x:{id}:\n");
        shadow += &format!("{login}:*:20000::::::\n");
        let home = home(root, login);
        fs::create_dir_all(&home)?;
        // The same prompt on every machine, so that transcripts can be compared.
        fs::write(home.join(".bashrc"), "PS1='$ '\n")?;
        fs::write(home.join(".profile"), "[ -z \"$BASH\" ] || . ~/.bashrc\n")?;
        for path in [home.join(".bashrc"), home.join(".profile"), home] {
            chown(&path, Some(id), Some(id))?;
        }
    }
    fs::write(root.join("etc/passwd"), passwd)?;
    fs::write(root.join("etc/group"), &group)?;
    fs::write(root.join("etc/shadow"), shadow)?;
    fs::write(root.join("etc/gshadow"), group.replace(":x:", ":*:"))?;
    for secret in ["etc/shadow", "etc/gshadow"] {
        fs::set_permissions(root.join(secret), Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Adds a key to an account's authorized keys below `root`.
///
/// # Errors
/// When the file cannot be written, or there is no such account.
pub(crate) fn authorize_key(root: &Path, login: &str, public_key: &str) -> Result<()> {
    let id = ACCOUNTS.iter().find(|(name, _)| *name == login).map(|(_, id)| *id);
    let id = id.with_context(|| format!("the server has no account {login}"))?;
    let dir = home(root, login).join(".ssh");
    fs::create_dir_all(&dir)?;
    let file = dir.join("authorized_keys");
    let mut keys = fs::read_to_string(&file).unwrap_or_default();
    keys += public_key;
    fs::write(&file, keys)?;
    for (path, mode) in [(&dir, 0o700), (&file, 0o600)] {
        chown(path, Some(id), Some(id))?;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}
