//! Walking over a sealed file.

use std::io::{self, Read};

use portreeve_core::manifest::{FileFacts, FileScan};

/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;

/// Walks over a file from where it stands to its end.
///
/// # Errors
/// Those of reading it.
pub fn scan_file(file: &mut impl Read) -> io::Result<FileFacts> {
    let mut scan = FileScan::default();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(scan.finish()),
            Ok(read) => scan.feed(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
