//! Files of a machine that is off, read from its disk.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use portreeve_tests::run;
use portreeve_vm_tests::{bed::Bed, disk};

use crate::scene::LIMIT;

/// The partition whose file system is /var.
const LABEL: &str = "portreeve-var";

/// Public audit keys of the gateway, as `portreeve logs verify` wants them.
pub(crate) fn audit_keys(bed: &mut Bed) -> Result<PathBuf> {
    let whole = disk::raw(&bed.hardware_mut().disk.clone(), bed.dir().join("whole.img"))?;
    let var = format!("{}?offset={}", whole.display(), disk::partition(&whole, LABEL)?);
    let state = bed.dir().join("state-of-disk");
    fs::create_dir_all(&state)?;
    // What the journal has is put where it belongs; status 1 says that there was something.
    run(Command::new("e2fsck").args(["-p", &var]), b"", LIMIT)?;
    for name in ["audit_key", "audit_chain"] {
        let dump = format!("rdump /lib/portreeve/{name} {}", state.display());
        run(Command::new("debugfs").args(["-R", &dump, &var]), b"", LIMIT)?.success()?;
    }
    fs::remove_file(whole)?;
    let keys = bed.files().verb(&["audit-key", "show", "--all", "--state-dir"], &[&state])?;
    let file = bed.dir().join("audit.pub");
    fs::write(&file, keys)?;
    Ok(file)
}
