//! Which compiler builds the kernel programs. Pure: what the machine has comes in.
//!
//! The kernel programs need `core` built for a BPF target, thus a compiler that takes unstable flags,
//! the source of its standard library, and a bpf-linker. Two such compilers are known: a nightly of
//! rustup with the component rust-src, and Debian's rustc-web with rust-web-src, told by
//! `RUSTC_BOOTSTRAP=1` to take unstable flags. A nightly without rust-src is never chosen.

use std::fmt;
use std::path::PathBuf;

/// The version of LLVM that Debian's compiler and our bpf-linker share.
pub const LLVM: u32 = 22;
/// The oldest bpf-linker that reads the bitcode of LLVM 22.
pub const BPF_LINKER: Version = Version(0, 13, 0);
/// The oldest compiler that aya-ebpf 0.2.1 builds with, as this workspace.
pub const OLDEST_RUSTC: Version = Version(1, 95, 0);

/// Major, minor and patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The first `MAJOR.MINOR.PATCH` in what a program prints for `--version`.
    pub fn parse(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let word = word.split_once('-').map_or(word, |(version, _)| version);
            let mut numbers = word.split('.').map(str::parse);
            match (numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()) {
                (Ok(major), Ok(minor), Ok(patch), None) => Some(Self(major, minor, patch)),
                _ => None,
            }
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A compiler that was found, whether or not it can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// Its version.
    pub version: Version,
    /// The major version of its LLVM; a linker with an older one cannot read its bitcode.
    pub llvm: u32,
    /// Whether the source of its standard library is there.
    pub has_source: bool,
}

/// What bears on the choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Nightly toolchains of rustup by name.
    pub nightlies: Vec<(String, Compiler)>,
    /// The compiler of the distribution's packages and its path.
    pub distribution: Option<(PathBuf, Compiler)>,
    /// The version of bpf-linker in `PATH`.
    pub bpf_linker: Option<Version>,
}

/// A compiler for the kernel programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelCompiler {
    /// `rustup run NAME`.
    Nightly(String),
    /// This rustc with `RUSTC_BOOTSTRAP=1`, under the cargo of this workspace.
    Distribution(PathBuf),
}

/// What is missing to build the kernel programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// No usable compiler with its source.
    pub compiler: bool,
    /// No bpf-linker, or one too old.
    pub bpf_linker: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacks = match (self.compiler, self.bpf_linker) {
            (true, true) => "a compiler with its source, and bpf-linker",
            (true, false) => "a compiler with its source",
            _ => "bpf-linker in PATH",
        };
        write!(f, "the kernel programs cannot be built, for lack of {lacks}: run `cargo xtask setup`")
    }
}

/// Chooses the compiler: a complete nightly first, for it needs nothing of the distribution.
///
/// # Errors
/// What is missing.
pub fn choose(found: &Found) -> Result<KernelCompiler, Missing> {
    let bpf_linker = found.bpf_linker.is_none_or(|version| version < BPF_LINKER);
    let nightly = found.nightlies.iter().find(|(_, compiler)| usable(compiler));
    let distribution = found.distribution.as_ref().filter(|(_, compiler)| usable(compiler));
    match (nightly, distribution) {
        (Some((name, _)), _) if !bpf_linker => Ok(KernelCompiler::Nightly(name.clone())),
        (_, Some((path, _))) if !bpf_linker => Ok(KernelCompiler::Distribution(path.clone())),
        (nightly, distribution) => {
            Err(Missing { compiler: nightly.is_none() && distribution.is_none(), bpf_linker })
        }
    }
}

fn usable(compiler: &Compiler) -> bool {
    compiler.has_source && compiler.llvm <= LLVM && compiler.version >= OLDEST_RUSTC
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(has_source: bool) -> Compiler {
        Compiler { version: Version(1, 96, 0), llvm: 22, has_source }
    }

    fn debian(has_source: bool) -> Option<(PathBuf, Compiler)> {
        Some((PathBuf::from("/usr/bin/rustc"), compiler(has_source)))
    }

    fn nightly(has_source: bool) -> Vec<(String, Compiler)> {
        vec![("nightly-x86_64-unknown-linux-gnu".into(), compiler(has_source))]
    }

    #[test]
    fn a_complete_nightly_is_chosen_before_the_distribution() {
        let found =
            Found { nightlies: nightly(true), distribution: debian(true), bpf_linker: Some(BPF_LINKER) };
        let chosen = KernelCompiler::Nightly("nightly-x86_64-unknown-linux-gnu".into());
        assert_eq!(choose(&found), Ok(chosen));
    }

    #[test]
    fn a_nightly_without_source_is_not_chosen() {
        let mut found =
            Found { nightlies: nightly(false), distribution: debian(true), bpf_linker: Some(BPF_LINKER) };
        assert_eq!(choose(&found), Ok(KernelCompiler::Distribution("/usr/bin/rustc".into())));
        found.distribution = None;
        assert_eq!(choose(&found), Err(Missing { compiler: true, bpf_linker: false }));
    }

    #[test]
    fn a_nightly_whose_llvm_the_linker_cannot_read_is_not_chosen() {
        let mut found =
            Found { nightlies: nightly(true), distribution: debian(true), bpf_linker: Some(BPF_LINKER) };
        found.nightlies[0].1.llvm = LLVM + 1;
        assert_eq!(choose(&found), Ok(KernelCompiler::Distribution("/usr/bin/rustc".into())));
    }

    #[test]
    fn a_distribution_compiler_that_is_too_old_or_bare_is_not_chosen() {
        let mut found =
            Found { distribution: debian(false), bpf_linker: Some(BPF_LINKER), ..Found::default() };
        assert_eq!(choose(&found), Err(Missing { compiler: true, bpf_linker: false }));
        let old = Compiler { version: Version(1, 63, 0), llvm: 14, has_source: true };
        found.distribution = Some(("/usr/bin/rustc".into(), old));
        assert_eq!(choose(&found), Err(Missing { compiler: true, bpf_linker: false }));
    }

    #[test]
    fn an_absent_or_old_linker_is_told_beside_the_compiler() {
        let mut found = Found { distribution: debian(true), ..Found::default() };
        assert_eq!(choose(&found), Err(Missing { compiler: false, bpf_linker: true }));
        found.bpf_linker = Some(Version(0, 9, 15));
        assert_eq!(choose(&found), Err(Missing { compiler: false, bpf_linker: true }));
        let nothing = choose(&Found::default()).unwrap_err();
        assert_eq!(nothing, Missing { compiler: true, bpf_linker: true });
        assert!(nothing.to_string().contains("a compiler with its source, and bpf-linker"));
    }

    #[test]
    fn versions_are_read_from_what_programs_print() {
        let cases = [
            ("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)", Some(Version(1, 96, 0))),
            ("rustc 1.97.0-nightly (59807616e 2026-04-14)", Some(Version(1, 97, 0))),
            ("bpf-linker 0.13.0\n", Some(Version(0, 13, 0))),
            ("LLVM version: 22.1.8", Some(Version(22, 1, 8))),
            ("cargo-deny", None),
            ("", None),
        ];
        for (text, version) in cases {
            assert_eq!(Version::parse(text), version, "{text}");
        }
        assert!(Version(0, 9, 15) < Version(0, 13, 0));
    }
}
