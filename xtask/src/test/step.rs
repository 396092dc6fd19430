//! The steps of `cargo xtask test`, as a table.

use std::time::Duration;

use clap::ValueEnum;

use crate::setup::plan::Needs;

/// What one may ask for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Group {
    /// Layers, sizes, docs, formatting, dependencies.
    Tidy,
    /// Clippy with the workspace's lints.
    Lint,
    /// Tests that need neither root nor the kernel programs.
    Unit,
    /// The kernel programs, run by the kernel on crafted packets.
    Kernel,
    /// Real ssh and sshd, in namespaces and on loopback.
    E2e,
    /// The kernel programs on Debian's kernels, and the appliance's image, in virtual machines.
    Vm,
    /// A gateway on the cryptography library's FIPS module.
    Fips,
}

/// One step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Its name in the summary.
    pub(super) name: &'static str,
    /// Groups that contain it.
    pub(super) groups: &'static [Group],
    /// What runs it.
    pub(super) program: Program,
    /// Its arguments.
    pub(super) args: &'static [&'static str],
    /// How long it may take; a cold build is part of it.
    pub(super) limit: Duration,
    /// What its output says about tests.
    pub(super) tests: Tests,
    /// The step without whose success it cannot run.
    pub(super) needs: Option<&'static str>,
}

/// What is run when nothing is asked for. A FIPS build is most of the gateway built once more.
const BY_DEFAULT: &[Group] = &[Group::Tidy, Group::Lint, Group::Unit, Group::Kernel, Group::E2e, Group::Vm];

impl Group {
    /// What must be installed for it.
    pub(super) fn needs(self) -> Needs {
        match self {
            Self::Tidy => Needs { cargo_deny: true, ..Needs::default() },
            Self::Lint | Self::Unit => Needs::default(),
            Self::Kernel | Self::E2e => Needs::TESTBED,
            Self::Vm => Needs::MACHINES,
            Self::Fips => Needs { fips: true, ..Needs::TESTBED },
        }
    }
}

/// What must be installed for `groups`; for [`BY_DEFAULT`] when none is named.
pub(super) fn needs(groups: &[Group]) -> Needs {
    asked_for(groups).iter().fold(Needs::default(), |all, group| all.and(group.needs()))
}

const fn asked_for(groups: &[Group]) -> &[Group] {
    if groups.is_empty() { BY_DEFAULT } else { groups }
}

/// What runs a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// Cargo.
    Cargo,
    /// This program.
    Xtask,
}

/// What a step's output says about tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tests {
    /// Nothing: it is a check.
    None,
    /// Results to add up; their absence is a failure.
    Counted,
    /// As `Counted`, of tests that the unit step reports as ignored.
    IgnoredBefore,
}

const BUILD: &str = "build";
const IMAGE: &str = "image";
const PACKAGE: &str = "package";
const FIPS_BUILD: &str = "fips build";

/// Quick answers first; independent steps do not wait for each other's success.
const STEPS: &[Step] = &[
    check("tidy", Group::Tidy, Program::Xtask, &["tidy"]),
    check("format", Group::Tidy, Program::Cargo, &["fmt", "--all", "--check"]),
    check(
        "dependencies",
        Group::Tidy,
        Program::Cargo,
        &["deny", "--workspace", "--log-level", "error", "check", "bans", "licenses", "sources"],
    ),
    Step {
        groups: &[Group::Kernel, Group::E2e, Group::Vm],
        ..check(BUILD, Group::E2e, Program::Xtask, &["build"])
    },
    Step { needs: Some(BUILD), ..check(PACKAGE, Group::E2e, Program::Xtask, &["deb", "--debug"]) },
    check(
        "clippy",
        Group::Lint,
        Program::Cargo,
        &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"],
    ),
    test(
        "unit",
        Group::Unit,
        &[
            "test",
            "--no-fail-fast",
            "--workspace",
            "--exclude=portreeve-tests",
            "--exclude=portreeve-vm-tests",
        ],
    ),
    test(
        "unit of tests",
        Group::Unit,
        &["test", "--package", "portreeve-tests", "--package", "portreeve-vm-tests", "--lib"],
    ),
    Step {
        needs: Some(BUILD),
        ..test("kernel", Group::Kernel, &["test", "--package", "portreeve-tests", "--test", "kernel"])
    },
    Step {
        tests: Tests::IgnoredBefore,
        ..test(
            "ssh sides",
            Group::E2e,
            &["test", "--package", "portreeve", "--test", "ssh_relay", "--", "--ignored"],
        )
    },
    Step {
        tests: Tests::IgnoredBefore,
        ..test(
            "ssh peers",
            Group::E2e,
            &["test", "--package", "portreeve-ssh", "--test", "peers", "--", "--ignored"],
        )
    },
    test(
        "typed commands",
        Group::E2e,
        &["test", "--package", "portreeve-tests", "--test", "typed_commands", "--", "--nocapture"],
    ),
    Step {
        tests: Tests::IgnoredBefore,
        ..test(
            "shipping",
            Group::E2e,
            &["test", "--package", "portreeve", "--test", "shipping", "--", "--ignored"],
        )
    },
    Step {
        needs: Some(PACKAGE),
        ..test("e2e", Group::E2e, &["test", "--package", "portreeve-tests", "--test", "e2e"])
    },
    Step {
        needs: Some(BUILD),
        ..test("vm", Group::Vm, &["test", "--package", "portreeve-vm-tests", "--test", "kernels"])
    },
    Step {
        needs: Some(BUILD),
        ..check(
            IMAGE,
            Group::Vm,
            Program::Xtask,
            &["image", "--debug", "--or-newest", "--check-reproducible=root"],
        )
    },
    Step {
        needs: Some(IMAGE),
        ..test("appliance", Group::Vm, &["test", "--package", "portreeve-vm-tests", "--test", "appliance"])
    },
    check(
        "fips clippy",
        Group::Fips,
        Program::Cargo,
        &[
            "clippy",
            "--package=portreeve",
            "--package=portreeve-ssh",
            "--features=portreeve/fips",
            "--all-targets",
            "--",
            "--deny=warnings",
        ],
    ),
    // Not the peers: russh asks for no method that a FIPS build has.
    test(
        "fips unit",
        Group::Fips,
        &[
            "test",
            "--lib",
            "--no-fail-fast",
            "--package=portreeve",
            "--package=portreeve-ssh",
            "--features=portreeve/fips",
        ],
    ),
    // Last: it leaves a gateway that the steps before must not run.
    check(FIPS_BUILD, Group::Fips, Program::Xtask, &["build", "--fips"]),
    Step {
        needs: Some(FIPS_BUILD),
        ..test(
            "fips e2e",
            Group::Fips,
            &["test", "--package=portreeve-tests", "--features=fips", "--test=e2e", "--", "fips_build"],
        )
    },
];

