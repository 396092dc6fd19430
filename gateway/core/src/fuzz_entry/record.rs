//! What readers of the record take from anyone: documents that are signed, and sealed files.

use crate::envelope::{Opener, RecipientPrivateKey};
use crate::manifest::{
    AuditKey, ChainHead, FileScan, KeySuccession, Manifest, Shipped, SignedContent, TrustedKeys, read,
    read_unproven, sign,
};

/// A document that reads is one that would be written again byte for byte, and is trusted by its key alone.
pub fn manifest(input: &[u8]) {
    document::<Manifest>(input);
    document::<ChainHead>(input);
    document::<KeySuccession>(input);
    document::<Shipped>(input);
}

fn document<T: SignedContent>(input: &[u8]) {
    let Ok((key, _)) = AuditKey::from_seed(&[11; 32]) else { return };
    let Ok(signed) = read_unproven::<T>(input) else { return };
    assert!(read::<T>(input, &TrustedKeys::default()).is_err(), "nobody is trusted");
    let mut trusted = TrustedKeys::default();
    trusted.add(signed.signer);
    assert!(read::<T>(input, &trusted).is_ok());
    if signed.signer == key.public_key() {
        // What was written by this version says the same when it is written again.
        let again = sign(&signed.content, &key).unwrap_or_default();
        assert!(read::<T>(&again, &trusted).is_ok());
    }
}

/// A file opens to the same packets in whatever pieces it comes, and a walk over it sees what opens.
pub fn envelope(input: &[u8]) {
    let (whole, blocks) = open(input, input.len());
    assert_eq!(open(input, 7), (whole, blocks));
    let walk = |piece: usize| {
        let mut scan = FileScan::default();
        input.chunks(piece.max(1)).for_each(|piece| scan.feed(piece));
        scan.finish()
    };
    let facts = walk(input.len());
    assert_eq!(walk(5), facts);
    assert_eq!(facts.size, input.len() as u64);
}

/// Every packet's data, and how it ends.
fn open(input: &[u8], piece: usize) -> (Vec<(u64, Vec<u8>)>, String) {
    let key = RecipientPrivateKey::from_bytes([7; 32]);
    let mut opener = Opener::new(&key);
    let mut packets = Vec::new();
    for piece in input.chunks(piece.max(1)) {
        opener.feed(piece);
        loop {
            match opener.next_packet() {
                Ok(Some(packet)) => packets.push((packet.elapsed, packet.data.to_vec())),
                Ok(None) => break,
                Err(error) => return (packets, error.to_string()),
            }
        }
    }
    (packets, opener.finish().map_or_else(|error| error.to_string(), |()| String::new()))
}
