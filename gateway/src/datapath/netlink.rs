//! Questions to the kernel over netlink that are asked in one call, without a task, and of families that no
//! crate at hand speaks.
//!
//! One question, all answers; attributes are found by number. Reads only, and blocks for as long as the
//! kernel takes, which answers within the call.

use std::io;

use nix::errno::Errno;
use rtnetlink::packet_core::{
    NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator,
};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;

/// The attributes (`IFLA_*`) of the device with this index, in the network namespace of the calling thread.
///
/// # Errors
/// `ENODEV` when there is none; else what the kernel answers instead.
pub(super) fn link(index: u32) -> io::Result<Vec<u8>> {
    link_and_hardware(index).map(|(attributes, _)| attributes)
}

/// [`link`], and the kind of hardware (`ARPHRD_*`).
///
/// # Errors
/// As [`link`].
pub(super) fn link_and_hardware(index: u32) -> io::Result<(Vec<u8>, u16)> {
    /// `RTM_GETLINK`; question and answer begin with a `struct ifinfomsg`, whose second word is the index and whose
    /// second half word the kind of hardware.
    const GET_LINK: u16 = 18;
    const LINK: usize = 16;
    let [a, b, c, d] = index.to_ne_bytes();
    let question: [u8; LINK] = [0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0];
    let answers = ask(NETLINK_ROUTE, GET_LINK, 0, &question)?;
    let (header, attributes) =
        answers.first().and_then(|answer| answer.split_at_checked(LINK)).ok_or(io::ErrorKind::InvalidData)?;
    let &[_, _, low, high, ..] = header else { return Err(io::ErrorKind::InvalidData.into()) };
    Ok((attributes.to_vec(), u16::from_ne_bytes([low, high])))
}

/// Sends one message and returns the payloads of all answers.
///
/// # Errors
/// What the kernel answers instead.
pub(super) fn ask(protocol: isize, kind: u16, flags: u16, payload: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let length = u32::try_from(HEADER + payload.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; HEADER];
    let mut message = NetlinkBuffer::new(&mut bytes);
    message.set_length(length);
    message.set_message_type(kind);
    message.set_flags(NLM_F_REQUEST | NLM_F_ACK | flags);
    bytes.extend_from_slice(payload);
    let mut socket = Socket::new(protocol)?;
    // Otherwise a table is listed with all others.
    if protocol == NETLINK_ROUTE {
        socket.set_netlink_get_strict_chk(true)?;
    }
    socket.bind_auto()?;
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
            match message.message_type() {
                NLMSG_DONE => return Ok(answers),
                NLMSG_ERROR => return outcome(message.payload()).map(|()| answers),
                _ => answers.push(message.payload().to_vec()),
            }
            let length = usize::try_from(message.length()).map_err(io::Error::other)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Asks a generic family, by its name, about what `attributes` name.
///
/// # Errors
/// `NotFound` when the kernel has no such family; else what it answers instead.
pub(super) fn ask_generic(family: &str, command: u8, attributes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    /// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_NAME`, `CTRL_ATTR_FAMILY_ID`.
    const CONTROL: (u16, u8, u16, u16) = (16, 3, 2, 1);
    let (controller, get_family, family_name, family_id) = CONTROL;
    let name = attribute(family_name, format!("{family}\0").as_bytes());
    let answers = ask_family(controller, get_family, &name)?;
    let id = answers.first().and_then(|answer| find(answer, family_id)).and_then(number);
    let id = id.and_then(|id| u16::try_from(id).ok()).ok_or(io::ErrorKind::InvalidData)?;
    ask_family(id, command, attributes)
}

fn ask_family(id: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let payload = [&[command, 1, 0, 0], attributes].concat();
    let answers = ask(NETLINK_GENERIC, id, 0, &payload)?;
    Ok(answers.iter().filter_map(|answer| answer.get(GENERIC_HEADER..)).map(<[u8]>::to_vec).collect())
}

/// One attribute, filled up to four bytes.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The value of the first attribute of a kind.
pub(super) fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    pairs(attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Whether a link is of the kind that `ip link` calls by this name, which ends with a zero.
pub(super) fn is_kind(attributes: &[u8], name: &[u8]) -> bool {
    /// `IFLA_LINKINFO`, and in it `IFLA_INFO_KIND`.
    const LINK_INFO: u16 = 18;
    const KIND: u16 = 1;
    find(attributes, LINK_INFO).and_then(|info| find(info, KIND)) == Some(name)
}

/// The values of all attributes, of whatever kind: those of a list.
pub(super) fn values(attributes: &[u8]) -> impl Iterator<Item = &[u8]> {
    pairs(attributes).map(|(_, value)| value)
}

fn pairs(attributes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(attributes).flatten().filter_map(|found| {
        let (kind, length) = (found.kind(), found.value_length());
        Some((kind, found.into_inner().get(NLA_HEADER_SIZE..NLA_HEADER_SIZE + length)?))
    })
}

/// The kinds of all attributes.
pub(super) fn kinds(attributes: &[u8]) -> Vec<u16> {
    NlasIterator::new(attributes).flatten().map(|attribute| attribute.kind()).collect()
}

/// A number of two, four or eight bytes in the host's order.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    match value.len() {
        2 => value.try_into().ok().map(u16::from_ne_bytes).map(u64::from),
        4 => value.try_into().ok().map(u32::from_ne_bytes).map(u64::from),
        8 => value.try_into().ok().map(u64::from_ne_bytes),
        _ => None,
    }
}

/// A number of four bytes in network order.
pub(super) fn network_number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// Reads `struct nlmsgerr`, whose first word is 0 or a negative error number.
fn outcome(error: &[u8]) -> io::Result<()> {
    let code = error.first_chunk().map(|code| i32::from_ne_bytes(*code));
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(Errno::from_raw(-code).into()),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others() {
        let bytes = [attribute(1, b"abc"), attribute(7, &9_u32.to_ne_bytes()), attribute(2, b"")].concat();
        assert_eq!(find(&bytes, 1), Some(&b"abc"[..]));
        assert_eq!(find(&bytes, 7).and_then(number), Some(9));
        assert_eq!(find(&bytes, 2), Some(&b""[..]));
        assert_eq!(find(&bytes, 3), None);
        assert_eq!(find(&bytes[..6], 1), None, "cut");
        assert_eq!(values(&bytes).map(<[u8]>::len).collect::<Vec<_>>(), [3, 4, 0]);
    }

    #[test]
    fn the_kernel_answers() {
        /// `IFLA_IFNAME`.
        const NAME: u16 = 3;
        assert_eq!(find(&link(1).unwrap(), NAME), Some(&b"lo\0"[..]));
        let missing = link(i32::MAX.cast_unsigned()).unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(nix::libc::ENODEV));
        let missing = ask_generic("no such family", 1, &[]).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
