//! `cargo xtask test`: every check and test, what failed tests said, one line for each step in a summary, the totals as the
//! last line.
//!
//! A failing step does not hide the others: only what needs it is left out. What counts as passed
//! comes from the test binaries themselves; a step that should have run tests and shows none fails.

mod failures;
mod step;
mod totals;

use std::env;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Context;

use self::step::{Group, Program, Step, Tests};
use self::totals::Totals;
use crate::setup;
use crate::supervise::{Ending, Finished, Supervisor};
use crate::workspace;

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to run; everything but `fips` unless given.
    #[arg(value_enum)]
    groups: Vec<Group>,
}

/// How a step went.
#[derive(Debug)]
struct Outcome {
    step: &'static Step,
    verdict: Verdict,
    took: Duration,
    totals: Totals,
    /// What its failed tests said.
    failures: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed(String),
    NotRun(&'static str),
}

/// Runs the steps, after installing what is missing.
///
/// # Errors
/// When something cannot be installed, or a step cannot be started.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    setup::ensure(step::needs(&args.groups))?;
    let supervisor = Supervisor::new().context("cannot take over interrupts")?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for step in step::steps(&args.groups) {
        let (outcome, interrupted) = perform(&supervisor, step, &outcomes)?;
        outcomes.push(outcome);
        if interrupted {
            break;
        }
    }
    println!("\n{}{}\n\n{}", told(&outcomes), summary(&outcomes), totals(&outcomes));
    let passed = outcomes.iter().all(|outcome| outcome.verdict == Verdict::Passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn perform(
    supervisor: &Supervisor,
    step: &'static Step,
    before: &[Outcome],
) -> anyhow::Result<(Outcome, bool)> {
    if let Some(needed) = needed_but_failed(step, before) {
        let verdict = Verdict::NotRun(needed);
        let outcome =
            Outcome { step, verdict, took: Duration::ZERO, totals: Totals::default(), failures: Vec::new() };
        return Ok((outcome, false));
    }
    let mut command = command(step)?;
    println!("\n== {}: {}", step.name, workspace::shown(&command));
    let started = Instant::now();
    let finished = supervisor
        .run(&mut command, step.limit)
        .with_context(|| format!("cannot run `{}`", workspace::shown(&command)))?;
    let (verdict, totals) = judge(step, &finished);
    let interrupted = finished.ending == Ending::Interrupted;
    let failures = failures::of_output(&finished.stdout);
    Ok((Outcome { step, verdict, took: started.elapsed(), totals, failures }, interrupted))
}

fn needed_but_failed(step: &Step, before: &[Outcome]) -> Option<&'static str> {
    let needed = step.needs?;
    let passed = before.iter().any(|done| done.step.name == needed && done.verdict == Verdict::Passed);
    (!passed).then_some(needed)
}

fn command(step: &Step) -> anyhow::Result<Command> {
    let mut command = match step.program {
        Program::Cargo => workspace::cargo(),
        Program::Xtask => {
            let mut command = Command::new(env::current_exe().context("cannot find this program")?);
            command.current_dir(workspace::root());
            command
        }
    };
    command.args(step.args).env("PORTREEVE_BIN", workspace::target_dir().join("debug/portreeve"));
    Ok(command)
}

/// A step that fails counts as one failed test when its tests do not say more.
fn judge(step: &Step, finished: &Finished) -> (Verdict, Totals) {
    let counted = Totals::of_output(&finished.stdout).filter(|_| step.tests != Tests::None);
    let mut totals = counted.unwrap_or_default();
    let failure = match finished.ending {
        Ending::TimedOut => Some(format!("stopped after {} min", step.limit.as_secs() / 60)),
        Ending::Interrupted => Some("interrupted".to_owned()),
        Ending::Exited(status) if !status.success() => Some(status.to_string()),
        Ending::Exited(_) if step.tests != Tests::None && totals.passed + totals.failed == 0 => {
            Some("no test ran".to_owned())
        }
        Ending::Exited(_) => None,
    };
    match failure {
        None => (Verdict::Passed, totals),
        Some(reason) => {
            totals.failed = totals.failed.max(1);
            (Verdict::Failed(reason), totals)
        }
    }
}

fn totals(outcomes: &[Outcome]) -> Totals {
    let mut sum = Totals::default();
    for outcome in outcomes {
        if outcome.step.tests == Tests::IgnoredBefore {
            sum.catch_up(outcome.totals);
        }
        sum += outcome.totals;
    }
    sum
}

/// What failed tests said, which stands far above by now.
fn told(outcomes: &[Outcome]) -> String {
    let of_step = |outcome: &Outcome| {
        let Outcome { step, failures, .. } = outcome;
        failures.iter().map(|said| format!("== failed in {}:\n{said}\n\n", step.name)).collect::<String>()
    };
    outcomes.iter().map(of_step).collect()
}

fn summary(outcomes: &[Outcome]) -> String {
    let lines = outcomes.iter().map(|Outcome { step, verdict, took, totals, .. }| {
        let result = match verdict {
            Verdict::Passed if step.tests == Tests::None => "ok".to_owned(),
            Verdict::Passed => format!("ok: {totals}"),
            Verdict::Failed(reason) => format!("FAILED: {reason}"),
            Verdict::NotRun(needed) => format!("not run: needs {needed}"),
        };
        format!("{:<14} {:>7.1} s  {result}", step.name, took.as_secs_f64())
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn step(name: &str) -> &'static Step {
        step::steps(&[]).find(|step| step.name == name).unwrap()
    }

    fn finished(code: i32, stdout: &str) -> Finished {
        Finished { ending: Ending::Exited(ExitStatus::from_raw(code << 8)), stdout: stdout.to_owned() }
    }

    fn outcome(name: &str, finished: &Finished) -> Outcome {
        let (verdict, totals) = judge(step(name), finished);
        let failures = failures::of_output(&finished.stdout);
        Outcome { step: step(name), verdict, took: Duration::from_millis(1234), totals, failures }
    }

    fn result(passed: u64, failed: u64, ignored: u64) -> String {
        format!("test result: ok. {passed} passed; {failed} failed; {ignored} ignored; 0 measured\n")
    }

    #[test]
    fn a_test_step_that_ran_nothing_fails() {
        assert_eq!(outcome("e2e", &finished(0, "")).verdict, Verdict::Failed("no test ran".into()));
        let empty = finished(0, &result(0, 0, 0));
        assert_eq!(outcome("kernel", &empty).verdict, Verdict::Failed("no test ran".into()));
        assert_eq!(outcome("clippy", &finished(0, "")).verdict, Verdict::Passed);
    }

    #[test]
    fn a_failed_check_is_one_failure_and_failed_tests_are_as_many() {
        assert_eq!(outcome("clippy", &finished(101, "")).totals.failed, 1);
        assert_eq!(outcome("unit", &finished(101, &result(5, 3, 0))).totals.failed, 3);
        assert_eq!(
            outcome("unit", &finished(101, &result(5, 0, 0))).totals.failed,
            1,
            "a binary that aborted"
        );
    }

    #[test]
    fn a_step_past_its_limit_or_interrupted_fails() {
        for ending in [Ending::TimedOut, Ending::Interrupted] {
            let outcome = outcome("unit", &Finished { ending, stdout: result(5, 0, 0) });
            assert!(matches!(outcome.verdict, Verdict::Failed(_)));
        }
    }

    #[test]
    fn a_step_waits_only_for_what_it_needs() {
        let before = [outcome("clippy", &finished(101, "")), outcome("build", &finished(101, ""))];
        assert_eq!(needed_but_failed(step("package"), &before), Some("build"));
        assert_eq!(needed_but_failed(step("unit"), &before), None);
        let before = [outcome("package", &finished(0, ""))];
        assert_eq!(needed_but_failed(step("e2e"), &before), None);
    }

    #[test]
    fn tests_that_need_root_are_counted_where_they_ran() {
        let outcomes = [
            outcome("unit", &finished(0, &result(400, 0, 12))),
            outcome("ssh sides", &finished(0, &result(10, 0, 0))),
        ];
        assert_eq!(totals(&outcomes).to_string(), "410 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn what_failed_tests_said_is_told_again() {
        let failed = format!("failures:\n\n---- a ----\nwhy\n\nfailures:\n    a\n{}", result(1, 1, 0));
        let outcomes =
            [outcome("unit", &finished(0, &result(1, 0, 0))), outcome("e2e", &finished(1, &failed))];
        assert_eq!(told(&outcomes), "== failed in e2e:\n---- a ----\nwhy\n\n");
    }

    #[test]
    fn the_summary_has_a_line_and_a_time_for_each_step() {
        let outcomes = [outcome("tidy", &finished(0, "")), outcome("unit", &finished(1, &result(1, 1, 0)))];
        let lines = summary(&outcomes);
        assert_eq!(lines, "tidy               1.2 s  ok\nunit               1.2 s  FAILED: exit status: 1");
    }
}
