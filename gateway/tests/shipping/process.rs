//! A process that ships to an S3 server, to be killed.

use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use portreeve_core::config::shipping::DestinationKind;

use crate::bed;
use crate::s3::destination;

/// The argument that makes this program a process that ships.
pub(crate) const ROLE: &str = "ship";

/// Starts it.
pub(crate) fn start(spool: &Path, endpoint: &str, credentials: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(ROLE).arg(spool).arg(endpoint).arg(credentials).spawn().unwrap()
}

/// Is it: ships for ever, and deletes at once what is confirmed.
pub(crate) fn run(mut args: impl Iterator<Item = String>) -> ExitCode {
    let (spool, endpoint, credentials) = (args.next().unwrap(), args.next().unwrap(), args.next().unwrap());
    let kind = DestinationKind::S3(destination(&endpoint, credentials.as_ref()));
    bed::run(bed::shipping(spool.as_ref(), kind, Some(Duration::ZERO)).run());
    ExitCode::SUCCESS
}
