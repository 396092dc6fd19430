//! The FIPS build: cryptography of an SSH connection from AWS-LC's FIPS module.
//!
//! Owns the question whether this is such a build, which is the only one that asks for the feature, and
//! the check that the module works. What it offers is in [`crate::negotiation::Preferences`].

use thiserror::Error;

/// Whether this is a FIPS build.
pub const BUILD: bool = cfg!(feature = "fips");

/// A FIPS build whose cryptography does not come from a FIPS module in its approved mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this is a FIPS build, but the cryptography library is not in FIPS mode: {0}")]
pub struct NotInFipsMode(&'static str);

/// Makes sure that cryptography comes from a FIPS module where this is a FIPS build. The module has tested its
/// integrity by then: it aborts the process when a self-test fails.
///
/// # Errors
/// [`NotInFipsMode`] with the library's reason.
pub fn check() -> Result<(), NotInFipsMode> {
    if BUILD { aws_lc_rs::try_fips_mode().map_err(NotInFipsMode) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_in_fips_mode_exactly_in_a_fips_build() {
        assert_eq!(aws_lc_rs::try_fips_mode().is_ok(), BUILD);
        assert_eq!(check(), Ok(()));
    }
}
