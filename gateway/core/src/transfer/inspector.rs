//! Files in the data of a channel, as the recorder asks for them.
//!
//! Owns the choice of a protocol by what the channel was asked for, and the order of what is found. What cannot be
//! understood ends the looking with one event, which is the last of the channel here; all else is recorded all the same.

use super::Program;
use super::scp::{Role, ScpInspector};
use super::sftp::{Found, SftpInspector};
use crate::envelope::Batch;
use crate::infrastructure::TransferRights;
use crate::inspection::{ChannelInspector, FileProgress};
use crate::record::{
    ChannelNumber, FileOutcome, FileTransfer, HashMissing, RecordEvent, Source, Text, TransferDirection,
    TransferProtocol,
};

/// Finds the files that cross one channel.
pub struct TransferInspector {
    channel: ChannelNumber,
    protocol: Protocol,
    /// Files that were over before it was told that they went on.
    over: Vec<FileProgress>,
}

enum Protocol {
    Sftp(Box<SftpInspector>),
    Scp(Box<ScpInspector>),
    Rsync(Run),
    /// Nothing more is looked for.
    Ended,
}

/// A run of rsync, told when it is over.
struct Run {
    paths: Text,
    direction: TransferDirection,
    started_us: Option<u64>,
    uploaded: u64,
    downloaded: u64,
    /// Bytes that had crossed when they were told last.
    told: Option<u64>,
}

impl TransferInspector {
    /// One for the program that a channel was asked to run, if that moves files; `rights` are those of the session.
    pub fn for_program(channel: ChannelNumber, program: Program, rights: TransferRights) -> Self {
        let protocol = match program {
            Program::Sftp => Protocol::Sftp(Box::new(SftpInspector::new(rights))),
            Program::Scp { direction, paths } => {
                let role = match direction {
                    TransferDirection::Download => Role::TargetSends,
                    TransferDirection::Upload | TransferDirection::Both => Role::ClientSends,
                };
                Protocol::Scp(Box::new(ScpInspector::new(role, paths)))
            }
            Program::Rsync { direction, paths } => {
                let (started_us, told) = Default::default();
                Protocol::Rsync(Run { paths, direction, started_us, uploaded: 0, downloaded: 0, told })
            }
        };
        Self { channel, protocol, over: Vec::new() }
    }

    /// One for a request that starts a program on a channel, if that moves files.
    pub fn for_request(request: &RecordEvent, rights: TransferRights) -> Option<Self> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only these two start a program that is named")]
        let (channel, program) = match request {
            RecordEvent::Exec { channel, command } => (channel, Program::of_exec(&command.0)),
            RecordEvent::Subsystem { channel, name } => (channel, Program::of_subsystem(&name.0)),
            _ => return None,
        };
        program.map(|program| Self::for_program(*channel, program, rights))
    }

    /// Looks at data of the channel; `now` is in microseconds since the session started.
    pub fn data(&mut self, source: Source, data: &[u8], now: u64, found: &mut Vec<RecordEvent>) {
        let mut seen = Vec::new();
        let ended = match &mut self.protocol {
            Protocol::Sftp(sftp) => match source {
                Source::Client => sftp.client(data, now),
                Source::Target => sftp.target(data, &mut seen),
            }
            .err()
            .map(|fault| fault.to_string()),
            Protocol::Scp(scp) => scp.data(source, data, now, &mut seen).err().map(|fault| fault.to_string()),
            Protocol::Rsync(run) => {
                run.add(source, data.len() as u64, now);
                None
            }
            Protocol::Ended => None,
        };
        self.tell(seen, found);
        if let Some(reason) = ended {
            self.end(found);
            found.push(RecordEvent::InspectionEnded { channel: self.channel, reason });
        }
    }

    /// The channel is over, or nothing more is looked for: tells what has no end yet.
    pub fn end(&mut self, found: &mut Vec<RecordEvent>) {
        let mut seen = Vec::new();
        match std::mem::replace(&mut self.protocol, Protocol::Ended) {
            Protocol::Sftp(mut sftp) => sftp.finish(&mut seen),
            Protocol::Scp(mut scp) => scp.finish(&mut seen),
            Protocol::Rsync(run) => {
                let told = run.told;
                seen.push(Found::Transfer { transfer: run.finish(), told });
            }
            Protocol::Ended => {}
        }
        self.tell(seen, found);
    }

    fn tell(&mut self, seen: Vec<Found>, found: &mut Vec<RecordEvent>) {
        let channel = self.channel;
        found.extend(seen.into_iter().map(|seen| match seen {
            Found::Transfer { transfer, told } => {
                let bytes = transfer.uploaded.saturating_add(transfer.downloaded);
                if told != Some(bytes) {
                    let (path, name) = (transfer.path.clone(), transfer.name.clone());
                    self.over.push(FileProgress { channel, path, name, told, bytes });
                }
                RecordEvent::FileTransfer { channel, transfer }
            }
            Found::Change(change) => RecordEvent::FileChange { channel, change },
        }));
    }
}

impl ChannelInspector for TransferInspector {
    fn request(&mut self, _: &RecordEvent) {}

    fn packets(&mut self, batch: Batch, _: u64, found: &mut Vec<RecordEvent>) -> Batch {
        for packet in batch.packets().filter(|packet| packet.code == 0) {
            self.data(packet.source, packet.data, packet.elapsed, found);
        }
        batch
    }

    fn moved(&mut self) -> Vec<FileProgress> {
        let mut moved = std::mem::take(&mut self.over);
        match &mut self.protocol {
            Protocol::Sftp(sftp) => moved.extend(sftp.moved(self.channel)),
            Protocol::Scp(scp) => moved.extend(scp.moved(self.channel)),
            Protocol::Rsync(run) => moved.extend(run.moved(self.channel)),
            Protocol::Ended => {}
        }
        moved
    }

    fn finish(&mut self, _: u64, found: &mut Vec<RecordEvent>) -> Batch {
        self.end(found);
        Batch::default()
    }
}

impl Run {
    const fn add(&mut self, source: Source, bytes: u64, now: u64) {
        if self.started_us.is_none() {
            self.started_us = Some(now);
        }
        match source {
            Source::Client => self.uploaded = self.uploaded.saturating_add(bytes),
            Source::Target => self.downloaded = self.downloaded.saturating_add(bytes),
        }
    }

    /// It goes on: told when that was never told, or bytes have crossed since.
    fn moved(&mut self, channel: ChannelNumber) -> Option<FileProgress> {
        let bytes = self.uploaded.saturating_add(self.downloaded);
        if self.told == Some(bytes) {
            return None;
        }
        let told = self.told.replace(bytes);
        Some(FileProgress { channel, path: self.paths.clone(), name: None, told, bytes })
    }

    fn finish(self) -> FileTransfer {
        FileTransfer {
            protocol: TransferProtocol::Rsync,
            path: self.paths,
            name: None,
            direction: self.direction,
            uploaded: self.uploaded,
            downloaded: self.downloaded,
            sha256: None,
            sha256_missing: Some(HashMissing::NotFollowed),
            started_us: self.started_us.unwrap_or_default(),
            outcome: FileOutcome::NotFollowed,
        }
    }
}

#[cfg(test)]
mod tests;
