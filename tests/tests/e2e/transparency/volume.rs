//! Much of everything: bytes, key exchanges, files, sessions, connections.
//!
//! Sizes are what a run of minutes allows; `PORTREEVE_BULK_MB` and `PORTREEVE_CONNECTIONS` raise them.

use std::env;
use std::fs;
use std::thread;

use anyhow::{Context, Result, bail};
use portreeve_tests::execute::ending;
use portreeve_tests::terminal::Terminal;
use portreeve_tests::{Finished, Options, Testbed, run};

use super::Case;
use crate::beds;
use crate::observation::Observation;
use crate::ssh::{LIMIT, Standing, TARGET, noise, scratch, sha256, ssh, ssh_with};

const BULK_MB: usize = 300;
const CONNECTIONS: usize = 200;
const REKEYED_BYTES: usize = 20_000_000;
const ALL_WAYS: &[(&str, &str)] = &[
    ("up/status", "exit 0"),
    ("up/equal", "true"),
    ("down/status", "exit 0"),
    ("down/equal", "true"),
    ("both/status", "exit 0"),
    ("both/equal", "true"),
];

pub(super) const CASES: &[Case] = &[
    Case::new("bulk_both_ways_is_whole", both_ways).expecting(&[("status", "exit 0"), ("equal", "true")]),
    Case::new("client_rekeys_each_megabyte", client_rekeys).expecting(ALL_WAYS),
    Case::new("server_rekeys_each_megabyte", server_rekeys).expecting(ALL_WAYS),
    Case::new("server_asks_whether_the_client_is_alive", server_alive)
        .expecting(&[("status", "exit 0"), ("stdout", "alive\n")]),
    Case::new("three_hundred_exit_codes_over_a_master", exit_codes).expecting(&[("status", "300 x exit 3")]),
    Case::new("thirty_two_terminals_over_a_master", terminals).expecting(&[("opened", "32"), ("wrong", "")]),
    Case::new("rsync_of_ten_thousand_files", rsync).expecting(&[
        ("first/status", "exit 0"),
        ("first/stderr", ""),
        ("second/status", "exit 0"),
        ("second/stdout", ""),
        ("files", "10000\n"),
    ]),
    Case::new("hundreds_of_short_connections", connections).expecting(&[("wrong", "")]),
];

fn setting(name: &str, default: usize) -> Result<usize> {
    match env::var(name) {
        Ok(value) => value.parse().with_context(|| format!("{name}={value}")),
        Err(_) => Ok(default),
    }
}

/// A counter's lines, so that a byte lost, doubled or moved changes the checksum.
fn both_ways(bed: &Testbed) -> Result<Observation> {
    let lines = (setting("PORTREEVE_BULK_MB", BULK_MB)? * 1_000_000 / 9).to_string();
    let script = "seq -f %08.0f \"$2\" | ssh -F \"$0\" \"$1\" cat | cksum";
    let mut command = bed.client("bash");
    command.args(["-o", "pipefail", "-c", script]).arg(bed.ssh_config()).args([TARGET, &lines]);
    let limit = LIMIT * u32::try_from(1 + setting("PORTREEVE_BULK_MB", BULK_MB)? / 1000)?;
    let finished = run(&mut command, b"", limit)?;
    let mut sent = bed.client("sh");
    sent.args(["-c", "seq -f %08.0f \"$0\" | cksum", &lines]);
    let equal = run(&mut sent, b"", limit)?.success()? == finished.out();
    Ok(Observation::of(&finished).with("equal", equal.to_string()))
}

/// Up, down, and both at once, with `options`.
fn all_ways(bed: &Testbed, case: &str, options: &[&str]) -> Result<Observation> {
    let bytes = noise(REKEYED_BYTES);
    let with = |command: &str, stdin: &[u8]| {
        let args: Vec<&str> = options.iter().copied().chain([TARGET, command]).collect();
        ssh_with(bed, &args, stdin)
    };
    let seen = |finished: &Finished, equal: bool| {
        Observation::new()
            .with("status", finished.ending())
            .with("stderr", finished.err())
            .with("equal", equal.to_string())
    };
    fs::write(bed.server().home("alice").join(case), &bytes)?;
    let up = with("sha256sum", &bytes)?;
    let down = with(&format!("cat {case}"), b"")?;
    let both = with("cat", &bytes)?;
    Ok(Observation::new()
        .and("up", seen(&up, up.out().starts_with(&sha256(&bytes)?)))
        .and("down", seen(&down, down.stdout == bytes))
        .and("both", seen(&both, both.stdout == bytes)))
}

fn client_rekeys(bed: &Testbed) -> Result<Observation> {
    all_ways(bed, "client_rekeys", &["-o", "RekeyLimit=1M"])
}

/// A server of its own, since the limit is the whole sshd's.
fn with_sshd(bed: &Testbed, lines: &str, f: impl Fn(&Testbed) -> Result<Observation>) -> Result<Observation> {
    let options = Options { sshd_config: Some(lines.to_owned()), ..Options::default() };
    let own = beds::start(bed.route(), &options)?;
    let seen = f(&own)?;
    own.stop()?;
    Ok(seen)
}

fn server_rekeys(bed: &Testbed) -> Result<Observation> {
    with_sshd(bed, "RekeyLimit 1M\n", |own| all_ways(own, "server_rekeys", &[]))
}

