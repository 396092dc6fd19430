//! The baseline of `cargo xtask bench ssh`: a proxy that glues russh's server to russh's client.
//!
//! `russh-proxy LISTEN TARGET LOGIN KEY_FILE CIPHER`: users log in by `none`, the proxy by a key, and
//! both connections are under the one cipher. Session
//! channels with a terminal and a command are all it knows. It decides, certifies and records nothing;
//! it is what a relay of whole channels costs, not a product.

use std::collections::HashMap;
use std::env;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::server::{Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, ChannelMsg, Preferred, Pty, cipher, client, server};
use ssh_key::PrivateKey;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use tokio::net::{TcpListener, TcpStream};

/// Window and packet as OpenSSH has them, so that the same bytes are in flight on all routes.
const WINDOW: u32 = 2 * 1024 * 1024;
const PACKET: u32 = 32 * 1024;

const CIPHERS: [cipher::Name; 3] = [cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::CHACHA20_POLY1305];

/// Where the proxy logs in.
struct Target {
    address: SocketAddr,
    login: String,
    key: Arc<PrivateKey>,
    preferred: Preferred,
}

/// The client half: takes any host key.
struct Upstream;

/// The server half of one connection.
struct Downstream {
    target: Arc<Target>,
    upstream: Option<client::Handle<Upstream>>,
    /// Channels whose command is not known yet: the user's and the target's.
    waiting: HashMap<ChannelId, (Channel<Msg>, Channel<client::Msg>)>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [listen, target, login, key, cipher] = args.as_slice() else {
        anyhow::bail!("usage: russh-proxy LISTEN TARGET LOGIN KEY_FILE CIPHER");
    };
    let key = PrivateKey::from_openssh(std::fs::read(key).context("the key")?)?;
    let cipher = CIPHERS.into_iter().find(|name| name.as_ref() == cipher).context("no such cipher")?;
    let preferred = Preferred { cipher: vec![cipher].into(), ..Preferred::DEFAULT };
    let target = Arc::new(Target {
        address: target.parse()?,
        login: login.clone(),
        key: Arc::new(key),
        preferred: preferred.clone(),
    });
    // Benchmarks need no secret here.
    let host_key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[7; 32])), "")?;
    let config = Arc::new(server::Config {
        keys: vec![host_key],
        auth_rejection_time: Duration::ZERO,
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        preferred,
        inactivity_timeout: None,
        ..server::Config::default()
    });
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let downstream = Downstream { target: Arc::clone(&target), upstream: None, waiting: HashMap::new() };
        let config = Arc::clone(&config);
        tokio::spawn(async move {
            // A user who leaves is no event.
            if let Ok(session) = server::run_stream(config, stream, downstream).await {
                session.await.ok();
            }
        });
    }
}

impl client::Handler for Upstream {
    type Error = anyhow::Error;

    async fn check_server_key(&mut self, _shown: &PublicKeyOrCertificate) -> Result<bool> {
        Ok(true)
    }
}

impl Target {
    async fn log_in(&self) -> Result<client::Handle<Upstream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let config = client::Config {
            window_size: WINDOW,
            maximum_packet_size: PACKET,
            preferred: self.preferred.clone(),
            ..client::Config::default()
        };
        let mut handle = client::connect_stream(Arc::new(config), stream, Upstream).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&self.key), None);
        let answer = handle.authenticate_publickey(&self.login, key).await?;
        ensure!(answer.success(), "the target refuses the key");
        Ok(handle)
    }
}

impl server::Handler for Downstream {
    type Error = anyhow::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth> {
        self.upstream = Some(self.target.log_in().await?);
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<()> {
        let upstream = self.upstream.as_ref().context("nobody has logged in")?;
        let theirs = upstream.channel_open_session().await?;
        self.waiting.insert(channel.id(), (channel, theirs));
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<()> {
        let (_, theirs) = self.waiting.get(&channel).context("a terminal for a running command")?;
        theirs.request_pty(false, term, columns, rows, width, height, modes).await?;
        Ok(session.channel_success(channel)?)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<()> {
        let (ours, theirs) = self.waiting.remove(&channel).context("a second command")?;
        theirs.exec(false, command).await?;
        session.channel_success(channel)?;
        tokio::spawn(relay(ours, theirs));
        Ok(())
    }
}

/// Both directions until the target closes. The target's EOF is held back until its exit status has
/// come: the user's client answers EOF with CLOSE, russh answers that by itself, and the status is lost.
#[expect(clippy::wildcard_enum_match_arm, reason = "the rest is what this proxy does not know")]
async fn relay(ours: Channel<Msg>, theirs: Channel<client::Msg>) -> Result<(), russh::Error> {
    let (mut from_user, to_user) = ours.split();
    let (mut from_target, to_target) = theirs.split();
    let up = tokio::spawn(async move {
        while let Some(message) = from_user.wait().await {
            match message {
                ChannelMsg::Data { data } => to_target.data_bytes(data).await?,
                ChannelMsg::Eof => to_target.eof().await?,
                _ => {}
            }
        }
        Ok::<(), russh::Error>(())
    });
    let (mut held_eof, mut has_ended) = (false, false);
    while let Some(message) = from_target.wait().await {
        match message {
            ChannelMsg::Data { data } => to_user.data_bytes(data).await?,
            ChannelMsg::ExtendedData { data, ext } => to_user.extended_data_bytes(ext, data).await?,
            ChannelMsg::ExitStatus { exit_status } => {
                to_user.exit_status(exit_status).await?;
                has_ended = true;
            }
            ChannelMsg::Eof => held_eof = true,
            _ => {}
        }
        if held_eof && has_ended {
            to_user.eof().await?;
            held_eof = false;
        }
    }
    to_user.close().await?;
    up.abort();
    Ok(())
}
