//! Files of recipient keys: making a pair, reading the private half.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use portreeve_core::envelope::RecipientPrivateKey;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::json;
use zeroize::Zeroizing;

use super::Console;

/// Longest private key file that is read; a key has 44 characters.
const MAX_KEY_FILE: u64 = 4096;

/// Arguments of `generate-key-pair`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portreeve logs generate-key-pair recipient

Put recipient.pub on the gateways. Keep recipient away from them: it opens every recording.")]
pub struct GenerateKeyPairArgs {
    /// File of the private key; the public key goes to NAME.pub
    name: PathBuf,
}

pub(super) fn generate_key_pair(
    args: &GenerateKeyPairArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<ExitCode> {
    let private_file = &args.name;
    let mut public_file = private_file.clone().into_os_string();
    public_file.push(".pub");
    let public_file = PathBuf::from(public_file);
    if fs::symlink_metadata(&public_file).is_ok() {
        bail!("{} exists and is not overwritten; choose another name", public_file.display());
    }
    let mut bytes = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(bytes.as_mut()).context("the system gives no random bytes")?;
    let private_key = RecipientPrivateKey::from_bytes(*bytes);
    let public_key = private_key.recipient_key();

    write_new(private_file, private_key.to_base64().as_bytes(), 0o600)?;
    if let Err(error) = write_new(&public_file, public_key.to_string().as_bytes(), 0o644) {
        // Half a pair is of no use, and the first error is the one to tell.
        drop(fs::remove_file(private_file));
        return Err(error);
    }
    if console.json {
        let made = json!({
            "private_key_file": private_file,
            "public_key_file": public_file,
            "recipient_key": public_key.to_string(),
            "id": public_key.id(),
        });
        writeln!(console.out, "{made}")?;
    } else {
        writeln!(
            console.out,
            "private key  {}  (opens recordings: keep it off the gateways)",
            private_file.display()
        )?;
        writeln!(console.out, "public key   {}  (for the gateways: {public_key})", public_file.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a private key file.
pub(super) fn read_private_key(path: &Path) -> anyhow::Result<RecipientPrivateKey> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot read the private key {name}"))?;
    let mode =
        file.metadata().with_context(|| format!("cannot read the private key {name}"))?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!(
            "the private key {name} can be read by others (mode {:04o}); run: chmod 600 {name}",
            mode & 0o7777
        );
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_KEY_FILE)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read the private key {name}"))?;
    text.parse().with_context(|| format!("{name} is not a private key"))
}

fn write_new(path: &Path, text: &[u8], mode: u32) -> anyhow::Result<()> {
    let created = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = match created {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} exists and is not overwritten; choose another name", path.display())
        }
        Err(error) => return Err(error).with_context(|| format!("cannot create {}", path.display())),
    };
    file.write_all(text).with_context(|| format!("cannot write {}", path.display()))
}
