//! A machine that starts only what its owner has signed: its updates, good and broken, and the way back.
//!
//! One machine for all of these, with Secure Boot on. Two versions later than the image that was built last are built of
//! the same packages, and offered on a volume, as docs/operate.md says.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::run;
use portreeve_vm_tests::appliance::Appliance;
use portreeve_vm_tests::bed::Bed;
use portreeve_vm_tests::console::{Missed, Ready};
use portreeve_vm_tests::image::Image;
use portreeve_vm_tests::secure_boot::{self, Keys};
use portreeve_vm_tests::seed::break_glass;
use portreeve_vm_tests::{built, disk, kernels};

use crate::MachineCase;
use crate::hosts::{Prober, Witness};
use crate::lane::Machine;
use crate::scene::LIMIT;

pub(crate) const CASES: &[MachineCase<Trust>] = &[
    ("trust_serves_under_secure_boot_when_it_is_signed", serves_when_signed),
    ("trust_goes_back_by_itself_from_an_update_that_never_serves", goes_back_by_itself),
    ("trust_is_updated_with_all_that_it_keeps", is_updated),
];

pub(crate) const ACCOUNT: &str = "keeper";
const PASSWORD: &str = "open, says the keeper";
/// How often the boot loader tries a new version, and how many of these tries were in vain before.
const TRIES: usize = 3;
const BEFORE: usize = 2;
/// Nobody chooses, and the firmware keeps a core busy while it waits.
const MENU: [&str; 2] = ["timeout 3\n", "timeout 0\n"];
/// How long one start may take, from a reboot to a line about it.
pub(crate) const START: Duration = Duration::from_secs(600);
/// A version whose gateway ends with an error at once. What decides that it does not become ready has less patience than that
/// of a version for people, since nothing will come.
const BROKEN: [(&str, &str); 2] = [
    ("portreeve@.service.d/broken.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/false\n"),
    ("portreeve-boot-deadline.timer.d/soon.conf", "[Timer]\nOnActiveSec=\nOnActiveSec=5s\n"),
];

/// The machine.
pub(crate) struct Trust {
    pub(crate) bed: Bed,
    /// Whether somebody is logged in on the console.
    inside: bool,
    pub(crate) image: Image,
    ready: Ready,
    /// Its disk as it was delivered, and updates. Kept as long as the machine, whose disk is laid over it.
    _own: tempfile::TempDir,
}

impl Machine for Trust {
    fn start() -> Result<Self> {
        let image = Image::built_last()?;
        fs::create_dir_all(kernels::directory())?;
        let own = tempfile::tempdir_in(kernels::directory())?;
        let keys = Keys::new(own.path().join("keys"))?;
        let disk = keys.signed_disk(&image.disk(), own.path().join("signed.raw"))?;
        disk::change_on_boot_partition(&disk, "loader/loader.conf", MENU)?;
        let updates = updates(&image, &keys, own.path())?;
        let mut bed = Bed::new("trust", secure_boot::firmware(), &disk, &break_glass(ACCOUNT, PASSWORD)?)?;
        bed.hardware_mut().volumes = vec![updates];
        bed.hardware_mut().tpm = Some(bed.dir().join("chip"));
        bed.switch_on()?;
        let ready = expected(&mut bed)?;
        Ok(Self { bed, inside: false, image, ready, _own: own })
    }

    fn said(&mut self) -> String {
        self.bed.appliance().map(|appliance| appliance.tail()).unwrap_or_default()
    }

    fn stop(self) -> Result<()> {
        self.bed.stop()
    }
}

impl Trust {
    /// The version of an update: the broken one is the first.
    fn update(&self, number: u8) -> String {
        version(&self.image, number)
    }

    /// Runs a command line of the shell on the machine, logged in.
    pub(crate) fn run(&mut self, line: &str) -> Result<String> {
        self.log_in()?.run(line)?.success().with_context(|| line.to_owned())
    }

