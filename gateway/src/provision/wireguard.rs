//! Private keys of WireGuard interfaces: those of the seed, or made here and kept.
//!
//! A key that was made is in the state directory, for the interface's name, and is never replaced.

use std::collections::BTreeMap;
use std::path::Path;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use aws_lc_rs::encoding::{AsBigEndian as _, Curve25519SeedBin};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portreeve_core::config::seed::Seed;

use super::{ProvisionError, make_dir};
use crate::secret_file;

/// The private keys of all such interfaces, by their names.
pub(super) fn keys(state_dir: &Path, seed: &Seed) -> Result<BTreeMap<String, String>, ProvisionError> {
    let mut keys = BTreeMap::new();
    for (interface, given) in seed.wireguard() {
        let key = match given {
            Some(key) => key.to_owned(),
            None => kept(state_dir, interface)?,
        };
        keys.insert(interface.to_owned(), key);
    }
    Ok(keys)
}

/// The public half of a private key (X25519, RFC 7748).
pub(super) fn public(interface: &str, private: &str) -> Result<String, ProvisionError> {
    let unusable = || ProvisionError::WireGuard { interface: interface.to_owned() };
    let bytes = STANDARD.decode(private).map_err(|_| unusable())?;
    let key = PrivateKey::from_private_key(&X25519, &bytes).map_err(|_| unusable())?;
    Ok(STANDARD.encode(key.compute_public_key().map_err(|_| unusable())?))
}

/// The key that was made for an interface, now if none was.
fn kept(state_dir: &Path, interface: &str) -> Result<String, ProvisionError> {
    let unusable = || ProvisionError::WireGuard { interface: interface.to_owned() };
    let dir = state_dir.join("wireguard");
    let path = dir.join(format!("{interface}.key"));
    if path.exists() {
        return String::from_utf8(secret_file::read(&path)?.to_vec()).map_err(|_| unusable());
    }
    let key = PrivateKey::generate(&X25519).map_err(|_| unusable())?;
    let bytes: Curve25519SeedBin<'_> = key.as_be_bytes().map_err(|_| unusable())?;
    let text = STANDARD.encode(bytes.as_ref());
    make_dir(state_dir, 0o700)?;
    make_dir(&dir, 0o700)?;
    secret_file::write_new(&path, text.as_bytes())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key pair of Alice in RFC 7748 section 6.1.
    #[test]
    fn a_public_key_is_that_of_rfc_7748() {
        let private = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        assert_eq!(public("wg0", private).unwrap(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
        assert!(public("wg0", "not one").is_err());
    }
}
