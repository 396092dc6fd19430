//! What stands on a terminal: enough of one to read a line that is being typed.
//!
//! Owns the characters, the cursor, which rows continue the one above, and how many rows have gone off the
//! top, so that a position keeps its meaning while the screen scrolls ([`Position::row`] counts all rows
//! since the start). Invariants: at most [`MOST_CELLS`] cells and [`MOST_MARKS`] combining marks a row; rows
//! take memory only as far as they are written. Deliberately absent: colours, and the characters of the
//! alternate screen, of which only the cursor and the rows that were touched are kept.
//!
//! Sequences: ECMA-48 and xterm's "Control Sequences" (ctlseqs).

use std::collections::VecDeque;

use unicode_width::UnicodeWidthChar as _;
use vte::Params;

/// Cells of a screen; of a bigger window the lower rows count as its last one.
const MOST_CELLS: usize = 64 * 1024;

/// Columns of a window that are told apart.
const MOST_COLUMNS: usize = 4096;

/// Combining marks that a row keeps.
const MOST_MARKS: usize = 64;

/// Second half of a wide character.
const WIDE: char = '\0';

/// A place on the screen or above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Rows from the first one that ever was on top.
    pub(super) row: u64,
    /// Columns from the left.
    pub(super) column: usize,
}

#[derive(Debug)]
pub(super) struct Screen {
    columns: usize,
    rows: usize,
    lines: VecDeque<Line>,
    scrolled: u64,
    row: usize,
    column: usize,
    /// The last column was written; the next character wraps.
    wraps: bool,
    inserting: bool,
    saved: (usize, usize),
    /// Cursor of the normal screen while the alternate one is shown.
    normal: Option<(usize, usize)>,
    region: (usize, usize),
    last: char,
    /// First and last row touched since [`Screen::forget_touched`], as seen on the window.
    touched: Option<(usize, usize)>,
}

#[derive(Clone, Debug, Default)]
struct Line {
    cells: Vec<char>,
    marks: Vec<(usize, char)>,
    /// It continues the row above, whose last column was written.
    continues: bool,
}

impl Screen {
    pub(super) fn new(columns: u32, rows: u32) -> Self {
        let (columns, rows) = bounded(columns, rows);
        Self {
            columns,
            rows,
            lines: VecDeque::from(vec![Line::default(); rows]),
            scrolled: 0,
            row: 0,
            column: 0,
            wraps: false,
            inserting: false,
            saved: (0, 0),
            normal: None,
            region: (0, rows - 1),
            last: ' ',
            touched: None,
        }
    }

    /// Gives the window another size; rows that are too many go off the top, as far as the cursor allows.
    pub(super) fn resize(&mut self, columns: u32, rows: u32) {
        let (columns, rows) = bounded(columns, rows);
        while self.lines.len() > rows {
            if self.row >= rows {
                self.lines.pop_front();
                self.scrolled += 1;
                self.row -= 1;
            } else {
                self.lines.pop_back();
            }
        }
        self.lines.resize(rows, Line::default());
        (self.columns, self.rows, self.region) = (columns, rows, (0, rows - 1));
        self.row = self.row.min(rows - 1);
        self.column = self.column.min(columns - 1);
        self.wraps = false;
    }

