//! Commands without a terminal: status, streams, environment.

use anyhow::Result;
use portreeve_tests::Testbed;

use super::Case;
use crate::observation::Observation;
use crate::ssh::{TARGET, TARGET_V6, noise, sha256, ssh, ssh_with};

pub(super) const CASES: &[Case] = &[
    Case::new("exec_runs_a_command", exec).expecting(&[
        ("status", "exit 0"),
        ("stdout", "hello\n"),
        ("stderr", ""),
    ]),
    Case::new("exec_over_ipv6", exec_over_ipv6).expecting(&[
        ("status", "exit 7"),
        ("stdout", "server\n"),
        ("stderr", ""),
    ]),
    Case::new("exit_codes_come_back", exit_codes).expecting(&[("codes", "0 1 2 7 126 127 128 200 254 255")]),
    Case::new("exit_by_signal_is_255", exit_by_signal).expecting(&[
        ("TERM/status", "exit 255"),
        ("KILL/status", "exit 255"),
        ("SEGV/status", "exit 255"),
    ]),
    Case::new("a_missing_command_is_127", missing_command).expecting(&[
        ("status", "exit 127"),
        ("stderr", "bash: line 1: no-such-command: command not found\n"),
    ]),
    Case::new("stderr_stays_apart", stderr_apart).expecting(&[
        ("stdout", "out\nout2\n"),
        ("stderr", "err\nerr2\n"),
        ("status", "exit 3"),
    ]),
    Case::new("much_on_both_streams", both_streams),
    Case::new("stdin_ends", stdin_ends).expecting(&[("stdout", "one\ntwo\nend\n"), ("status", "exit 0")]),
    Case::new("no_stdin", no_stdin).expecting(&[("stdout", "end\n")]),
    Case::new("five_megabytes_of_stdin", bulk_up).expecting(&[("status", "exit 0"), ("equal", "true")]),
    Case::new("five_megabytes_of_stdout", bulk_down).expecting(&[("status", "exit 0"), ("equal", "true")]),
    Case::new("bytes_that_are_no_text", no_text).expecting(&[("stdout", "\\x00\\xff\\xfe\\n\\r\\n")]),
    Case::new("environment_is_passed", environment)
        .expecting(&[("stdout", "[plain] [with space and 'quotes'] [gr\u{fc}n]\n")]),
    Case::new("a_long_command", long_command).expecting(&[("stdout", "30000\n")]),
    Case::new("quotes_and_newlines_in_a_command", quotes).expecting(&[("stdout", "a  b\n$HOME\n\"q\"\n")]),
    Case::new("shell_without_a_terminal", shell)
        .expecting(&[("stdout", "hello from stdin\n"), ("status", "exit 3")]),
    Case::new("output_after_the_shell_has_ended", late_output).expecting(&[("stdout", "now\nlate\n")]),
    Case::new("a_subsystem_that_is_not_there", no_subsystem)
        .expecting(&[("status", "exit 255"), ("stderr", "subsystem request failed on channel 0\r\n")]),
    Case::new("reader_that_stops_early", early_end).expecting(&[("stdout", "line\n"), ("status", "exit 0")]),
    Case::new("nothing_of_the_gateway_in_the_environment", own_environment),
    Case::new("a_hundred_lines_in_order", order),
];

fn exec(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh(bed, &[TARGET, "echo hello"])?))
}

fn exec_over_ipv6(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh(bed, &["-6", TARGET_V6, "uname -n; exit 7"])?))
}

fn exit_codes(bed: &Testbed) -> Result<Observation> {
    let mut codes = Vec::new();
    for code in [0, 1, 2, 7, 126, 127, 128, 200, 254, 255] {
        let finished = ssh(bed, &[TARGET, &format!("exit {code}")])?;
        codes.push(finished.status.code().map_or_else(|| "none".to_owned(), |code| code.to_string()));
    }
    Ok(Observation::new().with("codes", codes.join(" ")))
}

