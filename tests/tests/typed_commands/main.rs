//! Typed commands, measured: real shells and programs on real terminals, a typist with a keyboard, and what the
//! shells themselves say was typed. Needs the programs that `cargo xtask setup` installs, and no root.

#![expect(clippy::print_stdout, reason = "what it measures is what this test is for")]

mod kept;
mod programs;
mod score;
mod sitting;
mod typist;

use std::path::PathBuf;
use std::thread;

use programs::Recorded;
use score::{Read, Score, read, score};

type Sitter = (&'static str, fn(&std::path::Path) -> Recorded);

const SITTERS: &[Sitter] = &[
    ("bash", |at| programs::bash(at, "\\\\s-\\\\v\\\\$ ", (80, 24), 1)),
    ("bash-coloured", |at| {
        programs::bash(at, "\\\\[\\\\e[32m\\\\]\\\\u@\\\\h\\\\[\\\\e[0m\\\\]:\\\\w\\\\$ ", (90, 30), 2)
    }),
    ("bash-two-lines", |at| programs::bash(at, "\\\\w at \\\\t\\\\n❯ ", (61, 17), 3)),
    ("zsh", |at| programs::zsh(at, "%m%# ", "", 4)),
    ("zsh-right", |at| programs::zsh(at, "%F{green}%n@%m%f:%~%# ", "%F{blue}[%D{%H}]%f", 5)),
    ("fish", |at| programs::fish(at, 6)),
    ("fish-again", |at| programs::fish(at, 8)),
    ("dash", |at| programs::dash(at, 7)),
    ("python", |at| programs::python(at, 9)),
    ("mysql", |at| programs::mysql(at, 10)),
    ("vim", |at| programs::drawn("vim", at, 11)),
    ("htop", |at| programs::drawn("htop", at, 12)),
    ("tmux", |at| programs::drawn("tmux", at, 13)),
    ("less", |at| programs::drawn("less", at, 14)),
];

#[test]
fn typed_commands_are_found_in_what_real_programs_do() {
    let only = std::env::var("TYPED_COMMANDS").ok();
    let chosen = SITTERS.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| name.starts_with(only)));
    let sittings: Vec<_> =
        chosen.map(|(name, sit)| (name, thread::spawn(move || sit_in(name, *sit)))).collect();
    let recorded: Vec<_> = sittings.into_iter().map(|(name, sitting)| (name, sitting.join())).collect();
    let recorded = recorded.into_iter().map(|(name, recorded)| {
        (name.to_string(), recorded.unwrap_or_else(|_| panic!("the sitting {name} failed")))
    });
    let all = judge(recorded.collect());
    if only.is_none() {
        assert!(all.truth >= 300, "{all:?}");
    }
}

#[test]
fn kept_sittings_are_read_as_they_were() {
    let directory = std::env::var("TYPED_COMMANDS_FROM");
    let directory = directory
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/typed-commands").to_owned());
    let mut sittings = Vec::new();
    for entry in std::fs::read_dir(directory).expect("there are sittings") {
        let path = entry.expect("a file").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let text = std::fs::read_to_string(&path).expect("a text");
            sittings.push((name.clone(), kept::from_text(&name, &text)));
        }
    }
    sittings.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!sittings.is_empty());
    judge(sittings);
}

/// Reads and compares; prints a table.
fn judge(sittings: Vec<(String, Recorded)>) -> Score {
    let mut all = Score::default();
    let (mut table, mut leaks) = (String::new(), Vec::new());
    for (name, recorded) in sittings {
        let found = read(&recorded.stream, usize::MAX);
        for cut in [1, 7] {
            assert_eq!(read(&recorded.stream, cut).commands, found.commands, "{name} in pieces of {cut}");
        }
        let (line, mistakes) = score(&recorded, &found);
        mistakes.iter().for_each(|mistake| println!("{mistake}"));
        let kept = check_input(&recorded, &found, &mut leaks);
        all = all.plus(line);
        table += &format!(
            "{name:<16}{:>6}{:>7}{:>7}{:>10.4}{:>11.4}{kept:>8.3}\n",
            line.truth,
            line.found,
            line.right,
            line.recall(),
            line.precision()
        );
    }
    println!("sitting          typed  found  right    recall  precision   input\n{table}");
    println!("all: {} typed, recall {:.4}, precision {:.4}", all.truth, all.recall(), all.precision());
    assert!(all.recall() >= 0.98 && all.precision() >= 0.98, "{all:?}");
    assert!(leaks.is_empty(), "{leaks:?}");
    all
}

/// Adds the secrets that are not left out to `leaks`; the share of the input that is kept.
fn check_input(recorded: &Recorded, read: &Read, leaks: &mut Vec<String>) -> f64 {
    let sent: usize = recorded
        .stream
        .iter()
        .map(|(_, piece)| match piece {
            sitting::Piece::Client(bytes) => bytes.len(),
            sitting::Piece::Target(_) | sitting::Piece::Window(..) => 0,
        })
        .sum();
    let input = String::from_utf8_lossy(&read.input);
    for secret in &recorded.secrets {
        if input.contains(&secret[..6]) || read.omitted < recorded.secrets.len() {
            leaks.push(format!("{}: {secret}", recorded.program));
        }
    }
    let secrets: usize = recorded.secrets.iter().map(|secret| secret.len() + 1).sum();
    read.input.len() as f64 / (sent - secrets) as f64
}

fn sit_in(name: &str, sit: fn(&std::path::Path) -> Recorded) -> Recorded {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("typed-commands/{name}"));
    if directory.exists() {
        std::fs::remove_dir_all(&directory).expect("the last run's files go");
    }
    std::fs::create_dir_all(&directory).expect("a directory for the sitting");
    let recorded = sit(&directory);
    std::fs::write(directory.with_extension("txt"), kept::to_text(&recorded)).expect("the stream is kept");
    recorded
}
