//! The seed of an appliance between the hosts of a testbed: its text, and the volume that carries it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use portreeve_tests::gateway::GatewayFiles;
use portreeve_tests::run;
use portreeve_tests::template;
use portreeve_tests::topology::{GATEWAY_WAN4, GATEWAY_WAN6, GATEWAY4, GATEWAY6, METRICS_PORT};
use toml::{Table, Value};

use crate::disk;

/// How long a program of the host may take.
const LIMIT: Duration = Duration::from_secs(60);
/// The label by which a volume with user data is found (NoCloud).
const LABEL: &str = "CIDATA";
/// The first line of user data that is a seed.
const MARK: &str = "#portreeve-seed";
/// Network cards of the appliance: name inside, and hardware address.
pub const CARDS: [(&str, &str); 2] = [("lan0", "52:54:00:00:01:01"), ("wan0", "52:54:00:00:01:02")];

/// The section of a seed by which an account may log in on the console.
///
/// # Errors
/// When the password cannot be hashed.
pub fn break_glass(account: &str, password: &str) -> Result<String> {
    let hash = run(Command::new("openssl").args(["passwd", "-6", password]), b"", LIMIT)?.success()?;
    Ok(format!("[break_glass]\naccount = \"{account}\"\npassword = \"{}\"\n", hash.trim()))
}

/// The text of a seed: network, keys of the gateway's files, and their policy; `more` is laid over it.
///
/// # Errors
/// When a file cannot be read, or `more` is no TOML.
pub fn text(files: &GatewayFiles, more: &str) -> Result<String> {
    let read = |path: PathBuf| fs::read_to_string(&path).with_context(|| path.display().to_string());
    let recipient = read(files.recipient_key().with_extension("pub"))?;
    let mut seed: Table = format!(
        "hostname = \"appliance\"\nrecipients = [\"{}\"]\n\
         [keys]\nca = '''{}'''\naccount_secret = \"{}\"\n\
         [firewall]\nmetrics_from = [\"{GATEWAY4}/24\"]\n\
         [gateway.datapath]\ninterfaces = [\"{}\", \"{}\"]\n\
         [gateway.metrics]\nlisten = \"{GATEWAY4}:{METRICS_PORT}\"\n",
        recipient.trim(),
        read(files.state_dir().join("ca_key"))?,
        read(files.state_dir().join("account_secret"))?.trim(),
        CARDS[0].0,
        CARDS[1].0
    )
    .parse()?;
    let addresses = [
        [format!("{GATEWAY4}/24"), format!("{GATEWAY6}/64")],
        [format!("{GATEWAY_WAN4}/24"), format!("{GATEWAY_WAN6}/64")],
    ];
    let interfaces = CARDS.iter().zip(addresses).map(|((name, mac), addresses)| {
        Value::Table(Table::from_iter([
            ("name".to_owned(), Value::from(*name)),
            ("mac".to_owned(), Value::from(*mac)),
            ("addresses".to_owned(), Value::from(addresses.to_vec())),
        ]))
    });
    seed.insert("interfaces".to_owned(), Value::Array(interfaces.collect()));
    let policy: Table = template::fill(template::POLICY, &template::addresses())?.parse()?;
    seed.insert("policy".to_owned(), Value::Table(policy));
    template::lay_over(&mut seed, more.parse()?);
    Ok(format!("{MARK}\n{seed}"))
}

/// Writes a seed as a volume that the appliance finds.
///
/// # Errors
/// When it cannot be made.
pub fn volume(text: &str, dir: &Path) -> Result<PathBuf> {
    let (file, meta, volume) = (dir.join("user-data"), dir.join("meta-data"), dir.join("seed.img"));
    fs::write(&file, text)?;
    fs::write(&meta, "instance-id: appliance\n")?;
    disk::volume(&volume, LABEL, &[("user-data", &file), ("meta-data", &meta)])?;
    Ok(volume)
}
