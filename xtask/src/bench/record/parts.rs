//! What needs no session: the parts of recording alone, a spool of many files, and typed commands.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::figures::Figures;
use crate::workspace;

/// Bytes of a pass over one part, in millions.
const MEGABYTES: &str = "200";

/// Nanoseconds that each part takes for a byte.
///
/// # Errors
/// When they are not measured.
pub(super) fn costs(program: &Path, rounds: usize, figures: &mut Figures) -> Result<()> {
    for line in lines(Command::new(program).args(["parts", &rounds.to_string(), MEGABYTES]))? {
        let samples = line["ns_per_byte"].as_array().context("ns_per_byte")?;
        let samples: Vec<f64> = samples.iter().filter_map(Value::as_f64).collect();
        ensure!(samples.len() == rounds && samples.iter().all(|sample| *sample > 0.0), "{line}");
        figures.part(line["what"].as_str().context("what")?, samples);
    }
    Ok(())
}

/// Seconds until a spool with `files` files is open.
///
/// # Errors
/// When that is not measured.
pub(super) fn recovery(program: &Path, files: usize, figures: &mut Figures) -> Result<()> {
    let directory = tempfile::tempdir_in("/var/tmp")?;
    let mut command = Command::new(program);
    command.arg("recover").arg(directory.path()).arg(files.to_string());
    for line in lines(&mut command)? {
        let what = format!("opening a spool of {files} files, {}", line["what"].as_str().context("what")?);
        figures.single(&what, "s", line["seconds"].as_f64().context("seconds")?, Some((10.0, false)));
    }
    Ok(())
}

/// Recall and precision of typed commands: with real programs and a typist where `typing` is set, else of sittings
/// that were kept.
///
/// # Errors
/// When the test does not run.
pub(super) fn typed_commands(typing: bool, figures: &mut Figures) -> Result<()> {
    let test = if typing { "typed_commands_are_found" } else { "kept_sittings_are_read" };
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--release", "--package", "portreeve-tests", "--test", "typed_commands"]);
    cargo.args(["--", "--nocapture", test]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().context("typed_commands")?;
    let text = String::from_utf8(output.stdout)?;
    let (typed, recall, precision) = scores(&text).with_context(|| format!("no score in {text:?}"))?;
    ensure!(typed > 0.0, "nothing was typed");
    figures.single("typed commands", "", typed, None);
    figures.single("typed commands, recall", "", recall, Some((0.98, true)));
    figures.single("typed commands, precision", "", precision, Some((0.98, true)));
    Ok(())
}

/// The numbers of `all: 331 typed, recall 0.9970, precision 1.0000`.
fn scores(text: &str) -> Option<(f64, f64, f64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("all: "))?;
    let mut numbers = line.split([' ', ',']).filter_map(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next()?, numbers.next()?))
}

fn lines(command: &mut Command) -> Result<Vec<Value>> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("recording-cost")?;
    ensure!(output.status.success(), "recording-cost: {}", output.status);
    let lines = String::from_utf8(output.stdout)?;
    ensure!(!lines.is_empty(), "nothing was measured");
    lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_of_all_sittings_is_read() {
        let text = "sitting typed\nbash 10\n\nall: 331 typed, recall 0.9970, precision 1.0000\n";
        assert_eq!(scores(text), Some((331.0, 0.997, 1.0)));
        assert_eq!(scores("all: none"), None);
    }
}
