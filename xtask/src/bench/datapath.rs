//! `cargo xtask bench datapath`: what the kernel programs cost.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{build, setup, workspace};

/// Arguments of `cargo xtask bench datapath`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Fewer runs: under a minute once everything is built.
    #[arg(long)]
    quick: bool,
    /// Numbers of targets, in growing order.
    #[arg(long, value_delimiter = ',', default_value = "0,10000,1000000")]
    sizes: Vec<u32>,
    /// Measure with an unoptimised build: only the times of `apply` differ.
    #[arg(long)]
    unoptimised: bool,
}

/// A figure, by what it measures and the number of targets.
type Figures = BTreeMap<(String, u32), f64>;

/// Measures and prints.
///
/// # Errors
/// When something cannot be built, started or measured.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(setup::plan::Needs::TESTBED)?;
    build::gateway(&build::Args { release: !args.unoptimised, ..build::Args::default() })?;
    let bench_object = build::bench_programs()?;
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--package", "portreeve-tests", "--example", "datapath-cost"]);
    if !args.unoptimised {
        cargo.arg("--release");
    }
    workspace::require(&mut cargo)?;
    let profile = if args.unoptimised { "debug" } else { "release" };
    let program = workspace::target_dir().join(profile).join("examples/datapath-cost");
    let extent = if args.quick { ["5", "100000", "100000"] } else { ["9", "200000", "500000"] };
    let mut command = Command::new(program);
    command.arg(workspace::root().join("target/portreeve-datapath.o")).arg(bench_object).args(extent);
    command.args(args.sizes.iter().map(u32::to_string)).stderr(Stdio::inherit());
    let output = command.output().context("datapath-cost")?;
    ensure!(output.status.success(), "datapath-cost: {}", output.status);
    let figures = read(&String::from_utf8(output.stdout)?)?;
    println!("{}", table(&figures, &args.sizes));
    println!("{}", aims(&figures, &args.sizes));
    Ok(ExitCode::SUCCESS)
}

fn read(text: &str) -> Result<Figures> {
    text.lines()
        .map(|line| {
            let figure: Value = serde_json::from_str(line)?;
            let what = figure["what"].as_str().context("what")?.to_owned();
            let size = u32::try_from(figure["size"].as_u64().context("size")?)?;
            Ok(((what, size), figure["value"].as_f64().context("value")?))
        })
        .collect()
}

/// A Markdown table: a line for what was measured, a column for each number of targets.
fn table(figures: &Figures, sizes: &[u32]) -> String {
    let mut lines = vec![format!("| ns | {} |", join(sizes.iter().map(|size| format!("{size} targets"))))];
    lines.push(format!("|---|{}", "---:|".repeat(sizes.len())));
    let mut names: Vec<_> = figures.keys().map(|(what, _)| what).collect();
    names.dedup();
    for what in names {
        let cells = sizes.iter().map(|size| {
            figures.get(&(what.clone(), *size)).map_or_else(String::new, |value| format!("{value:.0}"))
        });
        lines.push(format!("| {what} | {} |", join(cells)));
    }
    lines.join("\n")
}

fn join(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(" | ")
}

/// The aims and what came of them, as a Markdown table.
fn aims(figures: &Figures, sizes: &[u32]) -> String {
    let figure = |what: &str, size: u32| figures.get(&(what.to_owned(), size)).copied();
    let worst = |prefix: &str, suffix: &str| {
        let of = figures.iter().filter(|((what, _), _)| what.starts_with(prefix) && what.ends_with(suffix));
        of.map(|(_, value)| *value).reduce(f64::max)
    };
    // What the way costs behind the generator and the reception, which all ways share.
    let net = |what: &str, size: u32| Some(figure(what, size)? - figure("sent and dropped at once", 0)?);
    let most = sizes.last().copied().unwrap_or(0);
    let ratio = |over: Option<f64>, under: Option<f64>| Some(over? / under?);
    let xdp = "forwarded by xdp";
    let tc_others = ["other port, hot", "other port, random", "UDP, hot", "UDP, random"];
    let tc = tc_others.iter().filter_map(|kind| worst("tc: ", kind)).reduce(f64::max);
    let rows = [
        ("XDP classifies a non-target packet, hot, worst size", worst("xdp classifies", "hot"), 35.0),
        ("XDP classifies a non-target packet, random, worst size", worst("xdp classifies", "random"), 35.0),
        (
            "forwarding by XDP, of the kernel's CPU",
            ratio(net(xdp, 0), net("forwarded by the kernel", 0)),
            0.35,
        ),
        ("forwarding with the most targets, of none", ratio(net(xdp, most), net(xdp, 0)), 1.05),
        ("TC on non-target traffic, worst", tc, 60.0),
        ("loading the most targets, s", figure("apply, ms", most).map(|ms| ms / 1e3), 2.0),
    ];
    let mut lines = vec!["| aim | at most | found | |".to_owned(), "|---|---:|---:|---|".to_owned()];
    for (name, found, bound) in rows {
        let Some(found) = found else { continue };
        let verdict = if found <= bound { "met" } else { "MISSED" };
        lines.push(format!("| {name} | {bound} | {found:.2} | {verdict} |"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_become_a_table_and_verdicts() {
        let line = |what: &str, size: u32, value: f64| {
            format!("{{\"what\":\"{what}\",\"size\":{size},\"value\":{value}}}")
        };
        let text = [
            line("sent and dropped at once", 0, 100.0),
            line("forwarded by the kernel", 0, 1100.0),
            line("forwarded by xdp", 0, 400.0),
            line("forwarded by xdp", 9, 420.0),
            line("xdp classifies: TCP, hot", 9, 36.0),
        ];
        let figures = read(&text.join("\n")).unwrap();
        assert!(table(&figures, &[0, 9]).contains("| forwarded by xdp | 400 | 420 |"));
        let aims = aims(&figures, &[0, 9]);
        assert!(aims.contains("of the kernel's CPU | 0.35 | 0.30 | met |"), "{aims}");
        assert!(aims.contains("of none | 1.05 | 1.07 | MISSED |"), "{aims}");
        assert!(aims.contains("hot, worst size | 35 | 36.00 | MISSED |"), "{aims}");
        assert!(!aims.contains("TC on"), "nothing was measured");
    }
}
