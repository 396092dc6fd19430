//! Reads the line that is being typed from the screen: where the prompt ends, and what stands behind it.
//!
//! Evidence, best first: the shell's mark (OSC 133); the text that stood before the cursor when the first key
//! came, or that of an earlier prompt, at the start of a row; a prompt like an earlier one, of another
//! directory; where the editor of lines switched bracketed paste on behind a prompt, as zsh does; the typed
//! text at the end of a row that begins like a prompt.

use std::collections::VecDeque;

use unicode_width::UnicodeWidthStr as _;

use super::prompt;
use super::screen::{Position, Screen};

/// Prompts that are remembered.
const MOST_KNOWN: usize = 8;

/// Bytes of a prompt that is remembered.
const MOST_PROMPT: usize = 512;

/// Columns that shells may leave free behind a right prompt.
const RIGHT_MARGIN: usize = 2;

/// A prompt as it stood on its last row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    pub(super) text: String,
    /// Columns.
    width: usize,
    /// What stood on the right of the cursor.
    right: String,
}

/// Where a line may begin.
#[derive(Debug, Default)]
pub(super) struct Prompts {
    /// The prompt at which the first key of the line came, and its row.
    anchor: Option<(Prompt, u64)>,
    /// Where the shell says that its prompt ends.
    pub(super) mark: Option<Position>,
    /// Where the cursor was when an editor of lines began to read.
    pub(super) started: Option<Position>,
    /// Prompts at which lines were typed, the latest first.
    known: VecDeque<Prompt>,
}

/// A line as it stands on the screen.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) prompt: Prompt,
    pub(super) text: String,
    /// The shell marked its beginning.
    pub(super) marked: bool,
    /// The prompt was known before, or seen before the first key.
    pub(super) recognised: bool,
}

impl Prompts {
    /// The first key of a line comes, and all output was seen.
    pub(super) fn set_anchor(&mut self, screen: &Screen) {
        let cursor = screen.cursor();
        let row = screen.line_start(cursor.row);
        let text = screen.text(Position { row, column: 0 }, cursor);
        let right = screen.text(cursor, screen.row_end(cursor.row)).trim_end().to_owned();
        let small = text.len() <= MOST_PROMPT && right.len() <= MOST_PROMPT;
        self.anchor = small.then(|| (Prompt { text, width: screen.width_to(cursor), right }, row));
    }

    /// The line is over; what was found of it helps with the next one.
    pub(super) fn line_over(&mut self, found: Option<&Found>) {
        (self.anchor, self.mark) = (None, None);
        let Some(found) = found.filter(|found| !found.prompt.text.trim().is_empty()) else { return };
        if found.prompt.text.len() > MOST_PROMPT || prompt::continues(&found.prompt.text) {
            return;
        }
        let known =
            |known: &&Prompt| known.text != found.prompt.text && repeats(known, &found.prompt.text) > 1;
        if self.known.iter().any(|prompt| known(&prompt)) {
            return;
        }
        self.known.retain(|known| known.text != found.prompt.text);
        self.known.truncate(MOST_KNOWN - 1);
        self.known.push_front(found.prompt.clone());
    }

    /// How often a known prompt stands at the start of `line`, one behind the other.
    pub(super) fn repeats(&self, line: &str) -> usize {
        self.known.iter().map(|known| repeats(known, line)).max().unwrap_or(0)
    }

    /// Finds the line in which the cursor stands; an editor of lines may use several rows. `typed` is what the
    /// keys say it should be.
    pub(super) fn find(&self, screen: &Screen, editing: bool, typed: Option<&str>) -> Option<Found> {
        let bottom = screen.cursor().row;
        let (top, end) = (screen.line_start(bottom), screen.line_end(bottom));
        let lowest = if editing { self.lowest(top) } else { top };
        self.marked(screen, lowest, end)
            .or_else(|| self.by_text(screen, lowest, end))
            .or_else(|| self.similar(screen, top, end))
            .or_else(|| self.by_start(screen, lowest, end))
            .or_else(|| self.by_typed(screen, top, end, typed?))
    }

    fn lowest(&self, top: u64) -> u64 {
        let starts = [self.anchor.as_ref().map(|(_, row)| *row), self.started.map(|start| start.row)];
        starts.into_iter().flatten().fold(top, u64::min)
    }

    fn marked(&self, screen: &Screen, lowest: u64, end: u64) -> Option<Found> {
        let mark = self.mark.filter(|mark| (lowest.min(mark.row)..=end).contains(&mark.row))?;
        Some(Found { marked: true, recognised: true, ..self.found_at(screen, mark, end) })
    }

