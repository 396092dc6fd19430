//! The kernel programs: those under test, on the maps of a running datapath, and those that measure.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::{Array, PerCpuArray, ProgramArray};
use aya::programs::{SchedClassifier, TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use nix::time::{ClockId, clock_gettime};
use portreeve_ebpf::{ABI_VERSION, names};

use crate::frames::LENGTH;

pub(crate) struct Measuring(Ebpf);

/// Which hook a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Tc,
    Xdp,
}

impl Hook {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::Xdp => "xdp",
        }
    }
}

/// Loads the programs under test on pinned maps.
pub(crate) fn under_test(pin_dir: &Path, object: &Path) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader.btf(None).override_global(names::MARK, &0x7072_u32, true);
    loader.override_global(names::LOG_LEVEL, &0_u8, true);
    for name in names::PINNED_MAPS.into_iter().chain(names::FAST_PATH_MAPS) {
        loader.map_pin_path(name, pin_dir.join(format!("v{ABI_VERSION}/maps/{name}")));
    }
    let mut ebpf = loader.load_file(object)?;
    tc(&mut ebpf, names::TC_PROGRAM)?.load()?;
    xdp(&mut ebpf, names::XDP_PROGRAM)?.load()?;
    Ok(ebpf)
}

fn tc<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    Ok(ebpf.program_mut(name).context("a program")?.try_into()?)
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).context("a program")?.try_into()?)
}

impl Measuring {
    pub(crate) fn load(object: &Path) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().btf(None).load_file(object)?;
        for name in ["wrapped_xdp", "generate_xdp", "empty_xdp", "drop_xdp"] {
            xdp(&mut ebpf, name)?.load()?;
        }
        for name in ["wrapped_tc", "empty_tc"] {
            tc(&mut ebpf, name)?.load()?;
        }
        Ok(Self(ebpf))
    }

    /// Sets the frames that runs and the generator take in turn; a power of two.
    pub(crate) fn set_frames(&mut self, frames: impl ExactSizeIterator<Item = [u8; LENGTH]>) -> Result<()> {
        let count = u32::try_from(frames.len())?;
        let mut map: Array<_, [u32; LENGTH / 4]> = self.0.map_mut("FRAMES").context("FRAMES")?.try_into()?;
        for (index, frame) in (0..).zip(frames) {
            let mut words = [0; LENGTH / 4];
            for (word, bytes) in words.iter_mut().zip(frame.chunks_exact(4)) {
                *word = u32::from_ne_bytes(bytes.try_into()?);
            }
            map.set(index, words, 0)?;
        }
        let mut mask: Array<_, u32> = self.0.map_mut("MASK").context("MASK")?.try_into()?;
        Ok(mask.set(0, count - 1, 0)?)
    }

    /// Nanoseconds of one run of the program over those of an empty one that is wrapped the same: the least
    /// of some rounds of each, in turn.
    pub(crate) fn cost(
        &mut self,
        ebpf: &mut Ebpf,
        hook: Hook,
        ingress: u32,
        extent: (u32, u32),
    ) -> Result<f64> {
        let (rounds, repeat) = extent;
        let (mut full, mut empty) = (Duration::MAX, Duration::MAX);
        for _ in 0..rounds {
            self.set_next(Some(ebpf), hook)?;
            full = full.min(self.run(hook, ingress, repeat)?);
            self.set_next(None, hook)?;
            empty = empty.min(self.run(hook, ingress, repeat)?);
        }
        Ok(full.as_nanos() as f64 - empty.as_nanos() as f64)
    }

    fn set_next(&mut self, ebpf: Option<&mut Ebpf>, hook: Hook) -> Result<()> {
        let own = ebpf.is_none();
        let (map, empty, tested) = match hook {
            Hook::Tc => ("TC", "empty_tc", names::TC_PROGRAM),
            Hook::Xdp => ("XDP", "empty_xdp", names::XDP_PROGRAM),
        };
        let program = if own { empty } else { tested };
        let of = ebpf.unwrap_or(&mut self.0);
        let fd = match hook {
            Hook::Tc => tc(of, program)?.fd()?.try_clone()?,
            Hook::Xdp => xdp(of, program)?.fd()?.try_clone()?,
        };
        let mut next: ProgramArray<_> = self.0.map_mut(map).context("a program array")?.try_into()?;
        Ok(next.set(0, &fd, 0)?)
    }

    fn run(&mut self, hook: Hook, ingress: u32, repeat: u32) -> Result<Duration> {
        let frame = [0; LENGTH];
        let md = metadata(ingress);
        let mut options = TestRunOptions { data_in: Some(&frame), repeat, ..TestRunOptions::new() };
        Ok(match hook {
            Hook::Tc => tc(&mut self.0, "wrapped_tc")?.test_run(options)?.duration,
            Hook::Xdp => {
                options.ctx_in = Some(&md);
                xdp(&mut self.0, "wrapped_xdp")?.test_run(options)?.duration
            }
        })
    }

    /// Sends frames out of an interface of the calling thread's namespace; CPU nanoseconds of each, all that
    /// they cause on this thread included.
    pub(crate) fn generate(&mut self, interface: u32, frames: u32) -> Result<f64> {
        let frame = [0; LENGTH];
        let md = metadata(interface);
        let options = TestRunOptions {
            data_in: Some(&frame),
            ctx_in: Some(&md),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(64),
            ..TestRunOptions::new()
        };
        let program = xdp(&mut self.0, "generate_xdp")?;
        let begin = cpu_time()?;
        program.test_run(options)?;
        Ok((cpu_time()? - begin).as_nanos() as f64 / f64::from(frames))
    }

    /// Attaches the program that counts and drops; the calling thread is in the interface's namespace.
    pub(crate) fn drop_at(&mut self, interface: &str) -> Result<aya::programs::xdp::XdpLinkId> {
        Ok(xdp(&mut self.0, "drop_xdp")?.attach(interface, XdpMode::Driver)?)
    }

    pub(crate) fn undo_drop(&mut self, link: aya::programs::xdp::XdpLinkId) -> Result<()> {
        Ok(xdp(&mut self.0, "drop_xdp")?.detach(link)?)
    }

    /// Frames that met the program that drops.
    pub(crate) fn dropped(&self) -> Result<u64> {
        let map: PerCpuArray<_, u64> = self.0.map("DROPPED").context("DROPPED")?.try_into()?;
        Ok(map.get(&0, 0)?.iter().sum())
    }
}

/// `struct xdp_md` of a frame that came in by an interface.
fn metadata(ingress: u32) -> Vec<u8> {
    let words = [0, LENGTH as u32, 0, ingress, 0, 0];
    words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect()
}

/// CPU time of this thread, on which the soft interrupts run that its frames raise.
fn cpu_time() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?))
}
