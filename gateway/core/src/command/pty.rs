//! Reads the two sides of a pty's stream: the only way in and out of this module.

use std::fmt;

use super::flood::{Flood, Reader};
use super::keys::Key;
use super::model::Model;
use super::parser::Parser;
use super::{Finding, UnechoedInput};

/// How long input waits to be shown, in microseconds.
const MOST_WAIT: u64 = 10_000_000;

/// After how long without output a sent line that output followed is not waited for any more, in microseconds.
const QUIET: u64 = 1_000_000;

/// What a piece of a stream told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Input to keep, before the piece.
    pub input: Vec<u8>,
    /// What was found, in order.
    pub findings: Vec<Finding>,
}

/// Reads the stream of one pty. Times are microseconds of one clock and never go back.
pub struct PtyReader {
    parser: Parser,
    model: Model,
    flood: Flood,
    unechoed: UnechoedInput,
    /// When output came last.
    output_at: u64,
}

impl fmt::Debug for PtyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is typed is nobody's business.
        f.debug_struct("PtyReader").finish_non_exhaustive()
    }
}

/// Joins what `Flood` reads into.
struct Feed<'a> {
    parser: &'a mut Parser,
    model: &'a mut Model,
}

impl PtyReader {
    /// Starts with a window of `columns` x `rows`; 0 is 80 x 24.
    pub fn new(columns: u32, rows: u32, unechoed: UnechoedInput) -> Self {
        let model = Model::new(columns, rows);
        Self { parser: Parser::default(), model, flood: Flood::default(), unechoed, output_at: 0 }
    }

    /// The window has another size.
    pub fn resize(&mut self, columns: u32, rows: u32) {
        self.catch_up();
        self.model.screen.resize(columns, rows);
    }

    /// The user's side sent `input`. What is to be kept of it comes out of a later call, unless all is kept.
    pub fn client(&mut self, elapsed: u64, input: &[u8]) -> Outcome {
        self.catch_up();
        self.advance(elapsed);
        self.forget_unanswered();
        input.iter().for_each(|byte| self.model.key(*byte));
        self.outcome(input)
    }

    /// The target's side sent `output`, stderr apart, which a pty has not.
    pub fn target(&mut self, elapsed: u64, output: &[u8]) -> Outcome {
        self.advance(elapsed);
        self.output_at = elapsed;
        let mut feed = Feed { parser: &mut self.parser, model: &mut self.model };
        if feed.model.is_idle() {
            self.flood.add(output, &mut feed);
        } else {
            feed.read(output);
        }
        self.model.settle_output();
        self.outcome(&[])
    }

    /// Nothing came until `elapsed`; to be called at [`PtyReader::deadline`].
    pub fn quiet(&mut self, elapsed: u64) -> Outcome {
        self.model.now = self.model.now.max(elapsed);
        self.forget_unanswered();
        self.model.settle_pending();
        self.outcome(&[])
    }

    /// Whether no input waits, so that none comes out of a later call unless more is sent.
    pub(super) fn holds_nothing(&self) -> bool {
        self.model.hold.is_empty()
    }

    /// When [`PtyReader::quiet`] is due if nothing comes.
    pub fn deadline(&self) -> Option<u64> {
        let hold = (!self.model.hold.is_empty()).then(|| self.model.hold.latest().saturating_add(MOST_WAIT));
        [hold, self.model.lines.deadline(self.model.now)].into_iter().flatten().min()
    }

    /// The stream is over: what waits is told, and input that was not shown is left out.
    pub fn finish(&mut self) -> Outcome {
        self.catch_up();
        self.model.flush_pending();
        let end = self.model.hold.end();
        self.model.settle_input(end, false);
        self.outcome(&[])
    }

    /// Settles what happened up to now, if that is over: pieces of one time are one.
    fn advance(&mut self, elapsed: u64) {
        if elapsed > self.model.now {
            self.model.settle_pending();
            self.model.now = elapsed;
        }
    }

    fn catch_up(&mut self) {
        self.flood.drain(&mut Feed { parser: &mut self.parser, model: &mut self.model });
    }

