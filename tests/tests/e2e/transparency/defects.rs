//! Cases that a relay of whole channels fails by design, and a relay of messages must pass.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;
use portreeve_tests::{Companion, Testbed, run};

use super::Case;
use crate::observation::Observation;
use crate::ssh::{LIMIT, Standing, TARGET, scratch, ssh};

pub(super) const CASES: &[Case] = &[
    Case::new("bulk_both_ways_at_once", both_ways)
        .expecting(&[("status", "exit 0"), ("stdout", "100000000\n")]),
    Case::new("a_channel_beside_a_stalled_one", beside_stalled)
        .expecting(&[("status", "exit 0"), ("stdout", "quick\n")]),
    Case::new("exit_codes_over_a_master", exit_codes).expecting(&[("status", "150 x exit 3")]),
    Case::new("why_a_forward_failed", open_failure),
];

fn both_ways(bed: &Testbed) -> Result<Observation> {
    let script = "head -c 100000000 /dev/zero | ssh -F \"$0\" \"$1\" cat | wc -c";
    let mut command = bed.client("sh");
    command.args(["-c", script]).arg(bed.ssh_config()).arg(TARGET);
    Ok(Observation::of(&run(&mut command, b"", LIMIT)?))
}

fn beside_stalled(bed: &Testbed) -> Result<Observation> {
    let socket = scratch(bed, "beside_stalled")?.join("ctl").display().to_string();
    let mut master = Standing::start(bed, "beside_stalled", &["-M", "-S", &socket, TARGET])?;
    master.until("the control socket", || std::path::Path::new(&socket).exists().then_some(()))?;
    let mut stalled = bed.client_ssh("ssh");
    stalled.args(["-S", &socket, TARGET, "touch stalled; cat /dev/zero"]);
    stalled.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let _stalled = Companion::spawn(&mut stalled)?;
    let started = bed.server().home("alice").join("stalled");
    master.until("the stalled session", || started.exists().then_some(()))?;
    let mut quick = bed.client_ssh("ssh");
    quick.args(["-S", &socket, TARGET, "echo quick"]);
    Ok(Observation::of(&run(&mut quick, b"", Duration::from_secs(10))?))
}

fn exit_codes(bed: &Testbed) -> Result<Observation> {
    let socket = scratch(bed, "exit_codes")?.join("ctl").display().to_string();
    let mut master = Standing::start(bed, "exit_codes", &["-M", "-S", &socket, TARGET])?;
    master.until("the control socket", || std::path::Path::new(&socket).exists().then_some(()))?;
    let mut right = 0;
    for _ in 0..150 {
        let finished = run(bed.client_ssh("ssh").args(["-S", &socket, TARGET, "exit 3"]), b"", LIMIT)?;
        right += u32::from(finished.ending() == "exit 3");
    }
    Ok(Observation::new().with("status", format!("{right} x exit 3")))
}

fn open_failure(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh(bed, &["-W", "127.0.0.1:1", TARGET])?))
}
