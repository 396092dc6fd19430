//! What to install, decided from what the machine has. Pure.

use portreeve_vm_tests::kernels::Kernel;

use super::toolchain::{self, Found, Missing, Version};

/// The oldest cargo-deny whose configuration format `deny.toml` is written in.
pub const CARGO_DENY: Version = Version(0, 20, 2);

/// The S3 server that shipping is tested with. Later ones need a newer rustc.
pub const S3_SERVER: Version = Version(0, 14, 1);

/// Debian's compiler for the kernel programs.
pub const COMPILER_PACKAGES: &[Package] =
    &[Package { name: "rustc-web", program: None }, Package { name: "rust-web-src", program: None }];

/// What cargo needs to build bpf-linker.
pub const LINKER_PACKAGES: &[Package] =
    &[Package { name: "llvm-22-dev", program: None }, Package { name: "g++", program: None }];

/// What cargo needs to build the cryptography library's FIPS module.
pub const FIPS_PACKAGES: &[Package] =
    &[Package { name: "cmake", program: Some("cmake") }, Package { name: "golang-go", program: Some("go") }];

/// What tests and testbed run, each with a program that shows it on other systems.
pub const PROGRAM_PACKAGES: &[Package] = &[
    Package { name: "ansible-core", program: Some("ansible") },
    Package { name: "bsdextrautils", program: Some("script") },
    Package { name: "curl", program: Some("curl") },
    Package { name: "dropbear-bin", program: Some("dbclient") },
    Package { name: "ethtool", program: Some("ethtool") },
    Package { name: "fish", program: Some("fish") },
    Package { name: "git", program: Some("git") },
    Package { name: "htop", program: Some("htop") },
    Package { name: "iperf3", program: Some("iperf3") },
    Package { name: "iproute2", program: Some("ip") },
    Package { name: "less", program: Some("less") },
    Package { name: "mariadb-client", program: Some("mariadb") },
    Package { name: "mariadb-server-core", program: Some("mariadbd") },
    Package { name: "netcat-openbsd", program: Some("nc") },
    Package { name: "nftables", program: Some("nft") },
    Package { name: "openssh-client", program: Some("ssh") },
    Package { name: "openssh-server", program: Some("sshd") },
    Package { name: "openssh-sftp-server", program: Some("sftp") },
    Package { name: "openssl", program: Some("openssl") },
    Package { name: "procps", program: Some("ps") },
    Package { name: "prometheus", program: Some("promtool") },
    Package { name: "putty-tools", program: Some("plink") },
    Package { name: "python3", program: Some("python3") },
    Package { name: "python3-jsonschema", program: None },
    Package { name: "rsync", program: Some("rsync") },
    Package { name: "rsyslog", program: Some("rsyslogd") },
    Package { name: "rsyslog-gnutls", program: None },
    Package { name: "ssh-audit", program: Some("ssh-audit") },
    Package { name: "sshfs", program: Some("sshfs") },
    Package { name: "systemd", program: Some("systemd-analyze") },
    Package { name: "tcpdump", program: Some("tcpdump") },
    Package { name: "tmux", program: Some("tmux") },
    Package { name: "util-linux", program: Some("nsenter") },
    Package { name: "vim", program: Some("vim") },
    Package { name: "wireguard-tools", program: Some("wg") },
    Package { name: "xauth", program: Some("xauth") },
    Package { name: "zsh", program: Some("zsh") },
];

/// What virtual machines run on. Debian's stable release may have them in its backports only, beside what is installed.
pub const MACHINE_PACKAGES: &[Package] = &[
    Package { name: "binutils", program: Some("strip") },
    Package { name: "keepalived", program: Some("keepalived") },
    Package { name: "kmod", program: Some("modprobe") },
    Package { name: "ovmf", program: None },
    Package { name: "qemu-system-x86", program: Some("qemu-system-x86_64") },
    Package { name: "qemu-utils", program: Some("qemu-img") },
    Package { name: "swtpm", program: Some("swtpm") },
    Package { name: "swtpm-tools", program: Some("swtpm_setup") },
    Package { name: "wireguard-go", program: Some("wireguard-go") },
];

