//! `portreeve doctor` on a gateway that is well, and on one with many faults at once.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::{Companion, Options, Testbed, run};
use serde_json::Value;

use super::{Check, policy};
use crate::beds::{Beds, own};
use crate::ssh::LIMIT;

pub(super) const CHECKS: &[Check] = &[
    Check::new("the_doctor_finds_nothing_bad_in_a_gateway_that_is_well", well),
    Check::new("the_doctor_tells_all_faults_at_once_and_what_to_do", faults),
    Check::new("the_doctor_asks_servers_of_events_and_looks_at_their_certificates", servers),
    Check::new("the_doctor_says_where_a_configuration_is_wrong", misspelt),
];

/// What `portreeve doctor` says in the gateway's namespace, and its exit status.
fn doctor(bed: &Testbed, args: &[&str]) -> Result<(Vec<Value>, Option<i32>)> {
    let files = bed.gateway()?.files();
    let mut command = bed.topology().gateway.command(files.binary());
    command.args(["--json", "doctor", "--config"]).arg(files.config_file()).args(args);
    let finished = run(&mut command, b"", LIMIT * 2)?;
    let findings = finished.out().lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
    Ok((findings.with_context(|| finished.err())?, finished.status.code()))
}

fn finding<'f>(findings: &'f [Value], about: &str, grade: &str) -> Result<&'f Value> {
    let found = findings.iter().find(|finding| {
        finding["about"].as_str().is_some_and(|text| text.starts_with(about)) && finding["grade"] == grade
    });
    found.with_context(|| format!("no {grade} finding about {about:?}: {findings:#?}"))
}

fn ensure_says(finding: &Value, texts: &[&str]) -> Result<()> {
    let whole = finding.to_string();
    for text in texts {
        ensure!(whole.contains(text), "{text:?} is not in {whole}");
    }
    Ok(())
}

fn well(_: &Beds) -> Result<()> {
    let bed = own(&Options { policy: Some(policy("\"alice\"", "")), ..Options::default() })?;
    let absent = ["target 10.1.2.5:22", "target 10.1.2.99:22"];
    let (findings, _) = doctor(&bed, &[])?;
    for about in
        ["configuration ", "policy ", "CA key", "account secret", "audit key", "recipients", "kernel"]
    {
        finding(&findings, about, "good")?;
    }
    for about in ["capabilities", "settings of the network", "frames on lan0", "interface wan0", "spool "] {
        finding(&findings, about, "good")?;
    }
    ensure_says(finding(&findings, "steering", "good")?, &["lan0, wan0"])?;
    finding(&findings, "gateway", "good")?;
    finding(&findings, "destinations", "warning")?;
    for target in ["target 10.1.2.3:22", "target [fd00:1:2::3]:22"] {
        ensure_says(finding(&findings, target, "good")?, &["trusts the CA: alice can log in"])?;
    }
    // What the testbed makes refuse and be absent, and the clock of the machine, which is not the testbed's.
    let bad = findings.iter().filter(|finding| finding["grade"] == "bad").filter(|finding| {
        let about = finding["about"].as_str().unwrap_or_default();
        about != "clock" && !absent.contains(&about)
    });
    ensure!(bad.clone().next().is_none(), "{:#?}", bad.collect::<Vec<_>>());
    for about in absent {
        ensure_says(finding(&findings, about, "bad")?, &["firewall"])?;
    }
    Ok(())
}

