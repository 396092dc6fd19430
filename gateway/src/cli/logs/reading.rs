//! Going through a sealed file, packet by packet, with little memory.

use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::path::PathBuf;

use portreeve_core::envelope::{Header, OpenError, Opener, Packet, RecipientPrivateKey};
use thiserror::Error;

use super::location::Location;

const PIECE: usize = 64 * 1024;

/// What was read of a file.
pub(super) struct Reading {
    pub(super) header: Header,
    pub(super) packets: u64,
    /// What is wrong after the packets that were delivered.
    pub(super) damage: Option<OpenError>,
}

/// Nothing of a file could be read, or what was read could not be passed on.
#[derive(Debug, Error)]
pub(super) enum ReadingError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// Nothing in it opens.
    #[error("cannot decrypt {}", path.display())]
    Open { path: PathBuf, source: OpenError },
    /// Packets could not be passed on.
    #[error("cannot write what was decrypted")]
    PassOn(#[source] io::Error),
}

/// Passes on every packet that is intact.
pub(super) fn read_packets(
    path: &Location,
    private_key: &RecipientPrivateKey,
    mut pass_on: impl FnMut(Packet<'_>) -> io::Result<()>,
) -> Result<Reading, ReadingError> {
    read_until(path, private_key, |packet| pass_on(packet).map(ControlFlow::Continue))
}

fn read_until(
    path: &Location,
    private_key: &RecipientPrivateKey,
    mut pass_on: impl FnMut(Packet<'_>) -> io::Result<ControlFlow<()>>,
) -> Result<Reading, ReadingError> {
    let unreadable = |source| ReadingError::Read { path: path.to_path(), source };
    let mut file = path.open().map_err(unreadable)?;
    let mut opener = Opener::new(private_key);
    let mut piece = vec![0; PIECE];
    let mut packets = 0;
    let damage = loop {
        match opener.next_packet() {
            Ok(Some(packet)) => {
                packets += 1;
                if pass_on(packet).map_err(ReadingError::PassOn)?.is_break() {
                    break None;
                }
            }
            Ok(None) => {
                let read = file.read(&mut piece).map_err(unreadable)?;
                if read == 0 {
                    break opener.finish().err();
                }
                opener.feed(piece.get(..read).unwrap_or_default());
            }
            Err(error) => break Some(error),
        }
    };
    match (opener.header().cloned(), damage) {
        (Some(header), damage) if packets > 0 || damage.is_none() => Ok(Reading { header, packets, damage }),
        (_, Some(source)) => Err(ReadingError::Open { path: path.to_path(), source }),
        (_, None) => Err(ReadingError::Open { path: path.to_path(), source: OpenError::TruncatedHeader }),
    }
}

/// The header of a file, once it is sure that something in it opens (or that it is intact and empty).
pub(super) fn read_header(
    path: &Location,
    private_key: &RecipientPrivateKey,
) -> Result<Header, ReadingError> {
    read_until(path, private_key, |_| Ok(ControlFlow::Break(()))).map(|reading| reading.header)
}