/// What an image of the appliance is made with.
pub const IMAGE_PACKAGES: &[Package] = &[
    Package { name: "cryptsetup-bin", program: Some("veritysetup") },
    Package { name: "dosfstools", program: Some("mkfs.vfat") },
    Package { name: "erofs-utils", program: Some("mkfs.erofs") },
    Package { name: "fdisk", program: Some("sfdisk") },
    Package { name: "mmdebstrap", program: Some("mmdebstrap") },
    Package { name: "mtools", program: Some("mcopy") },
    Package { name: "sbsigntool", program: Some("sbsign") },
    Package { name: "xz-utils", program: Some("xz") },
    Package { name: "zstd", program: Some("zstd") },
];

/// A Debian package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name in Debian.
    pub name: &'static str,
    /// The program looked for where Debian's packages are not known.
    pub program: Option<&'static str>,
}

impl Package {
    /// Every package that any need may ask for.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        let lists = [
            COMPILER_PACKAGES,
            LINKER_PACKAGES,
            FIPS_PACKAGES,
            PROGRAM_PACKAGES,
            IMAGE_PACKAGES,
            MACHINE_PACKAGES,
        ];
        lists.into_iter().flatten()
    }
}

/// What is going to be done on the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The kernel programs are built.
    pub kernel_programs: bool,
    /// The gateway is built with the FIPS module.
    pub fips: bool,
    /// Programs such as sshd and ip are run.
    pub programs: bool,
    /// Virtual machines are run.
    pub machines: bool,
    /// The appliance's image is built.
    pub image: bool,
    /// Dependencies are checked.
    pub cargo_deny: bool,
}

impl Needs {
    /// To build.
    pub const BUILD: Self = Self {
        kernel_programs: true,
        fips: false,
        programs: false,
        machines: false,
        image: false,
        cargo_deny: false,
    };
    /// To build, and run the gateway between a client and a server.
    pub const TESTBED: Self = Self { programs: true, ..Self::BUILD };
    /// To build, and run the kernel programs on other kernels and the appliance.
    pub const MACHINES: Self = Self { machines: true, image: true, ..Self::TESTBED };
    /// To build the gateway, and the appliance's image; what converts disks comes with the machines.
    pub const IMAGE: Self = Self { image: true, machines: true, ..Self::BUILD };
    /// For everything but FIPS builds, which have to be asked for.
    pub const ALL: Self = Self { cargo_deny: true, ..Self::MACHINES };

    /// What either needs.
    pub fn and(self, other: Self) -> Self {
        Self {
            kernel_programs: self.kernel_programs || other.kernel_programs,
            fips: self.fips || other.fips,
            programs: self.programs || other.programs,
            machines: self.machines || other.machines,
            image: self.image || other.image,
            cargo_deny: self.cargo_deny || other.cargo_deny,
        }
    }
}

/// A program installed by cargo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CargoTool {
    /// Links the kernel programs.
    BpfLinker,
    /// Checks licences, sources and banned crates.
    CargoDeny,
    /// An S3 server on a directory.
    S3Server,
}

/// The machine, as far as the plan depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Whether it is Debian, whose package names are known.
    pub debian: bool,
    /// Whether we may install packages.
    pub root: bool,
    /// Names of [`Package::all`] that are not there.
    pub absent: Vec<&'static str>,
    /// Compilers and linker for the kernel programs.
    pub found: Found,
    /// Kernels for virtual machines that are not there.
    pub absent_kernels: Vec<Kernel>,
    /// The version of cargo-deny in `PATH`.
    pub cargo_deny: Option<Version>,
    /// The version of the S3 server in `PATH`.
    pub s3_server: Option<Version>,
}

/// What to do; nothing when all lists are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Debian packages to install.
    pub packages: Vec<&'static str>,
    /// Debian packages to install from backports where the release's own do not go with what is there.
    pub backports: Vec<&'static str>,
    /// Kernels to fetch.
    pub kernels: Vec<Kernel>,
    /// Programs to install with cargo.
    pub tools: Vec<CargoTool>,
}