fn faults(_: &Beds) -> Result<()> {
    const AWAY: &str = "\n[[ship]]\nname = \"away\"\nkind = \"http\"\nurl = \"http://127.0.0.1:9/{path}\"\nallow_http = true\n";
    let mut bed = own(&Options::default())?;
    bed.gateway_mut()?.stop()?;
    let files = bed.gateway()?.files().clone();
    let text = fs::read_to_string(files.config_file())?;
    ensure!(text.contains("reserve = \"0\""), "{text}");
    fs::write(files.config_file(), text.replace("reserve = \"0\"", "reserve = \"1000TiB\"") + AWAY)?;
    // The server was told another CA.
    let others = bed.dir().join("others");
    files.verb(&["ca", "init", "--state-dir"], &[&others])?;
    let key = fs::read_dir(&others)?.filter_map(Result::ok).map(|entry| entry.path());
    for path in key.filter(|path| path.is_file()) {
        let name = path.file_name().context("a file without a name")?;
        fs::copy(&path, files.state_dir().join(name))?;
    }
    fs::remove_file(files.recipient_key().with_extension("pub"))?;
    bed.topology().gateway.enter(|| Ok(fs::write("/proc/sys/net/ipv4/conf/lan0/src_valid_mark", "1")?))?;
    files.verb(&["datapath", "detach", "--config"], &[&files.config_file()])?;

    let (findings, status) = doctor(&bed, &["--login", "alice"])?;
    ensure!(status == Some(3), "exit status {status:?}");
    ensure_says(
        finding(&findings, "settings of the network", "bad")?,
        &["net.ipv4.conf.lan0.src_valid_mark"],
    )?;
    ensure_says(finding(&findings, "steering", "bad")?, &["targets are open", "datapath attach"])?;
    ensure_says(finding(&findings, "recipients", "bad")?, &["recipient.pub"])?;
    ensure_says(finding(&findings, "spool ", "bad")?, &["make room"])?;
    ensure_says(finding(&findings, "gateway", "warning")?, &["does not run", "start it"])?;
    ensure_says(finding(&findings, "destination away", "bad")?, &["spool"])?;
    let distrust = finding(&findings, "target 10.1.2.3:22", "bad")?;
    ensure_says(distrust, &["does not let alice in", "TrustedUserCAKeys"])?;

    let (none, _) = doctor(&bed, &["--targets", "0"])?;
    ensure!(!none.iter().any(|finding| finding["about"] == "target 10.1.2.3:22"), "{none:#?}");
    ensure_says(finding(&none, "targets", "warning")?, &["not looked at", "--targets"])
}

fn servers(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    let (certificate, key) = (bed.dir().join("logs.pem"), bed.dir().join("logs.key"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let wishes = bed.dir().join("logs.cnf");
    let extensions = "subjectAltName = IP:127.0.0.1\nbasicConstraints = critical, CA:FALSE\n";
    fs::write(
        &wishes,
        format!("[req]\ndistinguished_name = name\nx509_extensions = own\n[name]\n[own]\n{extensions}"),
    )?;
    command.args(["-days", "3", "-subj", "/CN=logs", "-config"]).arg(&wishes);
    command.arg("-out").arg(&certificate).arg("-keyout").arg(&key);
    run(&mut command, b"", LIMIT)?.success()?;
    let mut command = bed.topology().gateway.command("openssl");
    command.args(["s_server", "-quiet", "-accept", "127.0.0.1:6514", "-cert"]).arg(&certificate);
    command.arg("-key").arg(&key).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Companion::spawn(&mut command)?;
    until("a server of events", LIMIT, || {
        Ok(bed.topology().gateway.connect("127.0.0.1:6514".parse()?).ok().map(drop))
    })?;
    bed.topology().gateway.enter(|| {
        let mut ip = Command::new("ip");
        run(ip.args(["link", "set", "wan0", "mtu", "1400"]), b"", LIMIT)?.success().map(drop)
    })?;
    let files = bed.gateway()?.files();
    let exports = format!(
        "\n[[access_log.export]]\nkind = \"http\"\nurl = \"http://127.0.0.1:9/in?key=s3cr3t\"\nallow_http = true\n\
         [[alerts.export]]\nkind = \"syslog\"\naddress = \"127.0.0.1:6514\"\nca_file = {certificate:?}\n"
    );
    let text = fs::read_to_string(files.config_file())?;
    fs::write(files.config_file(), text + &exports)?;

    let (findings, status) = doctor(&bed, &["--targets", "0"])?;
    ensure!(status == Some(3), "exit status {status:?}");
    let away = finding(&findings, "export of access events to http 127.0.0.1", "bad")?;
    ensure_says(away, &["lost to it"])?;
    ensure!(!format!("{findings:?}").contains("s3cr3t"), "a secret is shown: {findings:#?}");
    finding(&findings, "export of notices of alerts to syslog 127.0.0.1:6514", "good")?;
    let near = finding(&findings, "certificate of 127.0.0.1:6514", "warning")?;
    ensure_says(near, &["good until", "renew it"])?;
    ensure_says(finding(&findings, "MTU", "warning")?, &["1500 on lan0", "1400 on wan0", "ICMP"])
}

fn misspelt(_: &Beds) -> Result<()> {
    let bed = own(&Options::default())?;
    let files = bed.gateway()?.files();
    let text = fs::read_to_string(files.config_file())?;
    fs::write(files.config_file(), text.replace("policy_file", "polcy_file"))?;
    let (findings, status) = doctor(&bed, &[])?;
    ensure!(status == Some(3) && findings.len() == 1, "{status:?}: {findings:#?}");
    ensure_says(
        finding(&findings, "configuration ", "bad")?,
        &["polcy_file", "policy_file", "portreeve.toml"],
    )
}
