//! Keys of an account in the state directory: both CA keys and the account secret.
//!
//! Files: `ca_key` and `host_ca_key` (OpenSSH private key format) and `account_secret` (32 bytes as 64
//! hex digits), mode 0600. The CA key signs user certificates; the account secret derives the host keys
//! that users see, and the host CA key, which exists only where it is wanted, signs certificates for
//! them. Every gateway of a fleet needs the same files. Invariant: the two CA keys are not the same key.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use portreeve_core::host_key::AccountSecret;
use portreeve_ssh::host_key::{HostKeyError, HostKeySigner};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, LineEnding, PrivateKey, PublicKey, Signature};
use thiserror::Error;
use zeroize::Zeroizing;

use super::sealed;
use crate::secret_file::{self, SecretFileError};

const CA_KEY_FILE: &str = "ca_key";
const HOST_CA_KEY_FILE: &str = "host_ca_key";
const ACCOUNT_SECRET_FILE: &str = "account_secret";
/// All of them.
pub(super) const FILES: [&str; 3] = [CA_KEY_FILE, HOST_CA_KEY_FILE, ACCOUNT_SECRET_FILE];

/// The verb that makes CA key and account secret.
const INIT: &str = "init";
/// The verb that makes the host CA key.
const INIT_HOST: &str = "init-host";

/// The kind of a CA key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CaAlgorithm {
    /// ECDSA on NIST P-256; every OpenSSH since 5.7 accepts it.
    #[default]
    EcdsaP256,
    /// Ed25519.
    Ed25519,
}

/// Why the keys of an account cannot be had.
#[derive(Debug, Error)]
pub enum AccountKeyError {
    /// A file cannot be read or written, or is exposed.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// A file does not exist yet.
    #[error("{path} does not exist: run `portreeve ca {verb} --state-dir {}` once", state_dir.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The verb of `portreeve ca` that makes it.
        verb: &'static str,
        /// The state directory.
        state_dir: PathBuf,
    },
    /// A key is sealed to the TPM, and was not opened.
    #[error("{path} is sealed to the TPM and was not opened: `portreeve ca unseal` says why")]
    NotOpened {
        /// The file.
        path: PathBuf,
    },
    /// A file exists, but holds something else.
    #[error("{path} holds no {expected}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
    },
    /// One key signs for users and for hosts.
    #[error("{path} is the same key as {CA_KEY_FILE}: move it away and run `portreeve ca {INIT_HOST}`")]
    SharedCaKey {
        /// The file of the host CA key.
        path: PathBuf,
    },
    /// The state directory cannot be made.
    #[error("cannot create the state directory {path}")]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// No key could be generated or encoded.
    #[error("cannot generate a key")]
    Generate(#[source] ssh_key::Error),
    /// The key that was generated cannot sign.
    #[error("cannot sign with the new key")]
    Unusable(#[source] HostKeyError),
}

/// The CA's private key, which signs for users, inside the cryptography library that the sessions use:
/// signing a certificate with ssh-key's own P-256 takes most of a millisecond.
pub struct CaKey {
    public: PublicKey,
    signer: HostKeySigner,
}

/// The host CA's private key, which signs for the host keys that users see.
#[derive(Debug)]
pub struct HostCaKey(CaKey);

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CaKey").field(&self.public.fingerprint(HashAlg::Sha256)).finish()
    }
}

impl CaKey {
    /// Loads `ca_key` from the state directory.
    ///
    /// # Errors
    /// [`AccountKeyError`] when it is missing, exposed or no supported private key.
    pub fn load(state_dir: &Path) -> Result<Self, AccountKeyError> {
        Self::read(state_dir, CA_KEY_FILE, INIT)
    }

    fn read(state_dir: &Path, file: &str, verb: &'static str) -> Result<Self, AccountKeyError> {
        let path = state_dir.join(file);
        let bytes = read_secret(state_dir, &path, verb)?;
        let malformed = || AccountKeyError::Malformed {
            path: path.clone(),
            expected: "unencrypted ECDSA P-256 or Ed25519 private key in OpenSSH format",
        };
        let key = PrivateKey::from_openssh(&*bytes).map_err(|_| malformed())?;
        Self::new(&key).map_err(|_| malformed())
    }

