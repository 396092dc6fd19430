//! Embeds the object file of the kernel programs.
//!
//! It is taken from `PORTREEVE_DATAPATH_OBJECT`, else from `target/portreeve-datapath.o` of the
//! workspace, where `cargo xtask build` puts it. Without one an empty file is embedded and the
//! gateway says at start that it has no kernel programs: building the gateway alone must not need
//! an eBPF toolchain.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const OVERRIDE: &str = "PORTREEVE_DATAPATH_OBJECT";

fn main() -> Result<(), Box<dyn Error>> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let object = match env::var_os(OVERRIDE) {
        Some(path) => PathBuf::from(path),
        None => {
            let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("no CARGO_MANIFEST_DIR")?);
            let object = manifest.join("../target/portreeve-datapath.o");
            watchable(&object);
            object
        }
    };
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "cargo::rerun-if-env-changed={OVERRIDE}")?;
    writeln!(stdout, "cargo::rerun-if-changed=build.rs")?;
    writeln!(stdout, "cargo::rerun-if-changed={}", object.display())?;
    let bytes = match fs::read(&object) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && env::var_os(OVERRIDE).is_none() => {
            Vec::new()
        }
        Err(error) => return Err(format!("{}: {error}", object.display()).into()),
    };
    fs::write(out_dir.join("portreeve-datapath.o"), bytes)?;
    Ok(())
}

/// Makes an empty file where there is none, as old as can be: cargo would take a missing file for a
/// change and rebuild the gateway each time.
fn watchable(path: &Path) {
    if let Ok(file) = File::create_new(path) {
        // Without the old date the cost is one rebuild; without the file, one each time.
        drop(file.set_modified(SystemTime::UNIX_EPOCH));
    }
}