const fn check(name: &'static str, group: Group, program: Program, args: &'static [&'static str]) -> Step {
    let limit = Duration::from_secs(30 * 60);
    Step { name, groups: of(group), program, args, limit, tests: Tests::None, needs: None }
}

const fn test(name: &'static str, group: Group, args: &'static [&'static str]) -> Step {
    Step { tests: Tests::Counted, ..check(name, group, Program::Cargo, args) }
}

const fn of(group: Group) -> &'static [Group] {
    match group {
        Group::Tidy => &[Group::Tidy],
        Group::Lint => &[Group::Lint],
        Group::Unit => &[Group::Unit],
        Group::Kernel => &[Group::Kernel],
        Group::E2e => &[Group::E2e],
        Group::Vm => &[Group::Vm],
        Group::Fips => &[Group::Fips],
    }
}

/// The steps of `groups`, in order; of [`BY_DEFAULT`] when none is named.
pub(super) fn steps(groups: &[Group]) -> impl Iterator<Item = &'static Step> {
    let groups = asked_for(groups);
    let wanted = move |step: &&Step| step.groups.iter().any(|of| groups.contains(of));
    STEPS.iter().filter(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(groups: &[Group]) -> Vec<&'static str> {
        steps(groups).map(|step| step.name).collect()
    }

    #[test]
    fn every_group_has_its_steps_and_all_but_fips_are_run_by_default() {
        let fips = ["fips clippy", "fips unit", "fips build", "fips e2e"];
        assert_eq!(names(&[Group::Fips]), fips);
        assert_eq!([&names(&[])[..], &fips].concat(), names(Group::value_variants()));
        assert_eq!(names(Group::value_variants()).len(), STEPS.len());
        assert_eq!(names(&[Group::Tidy]), ["tidy", "format", "dependencies"]);
        assert_eq!(names(&[Group::Kernel]), ["build", "kernel"]);
        let e2e = ["build", "package", "ssh sides", "ssh peers", "typed commands", "shipping", "e2e"];
        assert_eq!(names(&[Group::E2e]), e2e);
        assert_eq!(names(&[Group::Vm]), ["build", "vm", "image", "appliance"]);
        assert_eq!(names(&[Group::Unit, Group::Lint]), ["clippy", "unit", "unit of tests"]);
    }

    #[test]
    fn a_step_is_preceded_by_what_it_needs_in_each_of_its_groups() {
        for (index, step) in STEPS.iter().enumerate() {
            let Some(needed) = step.needs else { continue };
            let before = STEPS[..index].iter().find(|step| step.name == needed).expect("comes before");
            assert!(step.groups.iter().all(|group| before.groups.contains(group)), "{}", step.name);
        }
    }

    #[test]
    fn only_what_a_group_uses_is_installed_for_it() {
        assert_eq!(needs(&[Group::Unit, Group::Lint]), Needs::default());
        assert_eq!(needs(&[Group::Unit, Group::E2e]), Needs::TESTBED);
        assert_eq!(needs(&[Group::Tidy, Group::Vm]), Needs::ALL);
        assert_eq!(needs(&[]), Needs::ALL);
        assert_eq!(needs(Group::value_variants()), Needs { fips: true, ..Needs::ALL });
    }

    #[test]
    fn names_are_unique() {
        for step in STEPS {
            assert_eq!(STEPS.iter().filter(|other| other.name == step.name).count(), 1, "{}", step.name);
        }
    }
}
