//! How things end: one direction before the other, a side that is killed, input nobody reads.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::thread;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use portreeve_tests::deadline::until;
use portreeve_tests::{Companion, Testbed, run};

use super::Case;
use crate::observation::Observation;
use crate::ssh::{LIMIT, Standing, TARGET, noise, ssh};

const HALVES: &[(&str, &str)] = &[("client_read", "true"), ("server_read", "true")];
const ENDED: &[(&str, &str)] = &[("server_program", "ended")];

pub(super) const CASES: &[Case] = &[
    Case::new("server_ends_its_half_of_a_forward_first", server_half).expecting(HALVES),
    Case::new("client_ends_its_half_of_a_forward_first", client_half).expecting(HALVES),
    Case::new("forwarded_connection_that_is_reset", reset).expecting(&[("ended", "true")]),
    Case::new("client_killed_while_downloading", |bed| killed(bed, "killed_down", "cat /dev/zero"))
        .expecting(ENDED),
    Case::new("client_killed_while_uploading", |bed| killed(bed, "killed_up", "cat > /dev/null"))
        .expecting(ENDED),
    Case::new("target_killed_while_downloading", target_killed)
        .expecting(&[("status", "exit 255"), ("said", "closed")]),
    Case::new("target_killed_while_idle", target_killed_idle)
        .expecting(&[("status", "exit 255"), ("stderr", CLOSED)]),
    Case::new("client_hears_that_nobody_reads_its_input", eow)
        .expecting(&[("stdout", "done\n"), ("requests", "eow@openssh.com reply 0, exit-status reply 0")]),
];

const CLOSED: &str = "Connection to 10.1.2.3 closed by remote host.\r\n";

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A `-L` to a listener on the server: both ends of one forwarded connection.
fn forwarded(bed: &Testbed, case: &str, port: u16) -> Result<(Standing, TcpStream, TcpStream)> {
    let listener = bed.topology().server.enter(|| Ok(TcpListener::bind(loopback(port))?))?;
    let forward = format!("127.0.0.1:{port}:127.0.0.1:{port}");
    let mut ssh = Standing::start(bed, case, &["-L", &forward, TARGET])?;
    let client = ssh.until("the forward", || bed.client_netns().connect(loopback(port)).ok())?;
    let accepting = thread::spawn(move || listener.accept());
    until("the forwarded connection", LIMIT, || Ok(accepting.is_finished().then_some(())))?;
    let Ok(accepted) = accepting.join() else { bail!("the listener panicked") };
    let (server, _) = accepted?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
    }
    Ok((ssh, client, server))
}

/// `first` sends and ends its half; then `second` does, long after.
fn halves(mut first: TcpStream, mut second: TcpStream) -> Result<(bool, bool)> {
    let bytes = noise(300_000);
    let read = |stream: &mut TcpStream| -> Result<bool> {
        let mut read = Vec::new();
        stream.read_to_end(&mut read)?;
        Ok(read == bytes)
    };
    let send = |stream: &mut TcpStream| -> Result<()> {
        stream.write_all(&bytes)?;
        Ok(stream.shutdown(Shutdown::Write)?)
    };
    let (mut sending, mut answering) = (first.try_clone()?, second.try_clone()?);
    thread::scope(|scope| {
        let sent = scope.spawn(move || send(&mut sending));
        let second_read = read(&mut second)?;
        let answered = scope.spawn(move || send(&mut answering));
        let first_read = read(&mut first)?;
        for sending in [sent, answered] {
            sending.join().unwrap_or_else(|_| bail!("a sender panicked"))?;
        }
        Ok((first_read, second_read))
    })
}

fn server_half(bed: &Testbed) -> Result<Observation> {
    let (_ssh, client, server) = forwarded(bed, "server_half", 10_031)?;
    let (server_read, client_read) = halves(server, client)?;
    let seen = Observation::new().with("client_read", client_read.to_string());
    Ok(seen.with("server_read", server_read.to_string()))
}

