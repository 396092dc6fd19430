//! Whether this is a FIPS build, for the parts that know nothing of SSH.

pub use portreeve_ssh::fips::{BUILD, NotInFipsMode, check};
