//! The TC program as a filter of a clsact qdisc, for kernels without TCX.
//!
//! The kernel keeps a filter without a link, and drops it with its interface. The pin only says
//! that the filter was made.

use std::io;
use std::path::Path;

use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{Link as _, ProgramError, SchedClassifier, TcAttachType};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle as RawHandle, TcMessage};
use nix::libc;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::DatapathError;
use super::netlink::{find, number};
use super::pins;

/// Ours come first among the filters of an interface, and are found again by this handle.
const PRIORITY: u16 = 1;
const HANDLE: u16 = 0x7072;

/// Replaces the program of our filter, or, when that fails, makes the filter.
pub(super) fn attach(
    program: &mut SchedClassifier,
    interface: &str,
    path: &Path,
) -> Result<(), DatapathError> {
    let failed = DatapathError::attach(interface);
    let qdisc = |source| DatapathError::Clsact { interface: interface.to_owned(), source: Box::new(source) };
    let existing = filter(interface).map_err(|source| qdisc(TcError::IoError(source)))?;
    let replaced = program.attach_to_link(existing).ok();
    let id = match replaced {
        Some(id) => id,
        None => {
            match tc::qdisc_add_clsact(interface) {
                Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
                result => result.map_err(qdisc)?,
            }
            let options = NlOptions { priority: PRIORITY, handle: TcHandle::new(0, HANDLE), classid: None };
            let options = TcAttachOptions::Netlink(options);
            program.attach_with_options(interface, TcAttachType::Ingress, options).map_err(&failed)?
        }
    };
    // Dropped, the link would take the filter with it.
    std::mem::forget(program.take_link(id).map_err(&failed)?);
    if path.exists() {
        pins::remove(path)?;
    }
    program.pin(path).map_err(|source| DatapathError::Pin { path: path.to_owned(), source: Box::new(source) })
}

/// Removes our filter, if there is one.
pub(super) fn detach(interface: &str) -> Result<(), DatapathError> {
    // Without its interface there is no filter either.
    let Ok(link) = filter(interface) else { return Ok(()) };
    match link.detach() {
        Err(ProgramError::NetlinkError(error)) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result.map_err(DatapathError::attach(interface)),
    }
}

/// Number of the program of our filter, where it is on the interface that has this name now.
///
/// What the kernel answers instead of the filter (no qdisc, no such filter) all means that it is not.
pub(super) fn attached(interface: &str) -> Result<Option<u32>, DatapathError> {
    let Ok(index) = if_nametoindex(interface) else { return Ok(None) };
    ask_for_filter(index).map_err(DatapathError::Netlink)
}

/// Our filter, whether it is there or not; dropped, it is removed.
fn filter(interface: &str) -> io::Result<SchedClassifierLink> {
    let handle = TcHandle::new(0, HANDLE);
    SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, handle, None)
}

/// rtnetlink can only list filters, as a stream; this asks for one, and looks for the number of its program.
fn ask_for_filter(index: u32) -> io::Result<Option<u32>> {
    /// `RTM_NEWTFILTER`, which also answers a question.
    const FILTER: u16 = 44;
    let mut question = TcMessage::default();
    question.header.index = index.cast_signed();
    question.header.handle = RawHandle { major: 0, minor: HANDLE };
    question.header.parent = RawHandle { major: u16::MAX, minor: RawHandle::MIN_INGRESS };
    // The protocol, in network order, is that of filters for all frames.
    let all = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
    question.header.info = u32::from(PRIORITY) << 16 | u32::from(all);
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetTrafficFilter(question));
    message.header.flags = NLM_F_REQUEST;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkBuffer::new_checked(&answer).map_err(io::Error::other)?;
    Ok(if answer.message_type() == FILTER { program_of(answer.payload()) } else { None })
}

/// The number of the program in a message about a filter: a `struct tcmsg`, then attributes.
fn program_of(message: &[u8]) -> Option<u32> {
    /// Of `struct tcmsg`, in bytes.
    const HEADER: usize = 20;
    /// `TCA_OPTIONS`, and in it `TCA_BPF_ID`.
    const OPTIONS: u16 = 2;
    const PROGRAM: u16 = 11;
    let options = find(message.get(HEADER..)?, OPTIONS)?;
    number(find(options, PROGRAM)?).and_then(|id| id.try_into().ok())
}
