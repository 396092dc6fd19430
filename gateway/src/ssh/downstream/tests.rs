//! Clients that do not do what most do, over loopback.

use std::time::Instant;

use portreeve_core::host_key::{AccountSecret, derive};
use portreeve_ssh::message;
use portreeve_ssh::wire::put_string;
use ssh_key::PrivateKey;
use ssh_key::private::Ed25519Keypair;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// What becomes of a client.
async fn accepted(client: impl AsyncFnOnce(TcpStream)) -> Result<LoginAttempt, DownstreamError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = PrivateKey::from(Ed25519Keypair::from_seed(&[2; 32]));
    let keys = ShownKeys::new(derive(&AccountSecret::new([1; 32]), target.public_key())).unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    let accepting = async {
        let greeted = greet(tcp, b"SSH-2.0-x", false, LIMIT).await?;
        greeted.ask_login(keys, None, LIMIT).await
    };
    tokio::join!(accepting, client(dialled)).0
}

fn transport() -> Transport {
    Transport::new(Role::Client, Config::default()).unwrap()
}

fn texts(number: u8, fields: &[&str]) -> Vec<u8> {
    let mut payload = vec![number];
    fields.iter().for_each(|field| put_string(&mut payload, field.as_bytes()).unwrap());
    payload
}

/// Sends messages once the keys are exchanged.
async fn say(tcp: TcpStream, transport: Transport, messages: &[Vec<u8>]) -> Link {
    let mut link = Link::new(tcp, transport).unwrap();
    assert!(matches!(link.next_event().await, Ok(Event::KeysExchanged { .. })));
    for payload in messages {
        link.transport.send(&[payload]).unwrap();
    }
    link
}

/// The answer to the service request; what is pending is sent for it.
async fn answer(mut link: Link) {
    assert!(matches!(link.next_event().await, Ok(Event::Message(_))));
}

fn login(name: &str) -> Vec<u8> {
    texts(message::USERAUTH_REQUEST, &[name, "ssh-connection", "none"])
}

fn service() -> Vec<u8> {
    texts(message::SERVICE_REQUEST, &["ssh-userauth"])
}

#[tokio::test]
async fn a_client_that_proposes_only_after_us_is_let_in_after_the_grace() {
    let begun = Instant::now();
    let attempt = accepted(async |mut tcp| {
        let mut transport = transport();
        let line = transport.pending().iter().position(|byte| *byte == b'\n').unwrap() + 1;
        tcp.write_all(&transport.pending()[..line]).await.unwrap();
        transport.written(line);
        // Our own proposal stays here until theirs has come, which adds our part of the exchange to it.
        let held = transport.pending().len();
        while transport.pending().len() == held {
            let n = tcp.read(transport.spare(4096)).await.unwrap();
            assert!(n > 0, "the gateway waits for the client to propose");
            transport.filled(n).unwrap();
            assert!(transport.poll().unwrap().is_none());
        }
        assert!(begun.elapsed() >= PROPOSAL_GRACE, "{:?}", begun.elapsed());
        answer(say(tcp, transport, &[service(), login("alice")]).await).await;
    });
    assert_eq!(attempt.await.unwrap().login_text(), "alice");
}

/// RFC 4252 section 6: such a message before authentication ends the connection.
#[tokio::test]
async fn early_channel_messages_reach_nobody_and_end_the_connection() {
    let numbers = [&[0; 12][..], b"\0\0\0\0"].concat();
    let early = [
        [texts(message::CHANNEL_OPEN, &["session"]), numbers.clone()].concat(),
        [texts(message::GLOBAL_REQUEST, &["tcpip-forward"]), vec![1]].concat(),
        [&[message::CHANNEL_REQUEST, 0, 0, 0, 0][..], &texts(0, &["pty-req"])[1..], &[1]].concat(),
        [&[message::CHANNEL_DATA, 0, 0, 0, 0][..], &texts(0, &["id\n"])[1..]].concat(),
    ];
    for payload in early {
        for before in [vec![], vec![service()]] {
            let messages = [before, vec![payload.clone(), login("alice")]].concat();
            let attempt = accepted(async |tcp| {
                let mut link = say(tcp, transport(), &messages).await;
                let end = loop {
                    match link.next_event().await {
                        Ok(Event::Message(_)) => {}
                        end => break end,
                    }
                };
                assert!(matches!(end, Err(PeerEnd::Disconnected { reason: 2, .. })), "{end:?}");
            });
            let error = attempt.await.err().expect("nobody asked for a login before");
            assert!(matches!(error, DownstreamError::Protocol(_)), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_second_user_name_sent_at_once_is_never_looked_at() {
    let attempt = accepted(async |tcp| {
        answer(say(tcp, transport(), &[service(), login("alice"), login("root")]).await).await;
    });
    let attempt = attempt.await.unwrap();
    assert_eq!((attempt.login_text(), attempt.login().map(Login::as_str)), ("alice", Some("alice")));
}
