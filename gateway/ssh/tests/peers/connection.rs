//! A transport on a blocking socket, and the keys of the bed.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use portreeve_ssh::host_key::{HostKeySigner, PublicHostKey};
use portreeve_ssh::negotiation::{Preferences, Role};
use portreeve_ssh::transport::{Config, Event, Transport};
use portreeve_ssh::userauth::client::{Answer, ClientAuth, ClientAuthError};
use portreeve_ssh::userauth::server::{self, Asked, ServerAuth};
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{Certificate, PrivateKey};

/// Keys are exchanged again after this many bytes.
pub(crate) const REKEY_BYTES: u64 = 1 << 20;
/// A peer that says nothing for so long has stalled.
const STALL: Duration = Duration::from_secs(20);

pub(crate) struct Connection {
    pub(crate) transport: Transport,
    stream: TcpStream,
    inbox: VecDeque<Vec<u8>>,
    pub(crate) exchanges: usize,
    pub(crate) host_key: Option<PublicHostKey>,
    closed: bool,
}

pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// A certificate of the CA `key(9)`.
pub(crate) fn certified(key: &PrivateKey, kind: CertType, principal: &str) -> Certificate {
    let mut builder = Builder::new(vec![4; 16], key.public_key(), 0, u64::MAX - 1).unwrap();
    builder.cert_type(kind).unwrap();
    builder.valid_principal(principal).unwrap();
    builder.extension("permit-pty", "").unwrap();
    builder.sign(&self::key(9)).unwrap()
}

impl Connection {
    /// Completes the first key exchange.
    pub(crate) fn client(stream: TcpStream, preferences: Preferences) -> Self {
        Self::open(stream, Role::Client, preferences, Vec::new())
    }

    /// Completes the first key exchange, with the host key `key(1)`.
    pub(crate) fn server(stream: TcpStream, preferences: Preferences) -> Self {
        Self::open(stream, Role::Server, preferences, vec![HostKeySigner::new(&key(1), None).unwrap()])
    }

    fn open(stream: TcpStream, role: Role, preferences: Preferences, host_keys: Vec<HostKeySigner>) -> Self {
        stream.set_read_timeout(Some(STALL)).unwrap();
        stream.set_write_timeout(Some(STALL)).unwrap();
        stream.set_nodelay(true).unwrap();
        let rekey_bytes = Some(REKEY_BYTES);
        let config = Config { preferences, host_keys, answer_second: true, rekey_bytes, ..Config::default() };
        let transport = Transport::new(role, config).unwrap();
        let inbox = VecDeque::new();
        let mut connection = Self { transport, stream, inbox, exchanges: 0, host_key: None, closed: false };
        while connection.exchanges == 0 {
            connection.receive();
        }
        connection
    }

    /// The next message that is not the transport's own; `None` when the peer has closed.
    pub(crate) fn message(&mut self) -> Option<Vec<u8>> {
        while self.inbox.is_empty() && !self.closed {
            self.receive();
        }
        self.inbox.pop_front()
    }

    pub(crate) fn send(&mut self, payload: &[u8]) {
        while self.transport.wants_rekey() || !self.transport.can_send() {
            assert!(!self.closed, "the peer closed before all was sent");
            self.transport.propose().unwrap();
            self.receive();
        }
        self.transport.send(&[payload]).unwrap();
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
        let pending = self.transport.pending();
        self.stream.write_all(pending).unwrap();
        let written = pending.len();
        self.transport.written(written);
    }

    /// Reads once.
    fn receive(&mut self) {
        self.flush();
        let spare = self.transport.spare(32 * 1024);
        let n = self.stream.read(spare).unwrap();
        self.closed = n == 0;
        assert!(!self.closed || self.exchanges > 0, "the peer closed during the first key exchange");
        self.transport.filled(n).unwrap();
        while let Some(event) = self.transport.poll().unwrap() {
            match event {
                Event::Proposed => self.transport.propose().unwrap(),
                Event::KeysExchanged { host_key } => {
                    self.exchanges += 1;
                    self.host_key = host_key.or(self.host_key.take());
                }
                Event::Message(range) => self.inbox.push_back(self.transport.payload(range).to_vec()),
                Event::Disconnected { reason, text } => {
                    assert_eq!(reason, 11, "{}", String::from_utf8_lossy(&text));
                    self.closed = true;
                }
            }
        }
        if self.transport.wants_rekey() {
            self.transport.propose().unwrap();
        }
        self.flush();
    }

    /// Logs in with a certificate of the CA.
    pub(crate) fn log_in(&mut self, login: &str) {
        self.try_log_in(login, login).unwrap();
    }

    /// Tries to log in with a certificate of the CA for `principal`.
    pub(crate) fn try_log_in(&mut self, login: &str, principal: &str) -> Result<(), ClientAuthError> {
        let key = key(5);
        let certificate = certified(&key, CertType::User, principal);
        let signer = HostKeySigner::new(&key, None).unwrap();
        let session_id = self.transport.session_id().to_vec();
        let (mut auth, request) = ClientAuth::start(login, &signer, &certificate, &session_id)?;
        self.send(&request);
        loop {
            let message = self.message().expect("an answer");
            match auth.receive(&message)? {
                Answer::Send(payload) => self.send(&payload),
                Answer::Banner(text) => assert!(text.starts_with(b"ssh-ed25519"), "the bed's banner"),
                Answer::LoggedIn => {
                    self.transport.authenticated();
                    return Ok(());
                }
            }
        }
    }

    /// Lets the first login in that is asked for.
    pub(crate) fn let_in(&mut self) -> Vec<u8> {
        let mut auth = ServerAuth::default();
        loop {
            let message = self.message().expect("a request");
            match auth.receive(&message).unwrap() {
                Asked::Reply(payload) => self.send(&payload),
                Asked::Login(login) => {
                    self.send(server::SUCCESS);
                    self.transport.authenticated();
                    break login;
                }
                Asked::Again => panic!("a second request before an answer"),
            }
        }
    }
}
