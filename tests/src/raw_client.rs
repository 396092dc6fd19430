//! An SSH client that sends messages as a test writes them.
//!
//! Owns one connection from the client's namespace, logged in by `none` or by the testbed's key, and
//! says of each message of the connection protocol (RFC 4254) what it holds, for comparison. What it
//! does not do: flow control, or anything that a test does not ask for. `hostkeys-00@openssh.com`
//! is left out of what is received, since a gateway has host keys of its own.

mod message;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use portreeve_ssh::host_key::HostKeySigner;
use portreeve_ssh::message as number;
use portreeve_ssh::negotiation::Role;
use portreeve_ssh::transport::{Config, Event, Transport};
use portreeve_ssh::wire::{Reader, put_string};
use ssh_key::PrivateKey;

pub use self::message::Message;
use self::message::describe;
use crate::testbed::Testbed;
use crate::topology::{SSH_PORT, TARGET4, at};

const LIMIT: Duration = Duration::from_secs(30);
const CHUNK: usize = 64 * 1024;

/// A logged-in connection.
pub struct RawClient {
    transport: Transport,
    stream: TcpStream,
    /// The longest that it waits for a message.
    limit: Duration,
}

impl RawClient {
    /// Connects to the target from the client's namespace and logs in as `login`.
    ///
    /// # Errors
    /// When the log-in fails.
    pub fn connect(bed: &Testbed, login: &str) -> Result<Self> {
        Self::connect_to(bed, at(TARGET4, SSH_PORT), login)
    }

    /// As [`Self::connect`], to another address than the target's.
    ///
    /// # Errors
    /// When the log-in fails.
    pub fn connect_to(bed: &Testbed, address: SocketAddr, login: &str) -> Result<Self> {
        Self::over(bed.client_netns().connect(address)?, bed, login, LIMIT)
    }

    /// As [`Self::connect`], where the connection and each message may take as long as `limit`.
    ///
    /// # Errors
    /// When the log-in fails.
    pub fn connect_within(bed: &Testbed, login: &str, limit: Duration) -> Result<Self> {
        Self::over(bed.client_netns().connect_within(at(TARGET4, SSH_PORT), limit)?, bed, login, limit)
    }

    fn over(stream: TcpStream, bed: &Testbed, login: &str, limit: Duration) -> Result<Self> {
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        let mut client = Self { transport: Transport::new(Role::Client, Config::default())?, stream, limit };
        while !matches!(client.event()?, Event::KeysExchanged { .. }) {}
        client.log_in(bed, login)?;
        client.transport.authenticated();
        Ok(client)
    }

    fn log_in(&mut self, bed: &Testbed, login: &str) -> Result<()> {
        self.send(&Message::new(number::SERVICE_REQUEST).string("ssh-userauth")?)?;
        self.await_number(&[number::SERVICE_ACCEPT])?;
        let answers = [number::USERAUTH_SUCCESS, number::USERAUTH_FAILURE];
        let accepted = |answer: &[u8]| answer.first() == Some(&number::USERAUTH_SUCCESS);
        self.send(&userauth(login, "none")?)?;
        if accepted(&self.await_number(&answers)?) {
            return Ok(());
        }
        let key = bed.dir().join("client/id_ed25519");
        ensure!(key.exists(), "{login} may not log in, and there is no key");
        self.send(&self.signed(&key, login)?)?;
        ensure!(accepted(&self.await_number(&answers)?), "{login} may not log in");
        Ok(())
    }

    /// RFC 4252 section 7.
    fn signed(&self, key: &std::path::Path, login: &str) -> Result<Message> {
        let key = PrivateKey::from_openssh(fs::read(key)?).context("the client's key")?;
        let signer = HostKeySigner::new(&key, None)?;
        let algorithm = *signer.algorithms().first().context("the client's key signs nothing")?;
        let request = userauth(login, "publickey")?.boolean(true);
        let request = request.string(key.algorithm().as_str())?.string(key.public_key().to_bytes()?)?;
        let mut signed = Vec::new();
        put_string(&mut signed, self.transport.session_id())?;
        signed.extend_from_slice(&request.0);
        request.string(signer.sign(algorithm, &signed)?)
    }

