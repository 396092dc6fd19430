//! Lines that were sent, and what became of them: a command, a line that was given up, or a secret.
//!
//! A line is over when an editor of lines stops reading, or, without one, when the terminal feeds a line while
//! a sent line waits. What a terminal without an editor echoes while nothing asks for it was typed ahead: it
//! is a command once a prompt takes it and the next prompt follows.

use std::collections::VecDeque;

use super::found::{Found, Prompts, whole_line};
use super::model::Model;
use super::screen::{Position, Screen};
use super::typed::Sent;
use super::{Finding, TypedCommand, prompt};
use crate::record::{Confidence, PromptKind};

/// Lines that wait for an answer, and lines typed ahead.
const MOST_LINES: usize = 64;

/// Bytes of a command.
const MOST_COMMAND: usize = 64 * 1024;

/// How long a command waits for a continuation prompt, in microseconds.
const CONTINUATION_WAIT: u64 = 300_000;

#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) prompts: Prompts,
    pub(super) sent: VecDeque<Sent>,
    /// What stood on the screen when an editor fed a line, if nothing was written since.
    candidate: Option<Option<Found>>,
    /// What stood there when the editor fed its first line after Enter, until it ends or begins anew.
    fed: Option<Found>,
    /// Something was written since a line was sent or answered.
    wrote: bool,
    /// Lines that the terminal echoed while nothing asked for them.
    ahead: VecDeque<String>,
    /// The one of them that the last prompt took.
    taken: Option<String>,
    /// Row on which prompts were counted, and how many.
    counted: (u64, usize),
    pending: Option<Pending>,
    /// Keys came since the last line.
    pub(super) keyed: bool,
}

/// A command that may go on at a continuation prompt.
#[derive(Debug)]
struct Pending {
    command: TypedCommand,
    /// When its last line was answered, in microseconds.
    at: u64,
    /// Something was written since.
    written: bool,
    /// Lines fed since.
    feeds: usize,
}

impl Lines {
    /// Whether output means nothing but what the screen looks like.
    pub(super) fn is_idle(&self) -> bool {
        let ahead = self.ahead.is_empty() && self.taken.is_none();
        self.sent.is_empty() && ahead && self.pending.is_none() && !self.keyed
    }

    /// The first key of a line comes, after all output.
    pub(super) fn begin(&mut self, screen: &Screen) {
        self.ahead.clear();
        self.taken = None;
        self.prompts.set_anchor(screen);
    }

    pub(super) fn send(&mut self, line: Sent) {
        self.wrote = false;
        self.fed = None;
        if self.sent.len() >= MOST_LINES {
            self.sent.pop_front();
        }
        self.sent.push_back(line);
    }

    /// A character is written.
    pub(super) fn written(&mut self) {
        self.candidate = None;
        self.wrote = true;
        if let Some(pending) = &mut self.pending {
            pending.written = true;
        }
    }

    pub(super) fn mark(&mut self, cursor: Position) {
        self.prompts.mark = Some(cursor);
    }

    /// When [`Model::settle_pending`] has something to do though nothing comes, in microseconds.
    pub(super) fn deadline(&self, now: u64) -> Option<u64> {
        let due = self.pending.as_ref().map(|pending| pending.at.saturating_add(CONTINUATION_WAIT));
        // One that is over and waits still does so for the user.
        due.filter(|due| *due > now)
    }

    /// Takes the line that was answered out: the one whose keys say `text`, else the oldest; those before it got
    /// no answer.
    fn answered(&mut self, text: &str) -> (Vec<Sent>, Option<Sent>) {
        // An editor may keep several lines until the last one is sent.
        let last = text.lines().next_back().unwrap_or_default().trim();
        let same = |sent: &Sent| sent.known().is_some_and(|typed| same(typed, text) || same(typed, last));
        // A program may take ^C without a word: then a later line is answered.
        let stale = |sent: &&Sent| !sent.entered && sent.text.as_deref().map(str::trim) != Some(text);
        let past_stale = || {
            let told = !text.is_empty() && !text.ends_with("^C");
            let count = self.sent.iter().take_while(stale).count().min(self.sent.len().saturating_sub(1));
            if told { count } else { 0 }
        };
        let before = self.sent.iter().position(same).unwrap_or_else(past_stale);
        let unanswered = self.sent.drain(..before).collect();
        (unanswered, self.sent.pop_front())
    }
}

