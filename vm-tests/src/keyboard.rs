//! What a person does at the console of an appliance: logs in, and runs commands.
//!
//! The console is one line of text for all who write to it: what the kernel says meanwhile is among what a command has
//! written. Nothing is echoed once somebody is logged in.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::appliance::Appliance;

/// How long a prompt or a command may take, emulated.
const LIMIT: Duration = Duration::from_secs(300);
/// What stands before what a command writes.
const BEGIN: &str = "portreeve-command-begins";
/// What stands behind it, before its status.
const END: &str = "portreeve-command-ends:";

/// What a command on the machine has written, to both of its streams, and its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// By lines.
    pub lines: Vec<String>,
    /// The status.
    pub status: u8,
}

impl Typed {
    /// The text, of a command that ended with status 0.
    ///
    /// # Errors
    /// For any other end, with the text.
    pub fn success(self) -> Result<String> {
        let text = self.lines.join("\n");
        ensure!(self.status == 0, "status {}: {text}", self.status);
        Ok(text)
    }
}

impl Appliance {
    /// Answers the console's questions for name and password; says whether that was enough.
    ///
    /// # Errors
    /// When the console does not ask or answer.
    pub fn log_in(&mut self, account: &str, password: &str) -> Result<bool> {
        // Where the question stands, or an empty line would be an answer; where something came after it, it brings it back.
        if self
            .console()
            .wait_for_prompt(Duration::ZERO, |line| line.ends_with(" login:").then_some(()))
            .is_err()
        {
            self.type_line("")?;
        }
        self.prompted(&[" login:"])?;
        self.type_line(account)?;
        self.prompted(&["Password:"])?;
        self.type_line(password)?;
        let inside = self.prompted(&[" login:", "#"])? == "#";
        if inside {
            // A shell that neither edits nor echoes, and asks for nothing. What is typed before it is there would be echoed.
            let shell = format!("stty -echo; echo {BEGIN}; exec sh");
            self.type_line(&format!("exec env TERM=dumb PAGER=cat PS1= PS2= sh -c '{shell}'"))?;
            let there = self.console().wait_for(LIMIT, |line| (line == BEGIN).then_some(()));
            there.with_context(|| format!("no shell: {}", self.tail()))?;
        }
        Ok(inside)
    }

    /// Answers a question.
    ///
    /// # Errors
    /// When it is not asked in time.
    pub fn answer(&mut self, limit: Duration, question: &str, answer: &str) -> Result<()> {
        let asked = self.console().wait_for_text(limit, question);
        asked.with_context(|| format!("{question}: {}", self.tail()))?;
        self.type_line(answer)
    }

    /// Runs a command line of the shell as who is logged in.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn run(&mut self, line: &str) -> Result<Typed> {
        self.type_line(&format!("echo {BEGIN}; {{ {line}; }} 2>&1 </dev/null; echo {END}$?"))?;
        let mut lines = Vec::new();
        let ended = self.console().wait_for(LIMIT, |line| {
            // The end may stand behind a line that has none of its own.
            let Some((last, status)) = line.split_once(END) else {
                if line == BEGIN {
                    lines.clear();
                } else {
                    lines.push(line.to_owned());
                }
                return None;
            };
            lines.extend(Some(last.to_owned()).filter(|last| !last.is_empty()));
            Some(status.trim().parse::<u8>())
        });
        let status = ended.with_context(|| format!("{line}: {}", self.tail()))?;
        Ok(Typed { status: status.context("no status")?, lines })
    }

    /// Restarts the machine in order, as who is logged in. The shell may be ended before it says that the command has.
    ///
    /// # Errors
    /// When the kernel does not restart it in time.
    pub fn reboot(&mut self) -> Result<()> {
        self.type_line("systemctl reboot")?;
        self.wait_for_restart()
    }

    /// Waits until the kernel restarts the machine.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for_restart(&mut self) -> Result<()> {
        let restarted = self.console().wait_for_text(LIMIT, "reboot: Restarting system");
        restarted.with_context(|| format!("no restart: {}", self.tail()))
    }

    /// Waits for one of some prompts.
    fn prompted(&mut self, prompts: &[&'static str]) -> Result<&'static str> {
        let asked = |line: &str| prompts.iter().find(|prompt| line.ends_with(**prompt)).copied();
        let prompt = self.console().wait_for_prompt(LIMIT, asked);
        prompt.with_context(|| format!("no prompt of {prompts:?}: {}", self.tail()))
    }

    fn type_line(&mut self, line: &str) -> Result<()> {
        writeln!(self.keys, "{line}").context("the keyboard")
    }
}
