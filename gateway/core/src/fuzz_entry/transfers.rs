//! Files in the data of a channel.

use super::pieces;
use crate::infrastructure::TransferRights;
use crate::record::{ChannelNumber, RecordEvent, Source};
use crate::transfer::TransferInspector;
use crate::transfer::sftp::SftpGate;

const CHANNEL: ChannelNumber = ChannelNumber(0);

/// What is found is the same however the input is cut.
fn inspect(request: &RecordEvent, pieces: &[(Source, &[u8])]) {
    let found = |most: usize| {
        let mut inspector =
            TransferInspector::for_request(request, TransferRights::ALL).expect("a program that moves files");
        let mut found = Vec::new();
        for (source, data) in pieces {
            for piece in data.chunks(most) {
                inspector.data(*source, piece, 0, &mut found);
            }
        }
        inspector.end(&mut found);
        found
    };
    assert_eq!(found(usize::MAX), found(3), "how it is cut changes what is found");
}

/// The protocol of `scp -O`, either side sending.
pub fn scp(input: &[u8]) {
    let pieces = pieces(input);
    for command in ["scp -t x", "scp -f x"] {
        inspect(&RecordEvent::Exec { channel: CHANNEL, command: command.into() }, &pieces);
    }
}

/// sftp, looked into and judged: as many bytes come out of a gate as went in.
pub fn sftp(input: &[u8]) {
    let pieces = pieces(input);
    inspect(&RecordEvent::Subsystem { channel: CHANNEL, name: "sftp".into() }, &pieces);
    for (upload, download) in [(false, false), (true, false), (false, true)] {
        let mut gate = SftpGate::new(TransferRights { upload, download });
        let (mut sent, mut passed) = (0, 0);
        for (source, data) in &pieces {
            let through = match source {
                Source::Client => gate.requests(data),
                Source::Target => gate.answers(data),
            };
            let Ok(through) = through else { return };
            sent += data.len();
            passed += through.len();
        }
        assert_eq!(
            passed + gate.last_request().len() + gate.last_answer().len(),
            sent,
            "bytes are lost or made"
        );
    }
}