impl Model {
    /// A line feed is about to happen.
    pub(super) fn line_ended(&mut self) {
        if let Some(pending) = &mut self.lines.pending {
            pending.feeds += 1;
        }
        if self.editing {
            if self.lines.keyed {
                let found = self.find();
                let typed = self.lines.sent.front().and_then(Sent::known);
                let right =
                    found.as_ref().is_some_and(|found| typed.is_some_and(|typed| same(typed, &found.text)));
                if !self.lines.sent.is_empty() && (right || self.lines.fed.is_none()) {
                    self.lines.fed.clone_from(&found);
                }
                self.lines.candidate = Some(found);
            }
        } else if let Some(sent) = self.lines.sent.front() {
            let found = self.find();
            let echoed = sent.known().is_some_and(|typed| {
                whole_line(&self.screen, self.screen.line_start(self.screen.cursor().row))
                    .ends_with(typed.trim_end())
            });
            // A line of output answers nothing.
            if !self.lines.wrote || echoed || found.as_ref().is_some_and(|found| found.recognised) {
                self.accept(found);
            }
        } else {
            self.count_prompts();
        }
    }

    /// An editor of lines begins to read.
    pub(super) fn editor_started(&mut self) {
        // fish ends without a word when the command is none.
        if let Some(found) = self.lines.fed.take().filter(|_| self.editing) {
            self.accept(Some(found));
        }
        self.lines.prompts.started = Some(self.screen.cursor());
        self.lines.candidate = None;
    }

    /// The editor has its line.
    pub(super) fn editor_ended(&mut self) {
        let found = self.lines.candidate.take().unwrap_or_else(|| self.find());
        if self.lines.keyed || !self.lines.ahead.is_empty() {
            self.accept(found);
        }
        self.lines.prompts.started = None;
    }

    /// The shell says that it runs the line.
    pub(super) fn marked_end(&mut self) {
        if self.lines.prompts.mark.is_some() && !self.lines.sent.is_empty() {
            let found = self.find();
            self.accept(found);
        }
    }

    fn find(&self) -> Option<Found> {
        let ahead = self.lines.ahead.front().map(String::as_str);
        let typed = self.lines.sent.front().and_then(Sent::known).or(ahead);
        self.lines.prompts.find(&self.screen, self.editing, typed)
    }

    fn accept(&mut self, found: Option<Found>) {
        let text = found.as_ref().map_or("", |found| found.text.trim());
        let (unanswered, sent) = self.lines.answered(text);
        if let Some(last) = unanswered.last() {
            self.settle_input(last.end, false);
        }
        self.settle_hold(sent.as_ref(), text);
        let given_up = sent.as_ref().is_some_and(|sent| !sent.entered);
        if given_up {
            self.lines.pending = None;
            self.lines.ahead.clear();
        } else {
            self.entered(sent.as_ref(), found.as_ref());
        }
        self.lines.prompts.line_over(found.as_ref().filter(|found| found.recognised && !given_up));
        (self.lines.fed, self.lines.wrote) = (None, false);
        self.lines.keyed = !self.lines.sent.is_empty() || self.typed.is_begun();
    }

    /// Lets go the input of an answered line, or leaves it out.
    fn settle_hold(&mut self, sent: Option<&Sent>, text: &str) {
        let Some(sent) = sent else { return };
        let row = self.screen.line_start(self.screen.cursor().row);
        let line = whole_line(&self.screen, row);
        let line = line.trim_end().trim_end_matches("^C");
        let shown = match sent.text.as_deref().map(str::trim_end) {
            None => !text.is_empty(),
            Some(typed) => {
                let edited = self.editing && sent.entered && !text.is_empty() && is_within(typed, text);
                same(typed, text) || line.ends_with(typed) || edited
            }
        };
        self.settle_input(sent.end, shown);
    }

    /// A line was sent with Enter and is answered.
    fn entered(&mut self, sent: Option<&Sent>, found: Option<&Found>) {
        let Some(found) = found.filter(|found| self.editing || asked(found)) else {
            return self.echoed(sent);
        };
        let garbled = sent.and_then(Sent::known).filter(|typed| is_garbled(typed, found));
        let text = garbled.unwrap_or(&found.text).trim();
        if let Some(index) = self.lines.ahead.iter().position(|ahead| same(ahead, text)) {
            self.lines.ahead.drain(..=index);
        }
        let continued = prompt::continues(&found.prompt.text) && self.lines.pending.is_some();
        if !continued {
            self.flush_pending();
        }
        let confidence = confidence(sent, found, self.editing).filter(|_| !text.is_empty());
        let now = self.now;
        match (&mut self.lines.pending, confidence) {
            (Some(pending), confidence) => {
                (pending.at, pending.written, pending.feeds) = (now, false, 0);
                if pending.command.text.len() + text.len() < MOST_COMMAND && !text.is_empty() {
                    pending.command.text.push('\n');
                    pending.command.text.push_str(text);
                }
                let confidence = confidence.unwrap_or(pending.command.confidence);
                pending.command.confidence = pending.command.confidence.min(confidence);
            }
            (None, Some(confidence)) => {
                let told = prompt::directory(&found.prompt.text).map(str::to_owned);
                let shell = found.marked || prompt::kind(&found.prompt.text) == PromptKind::Shell;
                let command = TypedCommand {
                    text: text.chars().take(MOST_COMMAND).collect(),
                    directory: self.directory.clone().filter(|_| shell).or(told),
                    confidence,
                    prompt: if shell { PromptKind::Shell } else { PromptKind::Other },
                };
                self.lines.pending = Some(Pending { command, at: now, written: false, feeds: 0 });
            }
            (None, None) => {}
        }
    }

