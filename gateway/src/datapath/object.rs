//! The object file of the kernel programs, embedded by build.rs.

use super::DatapathError;

/// Aligned for the ELF parser; empty when the gateway was built without kernel programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portreeve-datapath.o"));

/// The object file.
///
/// # Errors
/// [`DatapathError::NotBuilt`] when there is none.
pub(super) fn object() -> Result<&'static [u8], DatapathError> {
    if OBJECT.is_empty() { Err(DatapathError::NotBuilt) } else { Ok(OBJECT) }
}