    /// The machine, with somebody logged in.
    fn log_in(&mut self) -> Result<&mut Appliance> {
        if !self.inside {
            ensure!(self.bed.appliance()?.log_in(ACCOUNT, PASSWORD)?, "the console lets nobody in");
            self.inside = true;
        }
        self.bed.appliance()
    }

    /// Restarts it in order.
    fn reboot(&mut self) -> Result<()> {
        let restarted = self.log_in()?.reboot();
        self.inside = false;
        restarted
    }

    /// Switches it off in order.
    pub(crate) fn shut_down(&mut self) -> Result<()> {
        self.inside = false;
        self.bed.shut_down()
    }

    /// Takes a version from the volume and installs it.
    fn install(&mut self, version: &str) -> Result<()> {
        self.run("mount -o ro /dev/disk/by-label/UPDATE /mnt")?;
        self.run(&format!("install -D -m 644 -t /var/lib/portreeve-updates /mnt/portreeve_{version}_*"))?;
        self.run("umount /mnt")?;
        self.run("/usr/lib/systemd/systemd-sysupdate update")?;
        Ok(())
    }

    /// Kernel images on the boot partition.
    fn kernels(&mut self) -> Result<Vec<String>> {
        let listed = self.run("ls -1 $(bootctl -p)/EFI/Linux")?;
        Ok(listed.split_whitespace().map(str::to_owned).collect())
    }

    /// What outlives all updates: the machine's identity, the CA, and files of the state directory. A recording is the same
    /// while it is still being closed.
    pub(crate) fn kept(&mut self) -> Result<String> {
        let files =
            "cd /var/lib/portreeve; sha256sum audit_key known_hosts/*; ls -1 spool | sed 's/[.]part$//'";
        self.run(&format!("cat /etc/machine-id; portreeve ca public-key; {files}"))
    }

    /// A session with the host key that the user knows, or of the first sight.
    pub(crate) fn serves(&self) -> Result<()> {
        let mut ssh = self.bed.client_ssh("ssh");
        let told = run(ssh.args(["-q", "alice@10.1.2.3", "echo through"]), b"", LIMIT)?;
        ensure!(told.out() == "through\n", "{told:?}");
        Ok(())
    }

    /// Waits for the line of this version and slot.
    fn expect(&mut self, version: &str, slot: &str) -> Result<()> {
        let ready = expected(&mut self.bed)?;
        ensure!((ready.version.as_str(), ready.slot.as_str()) == (version, slot), "{ready:?}");
        Ok(())
    }
}

/// Waits until the gateway serves.
fn expected(bed: &mut Bed) -> Result<Ready> {
    let appliance = bed.appliance()?;
    appliance.console().wait_for_ready(START).with_context(|| appliance.tail())
}

fn serves_when_signed(trust: &mut Trust) -> Result<()> {
    let Ready { version, slot, .. } = &trust.ready;
    ensure!((version.as_str(), slot.as_str()) == (trust.image.version(), "A"), "{version} in slot {slot}");
    trust.serves()
}

