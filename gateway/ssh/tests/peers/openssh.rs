//! OpenSSH as the peer: its sshd for our client role, its ssh for our server role.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use portreeve_ssh::cipher::{Cipher, Mac};
use portreeve_ssh::host_key::PublicHostKey;
use portreeve_ssh::kex::Kex;
use portreeve_ssh::negotiation::{HostKeyAlgorithm, Preferences};
use portreeve_ssh::text::TerminalText;
use ssh_key::certificate::CertType;
use ssh_key::{LineEnding, PrivateKey};
use tempfile::TempDir;

use crate::commands::{Finished, pattern, run, serve_echo};
use crate::connection::{Connection, certified, key};

/// One connection served by a process of sshd.
struct Sshd {
    child: Child,
    dir: TempDir,
    stream: Option<TcpStream>,
}

fn write_key(path: &Path, key: &PrivateKey) {
    fs::write(path, key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (dialled, listener.accept().unwrap().0)
}

impl Sshd {
    fn start(lines: &str) -> Self {
        fs::create_dir_all("/run/sshd").unwrap();
        let dir = tempfile::tempdir().unwrap();
        write_key(&dir.path().join("host"), &key(2));
        let certificate = certified(&key(2), CertType::Host, "127.0.0.1");
        fs::write(dir.path().join("host-cert.pub"), certificate.to_openssh().unwrap()).unwrap();
        fs::write(dir.path().join("ca.pub"), key(9).public_key().to_openssh().unwrap()).unwrap();
        let config = format!(
            "HostKey {0}/host\nHostCertificate {0}/host-cert.pub\nTrustedUserCAKeys {0}/ca.pub\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nAuthorizedKeysFile none\n\
             PermitRootLogin prohibit-password\nBanner {0}/ca.pub\nRekeyLimit 1M\n{lines}\n",
            dir.path().display(),
        );
        fs::write(dir.path().join("config"), config).unwrap();
        let (ours, theirs) = tcp_pair();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-i", "-e", "-f"])
            .arg(dir.path().join("config"))
            .stdin(OwnedFd::from(theirs.try_clone().unwrap()))
            .stdout(OwnedFd::from(theirs))
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .expect("/usr/sbin/sshd starts");
        Self { child, dir, stream: Some(ours) }
    }

    fn connect(&mut self, preferences: Preferences) -> Connection {
        let mut connection = Connection::client(self.stream.take().unwrap(), preferences);
        connection.log_in("root");
        connection
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
#[ignore = "needs root and sshd; run by cargo xtask test"]
fn our_client_logs_in_to_sshd_with_a_certificate_and_runs_commands_in_a_row() {
    let mut sshd = Sshd::start("");
    let mut connection = sshd.connect(Preferences::default());
    let Some(PublicHostKey::Certificate(shown)) = &connection.host_key else { panic!("a certificate") };
    assert_eq!(shown.valid_principals(), ["127.0.0.1"]);
    for status in [0, 3, 255] {
        let finished = run(&mut connection, &format!("echo hello; exit {status}"), b"");
        assert_eq!(
            finished,
            Finished { output: b"hello\n".to_vec(), status: Some(status) },
            "{}",
            sshd.log()
        );
    }
    assert!(connection.transport.peer_identification().unwrap().starts_with(b"SSH-2.0-OpenSSH"));
}

#[test]
#[ignore = "needs root and sshd; run by cargo xtask test"]
fn keys_are_exchanged_again_by_our_client_and_by_sshd_while_data_flows_both_ways() {
    let input = pattern(12 << 20);
    for cipher in Cipher::ALL.into_iter().chain(Cipher::LEGACY) {
        let mut sshd = Sshd::start("Ciphers +aes128-cbc,aes192-cbc,aes256-cbc,3des-cbc");
        let mut connection = sshd.connect(Preferences { ciphers: vec![cipher], ..Preferences::default() });
        let finished = run(&mut connection, "cat", &input);
        assert_eq!(finished.status, Some(0));
        assert!(finished.output == input, "{cipher:?}: the echo differs");
        assert!(connection.exchanges > 8, "{cipher:?}: {} exchanges", connection.exchanges);
    }
}

#[test]
#[ignore = "needs root and sshd; run by cargo xtask test"]
fn every_key_exchange_method_and_mac_of_sshd_works() {
    let lines = "KexAlgorithms +diffie-hellman-group14-sha1,diffie-hellman-group-exchange-sha1,\
                 diffie-hellman-group1-sha1";
    let all = Kex::MODERN.into_iter().chain(Kex::LEGACY);
    // OpenSSH 9.2 does not know ML-KEM.
    for kex in all.filter(|kex| *kex != Kex::MlKem768X25519) {
        let mut sshd = Sshd::start(lines);
        let mut connection = sshd.connect(Preferences { kex: vec![kex], ..Preferences::legacy() });
        assert_eq!(run(&mut connection, "cat", b"x").output, b"x", "{kex:?}");
    }
    for mac in Mac::ALL.into_iter().chain(Mac::LEGACY) {
        let mut sshd = Sshd::start("");
        let preferences =
            Preferences { ciphers: vec![Cipher::Aes128Ctr], macs: vec![mac], ..Preferences::legacy() };
        assert_eq!(run(&mut sshd.connect(preferences), "cat", b"x").output, b"x", "{mac:?}");
    }
}

/// An sshd as it was around 2005, with a host key of 1024 bits.
#[test]
#[ignore = "needs root and sshd; run by cargo xtask test"]
fn our_client_with_a_legacy_profile_serves_an_sshd_that_knows_only_old_algorithms() {
    let dir = tempfile::tempdir().unwrap();
    let host_key = dir.path().join("rsa");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f"]).arg(&host_key);
    assert!(keygen.status().expect("ssh-keygen starts").success());
    let combinations = [
        (Kex::DhGroup1Sha1, Cipher::Aes128Cbc, Mac::HmacSha1),
        (Kex::DhGexSha1, Cipher::Aes256Cbc, Mac::HmacSha1Etm),
        (Kex::DhGroup14Sha1, Cipher::TripleDesCbc, Mac::HmacSha1),
    ];
    for (kex, cipher, mac) in combinations {
        let lines = format!(
            "HostKey {}\nHostKeyAlgorithms ssh-rsa\nKexAlgorithms {}\nCiphers {}\nMACs {}",
            host_key.display(),
            kex.name(),
            cipher.name(),
            mac.name(),
        );
        let mut sshd = Sshd::start(&lines);
        let mut connection = sshd.connect(Preferences::legacy());
        let Some(PublicHostKey::Plain(shown)) = &connection.host_key else { panic!("a plain key") };
        assert!(shown.algorithm().is_rsa());
        assert_eq!(run(&mut connection, "cat", &pattern(3 << 20)).output, pattern(3 << 20), "{kex:?}");
        assert!(connection.exchanges > 2, "{kex:?}: {} exchanges", connection.exchanges);
    }
}

/// Our server behind a listener; yields what the client asked to run.
fn serve(preferences: Preferences) -> (u16, thread::JoinHandle<(Vec<u8>, usize)>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let mut connection = Connection::server(listener.accept().unwrap().0, preferences);
        assert_eq!(connection.let_in(), b"alice");
        let command = serve_echo(&mut connection);
        (command, connection.exchanges)
    });
    (port, server)
}

fn ssh(port: u16, options: &[&str], command: &str, input: &[u8]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let known_hosts = dir.path().join("known_hosts");
    let line = format!("[127.0.0.1]:{port} {}\n", key(1).public_key().to_openssh().unwrap());
    fs::write(&known_hosts, line).unwrap();
    let mut child = Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "RekeyLimit=1M"])
        .args(["-o", &format!("UserKnownHostsFile={}", known_hosts.display())])
        .args(options)
        .args(["-p", &port.to_string(), "alice@127.0.0.1", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ssh starts");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().ok();
    output
}

#[test]
#[ignore = "needs root and sshd; run by cargo xtask test"]
fn ssh_runs_a_command_on_our_server_while_both_exchange_keys_again() {
    let input = pattern(12 << 20);
    for cipher in Cipher::ALL {
        let (port, server) = serve(Preferences::default());
        let output = ssh(port, &["-c", cipher.name()], "echo back", &input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), stderr.as_ref()), (Some(3), ""), "{cipher:?}");
        assert!(output.stdout == input, "{cipher:?}: the echo differs");
        let (command, exchanges) = server.join().unwrap();
        assert_eq!(command, b"echo back");
        assert!(exchanges > 8, "{cipher:?}: {exchanges} exchanges");
    }
}

