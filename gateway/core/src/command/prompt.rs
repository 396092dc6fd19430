//! What the text of a prompt tells: whose it is, in which directory, and whether it asks for the rest of a line.
//!
//! Owns the shapes. They are conventions, not rules: a prompt can be anything.

use crate::record::PromptKind;

/// Words of zsh's continuation prompts (zshmisc, `%_`).
const PARSER_WORDS: &[&str] = &[
    "always",
    "array",
    "bquote",
    "braceparam",
    "case",
    "cmdand",
    "cmdor",
    "cmdsubst",
    "cond",
    "cursh",
    "dquote",
    "elif",
    "else",
    "elif-then",
    "for",
    "foreach",
    "function",
    "heredoc",
    "heredocd",
    "if",
    "math",
    "mathsubst",
    "pipe",
    "quote",
    "repeat",
    "select",
    "subsh",
    "then",
    "until",
    "while",
];

/// Last characters of shells' prompts, but `>`, which others have too.
const SHELL_ENDS: &[char] = &['$', '#', '%', '❯', '➜', 'λ', '»', '▶', '⟩'];

/// Whether it ends as prompts do.
pub(super) fn looks_like_one(prompt: &str) -> bool {
    let end = prompt.trim_end().chars().next_back();
    end.is_some_and(|end| SHELL_ENDS.contains(&end) || matches!(end, '>' | ':' | ']' | ')' | '?'))
}

/// Whose prompt it is.
pub(super) fn kind(prompt: &str) -> PromptKind {
    let text = prompt.trim();
    let Some(end) = text.chars().next_back() else { return PromptKind::Other };
    // PostgreSQL's are `name=#` and `name=>`.
    let database = text.ends_with("=#") || text.ends_with("-#") || text.ends_with("(#");
    let path = || text.contains(['@', '~', '/']) || text.starts_with("PS ");
    let shell = (SHELL_ENDS.contains(&end) && !database) || (end == '>' && path());
    if shell { PromptKind::Shell } else { PromptKind::Other }
}

/// Whether it asks for the rest of what was begun at the prompt before.
pub(super) fn continues(prompt: &str) -> bool {
    let text = prompt.trim();
    if text == "..." || text == "...:" {
        return true;
    }
    if let Some(words) = text.strip_suffix('>') {
        let quoted = words.trim_end_matches(['\'', '"', '`', '-', '*', '/']);
        return quoted.is_empty() || quoted.split(' ').all(|word| PARSER_WORDS.contains(&word));
    }
    // PostgreSQL: `name-#`, `name(#`, `name'#`.
    let unfinished = |rest: &str| rest.ends_with(['-', '(', '\'', '"', '*']);
    text.strip_suffix('#').is_some_and(|rest| rest.len() > 1 && unfinished(rest))
}

/// The directory that it names, if it is a path: `user@host:/dir$`, `[user@host /dir]$`, `user@host ~/dir>`.
pub(super) fn directory(prompt: &str) -> Option<&str> {
    let text = prompt.trim().trim_end_matches(SHELL_ENDS).trim_end_matches(['>', ']', ' ']);
    let path = text.rsplit([' ', ':']).next()?;
    path.starts_with(['/', '~']).then_some(path)
}

/// Where the prompt in `line` ends if it is like `known`, which was in another directory.
pub(super) fn end_of_similar(line: &str, known: &str) -> Option<usize> {
    let head = known.find([':', ' ', '/', '~']).filter(|end| *end > 0)?;
    let end = known.trim_end().chars().next_back()?;
    let tail = known.rfind(end).and_then(|at| known.get(at..))?;
    let rest = line.strip_prefix(known.get(..head)?)?;
    rest.find(tail).map(|at| head + at + tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_of_shells_are_told_from_others() {
        for shell in ["$ ", "root@db:/etc# ", "host% ", "❯ ", "me@host ~/src> ", "[me@host src]$ "] {
            assert_eq!(kind(shell), PromptKind::Shell, "{shell}");
        }
        for other in
            [">>> ", "MariaDB [(none)]> ", "mysql> ", "db=# ", "(gdb) ", "Continue? [y/N] ", "sftp> ", ""]
        {
            assert_eq!(kind(other), PromptKind::Other, "{other}");
        }
    }

    #[test]
    fn continuation_prompts_are_those_of_the_programs() {
        for more in ["> ", "... ", "for> ", "cmdsubst quote> ", "    -> ", "    '> ", "db-# "] {
            assert!(continues(more), "{more}");
        }
        for first in ["$ ", "mysql> ", ">>> ", "db=# ", "sftp> ", "# ", "me@host ~> "] {
            assert!(!continues(first), "{first}");
        }
    }

    #[test]
    fn the_directory_is_read_where_it_is_a_path() {
        let cases = [
            ("me@host:/var/log$ ", Some("/var/log")),
            ("me@host:~# ", Some("~")),
            ("[me@host /srv]$ ", Some("/srv")),
            ("me@host ~/src> ", Some("~/src")),
            ("[me@host src]$ ", None),
            ("$ ", None),
            ("MariaDB [(none)]> ", None),
        ];
        for (prompt, path) in cases {
            assert_eq!(directory(prompt), path, "{prompt}");
        }
    }

    #[test]
    fn a_prompt_of_another_directory_is_recognised() {
        let end = end_of_similar("me@host:/var$ cat $x", "me@host:~$ ");
        assert_eq!(end, Some("me@host:/var$ ".len()));
        assert_eq!(end_of_similar("total 4", "me@host:~$ "), None);
    }
}