/// Targets are closed all the while to a client that never stops asking, and what is no target is reached.
fn goes_back_by_itself(trust: &mut Trust) -> Result<()> {
    let (first, broken) = (trust.image.version().to_owned(), trust.update(1));
    trust.install(&broken)?;
    // As if the power had gone in the first tries.
    let (new, tried) = (counted(&broken, TRIES, 0), counted(&broken, TRIES - BEFORE, BEFORE));
    trust.run(&format!("cd $(bootctl -p)/EFI/Linux && mv {new} {tried}"))?;
    let topology = trust.bed.topology().clone();
    let (prober, witness) = (Prober::start(&topology.client), Witness::start(&topology.server)?);
    let begun = Instant::now();
    trust.reboot()?;
    let mut failed = 0;
    let back = loop {
        let appliance = trust.bed.appliance()?;
        match appliance.console().wait_for_ready(START) {
            Err(Missed::NotReady(reason))
                if BEFORE + failed < TRIES && reason.contains("in time: rebooting") =>
            {
                failed += 1
            }
            ended => break ended.with_context(|| format!("after {failed} tries: {}", appliance.tail()))?,
        }
    };
    say(&format!("back after {failed} starts in {:.0} s", begun.elapsed().as_secs_f64()));
    prober.stop()?;
    let seen = witness.stop()?;
    ensure!(BEFORE + failed == TRIES, "{failed} starts of a version that is broken");
    ensure!((back.version.as_str(), back.slot.as_str()) == (first.as_str(), "A"), "{back:?}");
    ensure!(seen.to_open > 0 && seen.to_targets == 0, "{seen:?}");
    // What the prober has left fills the bounds of its source for a moment.
    until("a session", LIMIT, || Ok(trust.serves().ok()))?;
    let kernels = trust.kernels()?;
    let wanted = [counted(&broken, 0, TRIES), format!("portreeve_{first}.efi")];
    ensure!(kernels == wanted, "{kernels:?}");
    Ok(())
}

fn is_updated(trust: &mut Trust) -> Result<()> {
    let second = trust.update(2);
    let before = trust.kept()?;
    let begun = Instant::now();
    trust.install(&second)?;
    let installed = begun.elapsed();
    trust.reboot()?;
    trust.expect(&second, "B")?;
    let (installed, served) = (installed.as_secs_f64(), begun.elapsed().as_secs_f64());
    say(&format!("update: installed in {installed:.1} s, serves after {served:.1} s"));
    trust.serves()?;
    let blessed = format!("portreeve_{second}.efi");
    until("a good boot", LIMIT, || Ok(trust.kernels()?.contains(&blessed).then_some(())))?;
    keeps(&before, &trust.kept()?)
}

/// What was there is there.
pub(crate) fn keeps(before: &str, after: &str) -> Result<()> {
    for line in before.lines() {
        ensure!(after.lines().any(|same| same == line), "{line} is gone: {after}");
    }
    Ok(())
}

/// A volume with both updates.
fn updates(image: &Image, keys: &Keys, own: &Path) -> Result<PathBuf> {
    let (overlay, out) = (own.join("overlay"), own.join("updates"));
    for (name, text) in BROKEN {
        let file = overlay.join("usr/lib/systemd/system").join(name);
        fs::create_dir_all(file.parent().context("no directory")?)?;
        fs::write(file, text)?;
    }
    let versions = [1, 2].map(|number| version(image, number));
    let outs = versions.each_ref().map(|version| out.join(version));
    let overlays = [Some(overlay.as_path()), None];
    thread::scope(|scope| {
        let build =
            |number: usize| built::update(&versions[number], keys.dir(), overlays[number], &outs[number]);
        let broken = scope.spawn(move || build(0));
        build(1)?;
        broken.join().map_err(|_| anyhow!("a build ended early"))?
    })?;
    let mut files = Vec::new();
    for entry in fs::read_dir(&outs[0])?.chain(fs::read_dir(&outs[1])?) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if [".efi", ".root.erofs", ".root.verity"].iter().any(|end| name.ends_with(end)) {
            files.push((name, entry.path()));
        }
    }
    ensure!(files.len() == 6, "{files:?}");
    let volume = own.join("updates.img");
    let named: Vec<_> = files.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect();
    disk::volume(&volume, "UPDATE", &named)?;
    fs::remove_dir_all(out)?;
    Ok(volume)
}

/// The kernel image of a version whose tries the boot loader counts.
fn counted(version: &str, left: usize, done: usize) -> String {
    format!("portreeve_{version}+{left}-{done}.efi")
}

fn version(image: &Image, number: u8) -> String {
    format!("{}.{number}", image.version())
}

#[expect(clippy::print_stdout, reason = "a test program: figures for people")]
fn say(text: &str) {
    println!("appliance: {text}");
}