#[test]
#[ignore = "needs root and sshd; run by cargo xtask test"]
fn every_key_exchange_method_of_ssh_works() {
    for kex in Kex::MODERN.into_iter().chain(Kex::LEGACY).filter(|kex| *kex != Kex::MlKem768X25519) {
        let (port, server) = serve(Preferences::legacy());
        let output = ssh(port, &["-o", &format!("KexAlgorithms={}", kex.name())], "cat", b"hello");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"hello"[..]), "{kex:?}: {stderr}");
        server.join().unwrap();
    }
}

#[test]
#[ignore = "needs root and sshd; run by cargo xtask test"]
fn ssh_prints_why_our_server_ends_the_connection() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let mut connection = Connection::server(listener.accept().unwrap().0, Preferences::default());
        connection.let_in();
        connection.transport.disconnect(11, &TerminalText::new("your lease ended")).unwrap();
        connection.flush();
    });
    let output = ssh(port, &[], "true", b"");
    server.join().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("port") && stderr.contains("11: your lease ended"), "{stderr}");
    assert_eq!(output.status.code(), Some(255));
}

#[test]
#[ignore = "needs root and sshd; run by cargo xtask test"]
fn our_client_understands_that_sshd_refuses_a_login() {
    let mut sshd = Sshd::start("");
    let mut connection = Connection::client(
        sshd.stream.take().unwrap(),
        Preferences { host_keys: vec![HostKeyAlgorithm::Ed25519], ..Preferences::default() },
    );
    assert!(matches!(connection.host_key, Some(PublicHostKey::Plain(_))));
    let refused = connection.try_log_in("nobody", "root").unwrap_err();
    assert_eq!(refused.to_string(), "the target does not accept the certificate (it offers: publickey)");
}
