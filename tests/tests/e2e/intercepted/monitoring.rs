//! The alert rules and the dashboard of `appliance-image/monitoring`, with Debian's Prometheus: promtool takes them,
//! rules fire when they should, and a server that scrapes a gateway raises what the gateway's faults are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{GATEWAY4, METRICS_PORT};
use portreeve_tests::{Companion, Options, Testbed, run};
use serde_json::Value;

use super::Check;
use crate::beds::{Beds, own};
use crate::ssh::LIMIT;

pub(super) const CHECKS: &[Check] = &[
    Check::new("the_alert_rules_fire_when_they_should", rules),
    Check::new("the_dashboard_asks_what_prometheus_takes", dashboard),
    Check::new("a_prometheus_that_scrapes_a_gateway_raises_its_faults", live),
];

/// Where Prometheus answers, in the client's namespace.
const SERVER: &str = "127.0.0.1:9090";

fn file(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../appliance-image/monitoring")).join(name)
}

fn promtool(words: &[&str], path: &Path) -> Result<String> {
    let mut command = Command::new("promtool");
    run(command.args(words).arg(path), b"", LIMIT * 3)?.success()
}

fn rules(_: &Beds) -> Result<()> {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &file("portreeve.rules.yml"))?;
    let cases = file("portreeve.rules.test.yml");
    promtool(&["test", "rules"], &cases)?;
    // A rule without a case in which it fires could be one that never does.
    let (rules, cases) = (fs::read_to_string(file("portreeve.rules.yml"))?, fs::read_to_string(cases)?);
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        ensure!(cases.contains(&format!("alertname=\"{name}\"")), "no case of {name}");
    }
    Ok(())
}

/// Promtool reads expressions in files of rules alone; what Grafana fills in is filled in.
fn dashboard(_: &Beds) -> Result<()> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file("portreeve-dashboard.json"))?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let mut ids: Vec<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == panels.len() && !ids.contains(&None), "panels without an id of their own");
    let mut rules = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().filter(|targets| !targets.is_empty());
        for target in targets.with_context(|| format!("{} asks nothing", panel["title"]))? {
            ensure!(
                target["datasource"]["uid"] == "${datasource}",
                "{}: another data source",
                panel["title"]
            );
            let expression = target["expr"].as_str().context("no expression")?;
            let expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
            ensure!(!expression.contains('$'), "{expression}");
            rules.push(serde_json::json!({ "record": format!("r{}", rules.len()), "expr": expression }));
        }
    }
    ensure!(rules.len() > 30, "{} expressions", rules.len());
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("rules.yml");
    // YAML is a superset of JSON.
    let groups = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(&path, groups.to_string())?;
    promtool(&["check", "rules"], &path).map(drop)
}

fn live(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    let _server = start(&bed)?;
    until("a scraped gateway", LIMIT, || {
        let Ok(targets) = ask(&bed, "targets") else { return Ok(None) };
        let target = &targets["data"]["activeTargets"][0];
        Ok((target["health"] == "up").then_some(()))
    })?;
    until("rules that were looked at", LIMIT, || {
        Ok((value(&bed, "portreeve_ready")? == Some("1".to_owned())).then_some(()))
    })?;
    ensure!(firing(&bed)?.is_empty(), "{:?}", firing(&bed)?);

    bed.gateway()?.files().write_policy("targets = 1")?;
    await_alert(&bed, "PortreevePolicyRejected")?;
    ensure!(firing(&bed)? == ["PortreevePolicyRejected"], "{:?}", firing(&bed)?);
    bed.gateway_mut()?.stop()?;
    await_alert(&bed, "PortreeveDown")
}

/// A Prometheus with the project's rules, and a scrape a second.
fn start(bed: &Testbed) -> Result<Companion> {
    let directory = bed.dir().join("prometheus");
    fs::create_dir(&directory)?;
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{:?}]\nscrape_configs:\n  \
         - job_name: portreeve\n    static_configs: [{{ targets: [\"{GATEWAY4}:{METRICS_PORT}\"] }}]\n",
        file("portreeve.rules.yml").canonicalize()?
    );
    let path = directory.join("prometheus.yml");
    fs::write(&path, config)?;
    promtool(&["check", "config"], &path)?;
    let log = File::create(directory.join("log"))?;
    let mut command = bed.client_netns().command("prometheus");
    command.arg(format!("--config.file={}", path.display()));
    command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
    command.arg(format!("--web.listen-address={SERVER}"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Companion::spawn(&mut command)
}

fn ask(bed: &Testbed, what: &str) -> Result<Value> {
    let mut command = bed.client_netns().command("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "5"]);
    let answer = run(command.arg(format!("http://{SERVER}/api/v1/{what}")), b"", LIMIT)?.success()?;
    Ok(serde_json::from_str(&answer)?)
}

/// The value of a metric of the gateway, once it was scraped.
fn value(bed: &Testbed, metric: &str) -> Result<Option<String>> {
    let answer = ask(bed, &format!("query?query={metric}"))?;
    Ok(answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned))
}

/// Names of the alerts that fire.
fn firing(bed: &Testbed) -> Result<Vec<String>> {
    let answer = ask(bed, "alerts")?;
    let alerts = answer["data"]["alerts"].as_array().context("no alerts")?;
    let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
    Ok(firing.filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned)).collect())
}

fn await_alert(bed: &Testbed, name: &str) -> Result<()> {
    let found = until(name, LIMIT * 3, || Ok(firing(bed)?.contains(&name.to_owned()).then_some(())));
    found.with_context(|| format!("alerts: {:?}", ask(bed, "alerts")))
}
