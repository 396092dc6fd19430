//! What a testbed needs of the machine, checked before anything is touched.
//!
//! Without it the answer is an error that says what to install; a test never passes because it
//! could not run.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Programs and the Debian package each is in.
const PROGRAMS: &[(&str, &str)] = &[
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("rsync", "rsync"),
    ("scp", "openssh-client"),
    ("setsid", "util-linux"),
    ("sftp", "openssh-client"),
    ("ssh", "openssh-client"),
    ("ssh-add", "openssh-client"),
    ("ssh-agent", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("stty", "coreutils"),
    (crate::server::SSHD, "openssh-server"),
    (crate::server::SFTP_SERVER, "openssh-sftp-server"),
];

/// Checks for root and for the programs.
///
/// # Errors
/// All that is missing, and how to get it.
pub fn check() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a testbed makes network namespaces: run this as root");
    }
    let missing = missing(PROGRAMS, &search_path());
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    bail!("missing: {}; install with: apt-get install {}", programs.join(", "), packages.join(" "))
}

/// Looks where root's programs are even when PATH was cut down.
fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).collect()
}

fn missing(programs: &[(&'static str, &'static str)], path: &[PathBuf]) -> Vec<(&'static str, &'static str)> {
    let absent = |program: &str| !path.iter().any(|dir| dir.join(program).is_file());
    programs.iter().filter(|(program, _)| absent(program)).copied().collect()
}

/// Finds the gateway: `given`, else `PORTREEVE_BIN`, else what the workspace built last.
///
/// # Errors
/// When there is none, with what to do.
pub fn gateway_binary(given: Option<&Path>) -> Result<PathBuf> {
    let named = given.map(Path::to_owned).or_else(|| env::var_os("PORTREEVE_BIN").map(PathBuf::from));
    let binary =
        named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/portreeve"));
    if binary.is_file() {
        return Ok(binary.canonicalize()?);
    }
    bail!(
        "no gateway at {}: build it with `cargo xtask build`, or set PORTREEVE_BIN to one",
        binary.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let path = ["/bin".into(), "/usr/bin".into()];
        let found = missing(&[("sh", "dash"), ("no-such-program", "nowhere")], &path);
        assert_eq!(found, [("no-such-program", "nowhere")]);
    }

    #[test]
    fn a_gateway_that_is_not_there_is_an_error_that_says_how_to_build_it() {
        let error = gateway_binary(Some(Path::new("/nowhere/portreeve"))).unwrap_err();
        assert!(error.to_string().contains("cargo xtask build"), "{error}");
    }
}