    fn new(key: &PrivateKey) -> Result<Self, HostKeyError> {
        Ok(Self { public: key.public_key().clone(), signer: HostKeySigner::new(key, None)? })
    }

    /// A new key, and what its file is to hold.
    fn generate(algorithm: CaAlgorithm, comment: &str) -> Result<(Self, Zeroizing<String>), AccountKeyError> {
        let algorithm = match algorithm {
            CaAlgorithm::EcdsaP256 => Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
            CaAlgorithm::Ed25519 => Algorithm::Ed25519,
        };
        let mut key = PrivateKey::random(&mut rand::rng(), algorithm).map_err(AccountKeyError::Generate)?;
        key.set_comment(comment);
        let pem = key.to_openssh(LineEnding::LF).map_err(AccountKeyError::Generate)?;
        Ok((Self::new(&key).map_err(AccountKeyError::Unusable)?, pem))
    }

    /// The public half, for `TrustedUserCAKeys` of targets.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }
}

impl From<&CaKey> for KeyData {
    fn from(key: &CaKey) -> Self {
        key.public.key_data().clone()
    }
}

impl signature::Signer<Signature> for CaKey {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, signature::Error> {
        let failed = |_| signature::Error::new();
        let algorithm = self.signer.algorithms().first().copied().ok_or_else(signature::Error::new)?;
        let blob = self.signer.sign(algorithm, message).map_err(failed)?;
        Signature::try_from(blob.as_slice()).map_err(|_| signature::Error::new())
    }
}

impl HostCaKey {
    /// Makes `host_ca_key`; refuses to touch an existing one.
    ///
    /// # Errors
    /// [`AccountKeyError::File`] with [`SecretFileError::Exists`] when the file is there already.
    pub fn init(state_dir: &Path, algorithm: CaAlgorithm) -> Result<Self, AccountKeyError> {
        make_state_dir(state_dir)?;
        let (key, pem) = CaKey::generate(algorithm, "portreeve host CA")?;
        secret_file::write_new(&state_dir.join(HOST_CA_KEY_FILE), pem.as_bytes())?;
        Ok(Self(key))
    }

    /// Loads `host_ca_key` from the state directory, whose `ca_key` is `users`.
    ///
    /// # Errors
    /// [`AccountKeyError`] when it is missing, exposed, no supported private key, or `users` again.
    pub fn load(state_dir: &Path, users: &CaKey) -> Result<Self, AccountKeyError> {
        let key = CaKey::read(state_dir, HOST_CA_KEY_FILE, INIT_HOST)?;
        if key.public_key().key_data() == users.public_key().key_data() {
            return Err(AccountKeyError::SharedCaKey { path: state_dir.join(HOST_CA_KEY_FILE) });
        }
        Ok(Self(key))
    }

    /// The public half, for a `@cert-authority` line of users.
    pub fn public_key(&self) -> &PublicKey {
        self.0.public_key()
    }

    pub(super) fn signing_key(&self) -> &CaKey {
        &self.0
    }
}

/// Loads both CA keys; that of hosts only where `host_certificates` are wanted.
///
/// # Errors
/// As [`CaKey::load`] and [`HostCaKey::load`].
pub fn load_cas(
    state_dir: &Path,
    host_certificates: bool,
) -> Result<(CaKey, Option<HostCaKey>), AccountKeyError> {
    let users = CaKey::load(state_dir)?;
    let hosts = host_certificates.then(|| HostCaKey::load(state_dir, &users)).transpose()?;
    Ok((users, hosts))
}

