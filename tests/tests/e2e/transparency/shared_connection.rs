//! Several sessions over one connection (ControlMaster).

use std::thread;

use anyhow::{Result, bail};
use portreeve_tests::{Finished, Testbed, run};

use super::Case;
use crate::observation::Observation;
use crate::ssh::{LIMIT, Standing, TARGET, noise, scratch};

pub(super) const CASES: &[Case] = &[
    Case::new("sessions_over_a_master", in_turn).expecting(&[
        ("first/stdout", "one\n"),
        ("second/status", "exit 3"),
        ("third/stdout", "in\n"),
    ]),
    Case::new("eight_sessions_at_once", at_once)
        .expecting(&[("stdout", "0 1 2 3 4 5 6 7"), ("status", "0 1 2 3 4 5 6 7")]),
    Case::new("a_session_beside_a_transfer", beside_transfer)
        .expecting(&[("stdout", "quick\n"), ("equal", "true")]),
    Case::new("a_forward_added_to_a_master", added_forward).expecting(&[("stdout", "echoed")]),
    Case::new("a_master_that_is_told_to_exit", told_to_exit)
        .expecting(&[("check/status", "exit 0"), ("exit/status", "exit 0")]),
    Case::new("a_master_that_lets_no_more_in", stop_listening)
        .expecting(&[("running/status", "exit 6"), ("running/stdout", "done\n")]),
];

/// A master connection with a control socket.
struct Master {
    ssh: Standing,
    socket: String,
}

impl Master {
    fn start(bed: &Testbed, case: &str) -> Result<Self> {
        let socket = scratch(bed, case)?.join("ctl").display().to_string();
        let mut ssh = Standing::start(bed, case, &["-M", "-S", &socket, TARGET])?;
        ssh.until("the control socket", || std::path::Path::new(&socket).exists().then_some(()))?;
        Ok(Self { ssh, socket })
    }

    fn run(&self, bed: &Testbed, args: &[&str], stdin: &[u8]) -> Result<Finished> {
        run(bed.client_ssh("ssh").args(["-S", &self.socket]).args(args), stdin, LIMIT)
    }
}

fn in_turn(bed: &Testbed) -> Result<Observation> {
    let master = Master::start(bed, "in_turn")?;
    let first = master.run(bed, &[TARGET, "echo one"], b"")?;
    let second = master.run(bed, &[TARGET, "echo two >&2; exit 3"], b"")?;
    let third = master.run(bed, &[TARGET, "cat"], b"in\n")?;
    Ok(Observation::new()
        .and("first", Observation::of(&first))
        .and("second", Observation::of(&second))
        .and("third", Observation::of(&third)))
}

fn at_once(bed: &Testbed) -> Result<Observation> {
    let master = Master::start(bed, "at_once")?;
    let finished: Vec<Result<Finished>> = thread::scope(|scope| {
        let session = |number: u32| {
            let master = &master;
            scope.spawn(move || {
                let script = format!("sleep 0.2; printf {number}; sleep 0.2; exit {number}");
                master.run(bed, &[TARGET, &script], b"")
            })
        };
        let sessions: Vec<_> = (0..8).map(session).collect();
        sessions.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("a session panicked"))).collect()
    });
    let finished: Vec<Finished> = finished.into_iter().collect::<Result<_>>()?;
    let joined = |f: fn(&Finished) -> String| finished.iter().map(f).collect::<Vec<_>>().join(" ");
    Ok(Observation::new().with("stdout", joined(Finished::out)).with(
        "status",
        joined(|one| one.status.code().map_or_else(|| "none".to_owned(), |code| code.to_string())),
    ))
}

fn beside_transfer(bed: &Testbed) -> Result<Observation> {
    let master = Master::start(bed, "beside_transfer")?;
    let bytes = noise(5_000_000);
    std::fs::write(bed.server().home("alice").join("beside_transfer"), &bytes)?;
    let (large, quick) = thread::scope(|scope| {
        let large = scope.spawn(|| master.run(bed, &[TARGET, "cat beside_transfer"], b""));
        let quick = master.run(bed, &[TARGET, "echo quick"], b"");
        (large.join().unwrap_or_else(|_| bail!("the transfer panicked")), quick)
    });
    Ok(Observation::of(&quick?).with("equal", (large?.stdout == bytes).to_string()))
}

fn added_forward(bed: &Testbed) -> Result<Observation> {
    let master = Master::start(bed, "added_forward")?;
    let forward = master.run(bed, &["-O", "forward", "-L", "127.0.0.1:10020:127.0.0.1:7", TARGET], b"")?;
    let stream = bed.client_netns().connect(([127, 0, 0, 1], 10_020).into())?;
    let echoed = crate::ssh::converse(stream, b"echoed")?;
    Ok(Observation::new()
        .and("forward", Observation::of(&forward))
        .with("stdout", String::from_utf8_lossy(&echoed)))
}

/// What `-O check` says holds a pid, so it is left out.
fn told_to_exit(bed: &Testbed) -> Result<Observation> {
    let mut master = Master::start(bed, "told_to_exit")?;
    let check = master.run(bed, &["-O", "check", TARGET], b"")?;
    let exit = master.run(bed, &["-O", "exit", TARGET], b"")?;
    let ended = master.ssh.companion().wait(LIMIT)?;
    Ok(Observation::new()
        .with("check/status", check.ending())
        .and("exit", Observation::of(&exit))
        .with("master", portreeve_tests::execute::ending(ended)))
}

fn stop_listening(bed: &Testbed) -> Result<Observation> {
    let master = Master::start(bed, "stop_listening")?;
    let (running, stopped) = thread::scope(|scope| {
        let running = scope
            .spawn(|| master.run(bed, &[TARGET, "touch stop_listening; sleep 0.5; echo done; exit 6"], b""));
        let started = bed.server().home("alice").join("stop_listening");
        let stopped =
            portreeve_tests::deadline::until("the session", LIMIT, || Ok(started.exists().then_some(())))
                .and_then(|()| master.run(bed, &["-O", "stop", TARGET], b""));
        (running.join().unwrap_or_else(|_| bail!("the session panicked")), stopped)
    });
    Ok(Observation::new().and("running", Observation::of(&running?)).with("stopped", stopped?.ending()))
}
