//! Splits output into characters, controls and sequences, wherever it is cut.
//!
//! Owns the start of a character that is not whole yet. What characters and sequences mean is `model`'s affair.
//! Invariant: what is told depends on the bytes alone. `vte` 0.15 is shown whole characters only: of one that
//! comes in two pieces it may drop what follows (its issue 159) and takes a control for a character (156).

use vte::Perform;

use crate::utf8;

#[derive(Default)]
pub(super) struct Parser {
    inner: vte::Parser,
    /// The start of a character whose end did not come yet: at most 3 bytes.
    begun: Vec<u8>,
}

impl Parser {
    /// Tells `performer` what `output` says.
    pub(super) fn advance(&mut self, performer: &mut impl Perform, output: &[u8]) {
        let joined;
        let output = if self.begun.is_empty() {
            output
        } else {
            self.begun.extend_from_slice(output);
            joined = std::mem::take(&mut self.begun);
            &joined
        };
        let (whole, begun) = output.split_at(output.len() - utf8::cut_off(output));
        self.inner.advance(performer, whole);
        self.begun.extend_from_slice(begun);
    }
}
