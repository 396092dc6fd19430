//! A switch with VLANs (802.1Q) between a machine's network card and hosts, in user space: not every kernel that tests run on
//! has VLANs, or a way to set tags.
//!
//! The card is on its trunk: frames come and go as datagrams, each with one tag. A host is on an access port, without
//! tags. A frame from a port gets the port's tag; a frame from the trunk goes to the port whose tag it has. There is no way
//! from port to port. Dropping it ends it.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use portreeve_tests::Netns;
use portreeve_tests::wire::Wire;

/// How long one look for a frame takes.
const PATIENCE: Duration = Duration::from_millis(200);
/// Longer than any frame.
const LONGEST: usize = 1 << 16;
/// Both hardware addresses of a frame, which stand before a tag.
const ADDRESSES: usize = 12;
/// What says that a tag follows (IEEE 802.1Q).
const TAGGED: [u8; 2] = [0x81, 0x00];

/// A running switch.
#[derive(Debug)]
pub struct Switch {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// An access port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port<'a> {
    /// The VLAN.
    pub vlan: u16,
    /// The device that is the port; the host has its other end.
    pub device: &'a str,
}

impl Switch {
    /// Switches between the card's socket `card` and ports, from now on; its own socket is `switch`.
    ///
    /// # Errors
    /// When a socket or a device cannot be opened.
    pub fn start(netns: &Netns, card: PathBuf, switch: &Path, ports: &[Port<'_>]) -> Result<Self> {
        let trunk = UnixDatagram::bind(switch).with_context(|| switch.display().to_string())?;
        trunk.set_read_timeout(Some(PATIENCE))?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let mut ways = Vec::new();
        for port in ports {
            let wire = Arc::new(Wire::open(netns, port.device)?);
            ways.push((port.vlan, Arc::clone(&wire)));
            let (vlan, card, trunk, asked) = (port.vlan, card.clone(), trunk.try_clone()?, Arc::clone(&stop));
            threads.push(thread::spawn(move || to_trunk(&wire, vlan, &trunk, &card, &asked)));
        }
        let asked = Arc::clone(&stop);
        threads.push(thread::spawn(move || to_ports(&trunk, &ways, &asked)));
        Ok(Self { stop, threads })
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// Until it is asked to end or the port is gone. A frame that nobody takes is lost, as on a wire.
fn to_trunk(port: &Wire, vlan: u16, trunk: &UnixDatagram, card: &Path, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        let Ok(seen) = port.receive() else { return };
        let Some(seen) = seen.filter(|seen| !seen.outgoing) else { continue };
        if let Some(frame) = tagged(&seen.frame, vlan) {
            trunk.send_to(&frame, card).ok();
        }
    }
}

/// Until it is asked to end or the trunk is gone.
fn to_ports(trunk: &UnixDatagram, ports: &[(u16, Arc<Wire>)], ended: &AtomicBool) {
    let mut frame = vec![0; LONGEST];
    while !ended.load(Ordering::Relaxed) {
        let length = match trunk.recv(&mut frame) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
            Err(_) => return,
        };
        let Some((vlan, frame)) = frame.get(..length).and_then(untagged) else { continue };
        if let Some((_, port)) = ports.iter().find(|(of, _)| *of == vlan) {
            port.send(&frame).ok();
        }
    }
}

/// A frame with the tag of a VLAN, priority 0.
fn tagged(frame: &[u8], vlan: u16) -> Option<Vec<u8>> {
    let (addresses, rest) = frame.split_at_checked(ADDRESSES)?;
    Some([addresses, &TAGGED, &vlan.to_be_bytes(), rest].concat())
}

/// A frame without its tag, and the tag's VLAN; `None` of what has no tag.
fn untagged(frame: &[u8]) -> Option<(u16, Vec<u8>)> {
    let (addresses, rest) = frame.split_at_checked(ADDRESSES)?;
    let (tag, rest) = rest.split_first_chunk::<4>()?;
    let [protocol @ .., high, low] = *tag;
    (protocol == TAGGED).then(|| (u16::from_be_bytes([high, low]) & 0x0fff, [addresses, rest].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_from_under_its_tag() {
        let frame: Vec<u8> = (0..60).collect();
        let with = tagged(&frame, 0x123).unwrap();
        assert_eq!(with.get(12..18), Some(&[0x81, 0x00, 0x01, 0x23, 12, 13][..]));
        assert_eq!(untagged(&with), Some((0x123, frame.clone())));
        let mut urgent = with;
        urgent[14] |= 0xe0;
        assert_eq!(untagged(&urgent).map(|(vlan, _)| vlan), Some(0x123), "priority is no part of the VLAN");
        assert_eq!((untagged(&frame), untagged(&frame[..13]), tagged(&frame[..5], 1)), (None, None, None));
    }
}
