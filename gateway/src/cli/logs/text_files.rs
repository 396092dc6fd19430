//! The text files that a recording is decrypted into, and the zip around them.
//!
//! The same names and contents as those of the public `ssh-log-cli`: `term_data.txt` and
//! `term_times.txt` (for scriptreplay) of a terminal recording, else `data_from_client.txt` and
//! `data_from_server.txt`. Each is made by a pass of its own over the sealed file, so that a recording
//! of any size needs little memory and no temporary plaintext.

use std::io::{self, Seek, Write};

use portreeve_core::envelope::{ExitHeader, Header, Packet, RecipientPrivateKey};
use portreeve_core::record::Source;
use portreeve_core::utc::UtcTime;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::reading::ReadingError;
use super::segments::{Log, LogReading};
use crate::cli::print::without_controls;

/// One text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    TerminalData,
    TerminalTimes,
    Stream(Source),
}

/// Writes the zip of a log whose header is known.
pub(super) fn write_zip<W: Write + Seek>(
    log: &Log,
    private_key: &RecipientPrivateKey,
    header: &Header,
    mut zip: ZipWriter<W>,
) -> Result<LogReading, ReadingError> {
    let parts = match header.pty {
        Some(_) => [Part::TerminalData, Part::TerminalTimes],
        None => [Part::Stream(Source::Client), Part::Stream(Source::Target)],
    };
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(true)
        .unix_permissions(0o600);
    let mut reading = None;
    for part in parts {
        zip.start_file(part.name(), options).map_err(failed)?;
        let mut writer = PartWriter::new(part, header, &mut zip).map_err(ReadingError::PassOn)?;
        reading = Some(log.read(private_key, |packet| writer.packet(packet))?);
        writer.end(header).map_err(ReadingError::PassOn)?;
    }
    zip.finish().map_err(failed)?.flush().map_err(ReadingError::PassOn)?;
    reading.ok_or_else(|| ReadingError::PassOn(io::ErrorKind::InvalidData.into()))
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::TerminalData => "term_data.txt",
            Self::TerminalTimes => "term_times.txt",
            Self::Stream(Source::Client) => "data_from_client.txt",
            Self::Stream(Source::Target) => "data_from_server.txt",
        }
    }
}

struct PartWriter<W> {
    part: Part,
    out: W,
    /// Elapsed time of the last packet that was timed, in microseconds.
    timed: u64,
}

impl<W: Write> PartWriter<W> {
    fn new(part: Part, header: &Header, mut out: W) -> io::Result<Self> {
        // scriptreplay skips the first line of the data.
        if let (Part::TerminalData, Some(pty)) = (part, &header.pty) {
            let started = UtcTime::from_unix_seconds(header.started_at).to_seconds_text();
            let term = without_controls(pty.term.as_deref().unwrap_or("unknown"));
            let (width, height) = (pty.width, pty.height);
            writeln!(
                out,
                "Session started on {started} [TERM=\"{term}\" COLUMNS=\"{width}\" LINES=\"{height}\"]"
            )?;
        }
        Ok(Self { part, out, timed: 0 })
    }

    fn packet(&mut self, packet: Packet<'_>) -> io::Result<()> {
        match self.part {
            // What the user types comes back from the target as echo.
            Part::TerminalData if packet.source == Source::Target => self.out.write_all(packet.data),
            Part::TerminalTimes if packet.source == Source::Target && !packet.data.is_empty() => {
                let delay = packet.elapsed.saturating_sub(self.timed);
                self.timed = self.timed.max(packet.elapsed);
                let (seconds, micros) = (delay / 1_000_000, delay % 1_000_000);
                writeln!(self.out, "{seconds}.{micros:06} {}", packet.data.len())
            }
            Part::Stream(source) if packet.source == source => self.out.write_all(packet.data),
            Part::TerminalData | Part::TerminalTimes | Part::Stream(_) => Ok(()),
        }
    }

    fn end(&mut self, header: &Header) -> io::Result<()> {
        match (self.part, &header.exit_data) {
            (Part::TerminalData, Some(exit)) => {
                let ended = UtcTime::from_unix_seconds(exit.timestamp).to_seconds_text();
                writeln!(self.out, "\nScript done on {ended} [{}]", how_it_ended(exit))
            }
            (Part::TerminalData, None) => writeln!(self.out, "\nSession has no termination data"),
            (Part::TerminalTimes | Part::Stream(_), _) => Ok(()),
        }
    }
}

fn how_it_ended(exit: &ExitHeader) -> String {
    match exit {
        ExitHeader { error_msg: Some(message), .. } => format!("ERROR=\"{}\"", without_controls(message)),
        ExitHeader { core_dumped: true, .. } => "CORE DUMPED".to_owned(),
        ExitHeader { status, .. } => format!("COMMAND_EXIT_CODE=\"{}\"", status.unwrap_or(0)),
    }
}

fn failed(error: zip::result::ZipError) -> ReadingError {
    ReadingError::PassOn(error.into())
}
