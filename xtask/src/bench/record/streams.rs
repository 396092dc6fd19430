//! One session at a time: bulk each way, and a terminal that is flooded.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::bulk::{await_go, exchange};
use super::figures::{Figures, Unit};
use super::loss::{Expected, missing};
use super::scene::{Cores, NOISE, Scene, Way};

/// What moves.
struct Stream {
    name: &'static str,
    options: &'static [&'static str],
    /// What the target runs after it has said `go`.
    program: String,
    go: &'static str,
    up: usize,
    down: usize,
    ways: &'static [Way],
}

/// Moves each stream once on each way of the scene.
///
/// # Errors
/// When a session does not start or does not get through, or what was recorded is not what was sent.
pub(super) fn measure(
    scene: &Scene,
    cores: Cores,
    (repeats, flood_bytes): (usize, usize),
    figures: &mut Figures,
) -> Result<()> {
    let streams = match cores {
        Cores::Shared => shared(scene, repeats, flood_bytes),
        Cores::Apart => apart(scene, repeats),
    };
    for stream in &streams {
        for way in stream.ways {
            stream
                .measure(scene, *way, figures)
                .with_context(|| format!("{}, {}", stream.name, way.name()))?;
        }
    }
    Ok(())
}

fn shared(scene: &Scene, repeats: usize, flood_bytes: usize) -> Vec<Stream> {
    vec![
        download("download", scene, repeats, &["-T"], &Way::ALL),
        download(
            "download, aes128-gcm",
            scene,
            repeats,
            &["-T", "-o", "Ciphers=aes128-gcm@openssh.com"],
            &Way::MAIN,
        ),
        upload("upload", repeats),
        Stream {
            name: "flood of a terminal",
            options: &["-tt"],
            // `yes` writes two bytes a line, of which the terminal makes three.
            program: format!("yes | head -c {}", flood_bytes / 3 * 2),
            go: "go\r\n",
            up: 0,
            down: flood_bytes / 3 * 3,
            ways: &Way::MAIN,
        },
    ]
}

fn apart(scene: &Scene, repeats: usize) -> Vec<Stream> {
    vec![download("download, apart", scene, repeats, &["-T"], &Way::MAIN), upload("upload, apart", repeats)]
}

fn download(
    name: &'static str,
    scene: &Scene,
    repeats: usize,
    options: &'static [&'static str],
    ways: &'static [Way],
) -> Stream {
    let noise = format!(" {}", scene.files().join("noise").display()).repeat(repeats);
    let program = format!("exec cat{noise}");
    Stream { name, options, program, go: "go\n", up: 0, down: repeats * NOISE, ways }
}

fn upload(name: &'static str, repeats: usize) -> Stream {
    let program = "exec cat > /dev/null".to_owned();
    Stream { name, options: &["-T"], program, go: "go\n", up: repeats * NOISE, down: 0, ways: &Way::MAIN }
}

impl Stream {
    fn measure(&self, scene: &Scene, way: Way, figures: &mut Figures) -> Result<()> {
        let bytes = self.up + self.down;
        let limit = Duration::from_secs(20 + u64::try_from(bytes / 5_000_000)?);
        let (seconds, usage) = scene.watch(way, 1, || {
            let mut command = scene.client(way, "ssh", self.options)?;
            command.arg(format!("echo go; {}", self.program));
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().context("start ssh")?;
            await_go(&mut child, self.go)?;
            let began = Instant::now();
            let whole = exchange(&mut child, scene.noise(), (self.up, self.down), limit)?;
            let seconds = began.elapsed().as_secs_f64();
            child.wait()?;
            ensure!(whole, "not all came through within {limit:?}");
            Ok(seconds)
        })?;
        figures.sample(self.name, Unit::Speed, way, bytes as f64 / 1e6 / seconds);
        let Some(usage) = usage else { return Ok(()) };
        figures.sample(self.name, Unit::CpuPerGigabyte, way, usage.cpu / (bytes as f64 / 1e9));
        figures.sample(self.name, Unit::Peak, way, usage.peak / 1e6);
        if way.records() {
            let session = usage.recordings.first().context("no recording")?;
            let (first, noise) = (self.go.as_bytes(), scene.noise());
            let lines = b"y\r\n".repeat(16 * 1024);
            let repeated = if self.name.starts_with("flood") { &lines } else { noise };
            let down = Expected { first, repeated, bytes: self.down };
            let up = Expected { first: b"", repeated: noise, bytes: self.up };
            let missing =
                missing(scene, way, session, "target", &down)? + missing(scene, way, session, "client", &up)?;
            figures.compared(bytes, missing);
        }
        Ok(())
    }
}
