//! The audit key's file, and the succession of keys.
//!
//! `STATE/audit_key` is the key that signs, in OpenSSH's private key format, mode 0600. Who takes over from
//! whom is in `STATE/audit_chain/key-<id of the successor>.json`, signed by the key that goes. A rotation
//! that was cut is completed by the next one: the successor waits in `STATE/audit_key.new`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use portreeve_core::manifest::{AuditKey, AuditPublicKey, KeySuccession, Signed, read_unproven, sign};
use portreeve_core::utc::UtcTime;
use zeroize::Zeroizing;

use super::chain::lock;
use super::files::{self, Durability};
use super::{AuditError, journal};
use crate::secret_file::{self, SecretFileError};

const KEY_FILE: &str = "audit_key";
const NEXT_KEY_FILE: &str = "audit_key.new";

/// Loads the key, making it at first start.
pub(super) fn load_or_make(state_dir: &Path) -> Result<AuditKey, AuditError> {
    find(state_dir)?.map_or_else(|| make(&state_dir.join(KEY_FILE)), Ok)
}

/// Whether there is a key; where there is none, the first start makes it.
///
/// # Errors
/// [`AuditError`] when a gateway could not start with what is there.
pub fn is_made(state_dir: &Path) -> Result<bool, AuditError> {
    find(state_dir).map(|key| key.is_some())
}

/// The key, if it was made.
fn find(state_dir: &Path) -> Result<Option<AuditKey>, AuditError> {
    match load(state_dir) {
        Err(AuditError::KeyFile(SecretFileError::Io { source, .. }))
            if source.kind() == io::ErrorKind::NotFound =>
        {
            let chain = super::chain::directory(state_dir);
            if journal::exists(&chain) {
                return Err(AuditError::KeyMissing { key: state_dir.join(KEY_FILE), chain });
            }
            Ok(None)
        }
        loaded => loaded.map(Some),
    }
}

/// Loads the key.
pub(super) fn load(state_dir: &Path) -> Result<AuditKey, AuditError> {
    read(&state_dir.join(KEY_FILE))
}

/// The key that signs, and those before it, newest first.
///
/// # Errors
/// [`AuditError`] when there is no key yet, or a file is not what it should be.
pub fn public_keys(state_dir: &Path) -> Result<Vec<AuditPublicKey>, AuditError> {
    let mut keys = vec![load(state_dir)?.public_key()];
    let mut successions = successions(state_dir)?;
    // Each is followed once, so this ends.
    while let Some(at) = successions.iter().position(|(_, one)| keys.last() == Some(&one.content.successor)) {
        keys.push(successions.swap_remove(at).1.signer);
    }
    Ok(keys)
}

/// Makes another key, which signs from now on; a gateway that runs uses it from its next signature on.
///
/// # Errors
/// [`AuditError`]; the key in force is then the old or the new one, and another call completes it.
pub fn rotate(state_dir: &Path, now: UtcTime) -> Result<AuditPublicKey, AuditError> {
    let chain = super::chain::directory(state_dir);
    files::make_directory(&chain)?;
    let _lock = lock(&chain)?;
    let (path, next) = (state_dir.join(KEY_FILE), state_dir.join(NEXT_KEY_FILE));
    let old = read(&path)?;
    let successor = if next.exists() { read(&next)? } else { make(&next)? }.public_key();
    let succession = KeySuccession { successor, time_ms: now.unix_millis() };
    let document = chain.join(succession.file_name());
    let signed =
        sign(&succession, &old).map_err(|source| AuditError::Document { path: document.clone(), source })?;
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| AuditError::Io { action, path, source }
    };
    files::replace(&document, &signed, Durability::Synced).map_err(failed("write", &document))?;
    fs::rename(&next, &path).and_then(|()| files::sync_parent(&path)).map_err(failed("replace", &path))?;
    Ok(successor)
}

/// Every succession of the chain, with its file.
pub(super) fn successions(state_dir: &Path) -> Result<Vec<(PathBuf, Signed<KeySuccession>)>, AuditError> {
    let directory = super::chain::directory(state_dir);
    let unreadable = |source| AuditError::Io { action: "read", path: directory.clone(), source };
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut successions = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !(name.starts_with("key-") && name.ends_with(".json")) {
            continue;
        }
        let bytes = fs::read(&path).map_err(|source| AuditError::Io {
            action: "read",
            path: path.clone(),
            source,
        })?;
        match read_unproven(&bytes) {
            Ok(succession) => successions.push((path, succession)),
            Err(source) => return Err(AuditError::Document { path, source }),
        }
    }
    Ok(successions)
}

fn read(path: &Path) -> Result<AuditKey, AuditError> {
    let text = secret_file::read(path)?;
    AuditKey::from_openssh(&text).map_err(|source| AuditError::Key { path: path.into(), source })
}

fn make(path: &Path) -> Result<AuditKey, AuditError> {
    let seed = Zeroizing::new(rand::random::<[u8; 32]>());
    let made = AuditKey::from_seed(&seed);
    let (key, text) = made.map_err(|source| AuditError::Key { path: path.into(), source })?;
    match secret_file::write_new(path, text.as_bytes()) {
        // Another gateway that starts just now was first.
        Err(SecretFileError::Exists { .. }) => read(path),
        written => Ok(written.map(|()| key)?),
    }
}
