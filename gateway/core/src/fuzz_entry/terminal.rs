//! Commands in the stream of a terminal.

use super::pieces;
use crate::command::{PtyReader, UnechoedInput};
use crate::record::Source;

/// A terminal of 40 columns, looked at a tenth of a second apart: what is kept of the input was sent, in that order.
pub fn pty(input: &[u8]) {
    let mut reader = PtyReader::new(40, 10, UnechoedInput::Omit);
    let (mut sent, mut kept) = (Vec::new(), Vec::new());
    for ((source, data), elapsed) in pieces(input).into_iter().zip((0..).step_by(100_000)) {
        let outcome = match source {
            Source::Client => {
                sent.extend_from_slice(data);
                reader.client(elapsed, data)
            }
            Source::Target => reader.target(elapsed, data),
        };
        kept.extend(outcome.input);
        if reader.deadline().is_some_and(|due| due <= elapsed) {
            kept.extend(reader.quiet(elapsed).input);
        }
    }
    kept.extend(reader.finish().input);
    let mut rest = sent.iter();
    assert!(kept.iter().all(|byte| rest.any(|sent| sent == byte)), "what was not sent is kept");
}
