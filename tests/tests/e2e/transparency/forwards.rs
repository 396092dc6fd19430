//! Forwards: TCP and unix sockets, both ways, SOCKS, standard streams, agent.
//!
//! Each case has ports of its own, since all share one client and one server.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use portreeve_tests::echo::Echo;
use portreeve_tests::{Companion, Netns, Testbed, run};

use super::Case;
use crate::observation::Observation;
use crate::ssh::{LIMIT, Standing, TARGET, converse, noise, scratch, ssh, ssh_with};

const ECHOED: &[(&str, &str)] = &[("echoed", "true")];

pub(super) const CASES: &[Case] = &[
    Case::new("local_forward", local).expecting(ECHOED),
    Case::new("local_forward_to_an_ipv6_address", local_v6).expecting(ECHOED),
    Case::new("local_forward_of_many_connections", local_many).expecting(&[("echoed", "20")]),
    Case::new("local_forward_to_a_closed_port", local_refused).expecting(&[("answer", "")]),
    Case::new("remote_forward", remote).expecting(ECHOED),
    Case::new("remote_forward_on_a_port_the_server_chooses", remote_any).expecting(ECHOED),
    Case::new("remote_forward_that_the_server_refuses", remote_refused)
        .expecting(&[("stderr", "Error: remote port forwarding failed for listen port 80\r\n")]),
    Case::new("remote_socks_forward", remote_socks).expecting(ECHOED),
    Case::new("socks_forward", socks).expecting(ECHOED),
    Case::new("standard_streams_forward", stdio).expecting(&[("status", "exit 0"), ("echoed", "true")]),
    Case::new("proxy_jump_through_the_target", jump)
        .expecting(&[("status", "exit 0"), ("stdout", "server\n")]),
    Case::new("local_forward_to_a_unix_socket", unix_local).expecting(ECHOED),
    Case::new("remote_forward_of_a_unix_socket", unix_remote).expecting(ECHOED),
    Case::new("agent_keys_are_seen_on_the_target", agent).expecting(&[("status", "exit 0"), ("key", "true")]),
    Case::new("agent_logs_in_to_the_next_server", nested_agent)
        .expecting(&[("status", "exit 0"), ("stdout", "bob\n")]),
    Case::new("no_agent_when_none_is_forwarded", no_agent).expecting(&[("stdout", "none\n")]),
];

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Waits until somebody listens, without opening a connection that ssh would forward.
fn listening(netns: &Netns, port: u16) -> Option<()> {
    let table = netns.enter(|| Ok(fs::read_to_string("/proc/thread-self/net/tcp")?)).ok()?;
    let local = format!(":{port:04X} ");
    let listens = |line: &str| line.contains(" 0A ") && line.contains(&local);
    table.lines().any(listens).then_some(())
}

fn echoes(stream: TcpStream, length: usize) -> Result<bool> {
    let bytes = noise(length);
    Ok(converse(stream, &bytes)? == bytes)
}

fn observe_echo(stream: TcpStream) -> Result<Observation> {
    Ok(Observation::new().with("echoed", echoes(stream, 200_000)?.to_string()))
}

/// A standing `ssh -L`, ready for connections.
fn local_forward(bed: &Testbed, port: u16, destination: &str) -> Result<Standing> {
    let forward = format!("127.0.0.1:{port}:{destination}");
    let mut ssh = Standing::start(bed, &format!("local{port}"), &["-L", &forward, TARGET])?;
    ssh.until("the forward", || listening(bed.client_netns(), port))?;
    Ok(ssh)
}

fn local(bed: &Testbed) -> Result<Observation> {
    let _ssh = local_forward(bed, 10_001, "127.0.0.1:7")?;
    observe_echo(bed.client_netns().connect(loopback(10_001))?)
}

fn local_v6(bed: &Testbed) -> Result<Observation> {
    let _ssh = local_forward(bed, 10_002, "[::1]:7")?;
    observe_echo(bed.client_netns().connect(loopback(10_002))?)
}

