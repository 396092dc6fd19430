//! What the package installs where.

use std::fs;
use std::path::{Path, PathBuf};

/// A file or directory of the package.
#[derive(Debug)]
pub(super) struct Entry {
    /// Below the root of what is packed.
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) content: Content,
}

/// What an entry holds.
#[derive(Debug)]
pub(super) enum Content {
    /// An empty directory.
    Directory,
    /// The gateway.
    Gateway,
    /// A file of the repository.
    File(PathBuf),
    /// The same, compressed.
    Compressed(PathBuf),
}

/// Scripts that dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// The directory whose mode is not that of others: it holds keys.
const PRIVATE: &str = "var/lib/portreeve";

const DOC: &str = "usr/share/doc/portreeve";

/// All entries but the control file.
pub(super) fn entries(root: &Path) -> anyhow::Result<Vec<Entry>> {
    let entry = |path: String, mode, content| Entry { path, mode, content };
    let mut entries = vec![
        entry("usr/bin/portreeve".into(), 0o755, Content::Gateway),
        entry("etc/portreeve".into(), 0o755, Content::Directory),
        entry(PRIVATE.into(), 0o700, Content::Directory),
        entry(format!("{DOC}/changelog.gz"), 0o644, Content::Compressed(root.join("CHANGELOG.md"))),
        entry(format!("{DOC}/copyright"), 0o644, Content::File(root.join("appliance-image/deb/copyright"))),
    ];
    for name in SCRIPTS {
        let from = root.join("appliance-image/deb").join(name);
        entries.push(entry(format!("DEBIAN/{name}"), 0o755, Content::File(from)));
    }
    for (from, to) in [
        ("appliance-image/systemd", "usr/lib/systemd/system"),
        ("docs", DOC),
        ("docs/examples", "usr/share/doc/portreeve/examples"),
    ] {
        for file in files(&root.join(from))? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            entries.push(entry(format!("{to}/{name}"), 0o644, Content::File(file)));
        }
    }
    Ok(entries)
}

/// Whether a directory of the package has a mode of its own.
pub(super) fn has_own_mode(path: &Path) -> bool {
    path.ends_with(PRIVATE)
}

/// The files of a directory, in order.
fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        files.push(entry?.path());
    }
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}
