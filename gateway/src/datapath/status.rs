//! What the kernel holds of a gateway, asked without a daemon.
//!
//! Only reads: neither attaches nor mends, and says nothing about a daemon.

use portreeve_core::config::daemon::{DatapathConfig, FastPathMode};
use serde::Serialize;

use super::DatapathError;
use super::maps::Maps;
use super::pins::{Attachment, Pins};
use super::{clsact, fast_path, preflight, tcx};

/// A program that the kernel runs on what comes in on an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AttachedProgram {
    /// The interface.
    pub interface: String,
    /// How it is attached: `tcx` or `clsact` for steering, `xdp-native` or `xdp-generic` for the fast path.
    pub mode: &'static str,
    /// The kernel's number of the program.
    pub program_id: u32,
}

/// What the kernel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Interfaces whose ingress is matched.
    pub interfaces: Vec<String>,
    /// Configured interfaces whose ingress is not: they are not there, or targets are open to what
    /// comes in.
    pub not_attached: Vec<String>,
    /// The programs on interfaces, steering first for each.
    pub programs: Vec<AttachedProgram>,
    /// Number of steered addresses and prefixes.
    pub targets: usize,
    /// Packets by what became of them.
    pub counters: Vec<(&'static str, u64)>,
    /// Interfaces whose other traffic takes the fast path.
    pub fast_path: Vec<String>,
    /// Frames by what the fast path did with them.
    pub fast_path_counters: Vec<(&'static str, u64)>,
}

/// What the programs counted since their maps were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets by what became of them.
    pub packets: Vec<(&'static str, u64)>,
    /// Frames by what the fast path did with them.
    pub fast_path: Vec<(&'static str, u64)>,
}

/// The counters alone, which costs some system calls however many targets there are; `None` when nothing
/// is pinned.
///
/// # Errors
/// When the pins cannot be read.
pub fn counters(config: &DatapathConfig) -> Result<Option<Counters>, DatapathError> {
    let pins = Pins::new(&config.pin_dir);
    if !pins.exist()? {
        return Ok(None);
    }
    let packets = Maps::from_pins(&pins)?.counters()?;
    let (_, fast_path) = fast_path::status(&pins)?;
    Ok(Some(Counters { packets, fast_path }))
}

/// What is attached and counted; `None` when nothing is pinned.
///
/// A pin only says what was attached once, so each interface is asked for what it has.
///
/// # Errors
/// When the pins cannot be read, or the kernel does not say what an interface has.
pub fn status(config: &DatapathConfig) -> Result<Option<Status>, DatapathError> {
    let pins = Pins::new(&config.pin_dir);
    if !pins.exist()? {
        return Ok(None);
    }
    let maps = Maps::from_pins(&pins)?;
    let mut programs = steering(&pins)?;
    let mut interfaces: Vec<String> = programs.iter().map(|program| program.interface.clone()).collect();
    interfaces.sort();
    interfaces.dedup();
    let not_attached = config.interfaces.iter().filter(|name| !interfaces.contains(name)).cloned().collect();
    for (interface, mode, program_id) in fast_path::attached(&pins)? {
        let mode = match mode {
            FastPathMode::Native => "xdp-native",
            FastPathMode::Generic => "xdp-generic",
        };
        programs.push(AttachedProgram { interface, mode, program_id });
    }
    programs.sort();
    let (fast_path, fast_path_counters) = fast_path::status(&pins)?;
    Ok(Some(Status {
        interfaces,
        not_attached,
        programs,
        targets: maps.count()?,
        counters: maps.counters()?,
        fast_path,
        fast_path_counters,
    }))
}

/// Whether every configured interface has its program, and none is one whose frames another device takes, and there are
/// targets. What cannot be asked is not so.
pub fn is_complete(config: &DatapathConfig) -> bool {
    let pins = Pins::new(&config.pin_dir);
    let programs = steering(&pins).unwrap_or_default();
    let has = |name: &String| programs.iter().any(|program| program.interface == *name);
    let closed = |name| has(name) && preflight::interface(name).is_ok();
    let targets = Maps::from_pins(&pins).and_then(|maps| maps.count()).unwrap_or_default();
    targets > 0 && config.interfaces.iter().all(closed)
}

/// The programs for steering that are on interfaces.
fn steering(pins: &Pins) -> Result<Vec<AttachedProgram>, DatapathError> {
    let looked = pins.attachments()?.into_iter().map(|attachment| attached(&attachment, pins).transpose());
    looked.flatten().collect()
}

fn attached(attachment: &Attachment, pins: &Pins) -> Result<Option<AttachedProgram>, DatapathError> {
    let (interface, mode, program_id) = match attachment {
        Attachment::Tcx { interface, .. } => {
            (interface, "tcx", tcx::attached(interface, &pins.attachment(attachment))?)
        }
        Attachment::Clsact(interface) => (interface, "clsact", clsact::attached(interface)?),
        Attachment::SkLookup => return Ok(None),
    };
    Ok(program_id.map(|program_id| AttachedProgram { interface: interface.clone(), mode, program_id }))
}
