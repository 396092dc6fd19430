//! What each package may depend on. Pure.
//!
//! The packages that must stay pure name no crate that does I/O, and every dependency takes its
//! version from the workspace, so that one crate has one version and one set of default features.

use toml::{Table, Value};

use super::SourceFile;
use super::finding::Finding;

/// Crates that reach sockets, kernels, clocks or generators of randomness.
const REACHING_OUT: &[&str] = &[
    "aya",
    "axum",
    "mio",
    "nix",
    "notify",
    "rand",
    "rtnetlink",
    "russh",
    "socket2",
    "tokio",
    "tracing-subscriber",
];

/// Manifests of pure packages, and what each must not depend on beside [`REACHING_OUT`].
const PURE: &[(&str, &[&str])] = &[
    ("gateway/core/Cargo.toml", &["portreeve", "portreeve-ebpf", "portreeve-ssh"]),
    ("gateway/ssh/Cargo.toml", &["portreeve", "portreeve-core", "portreeve-ebpf"]),
];

/// Checks a `Cargo.toml`.
pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    let manifest = match file.text.parse::<Table>() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::error(&file.path, 1, "parse", error.message())],
    };
    let mut findings = Vec::new();
    if let Some((_, siblings)) = PURE.iter().find(|(path, _)| *path == file.path) {
        for (name, _) in dependencies(&manifest, &["dependencies", "build-dependencies"]) {
            if REACHING_OUT.contains(&name) || siblings.contains(&name) {
                let message = format!("this package is pure and must not depend on {name}: pass values in");
                findings.push(Finding::error(&file.path, line_of(&file.text, name), "pure-crate", message));
            }
        }
    }
    let all = ["dependencies", "build-dependencies", "dev-dependencies"];
    for (name, _) in dependencies(&manifest, &all).filter(|(_, value)| !from_workspace(value)) {
        let message = format!("take {name} from the workspace: `{name}.workspace = true`");
        findings.push(Finding::error(&file.path, line_of(&file.text, name), "dependency", message));
    }
    findings
}

/// Dependencies in the tables `kinds`, for all targets and for single ones.
fn dependencies<'a>(manifest: &'a Table, kinds: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
    let tables = std::iter::once(manifest).chain(targets.filter_map(|(_, target)| target.as_table()));
    tables
        .flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()))
        .flat_map(|table| table.iter().map(|(name, value)| (name.as_str(), value)))
}

fn from_workspace(dependency: &Value) -> bool {
    dependency.get("workspace").and_then(Value::as_bool) == Some(true)
}

fn line_of(text: &str, name: &str) -> usize {
    let names = |line: &str| {
        let rest = line.trim_start().trim_start_matches('"').strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '.', '=', '"']))
    };
    text.lines().position(names).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(&'static str, usize)> {
        check(&SourceFile::new(path, text)).iter().map(|finding| (finding.rule, finding.line)).collect()
    }

    #[test]
    fn a_pure_package_that_reaches_out_is_found() {
        let core = "gateway/core/Cargo.toml";
        assert_eq!(found(core, "[dependencies]\ntokio.workspace = true\n"), [("pure-crate", 2)]);
        assert_eq!(found(core, "[build-dependencies]\n\nnix = { workspace = true }\n"), [("pure-crate", 3)]);
        let for_one_target = "[target.'cfg(unix)'.dependencies]\nrussh.workspace = true\n";
        assert_eq!(found(core, for_one_target), [("pure-crate", 2)]);
        assert_eq!(
            found("gateway/ssh/Cargo.toml", "[dependencies]\nportreeve-core.workspace = true"),
            [("pure-crate", 2)]
        );
    }

    #[test]
    fn tests_and_other_packages_may_reach_out() {
        assert_eq!(found("gateway/core/Cargo.toml", "[dev-dependencies]\nrand.workspace = true\n"), []);
        assert_eq!(found("gateway/Cargo.toml", "[dependencies]\ntokio.workspace = true\n"), []);
        assert_eq!(found("gateway/core/Cargo.toml", "[dependencies]\nrand_core.workspace = true\n"), []);
    }

    #[test]
    fn a_version_of_its_own_is_found() {
        assert_eq!(found("tests/Cargo.toml", "[dependencies]\nserde = \"1\"\n"), [("dependency", 2)]);
        assert_eq!(found("Cargo.toml", "[workspace.dependencies]\nserde = \"1\"\n"), []);
    }

    #[test]
    fn a_broken_manifest_is_found() {
        assert_eq!(found("tests/Cargo.toml", "[dependencies\n"), [("parse", 1)]);
    }
}
