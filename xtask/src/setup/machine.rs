//! What this machine has: asks dpkg, rustup and the programs themselves, in well under a second.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;
use portreeve_vm_tests::kernels::KERNELS;

use super::plan::{Machine, Package};
use super::toolchain::{Compiler, Found, Version};
use crate::workspace::find_program;

/// The compiler of the distribution's packages; rustup's own lies elsewhere.
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";

/// Looks at the machine.
pub(super) fn observe() -> Machine {
    let debian = fs::read_to_string("/etc/os-release").is_ok_and(|text| is_debian(&text));
    let absent = if debian {
        not_in(Package::all(), &installed_packages())
    } else {
        let lacks = |package: &&Package| package.program.is_some_and(|name| find_program(name).is_none());
        Package::all().filter(lacks).map(|package| package.name).collect()
    };
    Machine {
        debian,
        root: geteuid().is_root(),
        absent,
        found: compilers(),
        absent_kernels: KERNELS.into_iter().filter(|kernel| !kernel.directory().is_dir()).collect(),
        cargo_deny: version_of("cargo-deny"),
        s3_server: version_of("s3s-fs"),
    }
}

/// Looks at what could build the kernel programs only.
pub(super) fn compilers() -> Found {
    let distribution = PathBuf::from(DISTRIBUTION_RUSTC);
    let found = distribution.exists().then(|| compiler(|| Command::new(&distribution))).flatten();
    Found {
        nightlies: nightlies(),
        distribution: found.map(|compiler| (distribution, compiler)),
        bpf_linker: version_of("bpf-linker"),
    }
}

fn is_debian(os_release: &str) -> bool {
    os_release.lines().any(|line| line.trim().trim_matches('"') == "ID=debian")
}

fn installed_packages() -> String {
    let names = Package::all().map(|package| package.name);
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status} ${Package}\n"]).args(names);
    // An unknown package makes it exit with 1 and is not printed, which is the answer.
    query.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn not_in<'a>(packages: impl Iterator<Item = &'a Package>, installed: &str) -> Vec<&'static str> {
    let there = |name: &str| installed.lines().any(|line| line.strip_prefix("installed ") == Some(name));
    packages.map(|package| package.name).filter(|name| !there(name)).collect()
}

fn nightlies() -> Vec<(String, Compiler)> {
    let listed = printed(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    let nightlies = names.filter(|name| name.starts_with("nightly"));
    nightlies
        .filter_map(|name| {
            let rustc = || {
                let mut rustc = Command::new("rustup");
                rustc.args(["run", name, "rustc"]).env_remove("RUSTUP_TOOLCHAIN");
                rustc
            };
            Some((name.to_owned(), compiler(rustc)?))
        })
        .collect()
}

fn compiler(rustc: impl Fn() -> Command) -> Option<Compiler> {
    let versions = printed(rustc().arg("-vV"))?;
    let sysroot = printed(rustc().args(["--print", "sysroot"]))?;
    let line = |start: &str| versions.lines().find(|line| line.starts_with(start));
    let source = Path::new(sysroot.trim_end()).join("lib/rustlib/src/rust/library/Cargo.lock");
    Some(Compiler {
        version: Version::parse(line("rustc ")?)?,
        llvm: Version::parse(line("LLVM version: ")?)?.0,
        has_source: source.exists(),
    })
}

fn version_of(program: &str) -> Option<Version> {
    Version::parse(&printed(Command::new(find_program(program)?).arg("--version"))?)
}

fn printed(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_told_by_its_id_not_by_a_likeness() {
        assert!(is_debian("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n"));
        assert!(!is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn a_package_that_is_only_configured_is_absent() {
        let packages = [Package { name: "rsync", program: None }, Package { name: "curl", program: None }];
        let installed = "installed curl\nconfig-files rsync\n";
        assert_eq!(not_in(packages.iter(), installed), ["rsync"]);
    }
}
