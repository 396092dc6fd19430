//! What a process has used: CPU time of all its threads, and memory; and on which processors it runs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// CPU time in seconds, of threads that have ended too, by the process's own clock. The ticks of
/// proc_pid_stat(5) are sampled: for work in short bursts they were 40 % too high.
pub(super) fn cpu_seconds(pid: Pid) -> Result<f64> {
    let clock = clock_getcpuclockid(pid).with_context(|| format!("the CPU clock of process {pid}"))?;
    Ok(Duration::from(clock_gettime(clock)?).as_secs_f64())
}

/// Proportional set size in bytes.
pub(super) fn memory(pid: Pid) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    Ok(kilobytes(&text, "Pss:").with_context(|| path)? as f64 * 1024.0)
}

/// Forgets the most memory that the process held so far (proc_pid_clear_refs(5)).
pub(super) fn reset_peak(pid: Pid) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").with_context(|| path)
}

/// The most memory in bytes that the process held since [`reset_peak`].
pub(super) fn peak(pid: Pid) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    Ok(kilobytes(&text, "VmHWM:").with_context(|| path)? as f64 * 1024.0)
}

/// The processors of this thread, and of what it starts.
pub(super) fn processors() -> Result<CpuSet> {
    sched_getaffinity(Pid::from_raw(0)).context("which processors this thread runs on")
}

/// Keeps this thread, and what it starts from now on, on these processors.
pub(super) fn keep_on(processors: &CpuSet) -> Result<()> {
    sched_setaffinity(Pid::from_raw(0), processors).context("keep this thread on some processors")
}

/// Keeps all threads of a process on these processors, and so those that they start.
pub(super) fn keep_process_on(pid: Pid, processors: &CpuSet) -> Result<()> {
    let path = format!("/proc/{pid}/task");
    for thread in fs::read_dir(&path).with_context(|| path.clone())? {
        let name = thread?.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok()).with_context(|| path.clone())?;
        sched_setaffinity(Pid::from_raw(id), processors).with_context(|| format!("thread {id}"))?;
    }
    Ok(())
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_size_is_taken_and_not_one_of_its_parts() {
        let rollup = "55 ---p 0 00:00 0 [rollup]\nRss:  900 kB\nPss:  812 kB\nPss_Anon: 300 kB\n";
        assert_eq!(kilobytes(rollup, "Pss:"), Some(812));
        assert_eq!(kilobytes("Rss: 1 kB\n", "Pss:"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let own = Pid::this();
        let before = cpu_seconds(own).unwrap();
        std::thread::spawn(|| (0..5_000_000_u64).map(std::hint::black_box).sum::<u64>()).join().unwrap();
        assert!(cpu_seconds(own).unwrap() > before, "a thread that has ended counts");
        assert!(memory(own).unwrap() > 0.0);
        reset_peak(own).unwrap();
        assert!(peak(own).unwrap() > 0.0);
    }
}
