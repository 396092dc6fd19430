//! Rules for the text of every tracked file: unfinished work, machine paths, package registries. Pure.
//!
//! Lock files are left out: cargo writes registries into them.

use super::SourceFile;
use super::finding::Finding;

/// A word that must not stand in a file; written in two parts, so that this file holds none.
struct Banned {
    rule: &'static str,
    text: &'static str,
    instead: &'static str,
}

const BANNED: &[Banned] = &[
    Banned { rule: "unfinished", text: concat!("TO", "DO"), instead: "do it, or open an issue" },
    Banned { rule: "unfinished", text: concat!("FIX", "ME"), instead: "mend it, or open an issue" },
    Banned { rule: "unfinished", text: concat!("XX", "X"), instead: "do it, or open an issue" },
    Banned { rule: "unfinished", text: concat!("dbg", "!("), instead: "use tracing, or take it out" },
    Banned { rule: "machine-path", text: concat!("/wo", "rk/"), instead: "make the path relative" },
    Banned { rule: "machine-path", text: concat!("/fa", "rm/"), instead: "make the path relative" },
    Banned { rule: "machine-path", text: concat!("/ro", "ot/"), instead: "make the path relative" },
    Banned { rule: "registry", text: concat!("crates", ".io/"), instead: "name the crate only" },
    Banned { rule: "registry", text: concat!(".crates", ".io"), instead: "name the crate only" },
    Banned { rule: "registry", text: concat!("deb.debian", ".org"), instead: "name the package only" },
    Banned { rule: "registry", text: concat!("security.debian", ".org"), instead: "name the package only" },
    Banned { rule: "registry", text: concat!("pypi", ".org"), instead: "name the package only" },
    Banned { rule: "registry", text: concat!("npmjs", ".org"), instead: "name the package only" },
    Banned { rule: "registry", text: concat!("proxy.golang", ".org"), instead: "name the module only" },
];

/// Checks any text file.
pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    if file.path.ends_with(".lock") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for banned in BANNED.iter().filter(|banned| stands_alone(line, banned.text)) {
            let message = format!("`{}`: {}", banned.text, banned.instead);
            findings.push(Finding::error(&file.path, index + 1, banned.rule, message));
        }
    }
    findings
}

/// Whether `text` stands in `line` and no letter joins it to a longer word.
fn stands_alone(line: &str, text: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    line.match_indices(text).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + text.len()..]);
        let joined_before = is_word(text.chars().next()) && is_word(before.chars().next_back());
        let joined_after = is_word(text.chars().next_back()) && is_word(after.chars().next());
        let path_goes_on = text.starts_with('/') && is_word(before.chars().next_back());
        !joined_before && !joined_after && !path_goes_on
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<&'static str> {
        check(&SourceFile::new("a.rs", text)).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn every_banned_text_is_found_on_its_line() {
        for banned in BANNED {
            let text = format!("fine\nsee {} here\n", banned.text);
            let found = check(&SourceFile::new("docs/a.md", &text));
            assert_eq!(found.len(), 1, "{}", banned.text);
            assert_eq!((found[0].line, found[0].rule), (2, banned.rule));
        }
    }

    #[test]
    fn parts_of_longer_words_are_not_found() {
        let paths = concat!("src/wo", "rk/", " and a/ro", "ot/b");
        assert_eq!(rules(paths), [""; 0]);
        assert_eq!(rules(concat!("MASTO", "DON XX", "XX crates", ".io")), [""; 0]);
    }

    #[test]
    fn lock_files_are_left_out() {
        let text = concat!("https://index.crates", ".io/");
        assert_eq!(rules(text).first(), Some(&"registry"));
        assert!(check(&SourceFile::new("Cargo.lock", text)).is_empty());
    }
}