    /// Rows of the window.
    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) const fn columns(&self) -> usize {
        self.columns
    }

    /// Cells of the window.
    pub(super) const fn cells(&self) -> usize {
        self.columns * self.rows
    }

    pub(super) const fn is_alternate(&self) -> bool {
        self.normal.is_some()
    }

    /// Where the cursor stands; behind the last column while a wrap is due.
    pub(super) fn cursor(&self) -> Position {
        Position { row: self.scrolled + self.row as u64, column: self.column + usize::from(self.wraps) }
    }

    /// First and last row of the window that were written, erased or scrolled.
    pub(super) const fn touched(&self) -> Option<(usize, usize)> {
        self.touched
    }

    pub(super) const fn forget_touched(&mut self) {
        self.touched = None;
    }

    /// Empties the screen, as if a screenful of unknown rows had gone by.
    pub(super) fn skip(&mut self) {
        self.lines.iter_mut().for_each(Line::clear);
        self.scrolled += self.rows as u64;
        (self.row, self.column, self.wraps) = (self.rows - 1, 0, false);
    }

    /// The first row of the line that `row` is part of.
    pub(super) fn line_start(&self, row: u64) -> u64 {
        let mut row = row;
        while row > self.scrolled && self.line(row).is_some_and(|line| line.continues) {
            row -= 1;
        }
        row
    }

    /// The last row of the line that `row` is part of.
    pub(super) fn line_end(&self, row: u64) -> u64 {
        let mut row = row;
        while self.line(row + 1).is_some_and(|line| line.continues) {
            row += 1;
        }
        row
    }

    /// The row above the line that begins at `row`, if it is on the screen still.
    pub(super) fn above(&self, row: u64) -> Option<u64> {
        row.checked_sub(1).filter(|row| *row >= self.scrolled)
    }

    /// The characters from `from` up to `to`, blanks included; a row that does not continue the one above
    /// begins after a newline, and what precedes that has no trailing blanks.
    pub(super) fn text(&self, from: Position, to: Position) -> String {
        let mut text = String::new();
        for row in from.row..=to.row {
            let Some(line) = self.line(row) else { continue };
            if row > from.row && !line.continues {
                text.truncate(text.trim_end_matches(' ').len());
                text.push('\n');
            }
            let first = if row == from.row { from.column } else { 0 };
            let continued = row < to.row && self.line(row + 1).is_some_and(|next| next.continues);
            let end = if row == to.row {
                to.column
            } else if continued {
                self.columns
            } else {
                line.cells.len()
            };
            line.add_to(&mut text, first, end);
        }
        text
    }

    /// The position behind the last character of `row`.
    pub(super) fn row_end(&self, row: u64) -> Position {
        let column = self.line(row).map_or(0, |line| line.cells.len());
        Position { row, column }
    }

    /// How many characters of `text` stand from `from` on, one behind the other, and where the next would be.
    pub(super) fn matches(&self, from: Position, text: &[char]) -> (usize, Position) {
        let mut at = from;
        for (count, wanted) in text.iter().enumerate() {
            let width = wanted.width().unwrap_or(0);
            if at.column + width > self.columns {
                at = Position { row: at.row + 1, column: 0 };
            }
            let found = self.line(at.row).and_then(|line| line.cells.get(at.column));
            if found != Some(wanted) {
                return (count, at);
            }
            at.column += width;
        }
        (text.len(), at)
    }

    /// The position `width` columns behind the start of the line that begins at `row`.
    pub(super) fn behind(&self, row: u64, width: usize) -> Position {
        Position { row: row + (width / self.columns) as u64, column: width % self.columns }
    }

    /// Columns from the start of its line to `position`.
    pub(super) fn width_to(&self, position: Position) -> usize {
        let rows = position.row.saturating_sub(self.line_start(position.row));
        usize::try_from(rows).unwrap_or(0) * self.columns + position.column
    }

    fn line(&self, row: u64) -> Option<&Line> {
        let index = row.checked_sub(self.scrolled)?;
        self.lines.get(usize::try_from(index).ok()?)
    }

    fn touch(&mut self) {
        let (first, last) = self.touched.unwrap_or((self.row, self.row));
        self.touched = Some((first.min(self.row), last.max(self.row)));
    }

    /// The row of the cursor, unless the alternate screen is shown.
    fn current(&mut self) -> Option<&mut Line> {
        if self.normal.is_some() { None } else { self.lines.get_mut(self.row) }
    }

    pub(super) fn print(&mut self, character: char) {
        let width = character.width().unwrap_or(0);
        if width == 0 {
            let column = (self.column + usize::from(self.wraps)).saturating_sub(1);
            if let Some(line) = self.current().filter(|line| line.marks.len() < MOST_MARKS) {
                line.marks.push((column, character));
            }
            return;
        }
        if self.wraps || self.column + width > self.columns {
            self.column = 0;
            self.wraps = false;
            self.line_feed();
            if let Some(line) = self.current() {
                line.continues = true;
            }
        }
        self.touch();
        let (column, inserting) = (self.column, self.inserting);
        if let Some(line) = self.current() {
            line.put(column, character, width, inserting);
        }
        self.last = character;
        self.column += width;
        if self.column >= self.columns {
            self.column = self.columns - 1;
            self.wraps = true;
        }
    }

    /// Controls of one byte that move the cursor.
    pub(super) fn control(&mut self, byte: u8) {
        match byte {
            0x08 => self.set_column(self.column.saturating_sub(1)),
            b'\t' => self.set_column((self.column / 8 + 1) * 8),
            b'\n' | 0x0b | 0x0c => self.line_feed(),
            b'\r' => self.set_column(0),
            _ => {}
        }
    }

    fn line_feed(&mut self) {
        self.wraps = false;
        if self.row == self.region.1 {
            self.touched = Some((0, self.rows - 1));
            self.scroll_up(1);
        } else if self.row + 1 < self.rows {
            self.row += 1;
        }
    }

    fn scroll_up(&mut self, count: usize) {
        if self.normal.is_some() {
            return;
        }
        for _ in 0..count.min(self.rows) {
            if self.region == (0, self.rows - 1) {
                let mut line = self.lines.pop_front().unwrap_or_default();
                line.clear();
                self.lines.push_back(line);
                self.scrolled += 1;
            } else {
                self.move_rows(self.region.0, self.region.1);
            }
        }
    }

    /// Takes row `from` out and puts an empty one in at `to`.
    fn move_rows(&mut self, from: usize, to: usize) {
        if self.normal.is_none() && from < self.lines.len() && to < self.lines.len() {
            self.lines.remove(from);
            self.lines.insert(to, Line::default());
        }
    }

    fn set_column(&mut self, column: usize) {
        self.column = column.min(self.columns - 1);
        self.wraps = false;
    }

    fn set_row(&mut self, row: usize) {
        self.row = row.min(self.rows - 1);
        self.wraps = false;
    }

    /// A control sequence without private parameters (ECMA-48 section 8.3).
    pub(super) fn sequence(&mut self, params: &Params, action: char) {
        let number = |index: usize| params.iter().nth(index).and_then(|values| values.first().copied());
        let raw = |index| usize::from(number(index).unwrap_or(0));
        let count = raw(0).max(1);
        match action {
            'A' => self.set_row(self.row.saturating_sub(count)),
            'B' | 'e' => self.set_row(self.row + count),
            'C' | 'a' => self.set_column(self.column + count),
            'D' => self.set_column((self.column + usize::from(self.wraps)).saturating_sub(count)),
            'E' | 'F' => {
                self.set_row(if action == 'E' { self.row + count } else { self.row.saturating_sub(count) });
                self.set_column(0);
            }
            'G' | '`' => self.set_column(count - 1),
            'd' => self.set_row(count - 1),
            'H' | 'f' => {
                self.set_row(count - 1);
                self.set_column(raw(1).max(1) - 1);
            }
            'J' => self.erase_display(raw(0)),
            'K' => self.erase_line(raw(0)),
            'L' => (0..count.min(self.rows)).for_each(|_| self.move_rows(self.region.1, self.row)),
            'M' => (0..count.min(self.rows)).for_each(|_| self.move_rows(self.row, self.region.1)),
            'P' | 'X' | '@' => self.shift(action, count),
            'S' => self.scroll_up(count),
            'T' => (0..count.min(self.rows)).for_each(|_| self.move_rows(self.region.1, self.region.0)),
            'b' => (0..count.min(self.columns)).for_each(|_| self.print(self.last)),
            'h' | 'l' if raw(0) == 4 => self.inserting = action == 'h',
            'r' => {
                let last = if raw(1) == 0 { self.rows } else { raw(1).min(self.rows) } - 1;
                let first = count - 1;
                self.region = if first < last { (first, last) } else { (0, self.rows - 1) };
                self.set_row(0);
                self.set_column(0);
            }
            's' => self.save(),
            'u' => self.restore(),
            _ => {}
        }
    }

    pub(super) fn escape(&mut self, byte: u8) {
        match byte {
            b'7' => self.save(),
            b'8' => self.restore(),
            b'D' => self.line_feed(),
            b'E' => {
                self.line_feed();
                self.set_column(0);
            }
            b'M' if self.row == self.region.0 => self.move_rows(self.region.1, self.region.0),
            b'M' => self.set_row(self.row.saturating_sub(1)),
            b'c' => {
                self.alternate(false);
                self.skip();
                (self.row, self.region, self.inserting) = (0, (0, self.rows - 1), false);
            }
            _ => {}
        }
    }

    /// Shows the alternate screen, or the normal one again.
    pub(super) fn alternate(&mut self, shown: bool) {
        if shown && self.normal.is_none() {
            self.normal = Some((self.row, self.column));
        } else if let (false, Some((row, column))) = (shown, self.normal) {
            self.normal = None;
            self.region = (0, self.rows - 1);
            self.set_row(row);
            self.set_column(column);
        }
    }

    const fn save(&mut self) {
        self.saved = (self.row, self.column);
    }

    fn restore(&mut self) {
        let (row, column) = self.saved;
        self.set_row(row);
        self.set_column(column);
    }

    fn erase_display(&mut self, part: usize) {
        self.touch();
        let row = self.row;
        if self.normal.is_none() {
            match part {
                0 => self.lines.iter_mut().skip(row + 1).for_each(Line::clear),
                1 => self.lines.iter_mut().take(row).for_each(Line::clear),
                _ => self.lines.iter_mut().for_each(Line::clear),
            }
        }
        if part < 2 {
            self.erase_line(part);
        }
        if let Some(line) = self.current().filter(|line| line.cells.is_empty()) {
            line.continues = false;
        }
    }

    fn erase_line(&mut self, part: usize) {
        self.touch();
        let column = self.column;
        let Some(line) = self.current() else { return };
        match part {
            0 => line.cut(column),
            1 => line.blank(0, column + 1),
            _ => line.clear(),
        }
    }

    fn shift(&mut self, action: char, count: usize) {
        self.touch();
        let (column, columns) = (self.column, self.columns);
        let Some(line) = self.current() else { return };
        match action {
            'P' => line.delete(column, count),
            'X' => line.blank(column, (column + count).min(columns)),
            _ => {
                let count = count.min(columns);
                line.insert(column, count);
                line.cells.truncate(columns);
            }
        }
    }
}

