//! Programs that move files, known by what a channel is asked for.
//!
//! An exec is read as a shell would split it into words; the program may stand behind words that only run another, such
//! as `sudo` or `env`. A command that does more than run one program (`;`, `|`, `>`, `$(...)`) is none of these. That
//! is good for telling what people do with these programs; who wants to hide a transfer can.

use crate::infrastructure::TransferRights;
use crate::record::{Text, TransferDirection};

/// A program that moves files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// An sftp server.
    Sftp,
    /// One end of the old scp: `scp -t`, `scp -f`.
    Scp {
        /// Which way files go.
        direction: TransferDirection,
        /// What the command line names, with spaces between.
        paths: Text,
    },
    /// One end of rsync: `rsync --server`.
    Rsync {
        /// Which way files go.
        direction: TransferDirection,
        /// What the command line names, with spaces between.
        paths: Text,
    },
}

/// Words that run what follows them.
const RUNNERS: &[&[u8]] =
    &[b"sudo", b"doas", b"env", b"nice", b"ionice", b"nohup", b"exec", b"command", b"time"];

/// Words that are looked at.
const MAX_WORDS: usize = 4096;

impl Program {
    /// The one that a subsystem is.
    pub fn of_subsystem(name: &[u8]) -> Option<Self> {
        (name == b"sftp").then_some(Self::Sftp)
    }

    /// The one that a command runs.
    pub fn of_exec(command: &[u8]) -> Option<Self> {
        let words = words(command)?;
        let mut at = 0;
        // Options and assignments belong to the runner before them.
        let is_passed =
            |word: &[u8]| RUNNERS.contains(&base(word)) || word.starts_with(b"-") || word.contains(&b'=');
        while words.get(at).is_some_and(|word| is_passed(word)) {
            at += 1;
        }
        let (program, arguments) = words.get(at..)?.split_first()?;
        match base(program) {
            b"sftp-server" | b"internal-sftp" => Some(Self::Sftp),
            b"scp" => scp(arguments),
            b"rsync" => rsync(arguments),
            _ => None,
        }
    }

    /// What must be granted for it to run at all; an sftp server's requests are judged one by one.
    pub const fn needed(&self) -> TransferRights {
        match self {
            Self::Sftp => TransferRights::NONE,
            Self::Scp { direction, .. } | Self::Rsync { direction, .. } => match direction {
                TransferDirection::Upload => TransferRights { upload: true, download: false },
                TransferDirection::Download => TransferRights { upload: false, download: true },
                TransferDirection::Both => TransferRights::ALL,
            },
        }
    }

    /// What it does, for people: `upload by scp`.
    pub const fn describe(&self) -> &'static str {
        match self {
            Self::Sftp => "sftp",
            Self::Scp { direction: TransferDirection::Download, .. } => "download by scp",
            Self::Scp { .. } => "upload by scp",
            Self::Rsync { direction: TransferDirection::Download, .. } => "download by rsync",
            Self::Rsync { .. } => "upload by rsync",
        }
    }
}

fn base(word: &[u8]) -> &[u8] {
    word.rsplit(|byte| *byte == b'/').next().unwrap_or(word)
}

fn joined(words: &[&Vec<u8>]) -> Text {
    Text(words.iter().map(|word| word.as_slice()).collect::<Vec<_>>().join(&b' '))
}

/// `-t` is the end that receives, `-f` the one that sends (OpenSSH's scp.c).
fn scp(arguments: &[Vec<u8>]) -> Option<Program> {
    let mut letters = arguments.iter().take_while(|word| word.starts_with(b"-") && *word != b"--");
    let options: Vec<u8> = letters.by_ref().flatten().copied().collect();
    let direction = match (options.contains(&b't'), options.contains(&b'f')) {
        (true, _) => TransferDirection::Upload,
        (false, true) => TransferDirection::Download,
        (false, false) => return None,
    };
    let paths: Vec<_> =
        arguments.iter().skip_while(|word| word.starts_with(b"-") && *word != b"--").collect();
    let paths = match paths.split_first() {
        Some((first, rest)) if *first == b"--" => rest,
        _ => &paths,
    };
    Some(Program::Scp { direction, paths: joined(paths) })
}

