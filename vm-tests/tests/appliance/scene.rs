//! One machine with its hosts, and an archive to which it ships recordings: a real S3 server on the server's host.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use portreeve_tests::topology::{OPEN4, at};
use portreeve_tests::{Companion, Finished, run};
use portreeve_vm_tests::appliance::Firmware;
use portreeve_vm_tests::bed::Bed;
use portreeve_vm_tests::console::Ready;
use portreeve_vm_tests::image::Image;

/// How long anything but a boot may take, emulated.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

const ARCHIVE_PORT: u16 = 9000;
const BUCKET: &str = "recordings";
const PREFIX: &str = "gateway-1";

pub(crate) struct Scene {
    pub(crate) bed: Bed,
    pub(crate) image: Image,
    /// What the first boot said.
    pub(crate) ready: Ready,
    booted: Duration,
    _archive: Companion,
}

impl Scene {
    /// Boots the image that was built last, without firmware.
    pub(crate) fn start() -> Result<Self> {
        let image = Image::built_last()?;
        let firmware = Firmware::Direct {
            image: image.clone(),
            more: "systemd.journald.forward_to_console=1".to_owned(),
        };
        let mut bed = Bed::new("appliance", firmware, &image.disk(), &seed())?;
        let archive = archive(&bed)?;
        let begun = Instant::now();
        let ready = bed.boot()?;
        Ok(Self { bed, image, ready, booted: begun.elapsed(), _archive: archive })
    }

    /// Runs `ssh ARGS` of the client.
    pub(crate) fn ssh(&self, args: &[&str], stdin: &[u8]) -> Result<Finished> {
        run(self.bed.client_ssh("ssh").args(args), stdin, LIMIT)
    }

    /// Where the archive has the sessions.
    pub(crate) fn archived(&self) -> PathBuf {
        self.bed.dir().join("archive").join(BUCKET).join(PREFIX)
    }

    /// Looks for a text in the output of archived sessions, with the recipient's private key.
    pub(crate) fn search(&self, text: &str) -> Result<String> {
        let files = self.bed.files();
        let key = files.recipient_key();
        files.verb(&["logs", "search", "--in", "output", "--key"], &[&key, text.as_ref(), &self.archived()])
    }

    /// What the archive has said, for who reads why a recording is not there.
    pub(crate) fn archive_log(&self) -> String {
        let found = fs::read_dir(self.archived())
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect());
        let said = fs::read_to_string(self.bed.dir().join("archive.log")).unwrap_or_default();
        format!("the archive has {:?} and said {said}", found.unwrap_or_else(|_| Vec::new()))
    }

    pub(crate) fn figures(&self) -> String {
        format!("appliance: {:.1} s from power-on until it serves", self.booted.as_secs_f64())
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.bed.stop()
    }
}

fn archive(bed: &Bed) -> Result<Companion> {
    let root = bed.dir().join("archive");
    fs::create_dir_all(root.join(BUCKET))?;
    let netns = &bed.topology().server;
    let mut command = netns.command("s3s-fs");
    command.args(["--host", "0.0.0.0", "--port", &ARCHIVE_PORT.to_string()]);
    command.args(["--access-key", "AKEXAMPLE", "--secret-key", "secret"]).arg(&root);
    let log = File::create(bed.dir().join("archive.log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut archive = Companion::spawn(&mut command)?;
    ensure!(archive.is_running()?, "the archive ended");
    Ok(archive)
}

/// What the seed has beside network, keys and policy.
fn seed() -> String {
    format!(
        "[[files]]\nname = \"s3-credentials\"\n\
         text = \"[default]\\naws_access_key_id = AKEXAMPLE\\naws_secret_access_key = secret\\n\"\n\
         [[gateway.ship]]\nname = \"archive\"\nkind = \"s3\"\nendpoint = \"http://{}\"\nallow_http = true\n\
         bucket = \"{BUCKET}\"\nprefix = \"{PREFIX}\"\ncredentials_file = \"/etc/portreeve/s3-credentials\"\n",
        at(OPEN4, ARCHIVE_PORT)
    )
}
