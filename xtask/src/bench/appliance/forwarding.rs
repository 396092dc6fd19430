//! What is no target's and only crosses the machine: a stream of TCP, and small packets of UDP, by iperf3.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{OPEN4, at};
use portreeve_tests::{Companion, run};
use serde_json::Value;

use super::figures::{Figures, Measure};
use super::machine::{Router, Way};

const PORT: u16 = 5201;
/// How long anything beside the flow may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Payload of a small packet in bytes.
const SMALL: &str = "64";
/// Offered in bits of payload a second: 100,000 packets, more than the machine forwards.
const OFFERED: &str = "51200000";

/// Measures each kind of flow `rounds` times, for `length`.
///
/// # Errors
/// When a flow does not come about.
pub(super) fn measure(
    router: &mut Router,
    way: Way,
    rounds: usize,
    length: Duration,
    figures: &mut Figures,
) -> Result<()> {
    let mut command = router.bed.topology().server.command("iperf3");
    command.args(["--server", "--bind", &OPEN4.to_string(), "--port", &PORT.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Companion::spawn(&mut command).context("Debian package iperf3")?;
    let client = router.bed.topology().client.clone();
    until("iperf3's server", LIMIT, || Ok(client.connect(at(OPEN4, PORT)).ok()))?;
    for _ in 0..rounds {
        let before = router.ticks()?;
        let stream = flow(router, length, &[])?;
        let (busy, _) = router.ticks()?.busy_since(before);
        figures.sample(Measure::Forwarded, way, bits(&stream)? / 1e6);
        figures.sample(Measure::ForwardedBusy, way, busy);
        let before = router.ticks()?;
        let packets = flow(router, length, &["--udp", "--length", SMALL, "--bitrate", OFFERED])?;
        let (busy, interrupts) = router.ticks()?.busy_since(before);
        figures.sample(Measure::Packets, way, arrived(&packets)? / 1e3);
        figures.sample(Measure::PacketsBusy, way, busy);
        figures.sample(Measure::PacketsInterrupts, way, interrupts);
    }
    Ok(())
}

/// What iperf3 says of a flow from client to server.
fn flow(router: &Router, length: Duration, kind: &[&str]) -> Result<Value> {
    let mut command = router.bed.topology().client.command("iperf3");
    command.args(["--client", &OPEN4.to_string(), "--port", &PORT.to_string(), "--json"]);
    command.args(["--time", &length.as_secs().to_string()]).args(kind);
    let finished = run(&mut command, b"", LIMIT + length)?;
    let said = finished.out();
    finished.success()?;
    serde_json::from_str(&said).context("iperf3")
}

/// Bits a second that the other end got.
fn bits(said: &Value) -> Result<f64> {
    said["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 received nothing")
}

/// Packets a second that the other end got.
fn arrived(said: &Value) -> Result<f64> {
    let sum = &said["end"]["sum"];
    let figure = |name: &str| sum[name].as_f64().with_context(|| format!("iperf3 tells no {name}"));
    Ok((figure("packets")? - figure("lost_packets")?) / figure("seconds")?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_arrived_counts_and_not_what_was_sent() {
        let said = json!({ "end": {
            "sum_sent": { "bits_per_second": 9e6 }, "sum_received": { "bits_per_second": 8e6 },
            "sum": { "packets": 1000, "lost_packets": 400, "seconds": 3.0 },
        }});
        assert_eq!((bits(&said).unwrap(), arrived(&said).unwrap()), (8e6, 200.0));
        assert!(bits(&json!({ "error": "no route" })).is_err());
    }
}