fn exit_by_signal(bed: &Testbed) -> Result<Observation> {
    let mut seen = Observation::new();
    for signal in ["TERM", "KILL", "SEGV"] {
        let finished = ssh(bed, &[TARGET, &format!("ulimit -c 0; echo before; kill -{signal} $$")])?;
        seen = seen.and(signal, Observation::of(&finished));
    }
    Ok(seen)
}

fn missing_command(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh(bed, &[TARGET, "no-such-command"])?))
}

fn stderr_apart(bed: &Testbed) -> Result<Observation> {
    let script = "echo out; echo err >&2; echo out2; echo err2 >&2; exit 3";
    Ok(Observation::of(&ssh(bed, &[TARGET, script])?))
}

fn both_streams(bed: &Testbed) -> Result<Observation> {
    let finished = ssh(bed, &[TARGET, "seq 1 60000 & seq 60000 120000 >&2; wait"])?;
    Ok(Observation::of(&finished))
}

fn stdin_ends(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh_with(bed, &[TARGET, "cat; echo end"], b"one\ntwo\n")?))
}

fn no_stdin(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh_with(bed, &["-n", TARGET, "cat; echo end"], b"unread\n")?))
}

fn bulk_up(bed: &Testbed) -> Result<Observation> {
    let bytes = noise(5_000_000);
    let finished = ssh_with(bed, &[TARGET, "sha256sum"], &bytes)?;
    let equal = finished.out().starts_with(&sha256(&bytes)?);
    Ok(Observation::of(&finished).with("equal", equal.to_string()))
}

fn bulk_down(bed: &Testbed) -> Result<Observation> {
    let bytes = noise(5_000_000);
    std::fs::write(bed.server().home("alice").join("bulk_down"), &bytes)?;
    let finished = ssh(bed, &[TARGET, "cat bulk_down"])?;
    let equal = finished.stdout == bytes;
    Ok(Observation::new().with("status", finished.ending()).with("equal", equal.to_string()))
}

fn no_text(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh(bed, &[TARGET, r"printf '\x00\xff\xfe\n\r\n'"])?))
}

fn environment(bed: &Testbed) -> Result<Observation> {
    let args = [
        "-o",
        "SetEnv=TB_A=plain \"TB_B=with space and 'quotes'\" TB_C=gr\u{fc}n",
        TARGET,
        "echo \"[$TB_A] [$TB_B] [$TB_C]\"",
    ];
    Ok(Observation::of(&ssh(bed, &args)?))
}

fn long_command(bed: &Testbed) -> Result<Observation> {
    let command = format!("printf %s {} | wc -c", "x".repeat(30_000));
    Ok(Observation::of(&ssh(bed, &[TARGET, &command])?))
}

fn quotes(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh(bed, &[TARGET, "echo 'a  b'\necho '$HOME'\necho '\"q\"'"])?))
}

fn shell(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh_with(bed, &["-T", TARGET], b"echo hello from stdin\nexit 3\n")?))
}

fn late_output(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh(bed, &[TARGET, "(sleep 0.3; echo late) & echo now"])?))
}

fn no_subsystem(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh(bed, &["-s", TARGET, "no-such-subsystem"])?))
}

fn early_end(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh_with(bed, &[TARGET, "head -n 1"], "line\n".repeat(200_000).as_bytes())?))
}

/// The addresses and ports that sshd tells its programs are the connection's, so they are left out.
fn own_environment(bed: &Testbed) -> Result<Observation> {
    let finished = ssh(bed, &[TARGET, "env | grep -v '^SSH_' | sort; umask; ulimit -a"])?;
    Ok(Observation::of(&finished))
}

fn order(bed: &Testbed) -> Result<Observation> {
    let script = "for i in $(seq 100); do echo $i; echo e$i >&2; done";
    Ok(Observation::of(&ssh(bed, &[TARGET, script])?))
}
