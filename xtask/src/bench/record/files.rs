//! Many small files by sftp.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use portreeve_tests::run;

use super::figures::{Figures, Unit};
use super::scene::{Scene, Way};

const NAME: &str = "small files by sftp";

/// Bytes of the smallest; the others have up to twice as many.
const BYTES: usize = 1000;

/// Gets `files` files on each way.
///
/// # Errors
/// When not all come.
pub(super) fn measure(scene: &Scene, files: usize, figures: &mut Figures) -> Result<()> {
    let originals = scene.files().join("small");
    fs::create_dir(&originals)?;
    for (number, part) in scene.noise().chunks_exact(2 * BYTES).take(files).enumerate() {
        let part = part.get(..BYTES + number % BYTES).unwrap_or(part);
        fs::write(originals.join(format!("file-{number}")), part)?;
    }
    let limit = Duration::from_secs(30 + u64::try_from(files / 10)?);
    for way in Way::MAIN {
        let got = tempfile::tempdir()?;
        let batch = format!("get {}/* {}/\n", originals.display(), got.path().display());
        let (seconds, usage) = scene.watch(way, 1, || {
            let mut command = scene.client(way, "sftp", &["-q", "-b", "-"])?;
            let began = Instant::now();
            run(&mut command, batch.as_bytes(), limit)?.success().context("sftp")?;
            Ok(began.elapsed().as_secs_f64())
        })?;
        let came = fs::read_dir(got.path())?.count();
        ensure!(came == files, "{came} of {files} files came by way of {}", way.name());
        figures.sample(NAME, Unit::FilesPerSecond, way, files as f64 / seconds);
        let Some(usage) = usage else { continue };
        figures.sample(NAME, Unit::CpuPerFile, way, usage.cpu * 1e6 / files as f64);
        figures.sample(NAME, Unit::Peak, way, usage.peak / 1e6);
        if way.records() {
            let session = usage.recordings.first().context("no recording")?;
            let key = scene.bed(way)?.gateway()?.files().recipient_key();
            let mut command = scene.program();
            command.arg("files").arg(key).arg(session).arg(&originals);
            let whole: usize = run(&mut command, b"", limit)?.success()?.trim().parse()?;
            figures.compared(files, files - whole);
        }
    }
    Ok(())
}
