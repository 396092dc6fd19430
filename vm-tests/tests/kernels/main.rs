//! The kernel programs on Debian's kernels: the tests `kernel` of package portreeve-tests, in a machine for each.
//!
//! A test here is a machine; what it says of its own tests is printed as it comes, and summed by
//! `cargo xtask test`. Without QEMU or a kernel every test fails and says what to do. `PORTREEVE_VM_TESTS=all` runs all
//! tests `kernel` instead of those that may depend on the kernel; `PORTREEVE_VM_ARGS` are arguments of theirs, such as a
//! name.

#![expect(clippy::print_stdout, reason = "a test program: a table for people is its last output")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use portreeve_vm_tests::accelerator;
use portreeve_vm_tests::built;
use portreeve_vm_tests::kernels::{self, KERNELS, Kernel};
use portreeve_vm_tests::machine::Machine;
use portreeve_vm_tests::root::Root;

/// What the tests in the guest run.
const PROGRAMS: &[&str] = &[
    "cat", "cut", "env", "ethtool", "grep", "ip", "kmod", "ls", "modprobe", "nft", "nsenter", "setpriv",
    "sh", "sleep", "sort", "ss", "sysctl", "tc", "true", "wg", "xargs",
];
/// Where the tests are in the guest.
const TESTS: &str = "/kernel";
/// Emulated, on the two cores of a small machine of CI.
const LIMIT: Duration = Duration::from_secs(1500);

/// Beside other machines.
const PROOF: Duration = Duration::from_secs(60);

static TABLE: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // All at once: each waits a third of the time.
    arguments.test_threads.get_or_insert(KERNELS.len());
    let trial = |kernel: &'static Kernel| {
        Trial::test(format!("kernel_programs_on_linux_{}", kernel.name), move || {
            runs_all(kernel).map_err(|error| format!("{error:#}").into())
        })
    };
    let proof = Trial::test("a_kernel_that_starts_proves_what_runs_it", || {
        is_proved().map_err(|error| format!("{error:#}").into())
    });
    let trials = KERNELS.iter().map(trial).chain([proof]).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if !table.is_empty() {
        println!("{:<32} {:>6} {:>6} {:>8} {:>8}", "kernel", "passed", "failed", "boot s", "all s");
        table.iter().for_each(|row| println!("{row}"));
    }
    conclusion.exit_code()
}

fn runs_all(kernel: &Kernel) -> Result<()> {
    let unpacked = kernel.unpacked()?;
    let archive = kernels::directory().join(format!("{}.cpio", kernel.name));
    root(&unpacked, &archive)?;
    let console = kernels::directory().join(format!("{}.console", kernel.name));
    let (which, words) = (variable("PORTREEVE_VM_TESTS"), variable("PORTREEVE_VM_ARGS"));
    let which = format!("PORTREEVE_VIRTUAL_MACHINE={which}");
    let program: Vec<&str> = ["env", &which, TESTS].into_iter().chain(words.split_whitespace()).collect();
    let machine = Machine {
        name: kernel.name,
        kernel: &unpacked,
        root: &archive,
        pairs: 2,
        program: &program,
        limit: LIMIT,
        console,
    };
    let run = machine.run();
    std::fs::remove_file(&archive)?;
    let run = run?;
    let result =
        run.lines.iter().rev().find(|line| line.starts_with("test result: ")).context("no result")?;
    let count = |word: &str| {
        let before = result.split(word).next()?;
        before.split_whitespace().next_back()?.parse::<u32>().ok()
    };
    let (passed, failed) = (count(" passed").context("no count")?, count(" failed").context("no count")?);
    TABLE.lock().unwrap_or_else(PoisonError::into_inner).push(format!(
        "{:<32} {passed:>6} {failed:>6} {:>8.1} {:>8.1}",
        unpacked.release,
        run.boot.as_secs_f64(),
        run.whole.as_secs_f64()
    ));
    ensure!(run.code == 0 && failed == 0, "{failed} tests failed on {}", unpacked.release);
    ensure!(passed > 0, "no test ran on {}", unpacked.release);
    Ok(())
}

/// What KVM has to show, emulation does.
fn is_proved() -> Result<()> {
    ensure!(accelerator::runs_a_kernel(accelerator::EMULATED, PROOF)?, "no start of a kernel was seen");
    Ok(())
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// Writes the root of a machine with this kernel.
fn root(kernel: &kernels::Unpacked, archive: &Path) -> Result<()> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let tests = PROGRAM.get_or_init(|| built::test_program("portreeve-tests", "kernel").unwrap_or_default());
    let root = Root::new()?;
    root.programs(PROGRAMS)?;
    root.program(Path::new(env!("CARGO_BIN_EXE_portreeve-vm-guest")), "/init")?;
    root.program(tests, TESTS)?;
    root.copy(&built::kernel_programs()?, Path::new("/portreeve-datapath.o"))?;
    root.modules(kernel)?;
    root.archive(archive)
}
