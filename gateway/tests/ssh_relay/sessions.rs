//! Session channels: commands, terminals, file transfers.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use portreeve::ssh::relay::EndedBy;
use portreeve::ssh::upstream;
use portreeve_core::host_key::{AccountSecret, derive};
use portreeve_core::record::{Exit, RecordEvent};
use ssh_key::{Algorithm, EcdsaCurve, LineEnding, PrivateKey, PublicKey};
use tokio::net::TcpStream;

use super::bed::{Bed, Plan, SECRET, eventually, output, stderr, stdout};

/// A master connection, and the option that names its socket.
async fn master(bed: &Bed) -> (String, Child) {
    let control = format!("ControlPath={}", bed.path("control").display());
    let mut ssh = bed.openssh("ssh", "-p");
    ssh.args(["-M", "-N", "-o", &control, "root@127.0.0.1"]).stderr(Stdio::null()).stdout(Stdio::null());
    let master = ssh.spawn().unwrap();
    eventually("the master is up", || bed.path("control").exists()).await;
    (control, master)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn exec_passes_output_and_exit_status() {
    let mut bed = Bed::new().await;
    let ran = bed.ssh(&[], &["echo out; echo err >&2; exit 7"]).await;
    assert_eq!((ran.status.code(), stdout(&ran).as_str()), (Some(7), "out\n"), "{}", stderr(&ran));
    assert!(stderr(&ran).ends_with("err\n"), "{}", stderr(&ran));
    let outcome = bed.outcome().await;
    assert_eq!(outcome.ended_by, EndedBy::ClientDisconnected);
    assert_eq!((outcome.client_bytes, outcome.target_bytes), (0, 8));
    assert_eq!((bed.observer.output(0), bed.observer.output(1)), (b"out\n".to_vec(), b"err\n".to_vec()));
    assert!(bed.observer.saw(|event| matches!(event, RecordEvent::Exit { exit: Exit::Status(7), .. })));
    let closed = |event: &RecordEvent| matches!(event, RecordEvent::ChannelClosed { target_bytes: 8, .. });
    assert!(bed.observer.saw(closed));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn stdin_and_its_end_reach_the_target() {
    let bed = Bed::new().await;
    let input: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let path = bed.path("input");
    fs::write(&path, &input).unwrap();
    let mut ssh = bed.openssh("ssh", "-p");
    ssh.args(["root@127.0.0.1", "sha256sum"]).stdin(fs::File::open(&path).unwrap());
    let remote = output(ssh).await;
    let local = Command::new("sha256sum").stdin(fs::File::open(&path).unwrap()).output().unwrap();
    assert_eq!(stdout(&remote), stdout(&local));
    assert_eq!(*bed.observer.client_data.lock().unwrap(), input);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn death_by_signal_is_told() {
    let bed = Bed::new().await;
    let ran = bed.ssh(&["-v"], &["kill -TERM $$"]).await;
    assert_eq!(ran.status.code(), Some(255));
    assert!(stderr(&ran).contains("exit-signal"), "{}", stderr(&ran));
    let told = |event: &RecordEvent| matches!(event, RecordEvent::Exit { exit: Exit::Signal { signal, .. }, .. } if signal.0 == b"TERM");
    assert!(bed.observer.saw(told));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn environment_reaches_the_target_only_where_it_accepts_it() {
    let bed = Bed::new().await;
    let ran = bed.ssh(&["-o", "SetEnv=TB_A=one NOT_ACCEPTED=two"], &["echo $TB_A-$NOT_ACCEPTED"]).await;
    assert_eq!(stdout(&ran), "one-\n");
    assert!(bed.observer.saw(|event| matches!(event, RecordEvent::Env { name, .. } if name.0 == b"TB_A")));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn exit_codes_survive_multiplexing() {
    let bed = Bed::new().await;
    let (control, mut master) = master(&bed).await;
    let mut lost = Vec::new();
    for round in 0..150 {
        let ran = bed.ssh(&["-o", &control], &["echo x; exit 3"]).await;
        if (ran.status.code(), stdout(&ran).as_str()) != (Some(3), "x\n") {
            lost.push((round, ran.status.code(), stdout(&ran), stderr(&ran)));
        }
    }
    bed.ssh(&["-O", "exit", "-o", &control], &[]).await;
    master.wait().unwrap();
    assert!(lost.is_empty(), "{} of 150: {lost:?}", lost.len());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn channels_open_beside_bulk_on_the_same_connection() {
    let bed = Bed::new().await;
    let (control, mut master) = master(&bed).await;
    let mut bulk = bed.openssh("ssh", "-p");
    bulk.args(["-o", &control, "root@127.0.0.1", "yes"]).stdout(Stdio::null());
    let mut bulk = bulk.spawn().unwrap();
    for round in 0..20 {
        let ran = bed.ssh(&["-o", &control], &["echo x; exit 3"]).await;
        assert_eq!((ran.status.code(), stdout(&ran).as_str()), (Some(3), "x\n"), "round {round}");
    }
    assert!(bulk.try_wait().unwrap().is_none(), "the bulk still runs");
    bed.ssh(&["-O", "exit", "-o", &control], &[]).await;
    bulk.wait().unwrap();
    master.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn a_terminal_has_the_clients_size_and_follows_it() {
    let bed = Bed::new().await;
    let remote = r#"stty size; n=0; while [ "$(stty size)" != "50 120" ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done; stty size; echo $TERM"#;
    let script = format!(
        "stty rows 40 cols 100; ssh -tt -F /dev/null -p {} -o StrictHostKeyChecking=accept-new -o BatchMode=yes \
         -o UserKnownHostsFile={} root@127.0.0.1 '{remote}' </dev/tty & sleep 1.5; stty rows 50 cols 120; wait",
        bed.proxy.port(),
        bed.path("known_hosts").display(),
    );
    let mut command = Command::new("timeout");
    command.args(["40", "script", "-qec", &script, "/dev/null"]).env("TERM", "vt220");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = output(command).await;
    let text = stdout(&ran);
    assert!(text.contains("40 100") && text.contains("50 120") && text.contains("vt220"), "{text}");
    let resized =
        |event: &RecordEvent| matches!(event, RecordEvent::WindowChange { width: 120, height: 50, .. });
    assert!(bed.observer.saw(resized));
    let with_modes = |event: &RecordEvent| matches!(event, RecordEvent::Pty { pty, .. } if pty.modes.iter().any(|(name, _)| name == "ECHO"));
    assert!(bed.observer.saw(with_modes));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn files_arrive_whole_by_scp_and_sftp() {
    let bed = Bed::new().await;
    let content: Vec<u8> =
        (0..20_000_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    fs::write(bed.path("up"), &content).unwrap();
    for mode in [&["-O"][..], &["-s"][..]] {
        for (from, to) in [("up", "remote"), ("remote", "down")] {
            let far = |name: &str| format!("root@127.0.0.1:{}", bed.path(name).display());
            let near = |name: &str| bed.path(name).display().to_string();
            let mut scp = bed.openssh("scp", "-P");
            scp.args(mode);
            if from == "up" {
                scp.args([near(from), far(to)]);
            } else {
                scp.args([far(from), near(to)]);
            }
            let ran = output(scp).await;
            assert!(ran.status.success(), "{mode:?} {}", stderr(&ran));
        }
        assert!(fs::read(bed.path("down")).unwrap() == content, "{mode:?}");
        fs::remove_file(bed.path("remote")).unwrap();
        fs::remove_file(bed.path("down")).unwrap();
    }
    assert!(
        bed.observer.saw(|event| matches!(event, RecordEvent::Subsystem { name, .. } if name.0 == b"sftp"))
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn keys_are_exchanged_again_under_load_by_every_side() {
    let bed = Bed::with(Plan { sshd_lines: "RekeyLimit 4M".into(), ..Plan::default() }).await;
    let options = ["-o", "RekeyLimit=3M"];
    let down = bed.ssh(&options, &["head -c 60000000 /dev/zero | tr '\\0' a"]).await;
    assert_eq!((down.status.code(), down.stdout.len()), (Some(0), 60_000_000), "{}", stderr(&down));
    fs::write(bed.path("input"), vec![b'b'; 60_000_000]).unwrap();
    let mut ssh = bed.openssh("ssh", "-p");
    ssh.args(options).args(["root@127.0.0.1", "wc -c"]).stdin(fs::File::open(bed.path("input")).unwrap());
    assert_eq!(stdout(&output(ssh).await), "60000000\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn the_gateway_exchanges_keys_again_by_itself_after_a_gibibyte() {
    let mut bed = Bed::new().await;
    // The limit of AES-GCM is 64 GiB.
    let cipher = ["-c", "chacha20-poly1305@openssh.com", "-o", "RekeyLimit=100G"];
    let mut ssh = bed.openssh("ssh", "-p");
    ssh.args(cipher).args(["-v", "root@127.0.0.1", "head -c 1300000000 /dev/zero"]).stdout(Stdio::null());
    let down = output(ssh).await;
    assert!(
        down.status.success() && stderr(&down).contains("SSH2_MSG_KEXINIT received"),
        "{}",
        stderr(&down)
    );
    assert_eq!(stderr(&down).matches("SSH2_MSG_NEWKEYS received").count(), 2);
    assert_eq!(bed.outcome().await.target_bytes, 1_300_000_000);
    fs::File::create(bed.path("input")).unwrap().set_len(1_300_000_000).unwrap();
    let mut ssh = bed.openssh("ssh", "-p");
    ssh.args(cipher).args(["root@127.0.0.1", "wc -c"]);
    ssh.stdin(fs::File::open(bed.path("input")).unwrap());
    assert_eq!(stdout(&output(ssh).await), "1300000000\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn keepalives_work_and_wanting_compression_does_no_harm() {
    let bed = Bed::with(Plan { sshd_lines: "ClientAliveInterval 1".into(), ..Plan::default() }).await;
    let options = ["-C", "-v", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1"];
    let ran = bed.ssh(&options, &["sleep 4; head -c 1000000 /dev/zero | wc -c"]).await;
    assert_eq!((ran.status.code(), stdout(&ran).as_str()), (Some(0), "1000000\n"), "{}", stderr(&ran));
    assert!(stderr(&ran).contains("compression: none"), "{}", stderr(&ran));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn users_see_the_derived_host_key_of_the_kind_they_ask_for() {
    let bed = Bed::new().await;
    let target: PublicKey = fs::read_to_string(bed.path("host_key.pub")).unwrap().parse().unwrap();
    let keys = derive(&AccountSecret::new(SECRET), &target);
    for (algorithm, key) in [("ssh-ed25519", keys.ed25519), ("ecdsa-sha2-nistp256", keys.p256)] {
        fs::remove_file(bed.path("known_hosts")).ok();
        let ran = bed.ssh(&["-o", &format!("HostKeyAlgorithms={algorithm}")], &["true"]).await;
        assert!(ran.status.success(), "{}", stderr(&ran));
        let shown = fs::read_to_string(bed.path("known_hosts")).unwrap();
        assert!(shown.contains(&key.public_key().to_openssh().unwrap()), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn a_target_with_several_host_keys_is_asked_for_the_pinned_kinds() {
    let scratch = tempfile::tempdir().unwrap();
    let p256 = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
    let second = PrivateKey::random(&mut rand::rng(), p256.clone()).unwrap();
    let path = scratch.path().join("second");
    second.write_openssh_file(&path, LineEnding::LF).unwrap();
    let sshd_lines = format!("HostKey {}", path.display());
    let bed = Bed::with(Plan { sshd_lines, ..Plan::default() }).await;
    let rsa = Algorithm::Rsa { hash: None };
    for (preferred, shown) in [(&[][..], Algorithm::Ed25519), (&[rsa, p256.clone()], p256.clone())] {
        let tcp = TcpStream::connect(bed.sshd_addr).await.unwrap();
        let limit = Duration::from_secs(5);
        let identified = upstream::connect(tcp, preferred, false, limit).await.unwrap();
        let up = identified.exchange_keys(limit).await.unwrap();
        assert_eq!(up.host_key().algorithm(), shown);
    }
}
