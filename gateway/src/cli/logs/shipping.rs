//! `portreeve logs shipping`: what each destination has yet to confirm, and what it refuses.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use portreeve_core::utc::UtcTime;
use serde_json::json;

use super::Console;
use crate::cli::load_config;
use crate::cli::print::without_controls;
use crate::ship::{DestinationReport, report};

/// Arguments of `shipping`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run on the gateway, as its user or root. It looks into the spool, asks no destination and changes nothing.

Examples:
  portreeve logs shipping
  portreeve logs shipping --json | jq 'select(.aside != [])'")]
pub struct ShippingArgs {
    /// The daemon's configuration file, which names the spool and the destinations
    #[arg(long, value_name = "FILE", default_value = "/etc/portreeve/portreeve.toml")]
    config: PathBuf,
}

pub(super) fn shipping(args: &ShippingArgs, console: &mut Console<'_>) -> anyhow::Result<ExitCode> {
    let config = load_config(&args.config)?;
    let spool = &config.recording.spool_dir;
    let reports = report(spool, &config.ship);
    let reports = reports.with_context(|| format!("cannot read the spool {}", spool.display()))?;
    if reports.is_empty() && !console.json {
        writeln!(
            console.out,
            "{} has no [[ship]]: recordings stay in {}",
            args.config.display(),
            spool.display()
        )?;
    }
    for report in &reports {
        let line = if console.json { machine(report) } else { person(report) };
        writeln!(console.out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn machine(report: &DestinationReport) -> String {
    let DestinationReport { name, kind, required, pending, aside, status } = report;
    let aside = aside.iter().map(|(item, aside)| {
        let retry_at = UtcTime::from_unix_seconds(aside.retry_at).to_string();
        json!({
            "item": item.to_string(), "time": aside.time, "times": aside.times, "retry_at": retry_at, "reason": aside.reason,
        })
    });
    let line = json!({
        "destination": name,
        "kind": kind,
        "required": required,
        "sessions": pending.sessions,
        "files": pending.files,
        "heads": pending.heads,
        "bytes": pending.bytes,
        "oldest": pending.oldest.map(|oldest| oldest.to_string()),
        "last_confirmed": status.as_ref().and_then(|status| status.last_confirmed.as_ref()),
        "last_error": status.as_ref().and_then(|status| status.last_error.as_ref()),
        "status_time": status.as_ref().map(|status| &status.time),
        "aside": aside.collect::<Vec<_>>(),
    });
    without_controls(&line.to_string())
}

fn person(report: &DestinationReport) -> String {
    let DestinationReport { name, kind, required, pending, aside, status } = report;
    let required = if *required { "" } else { ", not required" };
    let mut lines = vec![format!("{name} ({kind}{required})")];
    let oldest = pending.oldest.map_or_else(String::new, |oldest| format!(", the oldest of {oldest}"));
    lines.push(format!(
        "  waiting    {} sessions, {} files of running ones, {} heads: {} bytes{oldest}",
        pending.sessions, pending.files, pending.heads, pending.bytes
    ));
    match status {
        None => lines.push("  shipping   has never run".to_owned()),
        Some(status) => {
            let confirmed =
                status.last_confirmed.as_deref().unwrap_or("nothing since the gateway was started");
            lines.push(format!("  confirmed  {confirmed}"));
            lines.extend(status.last_error.as_ref().map(|error| format!("  failing    {error}")));
            lines.push(format!("  as of      {}", status.time));
        }
    }
    for (item, aside) in aside {
        let (times, retry_at) = (aside.times, UtcTime::from_unix_seconds(aside.retry_at));
        let reason = &aside.reason;
        lines.push(format!(
            "  aside      {item}: {reason} (set aside {times} times, tried again at {retry_at})"
        ));
    }
    lines.iter().map(|line| without_controls(line)).collect::<Vec<_>>().join("\n")
}
