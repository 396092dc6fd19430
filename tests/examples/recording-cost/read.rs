//! Reading back what was recorded. Whatever is wrong with a recording is an error.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use portreeve_core::envelope::{LogName, Opener, Packet, RecipientPrivateKey, SegmentName};
use portreeve_core::manifest::Sha256;
use portreeve_core::record::{ChannelNumber, EventLine, FileOutcome, RecordEvent, Source};

const PIECE: usize = 256 * 1024;

/// Prints what one side sent on channel 0.
pub(super) fn stream(key: &Path, session: &Path, side: &str) -> Result<()> {
    let wanted = match side {
        "client" => Source::Client,
        "target" => Source::Target,
        _ => bail!("{side}: client or target"),
    };
    let mut out = io::stdout().lock();
    packets(key, session, LogName::Channel(ChannelNumber(0)), |packet| {
        if packet.source == wanted { out.write_all(packet.data) } else { Ok(()) }
    })?;
    Ok(out.flush()?)
}

/// Prints how many of the files in `originals` are recorded as transferred whole.
pub(super) fn files(key: &Path, session: &Path, originals: &Path) -> Result<()> {
    let mut lines = Vec::new();
    packets(key, session, LogName::Events, |packet| lines.write_all(packet.data))?;
    let mut whole = BTreeMap::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: EventLine = serde_json::from_slice(line)?;
        if let RecordEvent::FileTransfer { transfer, .. } = line.event
            && transfer.outcome == FileOutcome::Complete
        {
            let name = transfer.path.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            whole.insert(name.to_vec(), transfer.sha256);
        }
    }
    let mut count = 0;
    for original in fs::read_dir(originals)? {
        let original = original?.path();
        let sha256 = Sha256::of(&fs::read(&original)?).to_string();
        let name = original.file_name().context("a name")?.as_encoded_bytes();
        count += usize::from(whole.get(name).is_some_and(|recorded| recorded.as_ref() == Some(&sha256)));
    }
    println!("{count}");
    Ok(())
}

/// Passes on all packets of a log, of all segments in order.
fn packets(
    key: &Path,
    session: &Path,
    log: LogName,
    mut pass_on: impl FnMut(Packet<'_>) -> io::Result<()>,
) -> Result<()> {
    let key: RecipientPrivateKey = fs::read_to_string(key)?.trim().parse()?;
    let segments = segments(session, log)?;
    let (last, _) = segments.last_key_value().with_context(|| format!("{}: no {log}", session.display()))?;
    ensure!(segments.len() == *last as usize + 1, "{}: a segment of {log} is missing", session.display());
    for (number, path) in &segments {
        let ends = read(&key, path, &mut pass_on).with_context(|| path.display().to_string())?;
        ensure!(ends == (number == last), "{}: the log ends at another place", path.display());
    }
    Ok(())
}

fn segments(session: &Path, log: LogName) -> Result<BTreeMap<u32, PathBuf>> {
    let mut segments = BTreeMap::new();
    for entry in fs::read_dir(session)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).map(str::parse);
        if let Some(Ok(SegmentName { log: of, segment })) = name
            && of == log
        {
            segments.insert(segment, path);
        }
    }
    Ok(segments)
}

/// Whether the log ends with this segment.
fn read(
    key: &RecipientPrivateKey,
    path: &Path,
    mut pass_on: impl FnMut(Packet<'_>) -> io::Result<()>,
) -> Result<bool> {
    let (mut file, mut opener, mut piece) = (File::open(path)?, Opener::new(key), vec![0; PIECE]);
    loop {
        while let Some(packet) = opener.next_packet()? {
            pass_on(packet)?;
        }
        let count = file.read(&mut piece)?;
        if count == 0 {
            opener.finish()?;
            return Ok(opener.header().context("no header")?.last);
        }
        opener.feed(&piece[..count]);
    }
}