    /// The terminal echoed a line that nothing asked for.
    fn echoed(&mut self, sent: Option<&Sent>) {
        let Some(typed) = sent.and_then(Sent::known) else { return };
        let line = whole_line(&self.screen, self.screen.line_start(self.screen.cursor().row));
        if line.trim_end().ends_with(typed.trim_end()) && self.lines.ahead.len() < MOST_LINES {
            self.lines.ahead.push_back(typed.trim().to_owned());
        }
    }

    /// A prompt that was not waited at takes a line that was typed ahead; the one after it shows that it did.
    fn count_prompts(&mut self) {
        if self.lines.ahead.is_empty() && self.lines.taken.is_none() {
            return;
        }
        let row = self.screen.line_start(self.screen.cursor().row);
        let count = self.lines.prompts.repeats(&whole_line(&self.screen, row));
        let before = if self.lines.counted.0 == row { self.lines.counted.1 } else { 0 };
        for _ in before..count {
            if let Some(text) = self.lines.taken.take() {
                let (confidence, prompt) = (Confidence::Low, PromptKind::Shell);
                let directory = self.directory.clone();
                let command = TypedCommand { text, directory, confidence, prompt };
                self.out.findings.push(Finding::Command(command));
            }
            self.lines.taken = self.lines.ahead.pop_front();
        }
        self.lines.counted = (row, count);
    }

    /// Tells a command that will not go on; to be called when time goes on.
    pub(super) fn settle_pending(&mut self) {
        if !self.editing && self.lines.sent.is_empty() {
            self.count_prompts();
        }
        let Some(pending) = &self.lines.pending else { return };
        let line = whole_line(&self.screen, self.screen.line_start(self.screen.cursor().row));
        let blank = line.trim().is_empty() && pending.feeds <= 1;
        let waited = self.now >= pending.at.saturating_add(CONTINUATION_WAIT);
        let continues = pending.written && pending.feeds <= 1 && prompt::continues(&line);
        if !continues && (waited || !blank) {
            self.flush_pending();
        }
    }

    pub(super) fn flush_pending(&mut self) {
        let command = self.lines.pending.take().map(|pending| Finding::Command(pending.command));
        self.out.findings.extend(command);
    }
}

/// Whether the line stands behind something that asks for one.
fn asked(found: &Found) -> bool {
    found.marked || prompt::looks_like_one(&found.prompt.text) || prompt::continues(&found.prompt.text)
}

/// How sure the line is; `None` if it was not typed.
fn confidence(sent: Option<&Sent>, found: &Found, editing: bool) -> Option<Confidence> {
    let text = found.text.trim();
    if found.marked {
        return Some(Confidence::High);
    }
    let Some(typed) = sent.map(|sent| sent.text.as_deref().map(str::trim)) else {
        return editing.then_some(Confidence::Low);
    };
    match typed {
        Some(typed) if same(typed, text) => Some(Confidence::High),
        Some(typed) if is_garbled(typed, found) => Some(Confidence::Low),
        Some("") => editing.then_some(Confidence::Low),
        Some(typed) if editing => is_within(typed, text).then_some(Confidence::Medium),
        Some(typed) => text.contains(typed).then_some(Confidence::Low),
        None if editing || found.recognised => Some(Confidence::Medium),
        None => Some(Confidence::Low),
    }
}

/// Whether the screen shows what the keys say but for a piece: at the edge of the window a terminal without an
/// editor cannot erase, and an editor that began in the middle of a row writes over its own text.
fn is_garbled(typed: &str, found: &Found) -> bool {
    let (typed, shown) = (typed.trim(), found.text.trim());
    let head = typed.chars().zip(shown.chars()).take_while(|(typed, shown)| typed == shown).count();
    let ends = typed.chars().rev().zip(shown.chars().rev());
    let tail = ends.take_while(|(typed, shown)| typed == shown).count();
    let most = typed.chars().count();
    let cut = head > 8 && head < most && found.recognised && !same(typed, shown);
    cut && (head * 2 > most || (head + tail) * 4 > most * 3)
}

/// Whether at least half of what was typed stands in `shown`, in order: an editor may have put more around it.
fn is_within(typed: &str, shown: &str) -> bool {
    let mut rest = shown.chars();
    let found = typed
        .trim()
        .chars()
        .filter(|typed| rest.clone().any(|shown| shown == *typed) && rest.any(|shown| shown == *typed));
    found.count() * 2 >= typed.trim().chars().count()
}

/// Whether the keys say what the screen shows; keys before them may have gone to another program.
fn same(typed: &str, shown: &str) -> bool {
    !shown.is_empty() && typed.trim().ends_with(shown)
}
