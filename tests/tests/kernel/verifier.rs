//! What the kernel's verifier takes for the programs: each start, each takeover and `datapath attach` waits for it.

use aya::EbpfLoader;
use aya::programs::{SchedClassifier, Xdp};
use portreeve_ebpf::names;

use crate::verdicts::object;
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[("verifier_has_little_to_follow", verifier_has_little_to_follow)];

/// The kernel refuses a program of which it would have to follow a million (`BPF_COMPLEXITY_LIMIT_INSNS`).
const INSTRUCTIONS: u32 = 40_000;

fn verifier_has_little_to_follow() -> Outcome {
    for name in [names::TC_PROGRAM, names::TC_BARE_PROGRAM, names::XDP_PROGRAM] {
        let mut loader = EbpfLoader::new();
        loader.btf(None).override_global(names::LOG_LEVEL, &0u8, true);
        let mut ebpf = loader.load(&object()).unwrap();
        let program = ebpf.program_mut(name).unwrap();
        let info = if name == names::XDP_PROGRAM {
            let program: &mut Xdp = program.try_into().unwrap();
            program.load().and_then(|()| program.info())
        } else {
            let program: &mut SchedClassifier = program.try_into().unwrap();
            program.load().and_then(|()| program.info())
        };
        let followed = info.unwrap().verified_instruction_count().unwrap();
        assert!(followed < INSTRUCTIONS, "{name}: {followed}");
    }
    Ok(())
}