/// Decides what to install.
///
/// # Errors
/// Where this program cannot install what is missing: what a person should do.
pub fn plan(machine: &Machine, needs: Needs) -> Result<Plan, String> {
    let missing = toolchain::choose(&machine.found).err().filter(|_| needs.kernel_programs);
    let absent = |packages: &'static [Package]| {
        packages.iter().map(|package| package.name).filter(|name| machine.absent.contains(name))
    };
    let mut plan = Plan::default();
    if missing.is_some_and(|missing| missing.compiler) {
        plan.packages.extend(absent(COMPILER_PACKAGES));
        if machine.debian && plan.packages.is_empty() {
            return Err(unusable_compiler());
        }
    }
    if missing.is_some_and(|missing| missing.bpf_linker) {
        plan.packages.extend(absent(LINKER_PACKAGES));
        plan.tools.push(CargoTool::BpfLinker);
    }
    if needs.fips {
        plan.packages.extend(absent(FIPS_PACKAGES));
    }
    if needs.programs {
        plan.packages.extend(absent(PROGRAM_PACKAGES));
        if machine.s3_server.is_none_or(|version| version < S3_SERVER) {
            plan.tools.push(CargoTool::S3Server);
        }
    }
    if needs.image {
        plan.packages.extend(absent(IMAGE_PACKAGES));
    }
    if needs.machines {
        plan.backports.extend(absent(MACHINE_PACKAGES));
        plan.kernels.clone_from(&machine.absent_kernels);
    }
    let wanted = [&plan.packages[..], &plan.backports].concat();
    if !machine.debian && (!wanted.is_empty() || !plan.kernels.is_empty() || missing.is_some()) {
        return Err(elsewhere(&wanted, missing, &plan.kernels));
    }
    if needs.cargo_deny && machine.cargo_deny.is_none_or(|version| version < CARGO_DENY) {
        plan.tools.push(CargoTool::CargoDeny);
    }
    if !wanted.is_empty() && !machine.root {
        return Err(format!(
            "run as root, then repeat:\n  apt-get update && apt-get install --no-install-recommends {}",
            wanted.join(" ")
        ));
    }
    Ok(plan)
}

fn unusable_compiler() -> String {
    format!(
        "rustc-web and rust-web-src are installed, but /usr/bin/rustc is older than {} or its \
         LLVM is not {}: run `apt-get update && apt-get install rustc-web rust-web-src`",
        toolchain::OLDEST_RUSTC,
        toolchain::LLVM
    )
}

