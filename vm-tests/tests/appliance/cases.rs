//! What users and operators of a running appliance see.

use std::fs;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{GATEWAY4, METRICS_PORT};
use portreeve_tests::{Companion, Netns, Options, Route, Testbed, run};
use serde_json::Value;

use crate::MachineCase;
use crate::scene::{INTERFACES, LIMIT, Scene};

pub(crate) const CASES: &[MachineCase<Scene>] = &[
    ("says_what_runs_where", says_what_runs_where),
    ("passes_ssh_as_if_it_were_not_there", passes_ssh),
    ("passes_files_whole", passes_files),
    ("tells_the_denied_why", tells_the_denied_why),
    ("is_scraped_by_prometheus", is_scraped),
    ("tells_its_metrics_only_where_the_seed_says", tells_metrics_only_where_allowed),
    ("ships_recordings_that_the_private_key_opens", ships_recordings),
];

/// At either address of the target.
const TARGETS: [&str; 2] = ["alice@10.1.2.3", "alice@fd00:1:2::3"];
/// Commands, and what they read.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["echo hello"], ""),
    (&["echo out; echo err >&2; exit 7"], ""),
    (&["cat; echo end"], "one\ntwo\n"),
    (&["kill -TERM $$"], ""),
    (&["printf '\\000\\377\\r\\n'; seq 1 2000"], ""),
    (&["no-such-command"], ""),
];

fn says_what_runs_where(scene: &mut Scene) -> Result<()> {
    let ready = &scene.ready;
    ensure!(ready.version == scene.image.version(), "{} of image {}", ready.version, scene.image.version());
    for interface in INTERFACES {
        let has =
            ready.programs.iter().any(|program| program.interface == interface && program.mode == "tcx");
        ensure!(has, "{interface} has no program: {ready:?}");
    }
    Ok(())
}

fn passes_ssh(scene: &mut Scene) -> Result<()> {
    let direct = Testbed::start(Route::Direct, &Options::default())?;
    for target in TARGETS {
        for (command, stdin) in COMMANDS {
            let args = [&["-o", "LogLevel=ERROR", target], *command].concat();
            let through = scene.ssh(&args, stdin.as_bytes())?;
            let without = run(direct.client_ssh("ssh").args(&args), stdin.as_bytes(), LIMIT)?;
            let seen =
                |finished: &portreeve_tests::Finished| (finished.ending(), finished.out(), finished.err());
            ensure!(
                seen(&through) == seen(&without),
                "{args:?}: {:?}\nwithout: {:?}",
                seen(&through),
                seen(&without)
            );
        }
    }
    direct.stop()
}

fn passes_files(scene: &mut Scene) -> Result<()> {
    let (sent, back) = (scene.bed.dir().join("sent"), scene.bed.dir().join("back"));
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(|number| number.to_le_bytes()).take(3_000_001).collect();
    fs::write(&sent, &bytes)?;
    let (sent, back) = (sent.display().to_string(), back.display().to_string());
    for args in [[sent.as_str(), "alice@10.1.2.3:file"], ["alice@10.1.2.3:file", back.as_str()]] {
        run(scene.bed.client_ssh("scp").args(["-q"]).args(args), b"", LIMIT)?.success()?;
    }
    ensure!(fs::read(&back)? == bytes, "the file came back otherwise");
    Ok(())
}

fn tells_the_denied_why(scene: &mut Scene) -> Result<()> {
    let denied = scene.ssh(&["deploy@10.1.2.3", "id"], b"")?;
    ensure!(!denied.status.success() && denied.out().is_empty(), "{denied:?}");
    for part in ["deploy", "alice@example.com", "server"] {
        ensure!(denied.err().contains(part), "{part} is not in {}", denied.err());
    }
    Ok(())
}

fn is_scraped(scene: &mut Scene) -> Result<()> {
    let dir = scene.bed.dir().join("prometheus");
    fs::create_dir(&dir)?;
    let config = dir.join("prometheus.yml");
    fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: portreeve\n  \
             static_configs:\n  - targets: ['{GATEWAY4}:{METRICS_PORT}']\n"
        ),
    )?;
    let client = &scene.bed.topology().client;
    let mut command = client.command("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
    command.args(["--web.listen-address=127.0.0.1:9090", "--log.level=warn"]).stdin(Stdio::null());
    let log = dir.join("log");
    command.stdout(Stdio::null()).stderr(fs::File::create(&log)?);
    let prometheus = Companion::spawn(&mut command).context("Debian package prometheus")?;
    let value = |query: &str| -> Result<Option<f64>> {
        let url = format!("http://127.0.0.1:9090/api/v1/query?query={query}");
        let asked = run(client.command("curl").args(["-sf", "-m", "5", &url]), b"", LIMIT)?;
        let answer: Value = serde_json::from_slice(&asked.stdout).unwrap_or_default();
        Ok(answer["data"]["result"][0]["value"][1].as_str().and_then(|text| text.parse().ok()))
    };
    until("a scrape", LIMIT, || Ok(value("up")?.filter(|up| *up >= 1.0)))
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    until(
        "sessions",
        LIMIT,
        || Ok(value("sum(portreeve_connections_total)")?.filter(|count| *count >= 1.0)),
    )?;
    drop(prometheus);
    Ok(())
}

/// The firewall of the machine itself: the seed opens the metrics to the client's network.
fn tells_metrics_only_where_allowed(scene: &mut Scene) -> Result<()> {
    let url = format!("http://{GATEWAY4}:{METRICS_PORT}/livez");
    let topology = scene.bed.topology();
    let asked = |from: &Netns| run(from.command("curl").args(["-sS", "-m", "5", &url]), b"", LIMIT);
    asked(&topology.client)?.success()?;
    let refused = asked(&topology.server)?;
    // curl(1): 28 is "operation timeout".
    ensure!(refused.status.code() == Some(28), "from the server's network: {refused:?}");
    Ok(())
}

fn ships_recordings(scene: &mut Scene) -> Result<()> {
    let said = "a line that only this session has said";
    scene.ssh(&["-q", TARGETS[0], &format!("echo {said}")], b"")?.success()?;
    until("the recording in the archive", LIMIT, || {
        Ok(scene.search(said).ok().filter(|found| found.contains(said)).map(drop))
    })
    .with_context(|| scene.archive_log())
}