impl Line {
    fn clear(&mut self) {
        self.cells.clear();
        self.marks.clear();
        self.continues = false;
    }

    fn put(&mut self, column: usize, character: char, width: usize, inserting: bool) {
        if inserting {
            self.insert(column, width);
        }
        if self.cells.len() < column + width {
            self.cells.resize(column + width, ' ');
        }
        for (cell, value) in self.cells.iter_mut().skip(column).take(width).zip([character, WIDE]) {
            *cell = value;
        }
        self.marks.retain(|(at, _)| *at < column || *at >= column + width);
    }

    fn cut(&mut self, column: usize) {
        self.cells.truncate(column);
        self.marks.retain(|(at, _)| *at < column);
    }

    fn blank(&mut self, from: usize, to: usize) {
        self.cells.iter_mut().take(to).skip(from).for_each(|cell| *cell = ' ');
        self.marks.retain(|(at, _)| *at < from || *at >= to);
    }

    fn insert(&mut self, column: usize, count: usize) {
        if column < self.cells.len() {
            self.cells.splice(column..column, std::iter::repeat_n(' ', count));
            self.marks.iter_mut().filter(|(at, _)| *at >= column).for_each(|(at, _)| *at += count);
        }
    }

    fn delete(&mut self, column: usize, count: usize) {
        let end = (column + count).min(self.cells.len());
        if column < end {
            self.cells.drain(column..end);
            self.marks.retain(|(at, _)| *at < column || *at >= end);
            self.marks.iter_mut().filter(|(at, _)| *at >= end).for_each(|(at, _)| *at -= end - column);
        }
    }

    fn add_to(&self, text: &mut String, from: usize, to: usize) {
        for column in from..to {
            match self.cells.get(column) {
                Some(&WIDE) => {}
                Some(cell) => text.push(*cell),
                None => text.push(' '),
            }
            if !self.marks.is_empty() {
                let marks = self.marks.iter().filter(|(at, _)| *at == column);
                text.extend(marks.map(|(_, mark)| *mark));
            }
        }
    }
}

fn bounded(columns: u32, rows: u32) -> (usize, usize) {
    let size = |value: u32, default: usize, most: usize| match usize::try_from(value) {
        Ok(0) => default,
        Ok(value) => value.min(most),
        Err(_) => most,
    };
    let columns = size(columns, 80, MOST_COLUMNS);
    (columns, size(rows, 24, MOST_CELLS / columns))
}
