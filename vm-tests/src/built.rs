//! Programs of this workspace that run in machines, built as the tests on the host are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Builds a test of a package; returns the program.
///
/// # Errors
/// When it cannot be built.
pub fn test_program(package: &str, test: &str) -> Result<PathBuf> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--package", package, "--test", test, "--no-run", "--message-format=json"]);
    cargo.current_dir(workspace()).stderr(Stdio::inherit());
    let output = cargo.output().context("start cargo")?;
    if !output.status.success() {
        bail!("test {test} of {package} cannot be built");
    }
    executable(&String::from_utf8_lossy(&output.stdout), test)
        .with_context(|| format!("cargo names no program of test {test}"))
}

/// Builds an update to a version into `out`, of the packages that the last image has, signed with `keys`; `overlay`, where given,
/// is laid over its root.
///
/// # Errors
/// When it cannot be built.
pub fn update(version: &str, keys: &Path, overlay: Option<&Path>, out: &Path) -> Result<()> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["xtask", "image", "--debug", "--or-newest", "--update", "--version", version]);
    cargo.arg("--keys").arg(keys).arg("--out").arg(out);
    if let Some(overlay) = overlay {
        cargo.arg("--overlay").arg(overlay);
    }
    let output = cargo.current_dir(workspace()).output().context("start cargo")?;
    if !output.status.success() {
        bail!("version {version} cannot be built: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// The object with the kernel programs.
///
/// # Errors
/// When it is not there, with what to do.
pub fn kernel_programs() -> Result<PathBuf> {
    let object = workspace().join("target/portreeve-datapath.o");
    if !object.is_file() {
        bail!("no kernel programs in {}: run `cargo xtask build`", object.display());
    }
    Ok(object)
}

/// The directory that all is in.
pub(crate) fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The program of a test in cargo's messages, one JSON object a line.
fn executable(messages: &str, test: &str) -> Option<PathBuf> {
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = artifacts.filter_map(|artifact| {
        let target = artifact.get("target")?;
        let is_it = target.get("name")? == test && target.get("kind")?.get(0)? == "test";
        is_it.then(|| artifact.get("executable")?.as_str().map(PathBuf::from)).flatten()
    });
    programs.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_test_is_told_from_others_of_its_name() {
        let messages = r#"not json
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"kernel"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"e2e"},"executable":"/t/e2e-1"}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"kernel"},"executable":"/t/kernel-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "kernel"), Some("/t/kernel-1".into()));
        assert_eq!(executable(messages, "other"), None);
    }
}
