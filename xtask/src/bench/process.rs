//! What a process has used: CPU time of all its threads, and memory.

use std::fs;

use anyhow::{Context, Result};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// CPU time in seconds, of threads that have ended too; the kernel counts in ticks of 10 ms.
pub(super) fn cpu_seconds(pid: Pid) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
    let ticks = cpu_ticks(&text).with_context(|| path)?;
    Ok(ticks as f64 / per_second as f64)
}

/// Proportional set size in bytes.
pub(super) fn memory(pid: Pid) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    Ok(pss_kilobytes(&text).with_context(|| path)? as f64 * 1024.0)
}

/// utime and stime, fields 14 and 15 of proc_pid_stat(5). The name in field 2 may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

fn pss_kilobytes(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "42 (a) 1 (b) S 1 2 3 4 5 6 7 8 9 10 70 30 0 0 20 0 5 0 100 1000 200";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(cpu_ticks("42 (short) S 1"), None);
    }

    #[test]
    fn the_proportional_size_is_taken_and_not_one_of_its_parts() {
        let rollup = "55 ---p 0 00:00 0 [rollup]\nRss:  900 kB\nPss:  812 kB\nPss_Anon: 300 kB\n";
        assert_eq!(pss_kilobytes(rollup), Some(812));
        assert_eq!(pss_kilobytes("Rss: 1 kB\n"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let own = Pid::this();
        assert!(cpu_seconds(own).unwrap() >= 0.0 && memory(own).unwrap() > 0.0);
    }
}
