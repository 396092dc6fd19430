//! russh as the peer, on a runtime of its own; our side is on a blocking socket in a thread.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portreeve_ssh::host_key::PublicHostKey;
use portreeve_ssh::negotiation::Preferences;
use russh::keys::{Certificate, PublicKeyOrCertificate};
use russh::server::{Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, ChannelMsg, Limits, client, server};
use tokio::net::{TcpListener, TcpStream};

use crate::commands::{Finished, pattern, run, serve_echo};
use crate::connection::{Connection, REKEY_BYTES, key};

fn limits() -> Limits {
    let bytes = usize::try_from(REKEY_BYTES).unwrap();
    Limits::new(bytes, bytes, Duration::from_secs(3600))
}

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(
            matches!(shown, PublicKeyOrCertificate::PublicKey { key: shown, .. } if shown == key(1).public_key()),
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_russh_client_gets_its_echo_from_our_server_while_keys_change() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let stream = listener.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let (stream, _) = stream.accept().unwrap();
        stream.set_nonblocking(false).unwrap();
        let mut connection = Connection::server(stream, Preferences::default());
        assert_eq!(connection.let_in(), b"alice");
        (serve_echo(&mut connection), connection.exchanges)
    });
    let config = Arc::new(client::Config { limits: limits(), ..client::Config::default() });
    let mut session = client::connect(config, address, Trusting).await.unwrap();
    assert!(session.authenticate_none("alice").await.unwrap().success());
    let input = pattern(6 << 20);
    let channel = session.channel_open_session().await.unwrap();
    channel.exec(true, "echo").await.unwrap();
    let (mut reading, writing) = channel.split();
    let sent = input.clone();
    let writer = tokio::spawn(async move {
        writing.data(&sent[..]).await.unwrap();
        writing.eof().await.unwrap();
        writing
    });
    let (mut output, mut status) = (Vec::new(), None);
    while let Some(message) = reading.wait().await {
        if let ChannelMsg::Data { data } = &message {
            output.extend_from_slice(data);
        }
        if let ChannelMsg::ExitStatus { exit_status } = message {
            status = Some(exit_status);
        }
    }
    writer.await.unwrap();
    assert!(output == input, "the echo differs: {} bytes", output.len());
    assert_eq!(status, Some(3));
    session.disconnect(russh::Disconnect::ByApplication, "done", "en").await.unwrap();
    drop(session);
    let (command, exchanges) = server.join().unwrap();
    assert_eq!(command, b"echo");
    assert!(exchanges > 4, "{exchanges} exchanges");
}

struct Echo;

impl server::Handler for Echo {
    type Error = russh::Error;

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        shown: &Certificate,
    ) -> Result<Auth, Self::Error> {
        let ca = key(9);
        let fits = shown.valid_principals() == [user] && shown.signature_key() == ca.public_key().key_data();
        Ok(if fits { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        assert_eq!(command, b"echo");
        session.channel_success(channel)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.data(channel, data.to_vec())
    }

    async fn channel_eof(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        session.exit_status_request(channel, 7)?;
        session.eof(channel)?;
        session.close(channel)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_gets_its_echo_from_a_russh_server_while_keys_change() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = thread::spawn(move || {
        let stream = std::net::TcpStream::connect(address).unwrap();
        let mut connection = Connection::client(stream, Preferences::default());
        let Some(PublicHostKey::Plain(shown)) = &connection.host_key else { panic!("a plain key") };
        assert_eq!(shown, key(1).public_key());
        connection.log_in("alice");
        let input = pattern(6 << 20);
        let Finished { output, status } = run(&mut connection, "echo", &input);
        assert!(output == input, "the echo differs: {} bytes", output.len());
        (status, connection.exchanges)
    });
    let config = server::Config { keys: vec![key(1)], limits: limits(), ..server::Config::default() };
    let (stream, _): (TcpStream, _) = listener.accept().await.unwrap();
    let session = server::run_stream(Arc::new(config), stream, Echo).await.unwrap();
    let (status, exchanges) = tokio::task::spawn_blocking(|| client.join().unwrap()).await.unwrap();
    assert_eq!(status, Some(7));
    assert!(exchanges > 4, "{exchanges} exchanges");
    session.await.ok();
}
