//! A client and a server joined in memory, with bytes that move only when a test says so.

use ssh_key::PrivateKey;
use ssh_key::private::Ed25519Keypair;

use super::*;

/// Stands for `[CHANNEL_DATA]` with a body; the transport does not look into it.
const DATA: u8 = message::CHANNEL_DATA;

pub(super) fn host_key(seed: u8) -> HostKeySigner {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]));
    HostKeySigner::new(&key, None).unwrap()
}

pub(super) fn server_config() -> Config {
    Config { host_keys: vec![host_key(1)], answer_second: true, ..Config::default() }
}

/// One end and what it saw.
pub(super) struct End {
    pub(super) transport: Transport,
    /// Messages that are not the transport's own.
    pub(super) received: Vec<Vec<u8>>,
    pub(super) exchanges: usize,
    pub(super) host_key: Option<PublicHostKey>,
    pub(super) disconnected: Option<(u32, Vec<u8>)>,
}

pub(super) struct Pair {
    pub(super) client: End,
    pub(super) server: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Client,
    Server,
}

impl End {
    pub(super) fn new(role: Role, config: Config) -> Self {
        let transport = Transport::new(role, config).unwrap();
        Self { transport, received: Vec::new(), exchanges: 0, host_key: None, disconnected: None }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        self.transport.spare(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.transport.filled(bytes.len())?;
        self.poll()
    }

    pub(super) fn poll(&mut self) -> Result<(), TransportError> {
        while let Some(event) = self.transport.poll()? {
            match event {
                Event::Proposed => self.transport.propose()?,
                Event::KeysExchanged { host_key } => {
                    self.exchanges += 1;
                    self.host_key = host_key.or(self.host_key.take());
                }
                Event::Message(range) => self.received.push(self.transport.payload(range).to_vec()),
                Event::Disconnected { reason, text } => self.disconnected = Some((reason, text)),
            }
        }
        Ok(())
    }

    /// Takes at most `n` bytes of what is to be written.
    pub(super) fn take(&mut self, n: usize) -> Vec<u8> {
        let pending = self.transport.pending();
        let taken = pending[..pending.len().min(n)].to_vec();
        self.transport.written(taken.len());
        taken
    }

    pub(super) fn send(&mut self, body: &[u8]) {
        self.transport.send(&[&[DATA], body]).unwrap();
    }

    /// Sends past the state machine, as a peer may that does not keep to the rules.
    pub(super) fn send_anyway(&mut self, payload: &[u8]) {
        self.transport.buffers().1.push(&[payload]).unwrap();
    }

    pub(super) fn bodies(&self) -> Vec<&[u8]> {
        self.received.iter().filter(|message| message[0] == DATA).map(|message| &message[1..]).collect()
    }
}

impl Pair {
    pub(super) fn new(client: Config, server: Config) -> Self {
        Self { client: End::new(Role::Client, client), server: End::new(Role::Server, server) }
    }

    /// After the first exchange, both sides authenticated.
    pub(super) fn established() -> Self {
        Self::established_with(Config::default(), server_config())
    }

    pub(super) fn established_with(client: Config, server: Config) -> Self {
        let mut pair = Self::new(client, server);
        pair.settle().unwrap();
        assert_eq!((pair.client.exchanges, pair.server.exchanges), (1, 1));
        pair.client.transport.authenticated();
        pair.server.transport.authenticated();
        pair
    }

    pub(super) fn end(&mut self, which: Which) -> &mut End {
        match which {
            Which::Client => &mut self.client,
            Which::Server => &mut self.server,
        }
    }

    /// Moves at most `n` bytes away from one end; whether there were any.
    pub(super) fn carry(&mut self, from: Which, n: usize) -> Result<bool, TransportError> {
        let bytes = self.end(from).take(n);
        let to = match from {
            Which::Client => &mut self.server,
            Which::Server => &mut self.client,
        };
        to.feed(&bytes)?;
        Ok(!bytes.is_empty())
    }

    /// Moves bytes until neither end has any.
    pub(super) fn settle(&mut self) -> Result<(), TransportError> {
        self.settle_in_chunks(usize::MAX)
    }

    pub(super) fn settle_in_chunks(&mut self, chunk: usize) -> Result<(), TransportError> {
        loop {
            let up = self.carry(Which::Client, chunk)?;
            let down = self.carry(Which::Server, chunk)?;
            if !up && !down {
                return Ok(());
            }
        }
    }
}