    fn by_text(&self, screen: &Screen, lowest: u64, end: u64) -> Option<Found> {
        let anchor = self.anchor.as_ref().map(|(prompt, _)| prompt);
        let mut row = screen.line_start(end);
        loop {
            let line = whole_line(screen, row);
            for prompt in anchor.into_iter().chain(&self.known) {
                if !prompt.text.trim().is_empty() && line.starts_with(&prompt.text) {
                    let from = screen.behind(row, prompt.width);
                    return Some(Found { recognised: true, ..self.found_at(screen, from, end) });
                }
            }
            row = screen.line_start(screen.above(row).filter(|row| *row >= lowest)?);
        }
    }

    fn similar(&self, screen: &Screen, top: u64, end: u64) -> Option<Found> {
        let line = whole_line(screen, top);
        let length = self.known.iter().find_map(|known| prompt::end_of_similar(&line, &known.text))?;
        let from = screen.behind(top, line.get(..length)?.width());
        Some(Found { recognised: true, ..self.found_at(screen, from, end) })
    }

    fn by_start(&self, screen: &Screen, lowest: u64, end: u64) -> Option<Found> {
        let start = self.started.filter(|start| start.column > 0 && (lowest..=end).contains(&start.row))?;
        let found = Found { recognised: true, ..self.found_at(screen, start, end) };
        // The editor may have begun behind what was echoed before, and written its prompt there.
        let Some(known) = self.known.iter().find(|known| found.text.starts_with(&known.text)) else {
            return Some(found);
        };
        let from = screen.behind(screen.line_start(start.row), screen.width_to(start) + known.width);
        Some(Found { prompt: known.clone(), recognised: true, ..self.found_at(screen, from, end) })
    }

    fn by_typed(&self, screen: &Screen, top: u64, end: u64, typed: &str) -> Option<Found> {
        let line = whole_line(screen, top);
        let before = line.trim_end().strip_suffix(typed.trim_end())?;
        let prompt = prompt::looks_like_one(before) && !typed.trim().is_empty();
        prompt.then(|| self.found_at(screen, screen.behind(top, before.width()), end))
    }

    fn found_at(&self, screen: &Screen, from: Position, end: u64) -> Found {
        let before = screen.text(Position { row: screen.line_start(from.row), column: 0 }, from);
        let right = self.right_of(screen, from, &before).to_owned();
        let mut text = screen.text(from, screen.row_end(end));
        if !right.is_empty() {
            let first = text.find('\n').unwrap_or(text.len());
            let line = text.get(..first).map(str::trim_end);
            let kept = line.and_then(|line| line.strip_suffix(right.trim_start()));
            // It never touches the line.
            if let Some(kept) = kept.filter(|kept| kept.ends_with(' ')).map(|kept| kept.trim_end().len()) {
                text.replace_range(kept..first, "");
            }
        }
        text.truncate(text.trim_end().len());
        let prompt = Prompt { text: before, width: screen.width_to(from), right };
        Found { prompt, text, marked: false, recognised: false }
    }

    /// What stands on the right of the prompt `text` before `from`. If the line was begun before the prompt was drawn,
    /// that is what stood there the last time, in this directory or another; at the window's edge, as shells draw it.
    fn right_of(&self, screen: &Screen, from: Position, text: &str) -> &str {
        let drawn = self.anchor.iter().find(|(prompt, _)| prompt.text == text && !prompt.right.is_empty());
        let at_edge = || screen.row_end(from.row).column + RIGHT_MARGIN >= screen.columns();
        let like = |known: &&Prompt| {
            known.text == text || prompt::end_of_similar(text, &known.text) == Some(text.len())
        };
        let before = || self.known.iter().find(like).filter(|_| at_edge());
        drawn.map(|(prompt, _)| prompt).or_else(before).map_or("", |prompt| &prompt.right)
    }
}

/// How often `prompt` stands at the start of `line`.
fn repeats(prompt: &Prompt, line: &str) -> usize {
    let mut rest = line;
    let strip = || rest.strip_prefix(&prompt.text).map(|after| rest = after);
    std::iter::from_fn(strip).take(64).count()
}

/// The text of the line that begins at `row`.
pub(super) fn whole_line(screen: &Screen, row: u64) -> String {
    screen.text(Position { row, column: 0 }, screen.row_end(screen.line_end(row)))
}
