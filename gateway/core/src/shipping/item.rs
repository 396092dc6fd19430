//! What is shipped as one: a finished session, a finished file of one that goes on, or a signed head of the chain of
//! manifests.

use std::fmt;
use std::time::Duration;

use crate::envelope::SegmentName;

/// Name of the file that a session's directory gets last, and that a destination gets last.
pub const MANIFEST_FILE: &str = "manifest.json";

/// The directory of heads in the spool.
const HEADS: &str = "heads";

/// Ends the name of a session's directory in the spool while it is written.
const PART: &str = ".part";

/// Stands for `/` in names of state files.
const JOINT: char = '+';

/// How long a session runs before its finished files are shipped: a shorter one is shipped once, when it has ended.
const LONG: Duration = Duration::from_mins(10);

/// One thing to ship; ordered by age, sessions before files of those that go on, and these before heads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A finished session's directory.
    Session {
        /// Its start, in milliseconds since 1970.
        started: u64,
        /// The session's id.
        id: String,
    },
    /// A finished file of a session that goes on.
    Segment {
        /// The session's start, in milliseconds since 1970.
        started: u64,
        /// The session's id.
        id: String,
        /// Its path below the session's directory.
        file: String,
    },
    /// A file of `heads/`: a head, or a succession of keys.
    Head {
        /// Its name without `.json`.
        name: String,
    },
}

impl Item {
    /// A directory of the spool, if that is its name: milliseconds, `-`, a UUID in lower case.
    pub fn session(name: &str) -> Option<Self> {
        let (started, id) = name.split_once('-')?;
        let hex = |(index, byte): (usize, u8)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        };
        if id.len() != 36 || !id.bytes().enumerate().all(hex) {
            return None;
        }
        Some(Self::Session { started: number(started)?, id: id.to_owned() })
    }

    /// The directory of a session that is being written, if that is its name: as that of a finished one, and `.part`.
    /// The session is returned.
    pub fn written(name: &str) -> Option<Self> {
        Self::session(name.strip_suffix(PART)?)
    }

    /// A file of a session, if that is its path below the session's directory: the name of a segment, for further
    /// recipients below the id of their key.
    pub fn segment(&self, file: &str) -> Option<Self> {
        let Self::Session { started, id } = self else { return None };
        let name = match file.split_once('/') {
            Some((key, name)) => {
                let hex = key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                (key.len() == 16 && hex).then_some(name)?
            }
            None => file,
        };
        name.parse::<SegmentName>().ok()?;
        Some(Self::Segment { started: *started, id: id.clone(), file: file.to_owned() })
    }

    /// Whether it is a session that has run for long at `now`, in milliseconds since 1970.
    pub fn is_long(&self, now: u64) -> bool {
        match self {
            Self::Session { started, .. } => u128::from(now.saturating_sub(*started)) >= LONG.as_millis(),
            Self::Segment { .. } | Self::Head { .. } => false,
        }
    }

    /// A file of `heads/`, if that is its name: lower-case letters, digits and `-`, and `.json`.
    pub fn head(file: &str) -> Option<Self> {
        let name = file.strip_suffix(".json")?;
        let good = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-');
        (!name.is_empty() && name.bytes().all(good)).then(|| Self::Head { name: name.to_owned() })
    }

    /// Where it is below the spool, and at destinations. A file of a session that goes on is there under the name that
    /// it will have.
    pub fn path(&self) -> String {
        match self {
            Self::Session { .. } => self.to_string(),
            Self::Segment { started, id, file } => format!("{started}-{id}/{file}"),
            Self::Head { name } => format!("{HEADS}/{name}.json"),
        }
    }

    /// Where it is below the spool while its session goes on; `None` of what is finished as a whole.
    pub fn written_path(&self) -> Option<String> {
        match self {
            Self::Segment { started, id, file } => Some(format!("{started}-{id}{PART}/{file}")),
            Self::Session { .. } | Self::Head { .. } => None,
        }
    }

    /// One thing to ship by the name of its state files.
    pub fn from_state_name(name: &str) -> Option<Self> {
        match (name.strip_prefix("head-"), name.split_once(JOINT)) {
            (Some(head), _) => Self::head(&format!("{head}.json")),
            (None, Some((session, file))) => Self::session(session)?.segment(&file.replace(JOINT, "/")),
            (None, None) => Self::session(name),
        }
    }
}

