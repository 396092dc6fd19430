//! What test binaries say about themselves: their `test result:` lines, summed. Pure.

use std::fmt;
use std::ops::AddAssign;

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Ran and passed.
    pub(super) passed: u64,
    /// Ran and failed.
    pub(super) failed: u64,
    /// Were there and did not run.
    pub(super) skipped: u64,
}

impl Totals {
    /// Sums every `test result:` line of `output`; `None` when there is no such line.
    pub(super) fn of_output(output: &str) -> Option<Self> {
        let mut results = output.lines().filter_map(of_line);
        let mut totals = results.next()?;
        results.for_each(|more| totals += more);
        Some(totals)
    }

    /// Takes out of the skipped ones those that `ran` has caught up on.
    pub(super) fn catch_up(&mut self, ran: Self) {
        self.skipped = self.skipped.saturating_sub(ran.passed + ran.failed);
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

fn of_line(line: &str) -> Option<Totals> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |word: &str| {
        let mut parts = counts.split(';').map(str::trim);
        parts.find_map(|part| part.strip_suffix(word)?.trim_end().parse().ok())
    };
    Some(Totals { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str =
        "test result: ok. 41 passed; 0 failed; 2 ignored; 0 measured; 7 filtered out; finished in 0.02s";
    const FAILED: &str =
        "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s";

    #[test]
    fn results_of_several_binaries_are_summed() {
        let output = format!("running 43 tests\ntest a ... ok\n\n{OK}\n\nrunning 4 tests\n{FAILED}\n");
        assert_eq!(Totals::of_output(&output), Some(Totals { passed: 44, failed: 1, skipped: 2 }));
    }

    #[test]
    fn output_without_a_result_is_no_result() {
        assert_eq!(Totals::of_output("error: could not compile\n"), None);
        assert_eq!(Totals::of_output("test result: ok. many passed"), None);
        assert_eq!(Totals::of_output("say test result: ok. 1 passed; 0 failed; 0 ignored"), None);
    }

    #[test]
    fn tests_that_a_later_step_ran_are_not_skipped() {
        let mut totals = Totals { passed: 10, failed: 0, skipped: 5 };
        let ran = Totals { passed: 3, failed: 1, skipped: 0 };
        totals.catch_up(ran);
        totals += ran;
        assert_eq!(totals, Totals { passed: 13, failed: 1, skipped: 1 });
        totals.catch_up(Totals { passed: 9, ..Totals::default() });
        assert_eq!(totals.skipped, 0);
    }

    #[test]
    fn the_last_line_reads_as_documented() {
        let totals = Totals { passed: 412, failed: 0, skipped: 3 };
        assert_eq!(totals.to_string(), "412 passed, 0 failed, 3 skipped");
    }
}
