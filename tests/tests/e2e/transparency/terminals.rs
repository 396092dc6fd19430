//! Commands and shells on a terminal.

use anyhow::Result;
use portreeve_tests::Testbed;
use portreeve_tests::execute::ending;
use portreeve_tests::terminal::Terminal;

use super::Case;
use crate::observation::Observation;
use crate::ssh::{LIMIT, TARGET};

pub(super) const CASES: &[Case] = &[
    Case::new("pty_has_the_size_of_the_window", size)
        .expecting(&[("status", "exit 4"), ("transcript", "33 101\r\nConnection to 10.1.2.3 closed.\r\r\n")]),
    Case::new("pty_follows_the_window", window_change),
    Case::new("pty_has_the_terminals_name", term)
        .expecting(&[("transcript", "vt220\r\nConnection to 10.1.2.3 closed.\r\r\n")]),
    Case::new("pty_has_the_terminals_modes", modes),
    Case::new("pty_merges_the_streams", merged)
        .expecting(&[("transcript", "out\r\nerr\r\nConnection to 10.1.2.3 closed.\r\r\n")]),
    Case::new("interactive_shell", interactive).expecting(&[("status", "exit 5")]),
    Case::new("interrupt_key_reaches_the_program", interrupt).expecting(&[("status", "exit 9")]),
    Case::new("end_of_file_key_ends_the_shell", end_of_file).expecting(&[("status", "exit 0")]),
    Case::new("full_screen_redraws", redraw),
    Case::new("no_pty_when_none_is_asked_for", no_pty).expecting(&[("status", "exit 1")]),
];

/// `ssh ARGS` on a terminal of 101 x 33 that it controls.
fn terminal(bed: &Testbed, args: &[&str]) -> Result<Terminal> {
    let mut command = bed.client("setsid");
    command.args(["--ctty", "ssh", "-F"]).arg(bed.ssh_config()).args(args).env("TERM", "vt220");
    Terminal::spawn(&mut command, 101, 33)
}

fn finish(terminal: Terminal) -> Result<Observation> {
    let (status, transcript) = terminal.finish(LIMIT)?;
    Ok(Observation::new().with("status", ending(status)).with("transcript", transcript))
}

fn size(bed: &Testbed) -> Result<Observation> {
    finish(terminal(bed, &["-t", TARGET, "stty size; exit 4"])?)
}

fn window_change(bed: &Testbed) -> Result<Observation> {
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut terminal = terminal(bed, &["-t", TARGET, script])?;
    terminal.expect("ready\r\n", LIMIT)?;
    terminal.resize(132, 43)?;
    terminal.expect("43 132\r\n", LIMIT)?;
    finish(terminal)
}

fn term(bed: &Testbed) -> Result<Observation> {
    finish(terminal(bed, &["-t", TARGET, "echo $TERM"])?)
}

fn modes(bed: &Testbed) -> Result<Observation> {
    let mut command = bed.client("setsid");
    let ssh = "stty -ixon intr ^G -echoctl erase ^H && exec ssh -F \"$0\" -t \"$1\" 'stty -a; stty -g'";
    command.args(["--ctty", "sh", "-c", ssh]).arg(bed.ssh_config()).arg(TARGET);
    finish(Terminal::spawn(&mut command, 80, 24)?)
}

fn merged(bed: &Testbed) -> Result<Observation> {
    finish(terminal(bed, &["-t", TARGET, "echo out; echo err >&2"])?)
}

/// Each line is typed at a prompt, so that echo and output have one order.
fn interactive(bed: &Testbed) -> Result<Observation> {
    let mut terminal = terminal(bed, &[TARGET])?;
    for line in ["echo $((6 * 7))", "tty | cut -c 1-9", "echo gr\u{fc}n | tr n N", "false", "exit 5"] {
        terminal.expect("$ ", LIMIT)?;
        terminal.send(&format!("{line}\r"))?;
    }
    finish(terminal)
}

fn interrupt(bed: &Testbed) -> Result<Observation> {
    let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let mut terminal = terminal(bed, &["-t", TARGET, script])?;
    terminal.expect("ready\r\n", LIMIT)?;
    terminal.send("\x03")?;
    finish(terminal)
}

fn end_of_file(bed: &Testbed) -> Result<Observation> {
    let mut terminal = terminal(bed, &[TARGET])?;
    terminal.expect("$ ", LIMIT)?;
    terminal.send("\x04")?;
    finish(terminal)
}

fn redraw(bed: &Testbed) -> Result<Observation> {
    let script = "for i in $(seq 400); do printf '\\033[2J\\033[H%s\\033[1m' \"$(seq -s ' ' 1 40)\"; done";
    finish(terminal(bed, &["-t", TARGET, script])?)
}

fn no_pty(bed: &Testbed) -> Result<Observation> {
    finish(terminal(bed, &["-T", TARGET, "tty"])?)
}
