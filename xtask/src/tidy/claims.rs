//! Tests that documents name are there. Pure.
//!
//! A document names tests in the column `Test` of a table, or after `test:`, in backticks. A row
//! that names none says `none` and why, so that a claim without a test is one on purpose. Tests are
//! functions under `#[test]`, and the names in the tables of programs that list their own trials.

use std::collections::BTreeSet;

use super::SourceFile;
use super::finding::Finding;

const COLUMN: &str = "Test";
const INLINE: &str = "test: ";
const NONE: &str = "none: ";
/// Where programs of `tests` and `vm-tests` list their own trials, each by a name in quotes.
const TRIALS: &str = "tests/tests/";

/// Names of all tests of the repository.
pub(super) fn test_names(files: &[SourceFile]) -> BTreeSet<&str> {
    files
        .iter()
        .filter(|file| file.path.ends_with(".rs"))
        .flat_map(|file| {
            let listed = file.path.contains(TRIALS).then(|| quoted(&file.text, '"'));
            functions(&file.text).into_iter().chain(listed.into_iter().flatten())
        })
        .collect()
}

/// Checks a Markdown file against the names of all tests.
pub(super) fn check(file: &SourceFile, tests: &BTreeSet<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut column = None;
    for (index, line) in file.text.lines().enumerate() {
        let mut error = |rule, message| findings.push(Finding::error(&file.path, index + 1, rule, message));
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let cell = match (line.starts_with('|'), column) {
            (false, _) => {
                column = None;
                line.split_once(INLINE).map_or("", |(_, names)| names)
            }
            (true, None) => {
                column = cells.iter().position(|cell| *cell == COLUMN);
                continue;
            }
            (true, Some(column)) => cells.get(column).copied().unwrap_or_default(),
        };
        if cell.starts_with(NONE) {
            continue;
        }
        let named = quoted(cell, '`');
        let is_rule = !cell.is_empty() && cell.chars().all(|c| c == '-');
        if column.is_some() && named.is_empty() && !is_rule {
            error("untested-claim", "name a test in backticks, or say `none: ` and why".to_owned());
        }
        for name in named.into_iter().filter(|name| !tests.contains(name)) {
            error("no-such-test", format!("there is no test {name}: mend the name or the claim"));
        }
    }
    findings
}

/// Functions under `#[test]` or tokio's, whatever other attributes they have.
fn functions(text: &str) -> Vec<&str> {
    let mut under_test = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            under_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ") {
            names.extend(rest.split(['(', '<']).next().filter(|_| under_test));
            under_test = false;
        }
    }
    names
}

/// What stands between two of a mark, as far as it is a name of more than one word.
fn quoted(text: &str, mark: char) -> Vec<&str> {
    let is_name = |text: &&str| {
        text.contains('_') && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    text.lines().flat_map(|line| line.split(mark).skip(1).step_by(2)).filter(is_name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<(usize, &'static str)> {
        let files = [
            SourceFile::new(
                "gateway/src/a.rs",
                "#[tokio::test]\n#[ignore]\nasync fn a_unit_test() {}\nfn no_test() {}\n",
            ),
            SourceFile::new("tests/tests/e2e/b.rs", "Check::new(\"a_listed_trial\", run),\n"),
            SourceFile::new("gateway/src/c.rs", "let a = \"some_text\";"),
        ];
        let tests = test_names(&files);
        let found = check(&SourceFile::new("docs/a.md", text), &tests);
        found.iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    #[test]
    fn tests_that_are_there_are_found() {
        let table =
            "| Claim | Test |\n|---|---|\n| a | `a_unit_test`, `a_listed_trial` |\n| b | none: why |\n";
        assert_eq!(rules(table), []);
        assert_eq!(rules("text (test: `a_unit_test`).\n| A | B |\n|---|---|\n| a | `no_test` |\n"), []);
    }

    #[test]
    fn names_of_no_test_and_claims_without_one_are_told() {
        let table = "| Test | Claim |\n|---|---|\n| `no_test` | a |\n| `some_text` | b |\n| | c |\n";
        assert_eq!(rules(table), [(3, "no-such-test"), (4, "no-such-test"), (5, "untested-claim")]);
        assert_eq!(rules("holds, test: `a_lost_test`"), [(1, "no-such-test")]);
    }
}