/// rsync sends `.` between options and paths of its server (rsync's options.c, `server_options`).
fn rsync(arguments: &[Vec<u8>]) -> Option<Program> {
    let has = |option: &[u8]| arguments.iter().any(|word| word == option);
    if !has(b"--server") {
        return None;
    }
    let direction = if has(b"--sender") { TransferDirection::Download } else { TransferDirection::Upload };
    let paths: Vec<_> = arguments.iter().skip_while(|word| *word != b".").skip(1).collect();
    Some(Program::Rsync { direction, paths: joined(&paths) })
}

/// The words of a command that runs one program; `None` for any other.
fn words(command: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut words, mut word) = (Vec::new(), None::<Vec<u8>>);
    let mut rest = command.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take()),
            b';' | b'|' | b'&' | b'<' | b'>' | b'\n' | b'`' | b'(' | b')' => return None,
            b'\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        b'\'' => break,
                        byte => word.push(byte),
                    }
                }
            }
            b'"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        b'"' => break,
                        b'`' => return None,
                        b'\\' => word.push(rest.next()?),
                        byte => word.push(byte),
                    }
                }
            }
            b'\\' => word.get_or_insert_default().push(rest.next()?),
            byte => word.get_or_insert_default().push(byte),
        }
        if words.len() > MAX_WORDS {
            return None;
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(command: &str) -> Option<(String, String)> {
        let program = Program::of_exec(command.as_bytes())?;
        let paths = match &program {
            Program::Sftp => String::new(),
            Program::Scp { paths, .. } | Program::Rsync { paths, .. } => {
                String::from_utf8(paths.0.clone()).unwrap()
            }
        };
        Some((program.describe().to_owned(), paths))
    }

    #[test]
    fn programs_are_known_by_their_command_lines() {
        for (command, program, paths) in [
            ("/usr/lib/openssh/sftp-server -l INFO", "sftp", ""),
            ("sudo -n /usr/lib/openssh/sftp-server", "sftp", ""),
            ("scp -t up", "upload by scp", "up"),
            ("scp -r -p -t -- 'with space'", "upload by scp", "with space"),
            ("/usr/bin/scp -prf a\\ b \"c\"", "download by scp", "a b c"),
            ("rsync --server -logDtpre.iLsfxCIvu . dest/", "upload by rsync", "dest/"),
            (
                "LC_ALL=C sudo rsync --server --sender -e.LsfxCIvu . /etc /srv",
                "download by rsync",
                "/etc /srv",
            ),
        ] {
            assert_eq!(told(command), Some((program.to_owned(), paths.to_owned())), "{command}");
        }
    }

    #[test]
    fn other_commands_are_none() {
        for command in [
            "",
            "   ",
            "scp a b",
            "rsync -a x y",
            "ls",
            "cat scp -t",
            "scp -t x; ls",
            "scp -t $(id)",
            "scp -t 'x",
            "sudo",
        ] {
            assert_eq!(told(command), None, "{command}");
        }
        assert_eq!(Program::of_subsystem(b"sftp"), Some(Program::Sftp));
        assert_eq!(Program::of_subsystem(b"netconf"), None);
    }

    #[test]
    fn each_needs_the_right_of_its_direction() {
        let needed = |command: &[u8]| Program::of_exec(command).unwrap().needed();
        assert_eq!(needed(b"scp -t x"), TransferRights { upload: true, download: false });
        assert_eq!(needed(b"rsync --server --sender . x"), TransferRights { upload: false, download: true });
        assert_eq!(Program::Sftp.needed(), TransferRights::NONE);
    }

    proptest! {
        #[test]
        fn no_command_panics(command in proptest::collection::vec(any::<u8>(), 0..60)) {
            drop(Program::of_exec(&command));
        }
    }
}
