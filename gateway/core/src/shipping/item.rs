//! What is shipped as one: a finished session, or a signed head of the chain of manifests.

use std::fmt;

/// Name of the file that a session's directory gets last, and that a destination gets last.
pub const MANIFEST_FILE: &str = "manifest.json";

/// The directory of heads in the spool.
const HEADS: &str = "heads";

/// One thing to ship; ordered by age, sessions before heads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A finished session's directory.
    Session {
        /// Its start, in milliseconds since 1970.
        started: u64,
        /// The session's id.
        id: String,
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

    /// A file of `heads/`, if that is its name: lower-case letters, digits and `-`, and `.json`.
    pub fn head(file: &str) -> Option<Self> {
        let name = file.strip_suffix(".json")?;
        let good = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-');
        (!name.is_empty() && name.bytes().all(good)).then(|| Self::Head { name: name.to_owned() })
    }

    /// Where it is below the spool.
    pub fn path(&self) -> String {
        match self {
            Self::Session { .. } => self.to_string(),
            Self::Head { name } => format!("{HEADS}/{name}.json"),
        }
    }

    /// One thing to ship by the name of its state files.
    pub fn from_state_name(name: &str) -> Option<Self> {
        match name.strip_prefix("head-") {
            Some(head) => Self::head(&format!("{head}.json")),
            None => Self::session(name),
        }
    }
}

/// The name of its state files.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session { started, id } => write!(f, "{started}-{id}"),
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
    fn older_sessions_come_first() {
        let id = "ffffffff-ffff-4fff-bfff-ffffffffffff";
        let (young, old) = (Item::session(&format!("10-{id}")), Item::session(&format!("9-{id}")));
        assert!(old < young && young < Item::head("0.json"));
    }
}