    fn await_number(&mut self, wanted: &[u8]) -> Result<Vec<u8>> {
        loop {
            let payload = self.payload()?;
            if payload.first().is_some_and(|number| wanted.contains(number)) {
                return Ok(payload);
            }
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, message: &Message) -> Result<()> {
        self.transport.send(&[&message.0])?;
        self.flush()
    }

    /// What the next message of the connection protocol says, or the peer's DISCONNECT.
    ///
    /// # Errors
    /// When the connection ends without one, or none comes in time.
    pub fn receive(&mut self) -> Result<String> {
        loop {
            match self.event()? {
                Event::Disconnected { reason, text } => {
                    return Ok(format!("DISCONNECT {reason} {}", text.escape_ascii()));
                }
                Event::Message(range) => {
                    let said = describe(self.transport.payload(range))?;
                    if !said.contains("hostkeys-00@openssh.com") {
                        return Ok(said);
                    }
                }
                Event::Proposed | Event::KeysExchanged { .. } => {}
            }
        }
    }

    /// What the next `count` messages say.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn receive_many(&mut self, count: usize) -> Result<Vec<String>> {
        (0..count).map(|_| self.receive()).collect()
    }

    /// All messages up to the one that says `last`.
    ///
    /// # Errors
    /// As [`Self::receive`], and when the peer disconnects before.
    pub fn receive_until(&mut self, last: &str) -> Result<Vec<String>> {
        let mut all = Vec::new();
        loop {
            let said = self.receive()?;
            all.push(said.clone());
            if said == last {
                return Ok(all);
            }
            ensure!(!said.starts_with("DISCONNECT"), "disconnected: {all:?}");
        }
    }

    /// Opens a session channel, ours with number `channel`, and returns the peer's number.
    ///
    /// # Errors
    /// When it is refused.
    pub fn open_session(&mut self, channel: u32, window: u32, packet: u32) -> Result<u32> {
        self.send(&Message::open("session", channel, window, packet)?)?;
        let confirmed = [number::CHANNEL_OPEN_CONFIRMATION, number::CHANNEL_OPEN_FAILURE];
        let payload = self.await_number(&confirmed)?;
        let mut reader = Reader::new(&payload);
        ensure!(reader.u8()? == number::CHANNEL_OPEN_CONFIRMATION, "the session channel is refused");
        ensure!(reader.u32()? == channel, "another channel is confirmed");
        Ok(reader.u32()?)
    }

    fn payload(&mut self) -> Result<Vec<u8>> {
        loop {
            match self.event()? {
                Event::Message(range) => return Ok(self.transport.payload(range).to_vec()),
                Event::Disconnected { reason, text } => {
                    bail!("disconnected: {reason} {}", text.escape_ascii())
                }
                Event::Proposed | Event::KeysExchanged { .. } => {}
            }
        }
    }

    fn event(&mut self) -> Result<Event> {
        let until = Instant::now() + self.limit;
        loop {
            let event = self.transport.poll()?;
            self.flush()?;
            if let Some(event) = event {
                return Ok(event);
            }
            ensure!(Instant::now() < until, "no message came in time");
            match self.stream.read(self.transport.spare(CHUNK)) {
                Ok(0) => bail!("the connection was closed"),
                Ok(n) => self.transport.filled(n)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read from the connection"),
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        let pending = self.transport.pending();
        let n = pending.len();
        self.stream.write_all(pending)?;
        self.transport.written(n);
        Ok(())
    }
}

fn userauth(login: &str, method: &str) -> Result<Message> {
    Message::new(number::USERAUTH_REQUEST).string(login)?.string("ssh-connection")?.string(method)
}
