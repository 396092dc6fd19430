//! One machine with its hosts, and an archive to which it ships recordings: a real S3 server on the server's host. Its servers
//! are behind a bond, and users come by its network card or by WireGuard.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::topology::{
    CLIENT4, CLIENT6, GATEWAY_WAN4, GATEWAY_WAN6, GATEWAY4, GATEWAY6, OPEN4, at,
};
use portreeve_tests::{Companion, Finished, run};
use portreeve_vm_tests::appliance::Firmware;
use portreeve_vm_tests::bed::Bed;
use portreeve_vm_tests::console::Ready;
use portreeve_vm_tests::image::Image;
use portreeve_vm_tests::seed::CARDS;

use crate::lane::Machine;
use crate::wireguard::{self, Keys, Tunnel};

/// How long anything but a boot may take, emulated.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

const ARCHIVE_PORT: u16 = 9000;
const BUCKET: &str = "recordings";
const PREFIX: &str = "gateway-1";
/// What the machine makes of its card towards the servers.
const BOND: &str = "bond0";
/// The gateway's interfaces.
pub(crate) const INTERFACES: [&str; 3] = [CARDS[0].0, BOND, wireguard::INTERFACE];

pub(crate) struct Scene {
    pub(crate) bed: Bed,
    pub(crate) image: Image,
    /// What the first boot said.
    pub(crate) ready: Ready,
    /// What was measured, for people.
    pub(crate) figures: Vec<String>,
    /// The client's end of the tunnel.
    pub(crate) tunnel: Tunnel,
    _archive: Companion,
}

impl Machine for Scene {
    /// Boots the image that was built last, without firmware.
    fn start() -> Result<Self> {
        let image = Image::built_last()?;
        let firmware = Firmware::Direct {
            image: image.clone(),
            more: "systemd.journald.forward_to_console=1".to_owned(),
        };
        let keys = Keys::new()?;
        let mut bed = Bed::new("appliance", firmware, &image.disk(), &seed(&keys))?;
        let archive = archive(&bed)?;
        let begun = Instant::now();
        let ready = bed.boot()?;
        let booted = format!("{:.1} s from power-on until it serves", begun.elapsed().as_secs_f64());
        let tunnel = Tunnel::start(&mut bed, keys)?;
        Ok(Self { bed, image, ready, figures: vec![booted], tunnel, _archive: archive })
    }

    fn said(&mut self) -> String {
        self.bed.appliance().map_or_else(|error| error.to_string(), |appliance| appliance.tail())
    }

    #[expect(clippy::print_stdout, reason = "a test program: figures for people are its last output")]
    fn stop(self) -> Result<()> {
        for figure in &self.figures {
            println!("appliance: {figure}");
        }
        self.bed.stop()
    }
}

impl Scene {
    /// Runs `ssh ARGS` of the client.
    pub(crate) fn ssh(&self, args: &[&str], stdin: &[u8]) -> Result<Finished> {
        run(self.bed.client_ssh("ssh").args(args), stdin, LIMIT)
    }

    /// The identity that the machine has told in its last boot.
    pub(crate) fn machine_id(&mut self) -> Result<String> {
        let console = fs::read_to_string(&self.bed.hardware_mut().console)?;
        let (_, told) = console.split_once("portreeve-machine: ").context("the machine told no identity")?;
        let id = told.get(..32).filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        Ok(id.context("an identity of 32 digits")?.to_owned())
    }

    /// Where the archive has the sessions.
    pub(crate) fn archived(&self) -> PathBuf {
        self.bed.dir().join("archive").join(BUCKET).join(PREFIX)
    }

    /// How many sessions the archive has whole: the manifest is what comes last.
    pub(crate) fn archived_whole(&self) -> Result<usize> {
        let sessions = fs::read_dir(self.archived())?.flatten();
        Ok(sessions.filter(|session| session.path().join("manifest.json").exists()).count())
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

/// What the seed has beside keys and policy, in which there is a user more, whom only a device's key tells.
fn seed(keys: &Keys) -> String {
    let [(lan, lan_mac), (wan, wan_mac)] = CARDS;
    let [archive, interfaces] = [at(OPEN4, ARCHIVE_PORT).to_string(), INTERFACES.join("\", \"")];
    format!(
        "[[files]]\nname = \"s3-credentials\"\n\
         text = \"[default]\\naws_access_key_id = AKEXAMPLE\\naws_secret_access_key = secret\\n\"\n\
         [[gateway.ship]]\nname = \"archive\"\nkind = \"s3\"\nendpoint = \"http://{archive}\"\nallow_http = true\n\
         bucket = \"{BUCKET}\"\nprefix = \"{PREFIX}\"\ncredentials_file = \"/etc/portreeve/s3-credentials\"\n\
         [gateway.datapath]\ninterfaces = [\"{interfaces}\"]\n\
         [[policy.identities]]\nemail = \"alice@example.com\"\naddresses = [\"{CLIENT4}/32\", \"{CLIENT6}/128\"]\ngroups = [\"staff\"]\n\
         [[policy.identities]]\nemail = \"bob@example.com\"\n\
         [[interfaces]]\nname = \"{lan}\"\nmac = \"{lan_mac}\"\naddresses = [\"{GATEWAY4}/24\", \"{GATEWAY6}/64\"]\n\
         [[interfaces]]\nname = \"{wan}\"\nmac = \"{wan_mac}\"\n\
         [[interfaces]]\nname = \"{BOND}\"\nbond = {{ ports = [\"{wan}\"], mode = \"active-backup\" }}\n\
         addresses = [\"{GATEWAY_WAN4}/24\", \"{GATEWAY_WAN6}/64\"]\n{}",
        keys.seed()
    )
}
