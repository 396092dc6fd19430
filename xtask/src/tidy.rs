//! `cargo xtask tidy`: what the compiler and clippy cannot say about the shape of this repository.
//!
//! Every rule is a pure function from file contents to findings, with its data in a table beside it.
//! Layers of `gateway` and `gateway/core` are in [`layers`]; to add a module, add a row there.

mod claims;
mod finding;
mod layers;
mod links;
mod manifests;
mod rust_files;
mod text;
mod uses;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};

use self::finding::{Finding, Severity};
use crate::workspace;

/// Arguments of `cargo xtask tidy`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// A file of the repository: its path from the root, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SourceFile {
    path: String,
    text: String,
}

/// Prints a line for each finding; fails when one is an error.
///
/// # Errors
/// When the repository's files cannot be listed or read.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    let files = read_files(workspace::root())?;
    let findings = findings(&files);
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    println!("tidy: {} files, {errors} errors, {} warnings", files.len(), findings.len() - errors);
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl SourceFile {
    /// Whether it is the module `tests` of a library, which `#[cfg(test)]` stands before elsewhere.
    fn is_unit_test(&self) -> bool {
        let inside = self.path.split_once("src/").map_or("", |(_, inside)| inside);
        inside.split('/').any(|part| part == "tests" || part == "tests.rs")
    }
}

fn findings(files: &[SourceFile]) -> Vec<Finding> {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let tests = claims::test_names(files);
    let mut findings: Vec<Finding> = files
        .iter()
        .flat_map(|file| {
            let mut found = text::check(file);
            if file.path.ends_with(".rs") {
                found.extend(rust_files::check(file));
                found.extend(layers::check(file));
            } else if file.path.ends_with(".md") {
                found.extend(links::check(file, &paths));
                found.extend(claims::check(file, &tests));
            } else if file.path.ends_with("Cargo.toml") {
                found.extend(manifests::check(file));
            }
            found
        })
        .collect();
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    findings.dedup();
    findings
}

/// Files that git tracks or would track, as far as they are text.
fn read_files(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    // A checkout may belong to another user than the one who tests it.
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("cannot start git")?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr).trim());
    let listed = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
    let mut files = Vec::new();
    for path in listed.split_terminator('\0') {
        // A tracked file may be deleted and not committed yet, or be binary.
        let Ok(bytes) = fs::read(root.join(path)) else { continue };
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(SourceFile { path: path.to_owned(), text });
        }
    }
    Ok(files)
}

#[cfg(test)]
impl SourceFile {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let files = read_files(workspace::root()).unwrap();
        assert!(files.iter().any(|file| file.path == "gateway/core/src/lib.rs"));
        let errors: Vec<String> = findings(&files)
            .into_iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(|finding| finding.to_string())
            .collect();
        assert!(errors.is_empty(), "{}", errors.join("\n"));
    }

    #[test]
    fn unit_tests_in_files_of_their_own_are_known() {
        for path in ["gateway/src/ca/tests.rs", "gateway/core/src/expression/tests/table.rs"] {
            assert!(SourceFile::new(path, "").is_unit_test(), "{path}");
        }
        for path in ["tests/src/topology.rs", "tests/tests/e2e/main.rs", "xtask/src/test.rs"] {
            assert!(!SourceFile::new(path, "").is_unit_test(), "{path}");
        }
    }

    #[test]
    fn each_kind_of_file_meets_its_rules() {
        let files = [
            SourceFile::new("gateway/src/ca.rs", "use crate::session::serve;\n"),
            SourceFile::new("README.md", "[map](ARCHITECTURE.md)\n"),
            SourceFile::new("gateway/core/Cargo.toml", "[dependencies]\ntokio.workspace = true\n"),
        ];
        let rules: Vec<&str> = findings(&files).iter().map(|finding| finding.rule).collect();
        assert_eq!(rules, ["broken-link", "pure-crate", "module-doc", "layer"]);
    }
}
