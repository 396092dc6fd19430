//! Files in the data of a channel: what is transferred, and what may be.
//!
//! Owns how programs that move files are known by what a channel is asked for ([`Program`]), the protocols that are
//! followed (sftp, the old scp), and the rules that hold back what policy does not grant ([`sftp::SftpGate`]). All of
//! it is pure: bytes and times in, events and bytes out; memory is bounded whatever peers send.
//!
//! Deliberately absent: files inside a run of rsync, and any claim that a shell or another command moves none. Bytes
//! can cross a terminal or `cat`; what is refused here is refused to programs that are known.

mod digest;
mod fields;
mod inspector;
mod program;
mod scp;
pub mod sftp;

pub use inspector::TransferInspector;
pub use program::Program;
