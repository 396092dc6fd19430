//! Forwards of every kind.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use portreeve_core::infrastructure::SshPermissions;
use portreeve_core::record::{ChannelKind, RecordEvent, Source};
use ssh_key::{Algorithm, LineEnding, PrivateKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::bed::{Bed, EVERYTHING, Plan, eventually, output, stderr, stdout};

/// A client that runs until the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `ssh -N OPTIONS`, its messages in the file `log`.
fn forwarder(bed: &Bed, options: &[&str]) -> Running {
    let mut ssh = bed.openssh("ssh", "-p");
    ssh.args(["-v", "-N", "-o", "ExitOnForwardFailure=yes"]).args(options).arg("root@127.0.0.1");
    let log = std::fs::File::create(bed.path("log")).unwrap();
    Running(ssh.stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

/// Gives back what it gets until the end, then says "bye".
async fn echo_service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = tcp.split();
                tokio::io::copy(&mut from, &mut to).await.ok();
                to.write_all(b"bye").await.ok();
            });
        }
    });
    addr
}

async fn unused_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Connects, until it works.
async fn connected(addr: SocketAddr) -> TcpStream {
    for _ in 0..200 {
        if let Ok(tcp) = TcpStream::connect(addr).await {
            return tcp;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing listens at {addr}");
}

/// Sends half a megabyte and its end, and expects it back with the goodbye.
async fn assert_echoes(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite) {
    let sent: Vec<u8> = (0..500_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut from, mut to) = tokio::io::split(stream);
    let sending = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let receiving = from.read_to_end(&mut got);
    let both = async { tokio::join!(sending, receiving).1.unwrap() };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("the echo comes back");
    assert_eq!(got.len(), sent.len() + 3);
    assert!(got.starts_with(&sent) && got.ends_with(b"bye"));
}

/// An agent with one key, and the socket it listens on.
async fn agent(bed: &Bed) -> (Running, PathBuf, PrivateKey) {
    let socket = bed.path("agent");
    let mut command = Command::new("ssh-agent");
    command.args(["-D", "-a"]).arg(&socket).stdout(Stdio::null());
    let running = Running(command.spawn().unwrap());
    eventually("the agent listens", || socket.exists()).await;
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    key.write_openssh_file(bed.path("key"), LineEnding::LF).unwrap();
    let added = Command::new("ssh-add").arg(bed.path("key")).env("SSH_AUTH_SOCK", &socket).output().unwrap();
    assert!(added.status.success(), "{}", stderr(&added));
    (running, socket, key)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn local_forward() {
    let bed = Bed::new().await;
    let (echo, local) = (echo_service().await, unused_addr().await);
    let _ssh = forwarder(&bed, &["-L", &format!("{}:{echo}", local.port())]);
    for _ in 0..3 {
        assert_echoes(connected(local).await).await;
    }
    let opened = |event: &RecordEvent| {
        matches!(event, RecordEvent::ChannelOpen { kind: ChannelKind::DirectTcpip { destination_port, .. }, .. }
            if *destination_port == u32::from(echo.port()))
    };
    assert!(bed.observer.saw(opened));
    assert!(bed.observer.client_data.lock().unwrap().is_empty(), "data of forwards is only counted");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn stdio_forward() {
    let bed = Bed::new().await;
    let echo = echo_service().await;
    let mut ssh = bed.openssh("ssh", "-p");
    ssh.args(["-W", &echo.to_string(), "root@127.0.0.1"]);
    std::fs::write(bed.path("input"), "hello ").unwrap();
    ssh.stdin(std::fs::File::open(bed.path("input")).unwrap());
    assert_eq!(stdout(&output(ssh).await), "hello bye");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn dynamic_forward() {
    let bed = Bed::new().await;
    let (echo, local) = (echo_service().await, unused_addr().await);
    let _ssh = forwarder(&bed, &["-D", &local.port().to_string()]);
    let mut tcp = connected(local).await;
    // SOCKS 5 (RFC 1928): no authentication, CONNECT to an IPv4 address.
    tcp.write_all(&[5, 1, 0]).await.unwrap();
    let mut method = [0; 2];
    tcp.read_exact(&mut method).await.unwrap();
    assert_eq!(method, [5, 0]);
    let mut request = vec![5, 1, 0, 1, 127, 0, 0, 1];
    request.extend(echo.port().to_be_bytes());
    tcp.write_all(&request).await.unwrap();
    let mut reply = [0; 10];
    tcp.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply[1], 0);
    assert_echoes(tcp).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn remote_forward_with_a_port_of_the_targets_choice_and_its_cancel() {
    let bed = Bed::new().await;
    let echo = echo_service().await;
    let control = format!("ControlPath={}", bed.path("control").display());
    let _ssh = forwarder(&bed, &["-M", "-o", &control]);
    eventually("the master is up", || bed.path("control").exists()).await;
    let forward = format!("0:{echo}");
    let asked = bed.ssh(&["-O", "forward", "-o", &control, "-R", &forward], &[]).await;
    let port: u16 = stdout(&asked).trim().parse().expect("the port that the target chose");
    let remote = SocketAddr::from(([127, 0, 0, 1], port));
    assert_echoes(connected(remote).await).await;
    let opened = |event: &RecordEvent| {
        matches!(
            event,
            RecordEvent::ChannelOpen { source: Source::Target, kind: ChannelKind::ForwardedTcpip { .. }, .. }
        )
    };
    assert!(bed.observer.saw(opened));
    let cancelled = bed.ssh(&["-O", "cancel", "-o", &control, "-R", &forward], &[]).await;
    assert!(cancelled.status.success(), "{}", stderr(&cancelled));
    eventually("the target no longer listens", || std::net::TcpStream::connect(remote).is_err()).await;
    assert!(bed.observer.saw(|event| matches!(event, RecordEvent::CancelRemoteForward { .. })));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn unix_sockets_both_ways() {
    let bed = Bed::new().await;
    let echo = echo_service().await;
    // near -> far (-R, listened on by the target) -> echo, reached by way of a -L to far.
    let (near, far) = (bed.path("near"), bed.path("far"));
    let local = format!("{}:{}", near.display(), far.display());
    let remote = format!("{}:{echo}", far.display());
    let _ssh = forwarder(&bed, &["-L", &local, "-R", &remote]);
    eventually("both sockets exist", || near.exists() && far.exists()).await;
    assert_echoes(UnixStream::connect(&near).await.unwrap()).await;
    let direct = |event: &RecordEvent| {
        matches!(event, RecordEvent::ChannelOpen { kind: ChannelKind::DirectStreamlocal { .. }, .. })
    };
    let forwarded = |event: &RecordEvent| {
        matches!(event, RecordEvent::ChannelOpen { kind: ChannelKind::ForwardedStreamlocal { .. }, .. })
    };
    assert!(bed.observer.saw(direct) && bed.observer.saw(forwarded));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn the_agent_is_reachable_from_the_target() {
    let bed = Bed::new().await;
    let (_agent, socket, key) = agent(&bed).await;
    let mut ssh = bed.openssh("ssh", "-p");
    ssh.args(["-A", "root@127.0.0.1", "ssh-add -l"]).env("SSH_AUTH_SOCK", socket);
    let ran = output(ssh).await;
    let fingerprint = key.fingerprint(ssh_key::HashAlg::Sha256).to_string();
    assert!(stdout(&ran).contains(&fingerprint), "{} {}", stdout(&ran), stderr(&ran));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn x11_connections_reach_the_users_display() {
    // Stands in for xauth at the target: keeps the cookie that the client made up.
    let scratch = tempfile::tempdir().unwrap();
    let (xauth, cookie) = (scratch.path().join("xauth"), scratch.path().join("cookie"));
    std::fs::write(&xauth, format!("#!/bin/sh\nsed -n 's/.* //;$p' >{}\n", cookie.display())).unwrap();
    std::fs::set_permissions(&xauth, PermissionsExt::from_mode(0o755)).unwrap();
    let lines = format!("X11Forwarding yes\nXAuthLocation {}", xauth.display());
    let bed = Bed::with(Plan { sshd_lines: lines, ..Plan::default() }).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let number = listener.local_addr().unwrap().port() - 6000;
    let display = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut set_up = [0; 48];
        tcp.read_exact(&mut set_up).await.unwrap();
        tcp.write_all(b"display\n").await.unwrap();
        set_up
    });

    // An X client's first message: byte order, version 11.0, name and data of the authorization.
    let client = format!(
        r#"n=${{DISPLAY##*:}}; exec 3<>/dev/tcp/127.0.0.1/$((6000 + ${{n%.*}}));
           printf 'l\0\013\0\0\0\022\0\020\0\0\0MIT-MAGIC-COOKIE-1\0\0' >&3;
           printf "$(sed 's/../\\x&/g' {})" >&3; read answer <&3; echo $answer"#,
        cookie.display()
    );
    let mut ssh = bed.openssh("ssh", "-p");
    ssh.args(["-Y", "root@127.0.0.1", &format!("bash -c '{}'", client.replace('\'', "'\\''"))]);
    ssh.env("DISPLAY", format!("127.0.0.1:{number}"));
    let ran = output(ssh).await;
    assert_eq!(stdout(&ran), "display\n", "{}", stderr(&ran));
    assert_eq!(&display.await.unwrap()[12..30], b"MIT-MAGIC-COOKIE-1");
    assert!(bed.observer.saw(|event| matches!(event, RecordEvent::X11Forward { .. })));
    let opened =
        |event: &RecordEvent| matches!(event, RecordEvent::ChannelOpen { kind: ChannelKind::X11 { .. }, .. });
    assert!(bed.observer.saw(opened));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn a_failed_open_has_the_targets_reason() {
    let bed = Bed::new().await;
    let nowhere = unused_addr().await;
    let ran = bed.ssh(&["-v", "-W", &nowhere.to_string()], &[]).await;
    assert!(stderr(&ran).contains("open failed: connect failed"), "{}", stderr(&ran));
    assert!(bed.observer.saw(|event| matches!(event, RecordEvent::ChannelClosed { .. })));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn what_the_grant_does_not_hold_is_refused_and_recorded() {
    let permissions = SshPermissions {
        pty: false,
        port_forwarding: false,
        agent_forwarding: false,
        x11_forwarding: false,
        ..EVERYTHING
    };
    let bed = Bed::with(Plan { permissions, ..Plan::default() }).await;
    let echo = echo_service().await;
    let forwarded = bed.ssh(&["-v", "-W", &echo.to_string()], &[]).await;
    assert!(stderr(&forwarded).contains("administratively prohibited"), "{}", stderr(&forwarded));
    let remote = ["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9"];
    let remote = bed.ssh(&remote, &["true"]).await;
    assert_eq!(remote.status.code(), Some(255), "{}", stderr(&remote));
    // OpenSSH's client gives up by itself then, as it does with a server that permits no terminals.
    let terminal = bed.ssh(&["-tt"], &["true"]).await;
    assert!(stderr(&terminal).contains("PTY allocation request failed"), "{}", stderr(&terminal));
    let (_agent, socket, _key) = agent(&bed).await;
    let mut ssh = bed.openssh("ssh", "-p");
    ssh.args(["-A", "root@127.0.0.1", "echo -$SSH_AUTH_SOCK-"]).env("SSH_AUTH_SOCK", socket);
    let agent = output(ssh).await;
    assert_eq!(stdout(&agent), "--\n");
    for what in ["forward to 127.0.0.1", "remote forward of", "terminal", "agent forwarding"] {
        let refused = |event: &RecordEvent| matches!(event, RecordEvent::Refused { what: refused, .. } if refused.starts_with(what));
        assert!(bed.observer.saw(refused), "{what}");
    }
}