fn elsewhere(packages: &[&str], missing: Option<Missing>, kernels: &[Kernel]) -> String {
    let mut lines = vec!["this is not Debian; install by hand, then repeat:".to_owned()];
    if missing.is_some_and(|missing| missing.compiler) {
        lines.push(format!(
            "  a compiler for the kernel programs whose LLVM is at most {}: `rustup toolchain install nightly \
             --component rust-src`",
            toolchain::LLVM
        ));
    }
    if missing.is_some_and(|missing| missing.bpf_linker) {
        lines.push(format!("  bpf-linker {} or later on LLVM {}", toolchain::BPF_LINKER, toolchain::LLVM));
    }
    let programs = Package::all().filter(|package| packages.contains(&package.name));
    for (program, package) in programs.filter_map(|package| Some((package.program?, package.name))) {
        lines.push(format!("  {program} (Debian package {package})"));
    }
    for kernel in kernels {
        lines.push(format!("  kernel {} of Debian in {}", kernel.name, kernel.directory().display()));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use portreeve_vm_tests::kernels::KERNELS;

    use super::*;
    use crate::setup::toolchain::{BPF_LINKER, Compiler};

    fn complete() -> Machine {
        let compiler = Compiler { version: Version(1, 96, 0), llvm: 22, has_source: true };
        Machine {
            debian: true,
            root: true,
            found: Found {
                distribution: Some(("/usr/bin/rustc".into(), compiler)),
                bpf_linker: Some(BPF_LINKER),
                nightlies: Vec::new(),
            },
            cargo_deny: Some(CARGO_DENY),
            s3_server: Some(S3_SERVER),
            ..Machine::default()
        }
    }

    fn bare() -> Machine {
        let absent = Package::all().map(|package| package.name).collect();
        Machine { debian: true, root: true, absent, absent_kernels: KERNELS.to_vec(), ..Machine::default() }
    }

    #[test]
    fn nothing_is_done_on_a_complete_machine() {
        assert_eq!(plan(&complete(), Needs::ALL), Ok(Plan::default()));
    }

    #[test]
    fn a_bare_debian_gets_everything_that_is_needed() {
        let all = plan(&bare(), Needs { fips: true, ..Needs::ALL }).unwrap();
        assert_eq!(all.packages.len() + all.backports.len(), Package::all().count());
        assert_eq!((all.backports.len(), all.kernels.len()), (MACHINE_PACKAGES.len(), KERNELS.len()));
        let without = plan(&bare(), Needs::ALL).unwrap();
        assert_eq!(without.packages.len() + FIPS_PACKAGES.len(), all.packages.len());
        assert_eq!(all.tools, [CargoTool::BpfLinker, CargoTool::S3Server, CargoTool::CargoDeny]);
        let testbed = plan(&bare(), Needs::TESTBED).unwrap();
        assert!(testbed.backports.is_empty() && testbed.kernels.is_empty());
        let build = plan(&bare(), Needs::BUILD).unwrap();
        assert_eq!(build.packages, ["rustc-web", "rust-web-src", "llvm-22-dev", "g++"]);
        assert_eq!(build.tools, [CargoTool::BpfLinker]);
        assert_eq!(plan(&bare(), Needs::default()), Ok(Plan::default()));
    }

    #[test]
    fn a_complete_nightly_spares_the_compiler_of_the_distribution() {
        let mut machine = bare();
        let compiler = Compiler { version: Version(1, 97, 0), llvm: 22, has_source: true };
        machine.found.nightlies = vec![("nightly".into(), compiler)];
        assert_eq!(plan(&machine, Needs::BUILD).unwrap().packages, ["llvm-22-dev", "g++"]);
        machine.found.bpf_linker = Some(BPF_LINKER);
        assert_eq!(plan(&machine, Needs::BUILD), Ok(Plan::default()));
    }

    #[test]
    fn without_root_the_command_for_root_is_told() {
        let mut machine = complete();
        machine.root = false;
        assert_eq!(plan(&machine, Needs::ALL), Ok(Plan::default()));
        machine.absent = vec!["rsync"];
        let told = plan(&machine, Needs::ALL).unwrap_err();
        assert!(told.contains("apt-get install --no-install-recommends rsync"), "{told}");
        assert_eq!(plan(&machine, Needs::BUILD), Ok(Plan::default()));
        machine.absent.clear();
        machine.cargo_deny = None;
        assert_eq!(plan(&machine, Needs::ALL).unwrap().tools, [CargoTool::CargoDeny]);
    }

    #[test]
    fn elsewhere_a_person_is_told_what_to_install() {
        let machine = Machine { debian: false, absent: vec!["openssh-server"], ..bare() };
        let told = plan(&machine, Needs::ALL).unwrap_err();
        for part in ["sshd (Debian package openssh-server)", "rust-src", "bpf-linker 0.13.0", "kernel 6.1 "] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(plan(&machine, Needs::default()), Ok(Plan::default()));
    }

    #[test]
    fn packages_whose_compiler_does_not_serve_are_told_apart() {
        let mut machine = complete();
        machine.found.distribution = None;
        assert!(plan(&machine, Needs::BUILD).unwrap_err().contains("older than 1.95.0"));
    }

    #[test]
    fn an_old_cargo_deny_is_replaced() {
        let mut machine = complete();
        machine.cargo_deny = Some(Version(0, 18, 0));
        assert_eq!(plan(&machine, Needs::ALL).unwrap().tools, [CargoTool::CargoDeny]);
        assert_eq!(plan(&machine, Needs::TESTBED), Ok(Plan::default()));
    }
}
