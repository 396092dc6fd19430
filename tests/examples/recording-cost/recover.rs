//! How long a gateway takes to open a spool with many files.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use portreeve::audit::AuditChain;
use portreeve::recording::spool::Spool;
use portreeve_core::envelope::{
    Header, LogName, Packer, Packet, RESERVED_HEADER, RecipientPrivateKey, Sealer,
};
use portreeve_core::record::{ChannelNumber, Source};
use serde_json::json;

/// Logs of a session beside its events.
const CHANNELS: u32 = 3;

/// Makes `files` files in `directory`, and opens the spool twice: all sessions are leftovers of a crash, then none is.
pub(super) fn measure(directory: &Path, files: usize) -> Result<()> {
    let (spool, state) = (directory.join("spool"), directory.join("state"));
    let sessions = files / (1 + CHANNELS as usize);
    let file = cut_file()?;
    fs::create_dir_all(&state)?;
    for number in 0..sessions {
        let session = spool.join(format!("{number}-session.part"));
        fs::create_dir_all(&session)?;
        fs::write(session.join(LogName::Events.segment(0).to_string()), &file)?;
        for channel in 0..CHANNELS {
            fs::write(session.join(LogName::Channel(ChannelNumber(channel)).segment(0).to_string()), &file)?;
        }
    }
    // A crash leaves what was on the disk; what was just made must not be waited for.
    nix::unistd::sync();
    for (what, left) in [("all left by a crash", sessions), ("all finished", 0)] {
        let began = Instant::now();
        let opened = Spool::open_signed(&spool, Arc::new(AuditChain::open(&state)?))?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(opened.closed_leftovers() == left, "{} of {left} are closed", opened.closed_leftovers());
        println!("{}", json!({ "what": what, "seconds": seconds }));
    }
    Ok(())
}

/// A file with a header, a block, and the start of another.
fn cut_file() -> Result<Vec<u8>> {
    let mut sealer =
        Sealer::new(&RecipientPrivateKey::from_bytes([7; 32]).recipient_key(), &mut rand::rng())?;
    let header = Header { encapsulated_key: sealer.encapsulated_key(), ..Header::default() };
    let mut packer = Packer::default();
    packer.push(Packet { source: Source::Target, code: 0, elapsed: 0, data: &[b'x'; 500] });
    let block = sealer.seal(packer.take(Vec::new()))?;
    let half = block.split_at(block.len() / 2).0;
    Ok([header.encode(RESERVED_HEADER)?, block.clone(), half.to_vec()].concat())
}
