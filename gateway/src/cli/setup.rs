//! `portreeve setup`: a short dialogue on the console that makes a seed, and the machine what it says.
//!
//! The same as a seed on a volume from there on. Invariants: what is typed as a password is neither shown nor kept, only
//! its hash; the private half of a recipient key that is made here is shown once and written nowhere.

mod dialogue;

use std::fs;
use std::io::{self, BufRead as _, stdin, stdout};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use portreeve_core::config::seed;
use sha_crypt::{PasswordHasher as _, ShaCrypt};
use zeroize::Zeroizing;

use self::dialogue::{Dialogue, ask_password};
use super::print;
use crate::ca::sealed::Tpm;
use crate::provision::Provisioning;
use crate::secret_file;

const KEPT: &str = "/etc/portreeve/seed.toml";
const WRITTEN: &str = "/run/portreeve-setup.toml";

/// Arguments of `portreeve setup`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks for names, addresses, targets, users and the recipient's public key, and shows the seed before anything is written.
More than that is for a seed that somebody writes: docs/seed.md.")]
pub(super) struct SetupArgs {
    /// Write the seed to this file, and do nothing else
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl SetupArgs {
    pub(super) fn run(self, _json: bool) -> anyhow::Result<ExitCode> {
        if self.out.is_none() && Path::new(KEPT).exists() {
            bail!(
                "this machine is set up already: edit {KEPT} and restart it, or give another seed to `portreeve provision`"
            );
        }
        let mut dialogue = Dialogue::new(stdin().lock(), stdout().lock(), interfaces(), read_password);
        let text = loop {
            let answers = dialogue.answers()?;
            let text = answers.seed();
            match seed::load(&text, "seed") {
                Err(errors) => dialogue.say(&format!("\nThis cannot be used:\n{errors}\nOnce more.\n"))?,
                Ok(_) if dialogue.agreed(&text)? => break text,
                Ok(_) => {}
            }
        };
        drop(dialogue);
        if let Some(path) = self.out {
            secret_file::write_new(&path, text.as_bytes())?;
            print::line(&format!("the seed is in {}", path.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        let path = PathBuf::from(WRITTEN);
        secret_file::write_new(&path, text.as_bytes())?;
        let made =
            Provisioning { root: "/".into(), seed: Some(path.clone()), tpm: Tpm::of_this_machine() }.run();
        fs::remove_file(&path).with_context(|| format!("cannot remove {WRITTEN}"))?;
        made?;
        print::line("the machine is set up: restart it (systemctl reboot)")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Names of the machine's network cards.
fn interfaces() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let cards = entries.filter(|entry| entry.path().join("device").exists());
    let mut names: Vec<String> =
        cards.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The hash of what is typed, without showing it.
fn read_password(
    input: &mut io::StdinLock<'static>,
    output: &mut io::StdoutLock<'static>,
) -> io::Result<String> {
    let terminal = tcgetattr(stdin().as_fd()).ok();
    if let Some(shown) = &terminal {
        let mut hidden = shown.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(stdin().as_fd(), SetArg::TCSADRAIN, &hidden)?;
    }
    let mut line = Zeroizing::new(String::new());
    let read = ask_password(output).and_then(|()| input.read_line(&mut line));
    if let Some(shown) = &terminal {
        tcsetattr(stdin().as_fd(), SetArg::TCSADRAIN, shown)?;
    }
    if read? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    hash(line.trim_end_matches('\n'))
}

/// By SHA-512 (crypt(5)), which every login program knows.
fn hash(password: &str) -> io::Result<String> {
    if password.chars().count() < 8 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a password has 8 characters at least"));
    }
    let salt = rand::random::<[u8; 12]>();
    let hashed = ShaCrypt::default().hash_password_with_salt(password.as_bytes(), &salt);
    hashed.map(|hashed| hashed.as_str().to_owned()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_becomes_a_hash_that_a_seed_takes() {
        let hashed = hash("correct horse").unwrap();
        assert!(hashed.starts_with("$6$") && !hashed.contains("horse"), "{hashed}");
        assert_ne!(hashed, hash("correct horse").unwrap(), "another salt");
        assert!(hash("short").is_err());
    }
}