fn client_half(bed: &Testbed) -> Result<Observation> {
    let (_ssh, client, server) = forwarded(bed, "client_half", 10_032)?;
    let (client_read, server_read) = halves(client, server)?;
    let seen = Observation::new().with("client_read", client_read.to_string());
    Ok(seen.with("server_read", server_read.to_string()))
}

/// Closing with unread input resets; ssh closes the channel, and the other end learns of it.
fn reset(bed: &Testbed) -> Result<Observation> {
    let (_ssh, mut client, mut server) = forwarded(bed, "reset", 10_033)?;
    server.write_all(b"unread")?;
    until("the bytes", LIMIT, || Ok((client.peek(&mut [0; 6])? == 6).then_some(())))?;
    client.write_all(b"last")?;
    let mut last = [0; 4];
    server.read_exact(&mut last)?;
    drop(client);
    let mut rest = Vec::new();
    let ended = server.read_to_end(&mut rest).is_ok() && rest.is_empty();
    Ok(Observation::new().with("last", String::from_utf8_lossy(&last)).with("ended", ended.to_string()))
}

/// Runs `program` on the server with data on its way, kills ssh, and waits for the program's end.
fn killed(bed: &Testbed, case: &str, program: &str) -> Result<Observation> {
    let pid_file = bed.server().home("alice").join(case);
    fs::remove_file(&pid_file).ok();
    let mut command = bed.client_ssh("ssh");
    command.args([TARGET, &format!("echo $$ > {case}.new; mv {case}.new {case}; exec {program}")]);
    command.stdin(fs::File::open("/dev/zero")?).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut ssh = Companion::spawn(&mut command)?;
    let pid = until("the program", LIMIT, || Ok(fs::read_to_string(&pid_file).ok()))?;
    ssh.signal(Signal::SIGKILL)?;
    ssh.wait(LIMIT)?;
    // The server shares our process ids.
    let process = Path::new("/proc").join(pid.trim()).join("cmdline");
    let runs = || fs::read(&process).is_ok_and(|line| line.starts_with(b"cat"));
    until("the end of the server's program", LIMIT, || Ok((!runs()).then_some(())))?;
    Ok(Observation::new().with("server_program", "ended"))
}

/// The shell's parent is the sshd of this connection. What the client says depends on whether it was
/// reading or writing at that moment, and whether sshd had unread input, without the gateway too.
fn target_killed(bed: &Testbed) -> Result<Observation> {
    const LOST: [&str; 3] = ["closed by remote host", "Broken pipe", "Connection reset by"];
    let finished = ssh(bed, &[TARGET, "(sleep 0.3; kill -9 $PPID) & exec cat /dev/zero"])?;
    let said = finished.err();
    let said = if LOST.iter().any(|lost| said.contains(lost)) { "closed".to_owned() } else { said };
    Ok(Observation::new().with("status", finished.ending()).with("said", said))
}

fn target_killed_idle(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh(bed, &[TARGET, "echo before; sleep 0.3; kill -9 $PPID; sleep 60"])?))
}

/// OpenSSH's server says so with `eow@openssh.com` (its PROTOCOL file, section 2.1), long before the
/// session ends, and only to a client that calls itself OpenSSH.
fn eow(bed: &Testbed) -> Result<Observation> {
    let script = "yes | ssh -v -F \"$0\" \"$1\" 'exec 0<&-; sleep 1; echo done'";
    let mut command = bed.client("sh");
    command.args(["-c", script]).arg(bed.ssh_config()).arg(TARGET);
    let finished = run(&mut command, b"", LIMIT)?;
    let said = finished.err();
    let requests = said.lines().filter_map(|line| line.split_once("channel 0 rtype ").map(|(_, kind)| kind));
    let requests = requests.map(str::trim_end).collect::<Vec<_>>().join(", ");
    Ok(Observation::new().with("stdout", finished.out()).with("requests", requests))
}
