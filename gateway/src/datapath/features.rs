//! What steering needs of the kernel, asked for by feature and not by version: distributions backport
//! some, and leave others out.
//!
//! Asks by loading trivial programs and making empty maps, which needs the capabilities of steering.
//! What cannot be asked for counts as there: loading the programs then says more.

use aya::maps::MapType;
use aya::programs::{ProgramError, ProgramType, SchedClassifier, TcAttachType};
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};
use nix::libc;

use super::DatapathError;

/// Something that a kernel may lack.
struct Feature {
    /// Its name, with the version of Linux that brought it and the option that switches it on.
    name: &'static str,
    lacking: fn() -> bool,
}

/// All that is needed; TCX is not, since clsact stands in for it.
const FEATURES: [Feature; 9] = [
    Feature {
        name: "programs of traffic control (Linux 4.1, CONFIG_NET_CLS_ACT)",
        lacking: || lacks(is_program_supported(ProgramType::SchedClassifier)),
    },
    Feature {
        name: "SK_LOOKUP programs (Linux 5.9)",
        lacking: || lacks(is_program_supported(ProgramType::SkLookup)),
    },
    Feature { name: "LPM tries (Linux 4.11)", lacking: || lacks(is_map_supported(MapType::LpmTrie)) },
    Feature {
        name: "SOCKMAP (Linux 4.14, CONFIG_NET)",
        lacking: || lacks(is_map_supported(MapType::SockMap)),
    },
    Feature {
        name: "bpf_sk_assign in programs of traffic control (Linux 5.7)",
        lacking: || lacks_helper(ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_sk_assign),
    },
    Feature {
        name: "bpf_skc_lookup_tcp in programs of traffic control (Linux 5.2)",
        lacking: || lacks_helper(ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_skc_lookup_tcp),
    },
    Feature {
        name: "bpf_probe_read_kernel in programs of traffic control (Linux 5.8)",
        lacking: || lacks_helper(ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_probe_read_kernel),
    },
    Feature {
        name: "bpf_loop in programs of traffic control (Linux 5.17)",
        lacking: || lacks_helper(ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_loop),
    },
    Feature {
        name: "bpf_sk_assign in SK_LOOKUP programs (Linux 5.9)",
        lacking: || lacks_helper(ProgramType::SkLookup, BpfHelper::BPF_FUNC_sk_assign),
    },
];

/// Names everything that this kernel lacks, at once.
pub(super) fn check() -> Result<(), DatapathError> {
    named(&FEATURES)
}

/// Whether programs of traffic control can be attached by TCX links (Linux 6.6).
pub(super) fn has_tcx() -> bool {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Err(ProgramError::SyscallError(error)) => error.io_error.raw_os_error() != Some(libc::EINVAL),
        // An answer, or one about programs that may not be looked at.
        Ok(_) | Err(_) => true,
    }
}

fn named(features: &[Feature]) -> Result<(), DatapathError> {
    let missing: Vec<_> =
        features.iter().filter(|feature| (feature.lacking)()).map(|feature| feature.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(DatapathError::KernelLacks { missing: missing.join(", ") })
}

fn lacks_helper(program: ProgramType, helper: BpfHelper) -> bool {
    lacks(is_helper_supported(program, helper))
}

fn lacks<E>(supported: Result<bool, E>) -> bool {
    matches!(supported, Ok(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_named_at_once_and_what_cannot_be_asked_for_is_not() {
        let features = [
            Feature { name: "first (Linux 1.0)", lacking: || true },
            Feature { name: "second", lacking: || false },
            Feature { name: "third", lacking: || lacks(Err(())) },
            Feature { name: "fourth (Linux 2.0)", lacking: || true },
        ];
        let error = named(&features).unwrap_err().to_string();
        assert!(
            error.contains("lacks first (Linux 1.0), fourth (Linux 2.0)") && error.contains("6.1"),
            "{error}"
        );
        assert!(!error.contains("second") && !error.contains("third"), "{error}");
        named(&features[1..3]).unwrap();
    }
}