/// Loads `account_secret` from the state directory.
///
/// # Errors
/// [`AccountKeyError`] when it is missing, exposed or not 64 hex digits.
pub fn load_account_secret(state_dir: &Path) -> Result<AccountSecret, AccountKeyError> {
    let path = state_dir.join(ACCOUNT_SECRET_FILE);
    let text = read_secret(state_dir, &path, INIT)?;
    let mut secret = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_ascii(), &mut *secret)
        .map_err(|_| AccountKeyError::Malformed { path, expected: "secret of 64 hex digits" })?;
    Ok(AccountSecret::new(*secret))
}

/// Makes the keys of a new account, all or none; refuses to touch existing ones.
///
/// # Errors
/// [`AccountKeyError::File`] with [`SecretFileError::Exists`] when either file is there already.
pub fn init(state_dir: &Path, algorithm: CaAlgorithm) -> Result<CaKey, AccountKeyError> {
    make_state_dir(state_dir)?;
    for file in [CA_KEY_FILE, ACCOUNT_SECRET_FILE] {
        let path = state_dir.join(file);
        if path.exists() {
            return Err(SecretFileError::Exists { path }.into());
        }
    }
    let NewAccount { key, ca, secret } = generate(algorithm)?;
    let secret_file = state_dir.join(ACCOUNT_SECRET_FILE);
    secret_file::write_new(&secret_file, secret.as_bytes())?;
    secret_file::write_new(&state_dir.join(CA_KEY_FILE), ca.as_bytes()).inspect_err(|_| {
        // The next try must not find half an account. A file that stays is named by it.
        fs::remove_file(&secret_file).ok();
    })?;
    Ok(key)
}

/// Keys of a new account, which are nowhere yet, and what their files are to hold.
pub struct NewAccount {
    key: CaKey,
    /// The text of `ca_key`.
    pub ca: Zeroizing<String>,
    /// The text of `account_secret`.
    pub secret: Zeroizing<String>,
}

/// Makes the keys of a new account.
///
/// # Errors
/// [`AccountKeyError::Generate`] or [`AccountKeyError::Unusable`].
pub fn generate(algorithm: CaAlgorithm) -> Result<NewAccount, AccountKeyError> {
    let (key, ca) = CaKey::generate(algorithm, "portreeve user CA")?;
    let secret = Zeroizing::new(rand::random::<[u8; 32]>());
    Ok(NewAccount { key, ca, secret: Zeroizing::new(hex::encode(*secret)) })
}

fn make_state_dir(state_dir: &Path) -> Result<(), AccountKeyError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir);
    made.map_err(|source| AccountKeyError::StateDir { path: state_dir.to_owned(), source })
}

