//! Whether manifests, heads and records of deletion make a whole chain.
//!
//! A [`Chain`] gathers what was found of one chain, about a hundred bytes for each session, and is then
//! asked what does not fit. What it is given was signed by a trusted key.

use super::Sha256;

/// A manifest as the chain sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Its number.
    pub sequence: u64,
    /// SHA-256 of its file.
    pub manifest: Sha256,
    /// What it names as its predecessor; `None` of a session that was deleted after shipping.
    pub previous: Option<Sha256>,
}

/// What does not fit. Numbers are those of manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainFinding {
    /// Sessions are missing between others, or before the first.
    Missing {
        /// The first that is missing.
        from: u64,
        /// The last that is missing.
        to: u64,
    },
    /// A head tells of sessions after the last.
    TailMissing {
        /// The first that is missing.
        from: u64,
        /// The newest that a head tells of.
        to: u64,
    },
    /// Several different manifests have one number.
    Fork {
        /// Their number.
        sequence: u64,
    },
    /// Several directories have the same manifest.
    Twice {
        /// Its number.
        sequence: u64,
    },
    /// The manifest names another predecessor than the one that is there.
    Broken {
        /// Its number.
        sequence: u64,
    },
    /// A head names another manifest than the one that is there.
    HeadMismatch {
        /// The number.
        sequence: u64,
    },
}

/// One chain, as far as it was found.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    links: Vec<Link>,
    heads: Vec<(u64, Sha256)>,
}

impl Chain {
    /// Adds a manifest, or what is known of a deleted session.
    pub fn add_link(&mut self, link: Link) {
        self.links.push(link);
    }

    /// Adds a head: the number of the newest manifest at its time, and the SHA-256 of that.
    pub fn add_head(&mut self, sequence: u64, manifest: Sha256) {
        self.heads.push((sequence, manifest));
    }

    /// What does not fit, in the order of numbers; `first` is the number that the chain should begin with.
    pub fn findings(mut self, first: u64) -> Vec<ChainFinding> {
        self.links.retain(|link| link.sequence >= first);
        // Of two about the same session, the one that names a predecessor comes first.
        self.links.sort_unstable_by_key(|link| (link.sequence, link.manifest, link.previous.is_none()));
        let mut findings = Vec::new();
        let mut expected = first;
        let mut before: Option<Link> = None;
        for link in &self.links {
            if let Some(before) = before.filter(|before| before.sequence == link.sequence) {
                findings.extend(same_number(before, *link));
                continue;
            }
            if link.sequence > expected {
                findings.push(ChainFinding::Missing { from: expected, to: link.sequence - 1 });
            }
            if !follows(before.filter(|before| before.sequence.checked_add(1) == Some(link.sequence)), *link)
            {
                findings.push(ChainFinding::Broken { sequence: link.sequence });
            }
            expected = link.sequence.saturating_add(1);
            before = Some(*link);
        }
        let newest = self.links.last().map_or(first.saturating_sub(1), |link| link.sequence);
        self.check_heads(newest, &mut findings);
        findings
    }

    /// `newest` is the number of the newest manifest.
    fn check_heads(&self, newest: u64, findings: &mut Vec<ChainFinding>) {
        for (sequence, manifest) in &self.heads {
            let start = self.links.partition_point(|link| link.sequence < *sequence);
            let mut same = self.links.iter().skip(start).take_while(|link| link.sequence == *sequence);
            let known = self.links.get(start).is_some_and(|link| link.sequence == *sequence);
            if known && same.all(|link| link.manifest != *manifest) {
                findings.push(ChainFinding::HeadMismatch { sequence: *sequence });
            }
        }
        let told = self.heads.iter().map(|(sequence, _)| *sequence).max();
        if let Some(to) = told.filter(|told| *told > newest) {
            findings.push(ChainFinding::TailMissing { from: newest.saturating_add(1), to });
        }
    }
}

/// What two entries of one number mean.
fn same_number(before: Link, link: Link) -> Option<ChainFinding> {
    let sequence = link.sequence;
    if before.manifest != link.manifest {
        return Some(ChainFinding::Fork { sequence });
    }
    // A session whose deletion was announced, and did not happen yet.
    let deleted = link.previous.is_none();
    (!deleted).then_some(ChainFinding::Twice { sequence })
}

/// Whether a manifest names its predecessor, as far as both are known.
fn follows(before: Option<Link>, link: Link) -> bool {
    match (before, link.previous) {
        (_, None) => true,
        (Some(before), Some(previous)) => before.manifest == previous,
        (None, Some(previous)) => (link.sequence == 1) == (previous == Sha256::NONE),
    }
}

impl std::fmt::Display for ChainFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { from, to } if from == to => write!(f, "missing: session {from}"),
            Self::Missing { from, to } => write!(f, "missing: sessions {from} to {to}"),
            Self::TailMissing { from, to } => {
                write!(
                    f,
                    "cut: sessions {from} to {to}, of which a signed head tells, are missing at the end"
                )
            }
            Self::Fork { sequence } => write!(f, "fork: there are several sessions {sequence}"),
            Self::Twice { sequence } => write!(f, "session {sequence} is there more than once"),
            Self::Broken { sequence } => {
                write!(f, "altered: session {sequence} follows another session than the one before it")
            }
            Self::HeadMismatch { sequence } => {
                write!(f, "altered: a signed head tells of another session {sequence}")
            }
        }
    }
}
