//! What users read when they are not let in, or not let on.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use portreeve::ssh::downstream::{self, DownstreamError};
use portreeve::ssh::relay::EndedBy;
use portreeve::ssh::shown_keys::ShownKeys;
use portreeve::ssh::upstream::{self, UpstreamError};
use portreeve_core::host_key::{AccountSecret, derive};
use portreeve_core::record::RecordEvent;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::bed::{Bed, Plan, eventually, kill_children, output, stderr, stdout};

const REASON: &str = "denied: no policy grants alice@example.com\nthe login root";
const READ: &str = "denied: no policy grants alice@example.com the login root";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn the_reason_of_a_refusal_is_read_by_ssh_scp_and_sftp() {
    let bed = Bed::with(Plan { refuse: Some(REASON), ..Plan::default() }).await;
    for options in
        [&[][..], &["-C"], &["-N"], &["-tt"], &["-W", "127.0.0.1:9"], &["-N", "-R", "0:127.0.0.1:9"]]
    {
        let ran = bed.ssh(options, &[]).await;
        assert!(stderr(&ran).contains(READ), "{options:?}: {}", stderr(&ran));
        assert_eq!(ran.status.code(), Some(255), "{options:?}");
    }
    let mut scp = bed.openssh("scp", "-P");
    scp.args(["/dev/null", "root@127.0.0.1:/nonexistent"]);
    let mut sftp = bed.openssh("sftp", "-P");
    sftp.arg("root@127.0.0.1");
    for command in [scp, sftp] {
        let ran = output(command).await;
        assert!(stderr(&ran).contains(READ) && !ran.status.success(), "{}", stderr(&ran));
    }
    assert!(bed.observer.events.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn a_refusal_loses_nothing_to_a_client_that_has_much_to_send() {
    let bed = Bed::with(Plan { refuse: Some(REASON), ..Plan::default() }).await;
    for round in 0..20 {
        let mut ssh = bed.openssh("ssh", "-p");
        let zero = std::fs::File::open("/dev/zero").unwrap();
        ssh.args(["root@127.0.0.1", "cat >/dev/null"]).stdin(zero);
        let ran = output(ssh).await;
        assert!(stderr(&ran).contains(READ), "round {round}: {}", stderr(&ran));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn a_text_that_is_no_login_is_refused_with_a_reason() {
    let bed = Bed::new().await;
    let long = "x".repeat(300);
    for (login, reason) in [("root,bob", "commas"), (&long, "255 bytes")] {
        let mut ssh = bed.openssh("ssh", "-p");
        ssh.args(["-l", login, "127.0.0.1", "true"]);
        let ran = output(ssh).await;
        assert!(stderr(&ran).contains(reason), "{login:?}: {}", stderr(&ran));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn a_target_that_does_not_trust_the_ca_is_named() {
    let bed = Bed::with(Plan { trusted: false, ..Plan::default() }).await;
    let ran = bed.ssh(&[], &["true"]).await;
    assert!(stderr(&ran).contains("must trust the gateway's CA (TrustedUserCAKeys)"), "{}", stderr(&ran));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn a_login_that_the_target_does_not_have_is_named() {
    let bed = Bed::new().await;
    let mut ssh = bed.openssh("ssh", "-p");
    ssh.args(["-l", "no-such-account", "127.0.0.1", "true"]);
    let ran = output(ssh).await;
    assert!(stderr(&ran).contains("certificate for no-such-account"), "{}", stderr(&ran));
}

/// A target that answers with `first`, reads a little, and hangs up.
fn false_target(first: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            tcp.write_all(first).unwrap();
            // The whole proposal is not waited for; one byte of it shows that it came.
            tcp.read_exact(&mut [0; 1]).ok();
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn a_target_that_breaks_the_handshake_is_named() {
    let cases: [(&[u8], &str); 3] = [
        (b"", "closed the connection during the SSH handshake"),
        (b"SSH-2.0-test\r\n", "closed the connection during the SSH handshake"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the target"),
    ];
    for (first, reason) in cases {
        let bed = Bed::with(Plan { target: Some(false_target(first)), ..Plan::default() }).await;
        let ran = bed.ssh(&[], &["true"]).await;
        assert!(stderr(&ran).contains(reason), "{}: {}", first.escape_ascii(), stderr(&ran));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn revocation_ends_a_live_session_with_its_reason() {
    let mut bed = Bed::new().await;
    let mut ssh = bed.openssh("ssh", "-p");
    // Bulk in flight must delay neither the end nor the text.
    ssh.args(["root@127.0.0.1", "echo started >&2; yes"]).stdout(Stdio::null());
    let running = tokio::spawn(output(ssh));
    let observer = bed.observer.clone();
    eventually("the command runs", || !observer.output(1).is_empty()).await;
    let start = Instant::now();
    bed.revoke.send_replace(Some("the grant of alice@example.com was revoked".into()));
    let ran = running.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(stderr(&ran).contains("the grant of alice@example.com was revoked"), "{}", stderr(&ran));
    let reason = String::from("the grant of alice@example.com was revoked");
    assert_eq!(bed.outcome().await.ended_by, EndedBy::Revoked { reason });
    assert!(bed.observer.saw(|event| matches!(event, RecordEvent::ChannelClosed { .. })));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn a_session_that_cannot_be_recorded_ends() {
    let mut bed = Bed::with(Plan { fail_observer_at: Some(b"needle"), ..Plan::default() }).await;
    let ran = bed.ssh(&[], &["echo hay; sleep 0.3; echo needle; sleep 30"]).await;
    assert_eq!(stdout(&ran), "hay\n", "nothing is forwarded that was not recorded");
    assert!(stderr(&ran).contains("cannot be recorded any more"), "{}", stderr(&ran));
    assert!(matches!(bed.outcome().await.ended_by, EndedBy::ObserverFailed(_)));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn a_request_that_the_observer_refuses_fails_and_the_connection_goes_on() {
    let bed = Bed::new().await;
    let refused = bed.ssh(&[], &["forbidden"]).await;
    assert!(stderr(&refused).contains("exec request failed"), "{}", stderr(&refused));
    assert_eq!(stdout(&bed.ssh(&[], &["echo allowed"]).await), "allowed\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn a_target_that_dies_takes_the_session_along() {
    let mut bed = Bed::new().await;
    let mut ssh = bed.openssh("ssh", "-p");
    ssh.args(["root@127.0.0.1", "echo started; sleep 30"]);
    let running = tokio::spawn(output(ssh));
    let observer = bed.observer.clone();
    eventually("the command runs", || !observer.output(0).is_empty()).await;
    bed.kill_sshd_connections();
    let ran = running.await.unwrap();
    assert_eq!((ran.status.code(), stdout(&ran).as_str()), (Some(255), "started\n"));
    assert!(stderr(&ran).contains("closed by remote host"), "{}", stderr(&ran));
    assert_eq!(bed.outcome().await.ended_by, EndedBy::TargetDisconnected { text: None });
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn a_killed_client_ends_the_session_at_the_target() {
    let mut bed = Bed::new().await;
    let mut ssh = bed.openssh("ssh", "-p");
    let marker = bed.path("alive");
    let command = format!("trap 'rm {0}' EXIT HUP; touch {0}; sleep 30 & wait", marker.display());
    // A terminal, as sshd hangs up only what has one.
    ssh.args(["-tt", "root@127.0.0.1", &command]).stdout(Stdio::null());
    let mut ssh = ssh.spawn().unwrap();
    eventually("the command runs", || marker.exists()).await;
    kill_children(&ssh);
    ssh.wait().unwrap();
    assert_eq!(bed.outcome().await.ended_by, EndedBy::ClientDisconnected);
    eventually("the target hung up", || !marker.exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stalls_in_the_handshake_or_sends_garbage_is_dropped() {
    let key = ssh_key::PrivateKey::random(&mut rand::rng(), ssh_key::Algorithm::Ed25519).unwrap();
    let limit = Duration::from_millis(300);
    for (sent, is_expected) in [
        (&b""[..], (|error| matches!(error, DownstreamError::TimedOut(_))) as fn(&DownstreamError) -> bool),
        (b"SSH-2.0-slow\r\n", |error| matches!(error, DownstreamError::TimedOut(_))),
        (b"SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", |error| {
            matches!(error, DownstreamError::Protocol(_))
        }),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(sent).unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let keys = ShownKeys::new(derive(&AccountSecret::new([1; 32]), key.public_key())).unwrap();
        let shown = async {
            let greeted = downstream::greet(tcp, b"SSH-2.0-portreeve", false, limit).await?;
            greeted.ask_login(keys, None, limit).await
        };
        let error = shown.await.err().unwrap();
        assert!(is_expected(&error), "{}: {error:?}", sent.escape_ascii());
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut rest = Vec::new();
        let closed = tokio::task::spawn_blocking(move || client.read_to_end(&mut rest));
        let kind = closed.await.unwrap().map_err(|error| error.kind());
        assert!(matches!(kind, Ok(_) | Err(std::io::ErrorKind::ConnectionReset)), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_stalls_in_the_handshake_is_dropped() {
    for first in [&b""[..], b"SSH-2.0-slow\r\n"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut target, _) = listener.accept().await.unwrap();
        target.write_all(first).await.unwrap();
        let limit = Duration::from_millis(300);
        let connecting =
            async { upstream::connect(tcp, &[], false, limit).await?.exchange_keys(limit).await };
        let error = connecting.await.err().unwrap();
        assert!(matches!(error, UpstreamError::TimedOut(_)), "{}: {error:?}", first.escape_ascii());
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(5), target.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "the connection is cut");
    }
}