    /// Gives up lines whose answer is long there without showing them, and keys that were never answered.
    fn forget_unanswered(&mut self) {
        let (now, output_at) = (self.model.now, self.output_at);
        let quiet = now.saturating_sub(output_at) >= QUIET;
        let latest = self.model.hold.latest();
        let answered = quiet && output_at > latest;
        let expired = now.saturating_sub(latest) >= MOST_WAIT;
        if !self.model.hold.is_empty() && (answered || expired) {
            let end = self.model.hold.end();
            self.model.settle_input(end, false);
            self.model.typed = super::typed::Typed::default();
        }
        if quiet && self.model.lines.sent.back().is_some_and(|sent| output_at > sent.at) {
            self.model.lines.sent.clear();
        }
    }

    fn outcome(&mut self, input: &[u8]) -> Outcome {
        let mut outcome = std::mem::take(&mut self.model.out);
        if self.unechoed == UnechoedInput::Keep {
            outcome.input = input.to_vec();
            outcome.findings.retain(|finding| *finding != Finding::InputOmitted);
        }
        outcome
    }
}

impl Reader for Feed<'_> {
    fn read(&mut self, output: &[u8]) {
        self.parser.advance(self.model, output);
    }

    fn skip(&mut self) {
        *self.parser = Parser::default();
        self.model.screen.skip();
        self.model.lines.prompts.started = None;
    }

    fn size(&self) -> (usize, usize) {
        (self.model.screen.rows(), self.model.screen.cells())
    }
}

impl Model {
    /// Whether output means nothing but what the screen looks like.
    fn is_idle(&self) -> bool {
        self.hold.is_empty() && self.lines.is_idle() && !self.typed.is_begun()
    }

    fn key(&mut self, byte: u8) {
        let key = self.keys.next(byte);
        let settled = self.lines.sent.is_empty();
        let cursor = settled.then(|| self.screen.cursor());
        if self.hold.is_empty() {
            self.rested = self.screen.cursor();
            self.screen.forget_touched();
        }
        if self.hold.is_full() {
            self.hold.release_to(self.hold.end(), &mut self.out.input);
        }
        self.hold.push(byte, key, self.now, cursor);
        self.lines.keyed = true;
        if self.is_drawn() {
            return;
        }
        if settled && !self.typed.is_begun() && key != Key::Silent {
            self.lines.begin(&self.screen);
        }
        let end = self.hold.end();
        match key {
            Key::Enter => self.lines.send(self.typed.send(true, end, self.now)),
            Key::Interrupt => self.lines.send(self.typed.send(false, end, self.now)),
            Key::End if !self.typed.is_begun() => self.lines.send(self.typed.send(false, end, self.now)),
            Key::Printable(_) | Key::EraseCharacter | Key::EraseWord | Key::EraseLine => self.typed.key(key),
            Key::End | Key::Other | Key::Silent => self.typed.key(key),
        }
    }

    /// Lets input go or leaves it out, up to the byte `end`.
    pub(super) fn settle_input(&mut self, end: u64, shown: bool) {
        if shown {
            self.hold.release_to(end, &mut self.out.input);
        } else if self.hold.drop_to(end, &mut self.out.input)
            && self.out.findings.last() != Some(&Finding::InputOmitted)
        {
            self.out.findings.push(Finding::InputOmitted);
        }
    }

    /// A piece of output is over.
    fn settle_output(&mut self) {
        let touched = self.screen.touched();
        self.screen.forget_touched();
        if !self.hold.is_empty() {
            self.hold.release_shown(&self.screen, &mut self.out.input);
            // A clock in the first or last row answers no key.
            let last = self.screen.rows() - 1;
            let drawn = touched.is_some_and(|rows| rows != (0, 0) && rows != (last, last));
            let answered = drawn || self.screen.cursor() != self.rested;
            if (self.drew || self.is_drawn()) && answered {
                let shown = !self.hold.has_unanswered_line();
                self.settle_input(self.hold.end(), shown);
            }
        }
        self.rested = self.screen.cursor();
        self.drew = false;
    }
}