fn read_secret(
    state_dir: &Path,
    path: &Path,
    verb: &'static str,
) -> Result<Zeroizing<Vec<u8>>, AccountKeyError> {
    secret_file::read(path).map_err(|error| match &error {
        SecretFileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            if sealed::is_sealed(path) {
                return AccountKeyError::NotOpened { path: path.to_owned() };
            }
            AccountKeyError::Missing { path: path.to_owned(), verb, state_dir: state_dir.to_owned() }
        }
        SecretFileError::Exposed { .. }
        | SecretFileError::NotASecret { .. }
        | SecretFileError::Exists { .. }
        | SecretFileError::Io { .. } => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use portreeve_core::certificate::CertificateSpec;
    use signature::{Signer as _, Verifier as _};

    use super::*;
    use crate::ca::Signer;

    fn spec() -> CertificateSpec {
        CertificateSpec {
            principals: vec!["alice".into()],
            key_id: "id alice@example.com".into(),
            valid_after: 1_000,
            valid_before: 1_180,
            source_address: "192.0.2.1".parse().unwrap(),
            extensions: vec!["permit-pty"],
        }
    }

    #[test]
    fn certificates_say_what_the_spec_says_and_verify_under_the_ca() {
        for algorithm in [CaAlgorithm::EcdsaP256, CaAlgorithm::Ed25519] {
            let dir = tempfile::tempdir().unwrap();
            init(dir.path(), algorithm).unwrap();
            let key = CaKey::load(dir.path()).unwrap();
            let fingerprint = key.public_key().fingerprint(ssh_key::HashAlg::Sha256);
            let credential = Signer::new(key).issue(&spec()).unwrap();
            let certificate = credential.certificate;
            certificate.validate_at(1_100, [&fingerprint]).unwrap();
            assert!(certificate.validate_at(1_181, [&fingerprint]).is_err(), "expired after three minutes");
            assert_eq!(certificate.valid_principals(), ["alice"]);
            assert_eq!(certificate.key_id(), "id alice@example.com");
            assert_eq!(certificate.critical_options().get("source-address").unwrap(), "192.0.2.1/32");
            assert_eq!(certificate.extensions().iter().count(), 1);
            assert_eq!(certificate.public_key(), credential.key.public_key().key_data());
        }
    }

    /// Some scalars begin with zero bytes, which an mpint leaves out: a signature below 72 bytes has one.
    #[test]
    fn signatures_with_short_scalars_verify_too() {
        let dir = tempfile::tempdir().unwrap();
        let ca = init(dir.path(), CaAlgorithm::EcdsaP256).unwrap();
        let public = KeyData::from(&ca);
        let short = (0_u32..10_000).find_map(|n| {
            let message = n.to_be_bytes();
            let signature = ca.try_sign(&message).unwrap();
            (signature.as_bytes().len() < 72).then_some((message, signature))
        });
        let (message, signature) = short.unwrap();
        public.verify(&message, &signature).unwrap();
    }

    #[test]
    fn init_keeps_what_exists() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), CaAlgorithm::default()).unwrap();
        let before = fs::read(dir.path().join(CA_KEY_FILE)).unwrap();
        assert!(matches!(
            init(dir.path(), CaAlgorithm::default()),
            Err(AccountKeyError::File(SecretFileError::Exists { .. }))
        ));
        assert_eq!(fs::read(dir.path().join(CA_KEY_FILE)).unwrap(), before);
    }

    #[test]
    fn init_that_fails_leaves_nothing_in_the_way_of_the_next() {
        let dir = tempfile::tempdir().unwrap();
        // A link to nowhere: it does not exist, and no file can be created in its place.
        std::os::unix::fs::symlink("nowhere", dir.path().join(CA_KEY_FILE)).unwrap();
        init(dir.path(), CaAlgorithm::default()).unwrap_err();
        fs::remove_file(dir.path().join(CA_KEY_FILE)).unwrap();
        init(dir.path(), CaAlgorithm::default()).unwrap();
    }

    #[test]
    fn missing_and_malformed_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let text = CaKey::load(dir.path()).unwrap_err().to_string();
        assert!(text.contains("ca_key") && text.contains("portreeve ca init"), "{text}");
        secret_file::write_new(&dir.path().join(ACCOUNT_SECRET_FILE), b"zz").unwrap();
        assert!(matches!(load_account_secret(dir.path()), Err(AccountKeyError::Malformed { .. })));
    }

    #[test]
    fn the_host_ca_key_is_made_apart_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let users = init(dir.path(), CaAlgorithm::default()).unwrap();
        let text = HostCaKey::load(dir.path(), &users).unwrap_err().to_string();
        assert!(text.contains("host_ca_key") && text.contains("portreeve ca init-host"), "{text}");
        let made = HostCaKey::init(dir.path(), CaAlgorithm::Ed25519).unwrap();
        assert_eq!(HostCaKey::load(dir.path(), &users).unwrap().public_key(), made.public_key());
        assert!(matches!(
            HostCaKey::init(dir.path(), CaAlgorithm::Ed25519),
            Err(AccountKeyError::File(SecretFileError::Exists { .. }))
        ));
    }

    #[test]
    fn one_key_for_users_and_hosts_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let users = init(dir.path(), CaAlgorithm::default()).unwrap();
        // fs::copy keeps the mode.
        fs::copy(dir.path().join(CA_KEY_FILE), dir.path().join(HOST_CA_KEY_FILE)).unwrap();
        let error = HostCaKey::load(dir.path(), &users).unwrap_err();
        assert!(matches!(error, AccountKeyError::SharedCaKey { .. }), "{error}");
    }
}
