//! dropbear as the peer: its server for our client role.
//!
//! It knows no OpenSSH certificates, so it is no target of a gateway; a plain key logs in here. It reads
//! the account's own `authorized_keys`, so it runs with an empty file system in the place of the home of root.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};

use portreeve_ssh::cipher::Cipher;
use portreeve_ssh::host_key::HostKeySigner;
use portreeve_ssh::message;
use portreeve_ssh::negotiation::{HostKeyAlgorithm, Preferences};
use portreeve_ssh::userauth::client::ClientAuthError;
use portreeve_ssh::wire::{put_boolean, put_string};
use tempfile::TempDir;

use crate::commands::{Finished, pattern, run};
use crate::connection::{Connection, key};
use crate::openssh::tcp_pair;

const SERVE: &str = "mount -t tmpfs -o mode=700 tmpfs ~root && mkdir -m 700 ~root/.ssh && \
                     cp \"$0/authorized_keys\" ~root/.ssh/ && exec dropbear -i -s -r \"$0/host\"";

/// One connection served by a process of dropbear.
struct Dropbear {
    child: Child,
    _dir: TempDir,
}

impl Dropbear {
    fn start(preferences: Preferences) -> (Self, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new("dropbearkey")
            .args(["-t", "ed25519", "-f"])
            .arg(dir.path().join("host"))
            .output()
            .expect("dropbearkey starts");
        assert!(made.status.success(), "{made:?}");
        let line = key(5).public_key().to_openssh().unwrap();
        fs::write(dir.path().join("authorized_keys"), line + "\n").unwrap();
        let (ours, theirs) = tcp_pair();
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", SERVE])
            .arg(dir.path())
            .stdin(OwnedFd::from(theirs.try_clone().unwrap()))
            .stdout(OwnedFd::from(theirs))
            .spawn()
            .expect("unshare starts");
        (Self { child, _dir: dir }, Connection::client(ours, preferences))
    }
}

impl Drop for Dropbear {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Logs in with the plain key `key(5)` (RFC 4252 section 7).
fn log_in(connection: &mut Connection, login: &str) {
    let mut service = vec![message::SERVICE_REQUEST];
    put_string(&mut service, b"ssh-userauth").unwrap();
    connection.send(&service);
    assert_eq!(connection.message().expect("an answer")[0], message::SERVICE_ACCEPT);
    let (algorithm, signer) = (HostKeyAlgorithm::Ed25519, HostKeySigner::new(&key(5), None).unwrap());
    let mut request = vec![message::USERAUTH_REQUEST];
    for field in [login, "ssh-connection", "publickey"] {
        put_string(&mut request, field.as_bytes()).unwrap();
    }
    put_boolean(&mut request, true);
    put_string(&mut request, algorithm.name().as_bytes()).unwrap();
    put_string(&mut request, &signer.public_blob(algorithm)).unwrap();
    let mut signed = Vec::new();
    put_string(&mut signed, connection.transport.session_id()).unwrap();
    signed.extend_from_slice(&request);
    put_string(&mut request, &signer.sign(algorithm, &signed).unwrap()).unwrap();
    connection.send(&request);
    assert_eq!(connection.message().expect("an answer"), [message::USERAUTH_SUCCESS]);
    connection.transport.authenticated();
}

#[test]
#[ignore = "needs root and dropbear; run by cargo xtask test"]
fn our_client_exchanges_keys_with_dropbear_while_data_flows_both_ways() {
    let input = pattern(6 << 20);
    for cipher in [Cipher::ChaCha20Poly1305, Cipher::Aes128Ctr, Cipher::Aes256Ctr] {
        let preferences = Preferences { ciphers: vec![cipher], ..Preferences::default() };
        let (_dropbear, mut connection) = Dropbear::start(preferences);
        log_in(&mut connection, "root");
        let finished = run(&mut connection, "cat; exit 7", &input);
        assert!(finished == Finished { output: input.clone(), status: Some(7) }, "{cipher:?} altered data");
        assert!(connection.exchanges > 2, "{cipher:?}: {} exchanges", connection.exchanges);
    }
}

#[test]
#[ignore = "needs root and dropbear; run by cargo xtask test"]
fn dropbear_refuses_a_certificate_and_our_client_says_so() {
    let (_dropbear, mut connection) = Dropbear::start(Preferences::default());
    let error = connection.try_log_in("root", "root").unwrap_err();
    assert!(matches!(error, ClientAuthError::Refused { partial: false, .. }), "{error}");
}
