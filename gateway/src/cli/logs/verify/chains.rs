//! The chains that a directory holds sessions of, and what does not fit in them.
//!
//! One for each gateway, and one more where a gateway lost its state: a shipped copy may hold many.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::PathBuf;

use portreeve_core::manifest::{
    Chain, ChainFinding, ChainHead, ChainId, DocumentError, KeySuccession, Link, Shipped, TrustedKeys, read,
};
use serde_json::{Value, json};

use super::session::Verdict;
use crate::cli::logs::location::{Entry, Location};

/// Longest head or succession, and longest line of `shipped.log`, in bytes.
const MAX_DOCUMENT: u64 = 64 * 1024;

/// What was found of all chains.
#[derive(Clone, Debug)]
pub(super) struct Chains {
    trusted: TrustedKeys,
    chains: BTreeMap<ChainId, Chain>,
    /// Deleted sessions; read again in each round.
    deleted: Vec<(ChainId, Link)>,
    /// Heads and successions that do not count, and why.
    refused: Vec<(String, String)>,
}

/// What does not fit.
pub(super) enum Finding {
    /// In a chain.
    Chain(ChainId, ChainFinding),
    /// A document that does not count.
    Document {
        /// Its file.
        file: String,
        /// Why.
        text: String,
    },
}

impl Chains {
    pub(super) const fn new(trusted: TrustedKeys) -> Self {
        Self { trusted, chains: BTreeMap::new(), deleted: Vec::new(), refused: Vec::new() }
    }

    /// The keys that were given, and those that took over from them.
    pub(super) const fn trusted(&self) -> &TrustedKeys {
        &self.trusted
    }

    /// Reads the heads and the successions of keys below `root`, and heads that were kept elsewhere.
    ///
    /// # Errors
    /// Those of listing them, or of reading one of `kept`.
    pub(super) fn read_heads(&mut self, root: &Location, kept: &[PathBuf]) -> io::Result<()> {
        let mut heads = Vec::new();
        let mut successions = Vec::new();
        let directory = root.join("heads");
        let entries = match directory.entries() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            entries => entries?,
        };
        for Entry { name, .. } in entries {
            let text = name.to_string_lossy();
            match (text.starts_with("key-"), text.ends_with(".json")) {
                (_, false) => {}
                (true, true) => successions.push(directory.join(&name)),
                (false, true) => heads.push(directory.join(&name)),
            }
        }
        self.follow(successions);
        let kept: Vec<Location> = kept.iter().map(|path| Location::local(path)).collect();
        let kept = kept.iter().map(|path| (path, true));
        for (path, is_kept) in heads.iter().map(|path| (path, false)).chain(kept) {
            match read_small(path).map(|document| read::<ChainHead>(&document, &self.trusted)) {
                Ok(Ok(head)) => {
                    let ChainHead { chain, sequence, manifest, .. } = head.content;
                    self.chains.entry(chain).or_default().add_head(sequence, manifest);
                }
                Ok(Err(error)) => self.refuse(path, &error.to_string()),
                Err(error) if is_kept => return Err(error),
                Err(error) => self.refuse(path, &format!("it cannot be read: {error}")),
            }
        }
        Ok(())
    }

    /// Trusts keys that took over from trusted ones, until there are no more.
    fn follow(&mut self, mut successions: Vec<Location>) {
        loop {
            let before = successions.len();
            let mut unknown = Vec::new();
            for path in successions {
                match read_small(&path).map(|document| read::<KeySuccession>(&document, &self.trusted)) {
                    Ok(Ok(succession)) => {
                        self.trusted.add(succession.content.successor);
                    }
                    Ok(Err(DocumentError::UnknownKey(_))) => unknown.push(path),
                    Ok(Err(error)) => self.refuse(&path, &error.to_string()),
                    Err(error) => self.refuse(&path, &format!("it cannot be read: {error}")),
                }
            }
            // Of keys before the given one, or of other gateways: what they signed is told where it is met.
            if unknown.len() == before || unknown.is_empty() {
                return;
            }
            successions = unknown;
        }
    }

    /// Adds a session whose manifest counts.
    pub(super) fn add(&mut self, verdict: &Verdict) {
        if let Some((chain, link)) = verdict.link {
            self.chains.entry(chain).or_default().add_link(link);
        }
    }

    /// Reads what was deleted after shipping. What is no document there is passed over: it stands in for
    /// nothing.
    ///
    /// # Errors
    /// Those of reading it.
    pub(super) fn read_deletions(&mut self, root: &Location) -> io::Result<()> {
        self.deleted.clear();
        let mut file = match root.join("shipped.log").open_regular() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => BufReader::new(file?),
        };
        let mut before = Vec::new();
        while let Some(line) = next_line(&mut file)? {
            let document = [before, line.clone()].concat();
            before = line;
            if let Ok(shipped) = read::<Shipped>(&document, &self.trusted) {
                let Shipped { chain, sequence, manifest, .. } = shipped.content;
                self.deleted.push((chain, Link { sequence, manifest, previous: None }));
                before = Vec::new();
            }
        }
        // One session may have been confirmed by several destinations.
        self.deleted.sort_unstable();
        self.deleted.dedup();
        Ok(())
    }

    /// How many sessions were deleted after shipping.
    pub(super) const fn deleted(&self) -> usize {
        self.deleted.len()
    }

    /// What does not fit; `first` is the number that chains should begin with.
    pub(super) fn findings(&self, first: u64) -> Vec<Finding> {
        let mut chains = self.chains.clone();
        for (chain, link) in &self.deleted {
            chains.entry(*chain).or_default().add_link(*link);
        }
        let refused = self.refused.iter().cloned();
        refused
            .map(|(file, text)| Finding::Document { file, text })
            .chain(chains.into_iter().flat_map(|(id, chain)| {
                chain.findings(first).into_iter().map(move |finding| Finding::Chain(id, finding))
            }))
            .collect()
    }

    fn refuse(&mut self, path: &Location, text: &str) {
        self.refused.push((path.to_string(), text.to_owned()));
    }
}

impl Finding {
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Chain(chain, finding) => {
                let (problem, from, to) = match *finding {
                    ChainFinding::Missing { from, to } => ("missing", from, to),
                    ChainFinding::TailMissing { from, to } => ("tail-missing", from, to),
                    ChainFinding::Fork { sequence } => ("fork", sequence, sequence),
                    ChainFinding::Twice { sequence } => ("twice", sequence, sequence),
                    ChainFinding::Broken { sequence } => ("broken", sequence, sequence),
                    ChainFinding::HeadMismatch { sequence } => ("head-mismatch", sequence, sequence),
                };
                let text = finding.to_string();
                json!({ "chain": chain, "problem": problem, "from": from, "to": to, "text": text })
            }
            Self::Document { file, text } => {
                json!({ "chain": null, "problem": "refused-document", "file": file, "text": text })
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(chain, finding) => write!(f, "{chain}: {finding}"),
            Self::Document { file, text } => {
                write!(f, "{}: altered: {text}", super::without_controls(file))
            }
        }
    }
}

fn read_small(path: &Location) -> io::Result<Vec<u8>> {
    let mut document = Vec::new();
    path.open_regular()?.take(MAX_DOCUMENT).read_to_end(&mut document)?;
    Ok(document)
}

/// The next line with its newline; one that is too long is cut, and counts for nothing.
fn next_line(file: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = file.by_ref().take(MAX_DOCUMENT).read_until(b'\n', &mut line)?;
    Ok((read > 0).then_some(line))
}
