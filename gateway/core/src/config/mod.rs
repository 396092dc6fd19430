//! Configuration: the daemon's file and the policy file, from text to validated values.
//!
//! A file becomes a tree of values with lines, the tree is read into validated types, and every
//! problem met on the way is kept with its key path; a file with any error yields nothing else.
//! Deliberately absent: reading files and looking at the machine. Whether an interface or a key
//! file exists is seen by whoever uses it.

pub mod agreement;
pub mod daemon;
pub mod duration;
pub mod export;
pub mod policy;
mod reader;
pub mod seed;
pub mod shipping;
pub mod size;
mod tree;

use std::fmt;
use std::path::Path;

use thiserror::Error;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// TOML.
    Toml,
    /// JSON.
    Json,
}

impl Format {
    /// JSON for a name that ends in `.json`, TOML for any other.
    pub fn of_file(name: &str) -> Self {
        let json =
            Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        if json { Self::Json } else { Self::Toml }
    }
}

/// One problem of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Line, from 1, where it is known.
    pub line: Option<usize>,
    /// Path of the key, as `applications[0].policies[1].include[0]`; empty for the whole file.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// All problems of one file; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ConfigErrors {
    /// Name of the file, as given.
    pub file: String,
    /// The problems in the order of the file.
    pub errors: Vec<ConfigError>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            if let Some(line) = error.line {
                write!(f, ":{line}")?;
            }
            if !error.key.is_empty() {
                write!(f, ": {}", error.key)?;
            }
            write!(f, ": {}", error.message)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_a_name_tells_the_format() {
        for (name, format) in [
            ("policy.toml", Format::Toml),
            ("/etc/portreeve/policy.JSON", Format::Json),
            ("policy.json.bak", Format::Toml),
            ("json", Format::Toml),
        ] {
            assert_eq!(Format::of_file(name), format, "{name}");
        }
    }
}
