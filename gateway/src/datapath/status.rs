//! What the kernel holds of a gateway, asked without a daemon.
//!
//! Only reads: neither attaches nor mends, and says nothing about a daemon.

use std::collections::BTreeSet;

use portreeve_core::config::daemon::DatapathConfig;

use super::DatapathError;
use super::maps::Maps;
use super::pins::{Attachment, Pins};
use super::{clsact, fast_path, tcx};

/// What the kernel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Interfaces whose ingress is matched.
    pub interfaces: Vec<String>,
    /// Configured interfaces whose ingress is not: they are not there, or targets are open to what
    /// comes in.
    pub not_attached: Vec<String>,
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
    let mut attached = BTreeSet::new();
    for attachment in pins.attachments()? {
        if is_attached(&attachment, &pins)? {
            attached.extend(attachment.interface().map(str::to_owned));
        }
    }
    let not_attached = config.interfaces.iter().filter(|name| !attached.contains(*name)).cloned().collect();
    let (fast_path, fast_path_counters) = fast_path::status(&pins)?;
    Ok(Some(Status {
        interfaces: attached.into_iter().collect(),
        not_attached,
        targets: maps.count()?,
        counters: maps.counters()?,
        fast_path,
        fast_path_counters,
    }))
}

fn is_attached(attachment: &Attachment, pins: &Pins) -> Result<bool, DatapathError> {
    match attachment {
        Attachment::Tcx { interface, .. } => tcx::is_attached(interface, &pins.attachment(attachment)),
        Attachment::Clsact(interface) => clsact::is_attached(interface),
        Attachment::SkLookup => Ok(true),
    }
}
