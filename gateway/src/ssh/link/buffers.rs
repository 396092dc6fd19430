//! Buffers of sessions, lent while there is something in them.
//!
//! Each thread keeps a few, so that taking one costs neither an allocation nor a lock. Invariant: the
//! buffers that wait in a thread are bounded in number and size.

use std::cell::RefCell;

use portreeve_ssh::packet::BUFFER_SIZE;
use portreeve_ssh::transport::Transport;

/// Buffers of each kind that wait in a thread: two connections make a session.
const KEPT: usize = 4;
/// Room for output at first: the high-water mark of a relay and what a last message adds.
const OUTPUT_SIZE: usize = 384 * 1024;
/// Larger output buffers are freed instead of kept.
const MAX_KEPT_SIZE: usize = 1024 * 1024;

#[derive(Default)]
struct Shelf {
    inputs: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
}

thread_local! {
    static SHELF: RefCell<Shelf> = RefCell::default();
}

/// Which buffers a connection has borrowed.
#[derive(Default)]
pub(super) struct Borrowed {
    input: bool,
    output: bool,
}

impl Borrowed {
    /// Borrows the input buffer if it is not borrowed yet and nothing is in the way.
    pub(super) fn take_input(&mut self, transport: &mut Transport) {
        let inbound = transport.buffers().0;
        if !self.input && inbound.unread().is_empty() {
            inbound.lend(take(|shelf| shelf.inputs.pop()).unwrap_or_else(|| vec![0; BUFFER_SIZE]));
            self.input = true;
        }
    }

    /// Borrows the output buffer if it is not borrowed yet and nothing is in the way.
    pub(super) fn take_output(&mut self, transport: &mut Transport) {
        let outbound = transport.buffers().1;
        if !self.output && outbound.pending().is_empty() {
            let buffer = take(|shelf| shelf.outputs.pop()).unwrap_or_else(|| Vec::with_capacity(OUTPUT_SIZE));
            outbound.lend(buffer);
            self.output = true;
        }
    }

    /// Gives back the input buffer if it is empty.
    pub(super) fn return_input(&mut self, transport: &mut Transport) {
        if let Some(buffer) = transport.buffers().0.reclaim() {
            self.input = false;
            if buffer.len() == BUFFER_SIZE {
                keep(buffer, |shelf| &mut shelf.inputs);
            }
        }
    }

    /// Gives back the output buffer if it is empty.
    pub(super) fn return_output(&mut self, transport: &mut Transport) {
        if let Some(buffer) = transport.buffers().1.reclaim() {
            self.output = false;
            if (OUTPUT_SIZE..=MAX_KEPT_SIZE).contains(&buffer.capacity()) {
                keep(buffer, |shelf| &mut shelf.outputs);
            }
        }
    }
}

fn take(from: impl FnOnce(&mut Shelf) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    SHELF.with_borrow_mut(from)
}

fn keep(buffer: Vec<u8>, stack: impl FnOnce(&mut Shelf) -> &mut Vec<Vec<u8>>) {
    SHELF.with_borrow_mut(|shelf| {
        let stack = stack(shelf);
        if stack.len() < KEPT {
            stack.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use portreeve_ssh::negotiation::Role;
    use portreeve_ssh::transport::Config;

    use super::*;

    fn transport() -> Transport {
        Transport::new(Role::Client, Config::default()).unwrap()
    }

    fn take_both(borrowed: &mut Borrowed, transport: &mut Transport) {
        borrowed.take_input(transport);
        borrowed.take_output(transport);
    }

    fn give_back(borrowed: &mut Borrowed, transport: &mut Transport) {
        borrowed.return_input(transport);
        borrowed.return_output(transport);
    }

    #[test]
    fn an_idle_transport_holds_no_buffer_and_a_busy_one_keeps_its_own() {
        let mut transport = transport();
        let mut borrowed = Borrowed::default();
        let pending = transport.pending().len();
        take_both(&mut borrowed, &mut transport);
        assert!(borrowed.input && !borrowed.output, "the proposal waits in a buffer of its own");
        transport.written(pending);
        give_back(&mut borrowed, &mut transport);
        take_both(&mut borrowed, &mut transport);
        assert!(borrowed.input && borrowed.output);
        assert_eq!(transport.spare(1).len(), BUFFER_SIZE);
        transport.spare(1)[..4].copy_from_slice(b"SSH-");
        transport.filled(4).unwrap();
        give_back(&mut borrowed, &mut transport);
        assert!(borrowed.input && !borrowed.output);
        assert_eq!(transport.buffers().0.unread(), b"SSH-");
    }

    #[test]
    fn what_waits_in_a_thread_is_bounded() {
        let mut all: Vec<_> = (0..20).map(|_| (transport(), Borrowed::default())).collect();
        for (transport, borrowed) in &mut all {
            transport.written(usize::MAX);
            give_back(borrowed, transport);
            take_both(borrowed, transport);
        }
        for (transport, borrowed) in &mut all {
            give_back(borrowed, transport);
        }
        SHELF.with_borrow(|shelf| assert_eq!((shelf.inputs.len(), shelf.outputs.len()), (KEPT, KEPT)));
    }
}