fn server_alive(bed: &Testbed) -> Result<Observation> {
    with_sshd(bed, "ClientAliveInterval 1\nClientAliveCountMax 1\n", |own| {
        Ok(Observation::of(&ssh(own, &[TARGET, "sleep 3.5; echo alive"])?))
    })
}

fn master(bed: &Testbed, case: &str) -> Result<(Standing, String)> {
    let socket = scratch(bed, case)?.join("ctl").display().to_string();
    let mut master = Standing::start(bed, case, &["-M", "-S", &socket, TARGET])?;
    master.until("the control socket", || std::path::Path::new(&socket).exists().then_some(()))?;
    Ok((master, socket))
}

/// Calls `f` with 0..count on `width` threads; returns what it said, in order.
fn in_parallel<T: Send>(
    width: usize,
    count: usize,
    f: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<(usize, T)>> {
    let (f, mut all) = (&f, Vec::with_capacity(count));
    thread::scope(|scope| -> Result<()> {
        let lane = |lane: usize| {
            scope.spawn(move || {
                (lane..count).step_by(width).map(|n| Ok((n, f(n)?))).collect::<Result<Vec<_>>>()
            })
        };
        let lanes: Vec<_> = (0..width).map(lane).collect();
        for lane in lanes {
            all.extend(lane.join().unwrap_or_else(|_| bail!("a lane panicked"))?);
        }
        Ok(())
    })?;
    all.sort_by_key(|(n, _)| *n);
    Ok(all)
}

fn exit_codes(bed: &Testbed) -> Result<Observation> {
    let (_master, socket) = master(bed, "exit_codes_300")?;
    let endings = in_parallel(3, 300, |_| {
        let mut command = bed.client_ssh("ssh");
        Ok(run(command.args(["-S", &socket, TARGET, "exit 3"]), b"", LIMIT)?.ending())
    })?;
    let right = endings.iter().filter(|(_, ending)| ending == "exit 3").count();
    Ok(Observation::new().with("status", format!("{right} x exit 3")))
}

/// All are open before the first is spoken to.
fn terminals(bed: &Testbed) -> Result<Observation> {
    let (_master, socket) = master(bed, "terminals")?;
    let mut open = Vec::new();
    for number in 0..32_u16 {
        let mut command = bed.client("setsid");
        let script = format!("stty size; read line; echo \"heard $line\"; exit {}", 10 + number);
        command.args(["--ctty", "ssh", "-F"]).arg(bed.ssh_config());
        command.args(["-S", &socket, "-t", TARGET, &script]);
        open.push((number, Terminal::spawn(&mut command, 80 + number, 24)?));
    }
    let mut wrong = String::new();
    for (number, terminal) in &mut open {
        if let Err(error) = terminal.expect(&format!("24 {}\r", 80 + *number), LIMIT) {
            wrong += &format!("{number}: {error:#}\n");
        }
    }
    let opened = open.len();
    for (number, mut terminal) in open {
        terminal.send(&format!("line {number}\r"))?;
        let heard = terminal.expect(&format!("heard line {number}\r\n"), LIMIT).is_ok();
        let (status, transcript) = terminal.finish(LIMIT)?;
        if !heard || ending(status) != format!("exit {}", 10 + number) {
            wrong += &format!("{number}: {} {transcript:?}\n", ending(status));
        }
    }
    Ok(Observation::new().with("opened", opened.to_string()).with("wrong", wrong))
}

/// The second run compares contents and finds nothing to do.
fn rsync(bed: &Testbed) -> Result<Observation> {
    let here = scratch(bed, "rsync_many")?;
    for dir in 0..100 {
        let dir = here.join(format!("from/{dir}"));
        fs::create_dir_all(&dir)?;
        for file in 0..100 {
            fs::write(dir.join(file.to_string()), format!("{} {file}\n", dir.display()).repeat(file))?;
        }
    }
    ssh(bed, &[TARGET, "rm -rf rsync_many"])?.success()?;
    let rsync = |options: &[&str]| {
        let mut command = bed.client("rsync");
        command.args(options).arg("-e").arg(format!("ssh -F \"{}\"", bed.ssh_config().display()));
        command.args(["from/", &format!("{TARGET}:rsync_many/")]).current_dir(&here);
        run(&mut command, b"", LIMIT)
    };
    let first = rsync(&["-a", "--delete"])?;
    let second = rsync(&["-a", "--checksum", "--delete", "--itemize-changes", "--dry-run"])?;
    let files = ssh(bed, &[TARGET, "find rsync_many -type f | wc -l"])?.success()?;
    Ok(Observation::new()
        .and("first", Observation::of(&first))
        .and("second", Observation::of(&second))
        .with("files", files))
}

fn connections(bed: &Testbed) -> Result<Observation> {
    let count = setting("PORTREEVE_CONNECTIONS", CONNECTIONS)?;
    let endings = in_parallel(8, count, |number| {
        let code = number % 250 + 1;
        let finished = ssh(bed, &[TARGET, &format!("echo {number}; exit {code}")])?;
        let right = finished.ending() == format!("exit {code}")
            && finished.out() == format!("{number}\n")
            && finished.err().is_empty();
        Ok(if right { String::new() } else { format!("{finished:?}") })
    })?;
    let wrong: Vec<String> = endings.into_iter().map(|(_, wrong)| wrong).filter(|w| !w.is_empty()).collect();
    Ok(Observation::new().with("wrong", wrong.join("\n")))
}
