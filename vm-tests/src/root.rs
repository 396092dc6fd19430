//! The root file system of a machine: programs of the host with the libraries they ask for, and a kernel's modules.
//!
//! The guest so runs the same `ip`, `tc` and `nft` as tests on the host. Programs lie at the host's paths, so do
//! libraries; what is opened at run time by name, such as plugins, is not followed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::initramfs;
use crate::kernels::Unpacked;

/// Directories that are mounted over, or written to.
const EMPTY: &[&str] = &["dev", "proc", "root", "run", "sys", "tmp", "var/tmp"];
/// Links of a merged `/usr`.
const MERGED: &[&str] = &["bin", "lib", "lib32", "lib64", "sbin"];
/// Modules that are of use in a machine without devices of its own.
const MODULES: &[&str] = &[
    "arch",
    "crypto",
    "drivers/net/bonding",
    "drivers/net/dummy.",
    "drivers/net/ipvlan",
    "drivers/net/macvlan.",
    "drivers/net/net_failover.",
    "drivers/net/tun.",
    "drivers/net/veth.",
    "drivers/net/virtio_net.",
    "drivers/net/vrf.",
    "drivers/net/vxlan",
    "drivers/net/wireguard",
    "drivers/virtio",
    "lib",
    "net",
];

/// A root that is being made.
#[derive(Debug)]
pub struct Root {
    directory: tempfile::TempDir,
}

impl Root {
    /// A root with the directories that any has.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn new() -> Result<Self> {
        fs::create_dir_all(crate::kernels::directory())?;
        let directory = tempfile::tempdir_in(crate::kernels::directory())?;
        for name in EMPTY {
            fs::create_dir_all(directory.path().join(name))?;
        }
        for name in MERGED.iter().filter(|name| Path::new("/").join(name).is_symlink()) {
            let target = fs::read_link(Path::new("/").join(name))?;
            fs::create_dir_all(directory.path().join(&target))?;
            symlink(target, directory.path().join(name))?;
        }
        Ok(Self { directory })
    }

    /// Adds programs of the host by their names.
    ///
    /// # Errors
    /// When one is not there, or a library of it.
    pub fn programs(&self, names: &[&str]) -> Result<()> {
        let found = names.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?;
        found.iter().try_for_each(|path| self.copy(path, path))?;
        self.libraries(&found)
    }

    /// Adds a program from `from` as `to`, without what only debuggers read, and its libraries.
    ///
    /// # Errors
    /// As [`Root::programs`].
    pub fn program(&self, from: &Path, to: &str) -> Result<()> {
        let inside = self.inside(Path::new(to));
        fs::create_dir_all(inside.parent().unwrap_or(&inside))?;
        let stripped = Command::new("strip").arg("--strip-debug").arg("-o").arg(&inside).arg(from).status();
        if !stripped.context("start strip")?.success() {
            bail!("strip does not understand {}", from.display());
        }
        self.libraries(&[from.to_owned()])
    }

    /// Adds a file.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let inside = self.inside(to);
        fs::create_dir_all(inside.parent().unwrap_or(&inside))?;
        fs::copy(from, &inside).with_context(|| format!("copy {}", from.display()))?;
        Ok(())
    }

    /// Adds the modules of a kernel, and their index.
    ///
    /// # Errors
    /// When files cannot be read or written, or depmod fails.
    pub fn modules(&self, kernel: &Unpacked) -> Result<()> {
        let to = Path::new("/lib/modules").join(&kernel.release);
        let mut wanted = Vec::new();
        files(&kernel.modules, &mut wanted)?;
        for file in wanted {
            let inside = file.strip_prefix(&kernel.modules)?;
            let module = inside.strip_prefix("kernel");
            let is_wanted = |module: &Path| MODULES.iter().any(|start| starts(module, start));
            if module.map_or(true, is_wanted) {
                self.copy(&file, &to.join(inside))?;
            }
        }
        let root = self.directory.path();
        let status = Command::new("depmod").arg("--basedir").arg(root).arg(&kernel.release).status();
        if !status.context("start depmod: run `cargo xtask setup`")?.success() {
            bail!("depmod does not understand the modules of {}", kernel.release);
        }
        Ok(())
    }

    /// Writes all of it as an archive.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn archive(&self, to: &Path) -> Result<()> {
        let mut file = BufWriter::new(File::create(to)?);
        initramfs::write(self.directory.path(), &mut file)?;
        Ok(file.flush()?)
    }

    fn inside(&self, path: &Path) -> PathBuf {
        self.directory.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    fn libraries(&self, programs: &[PathBuf]) -> Result<()> {
        let output = Command::new("ldd").args(programs).output().context("start ldd")?;
        let listed = String::from_utf8_lossy(&output.stdout);
        for path in libraries(&listed)? {
            let path = Path::new(path);
            if !self.inside(path).exists() {
                self.copy(path, path)?;
            }
        }
        Ok(())
    }
}

/// Paths in what ldd says of one program or several.
///
/// # Errors
/// When ldd found one of them nowhere.
pub fn libraries(listed: &str) -> Result<BTreeSet<&str>> {
    if let Some(line) = listed.lines().find(|line| line.contains("not found")) {
        bail!("a library is missing: {}", line.trim());
    }
    let path = |line| str::split_whitespace(line).find(|word| word.starts_with('/') && !word.ends_with(':'));
    Ok(listed.lines().filter_map(path).collect())
}

fn find(name: &str) -> Result<PathBuf> {
    let places = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file());
    found.with_context(|| format!("no program {name}: run `cargo xtask setup`"))
}

fn starts(module: &Path, with: &str) -> bool {
    let module = module.to_string_lossy();
    module.strip_prefix(with).is_some_and(|rest| with.ends_with('.') || rest.starts_with('/'))
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_that_ldd_found_and_a_missing_one_is_told() {
        let listed = "/usr/bin/ip:\n\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld.so (0x3)\n\
                      /usr/bin/tc:\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n";
        assert_eq!(
            libraries(listed).unwrap().into_iter().collect::<Vec<_>>(),
            ["/lib/libc.so.6", "/lib64/ld.so"]
        );
        assert!(libraries("\tlibx.so => not found\n").unwrap_err().to_string().contains("libx.so"));
    }

    #[test]
    fn a_name_of_modules_is_a_directory_or_one_module() {
        let wanted = |module: &str| MODULES.iter().any(|start| starts(Path::new(module), start));
        assert!(wanted("net/8021q/8021q.ko.xz") && wanted("drivers/net/veth.ko"));
        assert!(!wanted("drivers/net/veth2.ko") && !wanted("network/x.ko"));
    }

    #[test]
    fn a_program_comes_with_its_libraries() {
        let root = Root::new().unwrap();
        root.programs(&["sh"]).unwrap();
        let files: Vec<_> = {
            let mut found = Vec::new();
            files(root.directory.path(), &mut found).unwrap();
            found.into_iter().filter(|path| path.to_string_lossy().contains("libc.so")).collect()
        };
        assert!(!files.is_empty());
        assert!(root.programs(&["no-such-program-here"]).unwrap_err().to_string().contains("xtask setup"));
    }
}