/// The name of its state files.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session { started, id } => write!(f, "{started}-{id}"),
            Self::Segment { started, id, file } => {
                write!(f, "{started}-{id}{JOINT}{}", file.replace('/', &JOINT.to_string()))
            }
            Self::Head { name } => write!(f, "head-{name}"),
        }
    }
}

/// A number in its only spelling, so that a name and the item it stands for are one to one.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_finished_sessions_and_of_nothing_else() {
        let name = "1700000000000-ffffffff-ffff-4fff-bfff-ffffffffffff";
        let item = Item::session(name).unwrap();
        assert_eq!((item.path(), item.to_string()), (name.to_owned(), name.to_owned()));
        assert_eq!(Item::from_state_name(name), Some(item));
        for other in [
            "",
            "1700000000000",
            "1700000000000-ffffffff-ffff-4fff-bfff-ffffffffffff.part",
            "1700000000000-ffffffff-ffff-4fff-bfff-fffffffffff",
            "1700000000000-FFFFFFFF-ffff-4fff-bfff-ffffffffffff",
            "1700000000000-ffffffffffff-4fff-bfff-ffffffffffff-",
            "01-ffffffff-ffff-4fff-bfff-ffffffffffff",
            "+1-ffffffff-ffff-4fff-bfff-ffffffffffff",
            ".shipping",
        ] {
            assert_eq!(Item::session(other), None, "{other}");
        }
    }

    #[test]
    fn heads() {
        for name in ["1b2f-12", "key-0123456789abcdef"] {
            let head = Item::head(&format!("{name}.json")).unwrap();
            assert_eq!(
                (head.path(), head.to_string()),
                (format!("heads/{name}.json"), format!("head-{name}"))
            );
            assert_eq!(Item::from_state_name(&head.to_string()), Some(head));
        }
        for other in ["12", "A.json", "..json", "x/y.json", ".json", "12.json.tmp"] {
            assert_eq!(Item::head(other), None, "{other}");
        }
    }

    #[test]
    fn finished_files_of_sessions_that_go_on() {
        let name = "1700000000000-ffffffff-ffff-4fff-bfff-ffffffffffff";
        let session = Item::written(&format!("{name}.part")).unwrap();
        assert_eq!((Item::session(name), Item::written(name)), (Some(session.clone()), None));
        for file in ["events.log", "channel-0.12.log", "0123456789abcdef/channel-7.1.log"] {
            let segment = session.segment(file).unwrap();
            assert_eq!(segment.path(), format!("{name}/{file}"));
            assert_eq!(segment.written_path(), Some(format!("{name}.part/{file}")));
            assert!(!segment.to_string().contains('/'), "{segment}");
            assert_eq!(Item::from_state_name(&segment.to_string()), Some(segment));
        }
        for other in [
            "manifest.json",
            "../events.log",
            "x/events.log",
            "0123456789ABCDEF/events.log",
            "a/b/events.log",
        ] {
            assert_eq!(session.segment(other), None, "{other}");
        }
        let ten_minutes = 1_700_000_000_000 + 600_000;
        assert!(session.is_long(ten_minutes) && !session.is_long(ten_minutes - 1) && !session.is_long(0));
    }

    #[test]
    fn older_sessions_come_first() {
        let id = "ffffffff-ffff-4fff-bfff-ffffffffffff";
        let (young, old) = (Item::session(&format!("10-{id}")), Item::session(&format!("9-{id}")));
        assert!(old < young && young < Item::head("0.json"));
    }
}
