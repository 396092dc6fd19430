//! Blocks of commands in the pages. Pure, but for reading the pages.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// How commands begin that are not run here, and why.
pub(super) const BY_HAND: &[(&str, &str)] = &[
    ("cargo xtask ", "runs builds and all tests, this one among them"),
    ("mount -o ro /dev/disk/by-label/UPDATE", "needs the appliance itself, started by UEFI"),
    ("install -D -m 644 -t /var/lib/portreeve-updates ", "the same"),
    ("/usr/lib/systemd/systemd-sysupdate ", "the same"),
    ("systemctl reboot", "the same"),
    ("bootctl set-default ", "the same"),
    ("mount -o ro /dev/disk/by-label/KEYS", "needs a TPM: vm-tests give the appliance one, and run the same"),
    ("mkdir --mode 700 /run/restore", "the same"),
    ("tar --extract --file /mnt/keys.tar", "the same"),
    ("portreeve ca seal ", "the same"),
    ("rm -r /run/restore", "the same"),
    ("systemctl restart ", "the same"),
    ("qm ", "Proxmox's own program"),
    ("virt-install ", "needs libvirt: vm-tests boot the image under QEMU"),
    ("qemu-img ", "changes the format of a disk that the pages alone do not have"),
    ("dd ", "writes to a real disk"),
    ("mkfs.vfat -n PORTREEVE /dev/", "the same"),
    ("mcopy -i /dev/", "the same"),
    ("apt-get install ", "changes the machine of the tests"),
    ("systemctl enable ", "there is no service manager here; tests run the units under one of their own"),
    ("portreeve sessions watch ", "needs a terminal: the tests of `portreeve sessions` give it one"),
    ("head ", "the same is a test of manifests, and jq is on no machine of CI"),
    ("tail ", "the same"),
    ("echo ", "the same"),
    ("ssh-keygen -Y verify ", "the same"),
    (
        "portreeve logs ls --s3",
        "needs a bucket: the tests of `portreeve logs` and of shipping run it against an S3 server",
    ),
    ("portreeve logs search --key recipient --s3", "the same"),
    ("portreeve logs verify --audit-key audit_key.pub --s3", "the same"),
    ("portreeve logs replay --key recipient --s3", "the same"),
];

/// Programs by which a line of a block without a mark shows that it is a command.
const PROGRAMS: &[&str] = &[
    "portreeve",
    "cargo",
    "systemctl",
    "apt",
    "apt-get",
    "tar",
    "install",
    "ssh",
    "qm",
    "virsh",
    "dd",
    "curl",
];

/// A marked block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// File and line.
    pub(super) place: String,
    pub(super) group: String,
    /// The exit status of its commands.
    pub(super) status: i32,
    pub(super) commands: Vec<Command>,
}

#[derive(Clone, Debug)]
pub(super) struct Command {
    /// Run by a user, not on the gateway.
    pub(super) by_user: bool,
    pub(super) text: String,
}

/// All blocks, by page and line, and what is wrong with others.
pub(super) fn all() -> Result<(Vec<Block>, Vec<String>)> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut pages: Vec<_> =
        fs::read_dir(root.join("docs"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.push(root.join("README.md"));
    pages.sort();
    let (mut blocks, mut problems) = (Vec::new(), Vec::new());
    for page in pages {
        let name = page.file_name().context("a page without a name")?.to_string_lossy().into_owned();
        read(&name, &fs::read_to_string(&page)?, &mut blocks, &mut problems);
    }
    Ok((blocks, problems))
}

fn read(page: &str, text: &str, blocks: &mut Vec<Block>, problems: &mut Vec<String>) {
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let Some(mark) = line.strip_prefix("```") else { continue };
        let place = format!("{page}:{number}");
        let inside: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| !line.starts_with("```")).collect();
        let mut words = mark.split_whitespace();
        match words.next() {
            Some("console") => match block(place.clone(), words, &inside) {
                Some(block) => blocks.push(block),
                None => problems
                    .push(format!("{place}: no group, no command, or words that are not known: {mark}")),
            },
            None | Some("sh" | "shell" | "bash") => {
                let is_command = |line: &&&str| {
                    line.split_whitespace().next().is_some_and(|word| PROGRAMS.contains(&word))
                };
                problems.extend(
                    inside
                        .iter()
                        .find(is_command)
                        .map(|line| format!("{place}: a command without a mark: {line}")),
                );
            }
            Some(_) => {}
        }
    }
}

fn block<'a>(place: String, mut words: impl Iterator<Item = &'a str>, lines: &[&str]) -> Option<Block> {
    let group = words.next()?.to_owned();
    let status = words.next().map_or(Some(0), |word| word.strip_prefix("status=")?.parse().ok())?;
    let mut commands: Vec<Command> = Vec::new();
    let mut goes_on = false;
    for line in lines {
        let (user, root) = (line.strip_prefix("$ "), line.strip_prefix("# "));
        match (goes_on, commands.last_mut(), user.or(root)) {
            (true, Some(last), _) => last.text += &format!("\n{line}"),
            (_, _, Some(text)) => commands.push(Command { by_user: user.is_some(), text: text.to_owned() }),
            _ => continue,
        }
        goes_on = line.ends_with('\\');
    }
    (words.next().is_none() && !commands.is_empty()).then_some(Block { place, group, status, commands })
}
