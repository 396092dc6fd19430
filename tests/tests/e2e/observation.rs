//! What a user can observe of a case, so that two routes can be compared.

use std::fmt::Write as _;

use portreeve_tests::Finished;

/// Labelled texts in the order they were observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observation(Vec<(String, String)>);

impl Observation {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Status, standard output and standard error of a program.
    pub(crate) fn of(finished: &Finished) -> Self {
        Self::new()
            .with("status", finished.ending())
            .with("stdout", text(&finished.stdout))
            .with("stderr", text(&finished.stderr))
    }

    /// Adds a text.
    pub(crate) fn with(mut self, label: &str, text: impl Into<String>) -> Self {
        self.0.push((label.to_owned(), text.into()));
        self
    }

    /// Adds all texts of another observation under `label/`.
    pub(crate) fn and(mut self, label: &str, other: Self) -> Self {
        self.0.extend(other.0.into_iter().map(|(inner, text)| (format!("{label}/{inner}"), text)));
        self
    }

    /// The text observed under a label.
    pub(crate) fn text(&self, label: &str) -> Option<&str> {
        self.0.iter().find(|(have, _)| have == label).map(|(_, text)| text.as_str())
    }

    /// What differs from `other`, for people; `None` when nothing does.
    pub(crate) fn difference(&self, other: &Self, names: (&str, &str)) -> Option<String> {
        let mut report = String::new();
        let labels = self.0.iter().chain(&other.0).map(|(label, _)| label.as_str());
        let mut seen = Vec::new();
        for label in labels {
            if seen.contains(&label) || self.text(label) == other.text(label) {
                continue;
            }
            seen.push(label);
            for (name, side) in [(names.0, self), (names.1, other)] {
                let text = side.text(label).map_or_else(|| "nothing".to_owned(), shown);
                writeln!(report, "{label}, {name}: {text}").ok();
            }
        }
        (!report.is_empty()).then_some(report)
    }
}

/// Text as it is; bytes that are none, escaped.
fn text(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// Quoted, and cut where nobody reads on.
fn shown(text: &str) -> String {
    const MOST: usize = 1500;
    let mut shown = format!("{text:?}");
    if let Some((cut, _)) = shown.char_indices().nth(MOST) {
        shown.truncate(cut);
        shown += &format!("... ({} bytes)", text.len());
    }
    shown
}
