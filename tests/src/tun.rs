//! Two TUN devices in two namespaces, joined as if by a cable: packets begin with the IP header, as on WireGuard.
//!
//! Threads carry the packets until one of the namespaces goes.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::libc;

use crate::netns::Netns;

/// Longer than any packet.
const LONGEST: usize = 1 << 16;

/// Makes a device of this name in each of two namespaces, and joins them.
///
/// # Errors
/// Without the right to, or when there is a device of that name.
pub fn join(ends: [(&Netns, &str); 2]) -> Result<()> {
    let [one, other] = ends.map(|(netns, name)| netns.enter(|| open(name)));
    let (one, other) = (one?, other?);
    let ways = [(one.try_clone()?, other.try_clone()?), (other, one)];
    for (from, to) in ways {
        thread::spawn(move || carry(from, to));
    }
    Ok(())
}

/// Reading ends with the device. What the other end does not take, as while it is down, is lost.
fn carry(mut from: File, mut to: File) {
    let mut packet = vec![0; LONGEST];
    while let Ok(length) = from.read(&mut packet) {
        to.write(&packet[..length]).unwrap_or_default();
    }
}

fn open(name: &str) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").context("/dev/net/tun")?;
    attach(&file, name).with_context(|| format!("TUN device {name}"))?;
    Ok(file)
}

#[expect(unsafe_code, reason = "no library at hand makes this request")]
fn attach(file: &File, name: &str) -> Result<()> {
    // SAFETY: all zeros are a value of it, whichever member of its union is read.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(name.len() < request.ifr_name.len(), "too long");
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    // Without four bytes about the packet in front of it.
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI)?;
    // SAFETY: an open file, and the structure that the request reads and writes.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(())
}
