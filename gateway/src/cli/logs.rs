//! `portreeve logs`: recipient keys, decrypting and replaying recordings.
//!
//! Runs on the recipient's own machine; nothing here but `shipping` and `watch` needs that of a gateway. Recordings are written by others:
//! control characters in them reach a terminal through `replay` alone.

mod archive;
mod channel;
mod decrypt;
mod export;
mod filter;
mod follow;
mod lines;
mod location;
mod ls;
mod plain_text;
mod progress;
mod reading;
mod recipient;
mod replay;
mod search;
mod segments;
mod shipping;
mod text_files;
mod timeline;
mod verify;
mod watch;
mod workers;

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use clap::Subcommand;

pub use decrypt::DecryptArgs;
pub use export::ExportArgs;
pub use ls::LsArgs;
pub use recipient::GenerateKeyPairArgs;
pub use replay::ReplayArgs;
pub use search::SearchArgs;
pub use shipping::ShippingArgs;
pub use verify::VerifyArgs;
pub(super) use watch::{Live, WatchArgs};

/// Makes recipient keys, and reads recordings.
#[derive(Debug, Subcommand)]
pub enum LogsCommand {
    /// Make the key pair that opens recordings: NAME (private) and NAME.pub
    GenerateKeyPair(GenerateKeyPairArgs),
    /// List the sessions below a directory
    Ls(LsArgs),
    /// Find text in commands, files, users and output
    Search(SearchArgs),
    /// Decrypt recordings: streams into zip files, events as JSON lines
    Decrypt(DecryptArgs),
    /// Export the recording of a terminal as asciicast, or of any channel as the zip of ssh-log-cli
    Export(ExportArgs),
    /// Play a terminal recording in this terminal
    Replay(ReplayArgs),
    /// Check that recordings are as the gateway closed them, and that none is missing
    Verify(VerifyArgs),
    /// Say what each destination of recordings has yet to confirm, and what it refuses
    Shipping(ShippingArgs),
}

impl LogsCommand {
    /// Runs the verb on the process's own standard output and error.
    ///
    /// # Errors
    /// What stopped it. Damaged recordings are told on standard error as they are met, and give exit
    /// status 1.
    pub fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        on_standard_streams(json, |console| self.run_on(console))
    }

    fn run_on(self, console: &mut Console<'_>) -> anyhow::Result<ExitCode> {
        match self {
            Self::GenerateKeyPair(args) => recipient::generate_key_pair(&args, console),
            Self::Ls(args) => ls::ls(&args, console),
            Self::Search(args) => search::search(&args, console),
            Self::Decrypt(args) => decrypt::decrypt(&args, console),
            Self::Export(args) => export::export(&args, console),
            Self::Verify(args) => verify::verify(&args, console),
            Self::Shipping(args) => shipping::shipping(&args, console),
            Self::Replay(args) => replay::replay(&args, console),
        }
    }
}

/// Mirrors a terminal of a live session in this one.
///
/// # Errors
/// What stopped it.
pub(super) fn watch(live: &Live, args: &WatchArgs, json: bool) -> anyhow::Result<ExitCode> {
    on_standard_streams(json, |console| watch::watch(live, args, console))
}

fn on_standard_streams(
    json: bool,
    verb: impl FnOnce(&mut Console<'_>) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
    let (out_is_terminal, err_is_terminal) = (stdout.is_terminal(), stderr.is_terminal());
    verb(&mut Console { out: &mut stdout, err: &mut stderr, out_is_terminal, err_is_terminal, json })
}

/// Where a verb writes to.
struct Console<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    out_is_terminal: bool,
    err_is_terminal: bool,
    json: bool,
}

impl Console<'_> {
    /// Tells a problem that does not stop the verb.
    fn problem(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.err, "portreeve: {text}")
    }
}

#[cfg(test)]
mod tests;