fn local_many(bed: &Testbed) -> Result<Observation> {
    let _ssh = local_forward(bed, 10_003, "127.0.0.1:7")?;
    let client = bed.client_netns();
    let echoed = thread::scope(|scope| {
        let one = || client.connect(loopback(10_003)).and_then(|stream| echoes(stream, 5_000));
        let all: Vec<_> = (0..20).map(|_| scope.spawn(one)).collect();
        all.into_iter().filter_map(|one| one.join().ok()?.ok()).filter(|same| *same).count()
    });
    Ok(Observation::new().with("echoed", echoed.to_string()))
}

fn local_refused(bed: &Testbed) -> Result<Observation> {
    let _ssh = local_forward(bed, 10_004, "127.0.0.1:1")?;
    let stream = bed.client_netns().connect(loopback(10_004))?;
    let answer = converse(stream, b"").unwrap_or_default();
    Ok(Observation::new().with("answer", String::from_utf8_lossy(&answer)))
}

fn remote(bed: &Testbed) -> Result<Observation> {
    let echo = Echo::listen(bed.client_netns(), loopback(0))?;
    let forward = format!("127.0.0.1:10005:127.0.0.1:{}", echo.address()?.port());
    let mut ssh = Standing::start(bed, "remote", &["-R", &forward, TARGET])?;
    let server = &bed.topology().server;
    ssh.until("the forward", || listening(server, 10_005))?;
    observe_echo(server.connect(loopback(10_005))?)
}

fn remote_any(bed: &Testbed) -> Result<Observation> {
    let echo = Echo::listen(bed.client_netns(), loopback(0))?;
    let forward = format!("127.0.0.1:0:127.0.0.1:{}", echo.address()?.port());
    let mut ssh = Standing::start(bed, "remote_any", &["-R", &forward, TARGET])?;
    let said = ssh.until_says("\n")?;
    let port = said.strip_prefix("Allocated port ").and_then(|rest| rest.split(' ').next());
    let port = port.with_context(|| format!("ssh said {said:?}"))?.parse()?;
    observe_echo(bed.topology().server.connect(loopback(port))?)
}

fn remote_refused(bed: &Testbed) -> Result<Observation> {
    let args = ["-o", "ExitOnForwardFailure=yes", "-N", "-R", "127.0.0.1:80:127.0.0.1:7", TARGET];
    Ok(Observation::of(&ssh(bed, &args)?))
}

fn remote_socks(bed: &Testbed) -> Result<Observation> {
    let echo = Echo::listen(bed.client_netns(), loopback(0))?;
    let mut ssh = Standing::start(bed, "remote_socks", &["-R", "127.0.0.1:10006", TARGET])?;
    let server = &bed.topology().server;
    ssh.until("the forward", || listening(server, 10_006))?;
    observe_echo(socks_to(server.connect(loopback(10_006))?, echo.address()?)?)
}

fn socks(bed: &Testbed) -> Result<Observation> {
    let mut ssh = Standing::start(bed, "socks", &["-D", "127.0.0.1:10007", TARGET])?;
    ssh.until("the forward", || listening(bed.client_netns(), 10_007))?;
    observe_echo(socks_to(bed.client_netns().connect(loopback(10_007))?, loopback(7))?)
}

/// Asks a SOCKS server for a connection to an IPv4 address (RFC 1928 sections 3 to 6).
fn socks_to(mut stream: TcpStream, to: SocketAddr) -> Result<TcpStream> {
    let SocketAddr::V4(to) = to else { bail!("{to} is no IPv4 address") };
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(&[5, 1, 0])?;
    let mut method = [0; 2];
    stream.read_exact(&mut method)?;
    ensure!(method == [5, 0], "the SOCKS server wants {method:?}");
    let mut request = vec![5, 1, 0, 1];
    request.extend(to.ip().octets());
    request.extend(to.port().to_be_bytes());
    stream.write_all(&request)?;
    let mut reply = [0; 10];
    stream.read_exact(&mut reply)?;
    ensure!(reply.starts_with(&[5, 0]), "the SOCKS server refuses: {reply:?}");
    Ok(stream)
}

fn stdio(bed: &Testbed) -> Result<Observation> {
    let bytes = noise(100_000);
    let finished = ssh_with(bed, &["-W", "127.0.0.1:7", TARGET], &bytes)?;
    Ok(Observation::new()
        .with("status", finished.ending())
        .with("stderr", finished.err())
        .with("echoed", (finished.stdout == bytes).to_string()))
}

