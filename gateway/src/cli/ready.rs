//! `portreeve ready`: one line that a boot, a deployment or a test waits for.
//!
//! Asserts what it says: the numbers are those of the programs that the kernel runs on each configured interface, and
//! the gateway in charge has answered. Changes nothing.

mod image;

use std::process::ExitCode;
use std::time::Duration;

use portreeve_core::config::daemon::Config;
use portreeve_core::config::duration;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use self::image::Image;
use super::{ConfigArg, print, runtime};
use crate::app::{Request, Standing};
use crate::control::Peer;
use crate::datapath::{self, AttachedProgram};
use crate::telemetry::with_causes;

/// Between two looks, and the longest that the gateway may take for its answer.
const PAUSE: Duration = Duration::from_millis(200);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

const NOT_READY: u8 = 3;

/// Arguments of `portreeve ready`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints one line, and ends with status 0:
  portreeve-ready: version=0.1.0 slot=- interfaces=lan0:tcx:34,wan0:tcx:34 serving=yes
An interface stands there with each program that the kernel runs on it, how it is attached (tcx, clsact, xdp-native,
xdp-generic) and its number. On the appliance the version is the image's, and the slot is the half of the disk that
it was started from. With status 3:
  portreeve-not-ready: REASON
Needs CAP_NET_ADMIN and CAP_BPF, as `portreeve datapath status` does.")]
pub(super) struct ReadyArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Wait until it is ready, at most so long, as \"30s\" or \"2m\"
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    wait: Option<Duration>,
}

#[derive(Serialize)]
struct Report {
    ready: bool,
    #[serde(flatten)]
    image: Image,
    programs: Vec<AttachedProgram>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl ReadyArgs {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let image = Image::of_this_machine();
        let looked = match self.config.load() {
            Ok(config) => runtime()?.block_on(wait(&config, self.wait.unwrap_or_default())),
            Err(error) => Err(format!("{error:#}")),
        };
        let code = if looked.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(NOT_READY) };
        if json {
            let (ready, reason) = (looked.is_ok(), looked.as_ref().err().cloned());
            print::json(&Report { ready, image, programs: looked.unwrap_or_default(), reason })?;
        } else {
            print::line(&line(&image, &looked))?;
        }
        Ok(code)
    }
}

/// Looks again and again until all is there; the programs, or why the last look did not find it so.
async fn wait(config: &Config, limit: Duration) -> Result<Vec<AttachedProgram>, String> {
    let end = Instant::now() + limit;
    loop {
        match look(config).await {
            Err(_) if Instant::now() < end => sleep(PAUSE).await,
            looked => return looked,
        }
    }
}

async fn look(config: &Config) -> Result<Vec<AttachedProgram>, String> {
    if !serves(config).await? {
        return Err("the gateway does not steer every configured interface (see its log)".to_owned());
    }
    let status = datapath::status(&config.datapath).map_err(|error| with_causes(&error))?;
    let status = status.ok_or("nothing is attached: targets are open")?;
    if !status.not_attached.is_empty() {
        return Err(format!("not attached to {}", status.not_attached.join(", ")));
    }
    Ok(status.programs)
}

async fn serves(config: &Config) -> Result<bool, String> {
    let peer = Peer::connect(&config.state_dir).await.map_err(|error| with_causes(&error))?;
    let mut peer = peer.ok_or("no gateway runs")?;
    let answer = timeout(ANSWER_LIMIT, async {
        peer.send(&Request::Standing).await?;
        peer.receive::<Standing>().await
    });
    match answer.await {
        Ok(Ok(Some(standing))) => Ok(standing.serves),
        Ok(Ok(None) | Err(_)) | Err(_) => Err("the gateway that runs does not answer".to_owned()),
    }
}

/// The line; a reason of several lines becomes one.
fn line(image: &Image, looked: &Result<Vec<AttachedProgram>, String>) -> String {
    match looked {
        Ok(programs) => {
            let programs: Vec<String> = programs
                .iter()
                .map(|program| format!("{}:{}:{}", program.interface, program.mode, program.program_id))
                .collect();
            format!(
                "portreeve-ready: version={} slot={} interfaces={} serving=yes",
                image.version,
                image.slot,
                programs.join(",")
            )
        }
        Err(reason) => format!("portreeve-not-ready: {}", reason.lines().collect::<Vec<_>>().join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_becomes_one_line() {
        let image = Image { version: "1.2.3".into(), slot: "A" };
        let program = |interface: &str, mode, program_id| AttachedProgram {
            interface: interface.into(),
            mode,
            program_id,
        };
        let found = vec![
            program("lan0", "tcx", 34),
            program("lan0", "xdp-native", 40),
            program("wan0.7", "clsact", 35),
        ];
        assert_eq!(
            line(&image, &Ok(found)),
            "portreeve-ready: version=1.2.3 slot=A interfaces=lan0:tcx:34,lan0:xdp-native:40,wan0.7:clsact:35 serving=yes"
        );
        let reason = "portreeve.toml:1: a\nportreeve.toml:2: b".to_owned();
        assert_eq!(
            line(&image, &Err(reason)),
            "portreeve-not-ready: portreeve.toml:1: a; portreeve.toml:2: b"
        );
    }
}
