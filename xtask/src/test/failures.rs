//! What test binaries say about the tests that failed, to be read again at the end. Pure.

/// How many lines of a test are kept: what it begins with, and what it ends with, where the cause stands.
const FIRST: usize = 5;
const LAST: usize = 25;

/// What each failed test of `output` has said, under its name.
pub(super) fn of_output(output: &str) -> Vec<String> {
    let mut found: Vec<Vec<&str>> = Vec::new();
    let mut inside = false;
    for line in output.lines() {
        if line.starts_with("---- ") {
            found.push(Vec::new());
            inside = true;
        } else if line == "failures:" || line.starts_with("test result: ") {
            inside = false;
        }
        if let Some(lines) = found.last_mut().filter(|_| inside) {
            lines.push(line);
        }
    }
    found.iter().map(|lines| shortened(lines)).collect()
}

fn shortened(lines: &[&str]) -> String {
    let end = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    let lines = lines.get(..end).unwrap_or_default();
    match lines.len().checked_sub(FIRST + LAST) {
        None | Some(0) => lines.join("\n"),
        Some(left_out) => {
            let (first, rest) = lines.split_at(FIRST);
            let last = rest.get(left_out..).unwrap_or_default();
            format!("{}\n[{left_out} lines are above]\n{}", first.join("\n"), last.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_tests_say_is_found_in_the_output_of_all() {
        let output = "test a ... FAILED\nfailures:\n\n---- a ----\nit was\n\n7\n\n---- b stdout ----\nno\n\n\nfailures:\n    a\n    \
                      b\n\ntest result: FAILED. 3 passed\n     Running next\ntest c ... ok\ntest result: ok.\n\
                      failures:\n\n---- d ----\nlate\ntest result: FAILED\nbehind\n";
        assert_eq!(
            of_output(output),
            ["---- a ----\nit was\n\n7", "---- b stdout ----\nno", "---- d ----\nlate"]
        );
        assert!(of_output("test a ... ok\n\ntest result: ok. 1 passed\n").is_empty());
    }

    #[test]
    fn of_a_long_text_both_ends_are_kept() {
        let text = |lines: usize| {
            let numbered: Vec<_> = (1..=lines).map(|number| number.to_string()).collect();
            of_output(&format!("---- a ----\n{}\n", numbered.join("\n"))).concat()
        };
        assert_eq!(text(29).lines().count(), 30);
        let long = text(31);
        assert!(long.starts_with("---- a ----\n1\n2\n3\n4\n[2 lines are above]\n7\n"), "{long}");
        assert!(long.ends_with("\n30\n31"), "{long}");
    }
}