/// A key of the client's that opens `bob`, who is on the server but of no concern to the gateway.
fn key_of_bob(bed: &Testbed, case: &str) -> Result<std::path::PathBuf> {
    let key = scratch(bed, case)?.join("key");
    let mut keygen = bed.client("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", case, "-f"]).arg(&key);
    run(&mut keygen, b"", LIMIT)?.success()?;
    bed.server().authorize_key("bob", &fs::read_to_string(key.with_extension("pub"))?)?;
    Ok(key)
}

fn jump(bed: &Testbed) -> Result<Observation> {
    let key = key_of_bob(bed, "jump")?;
    let mut config = fs::read_to_string(bed.ssh_config())?;
    config += "Host last\n  HostName 10.1.2.4\n  User bob\n  ProxyJump alice@10.1.2.3\n  LogLevel ERROR\n";
    config += &format!("  IdentityFile \"{}\"\n", key.display());
    let file = key.with_file_name("config");
    fs::write(&file, config)?;
    let mut command = bed.client("ssh");
    command.arg("-F").arg(file).args(["last", "uname -n"]);
    Ok(Observation::of(&run(&mut command, b"", LIMIT)?))
}

/// Serves one connection of a unix socket with an echo.
fn serve_one(listener: UnixListener) {
    thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        stream.write_all(&bytes)
    });
}

fn unix_local(bed: &Testbed) -> Result<Observation> {
    let path = bed.server().home("alice").join("unix_local");
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
    serve_one(listener);
    let _ssh = local_forward(bed, 10_008, "/home/alice/unix_local")?;
    observe_echo(bed.client_netns().connect(loopback(10_008))?)
}

fn unix_remote(bed: &Testbed) -> Result<Observation> {
    let here = scratch(bed, "unix_remote")?.join("socket");
    serve_one(UnixListener::bind(&here)?);
    let forward = format!("/home/alice/unix_remote:{}", here.display());
    let mut ssh = Standing::start(bed, "unix_remote", &["-R", &forward, TARGET])?;
    let there = bed.server().home("alice").join("unix_remote");
    let mut stream = ssh.until("the forward", || UnixStream::connect(&there).ok())?;
    let bytes = noise(200_000);
    stream.write_all(&bytes)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(Observation::new().with("echoed", (answer == bytes).to_string()))
}

/// An agent that holds one key, and the path of its socket.
fn agent_with_key(bed: &Testbed, case: &str) -> Result<(Companion, String)> {
    let key = key_of_bob(bed, case)?;
    let socket = key.with_file_name("agent").display().to_string();
    let mut command = bed.client("ssh-agent");
    command.args(["-D", "-a", &socket]).stdin(Stdio::null()).stdout(Stdio::null());
    let agent = Companion::spawn(&mut command)?;
    portreeve_tests::deadline::until("the agent", LIMIT, || Ok(UnixStream::connect(&socket).ok()))?;
    let mut add = bed.client("ssh-add");
    add.arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket);
    run(&mut add, b"", LIMIT)?.success()?;
    Ok((agent, socket))
}

fn agent(bed: &Testbed) -> Result<Observation> {
    let (_agent, socket) = agent_with_key(bed, "agent_keys")?;
    let mut command = bed.client_ssh("ssh");
    command.args(["-A", TARGET, "ssh-add -L"]).env("SSH_AUTH_SOCK", socket);
    let finished = run(&mut command, b"", LIMIT)?;
    let public = fs::read_to_string(bed.dir().join("client/agent_keys/key.pub"))?;
    Ok(Observation::new()
        .with("status", finished.ending())
        .with("stderr", finished.err())
        .with("key", (finished.out() == public).to_string()))
}

fn nested_agent(bed: &Testbed) -> Result<Observation> {
    let (_agent, socket) = agent_with_key(bed, "agent_nested")?;
    let nested = "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
                  bob@10.1.2.4 whoami";
    let mut command = bed.client_ssh("ssh");
    command.args(["-A", TARGET, nested]).env("SSH_AUTH_SOCK", socket);
    Ok(Observation::of(&run(&mut command, b"", LIMIT)?))
}

fn no_agent(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh(bed, &["-a", TARGET, "echo ${SSH_AUTH_SOCK:-none}"])?))
}
