//! Links of Markdown files lead to files that are there. Pure.
//!
//! Only links inside the repository are checked, and only that the file exists; code is left out.

use std::collections::BTreeSet;

use super::SourceFile;
use super::finding::Finding;

/// Checks a Markdown file; `paths` are all files of the repository.
pub(super) fn check(file: &SourceFile, paths: &BTreeSet<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_code = false;
    for (index, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in targets(line).into_iter().filter(|target| !leads(&file.path, target, paths)) {
            let message = format!("{target} is not there: mend the link or add the file");
            findings.push(Finding::error(&file.path, index + 1, "broken-link", message));
        }
    }
    findings
}

/// What the links of a line point to: `](TARGET)`, outside of inline code.
fn targets(line: &str) -> Vec<&str> {
    let outside_code = line.split('`').step_by(2);
    outside_code
        .flat_map(|text| text.split("](").skip(1).filter_map(|rest| rest.split_once(')')))
        .filter_map(|(target, _)| target.split_whitespace().next())
        .collect()
}

fn leads(from: &str, target: &str, paths: &BTreeSet<&str>) -> bool {
    let target = target.split('#').next().unwrap_or_default();
    if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let mut at: Vec<&str> = from.split('/').collect();
    at.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." if at.pop().is_none() => return false,
            ".." => {}
            name => at.push(name),
        }
    }
    let path = at.join("/");
    let directory = format!("{path}/");
    paths.contains(path.as_str()) || paths.iter().any(|other| other.starts_with(&directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(text: &str) -> Vec<usize> {
        let paths = BTreeSet::from(["README.md", "docs/config.md", "docs/examples/policy.toml", "LICENSE"]);
        check(&SourceFile::new("docs/config.md", text), &paths).iter().map(|found| found.line).collect()
    }

    #[test]
    fn links_to_files_directories_and_headings_are_followed() {
        let text = "[a](config.md) [b](../README.md#top) [c](examples/) [d](#here) [e](./examples/policy.toml \"t\")";
        assert_eq!(broken(text), [0; 0]);
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        assert_eq!(broken("fine\n[a](absent.md)"), [2]);
        assert_eq!(broken("[a](../../README.md)"), [1]);
        assert_eq!(broken("[a](README.md) and [b](../LICENSE)"), [1]);
        assert_eq!(broken("![picture](picture.svg)"), [1]);
    }

    #[test]
    fn other_places_and_code_are_left_out() {
        assert_eq!(broken("[a](https://example.com/x) [b](mailto:alice@example.com)"), [0; 0]);
        assert_eq!(broken("`[a](absent.md)`\n```\n[a](absent.md)\n```"), [0; 0]);
    }
}
