//! A relay between two peers that run on the same transport, over loopback.

use std::future::pending;
use std::sync::Mutex;
use std::task::Poll;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use portreeve_core::record::{ChannelKind, ChannelNumber, RecordEvent, Source};
use portreeve_ssh::cipher::Cipher;
use portreeve_ssh::host_key::HostKeySigner;
use portreeve_ssh::message;
use portreeve_ssh::negotiation::{HostKeyAlgorithm, Preferences, Role};
use portreeve_ssh::transport::{Config, Event, Transport};
use portreeve_ssh::wire::put_string;
use ssh_key::{Algorithm, PrivateKey, PublicKey};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::ssh::host_keys::HostKeyLearner;
use crate::ssh::observe::Decision;

const LIMIT: Duration = Duration::from_secs(60);
const SOCKET_BUFFER: usize = 64 * 1024;

/// Remembers events and takes its time.
#[derive(Default)]
struct Slow {
    pause: Option<Duration>,
    /// While it is there, the observer is behind with the first channel.
    behind: Option<watch::Receiver<bool>>,
    /// Told when the observer fails by itself.
    fails: Notify,
    events: Mutex<Vec<RecordEvent>>,
    seen: Mutex<Vec<(Source, usize)>>,
}

impl SessionObserver for Slow {
    async fn event(&self, event: RecordEvent) -> Result<Decision, ObserverFailed> {
        tokio::time::sleep(self.pause.unwrap_or_default()).await;
        let unwanted = matches!(&event, RecordEvent::Exec { command, .. } if command.0 == b"unwanted");
        self.events.lock().unwrap().push(event);
        Ok(if unwanted { Decision::Refuse { text: String::new() } } else { Decision::Forward })
    }

    async fn data(
        &self,
        _channel: ChannelNumber,
        source: Source,
        _code: u32,
        data: &[u8],
    ) -> Result<(), ObserverFailed> {
        if let Some(pause) = self.pause {
            tokio::time::sleep(pause).await;
        }
        self.seen.lock().unwrap().push((source, data.len()));
        Ok(())
    }

    async fn keeps_up(&self, channel: ChannelNumber) {
        if let Some(mut behind) = self.behind.clone().filter(|_| channel == ChannelNumber(0)) {
            behind.wait_for(|behind| !behind).await.unwrap();
        }
    }

    async fn failed(&self) -> ObserverFailed {
        self.fails.notified().await;
        ObserverFailed("disk full".into())
    }
}

struct Bed {
    user: Link,
    target: Link,
    observer: Arc<Slow>,
    running: JoinHandle<RelayOutcome>,
    proven: oneshot::Receiver<Vec<PublicKey>>,
}

/// Both connections with their keys exchanged, and a relay between them.
async fn bed(observer: Slow, permissions: SshPermissions) -> Bed {
    bed_until(observer, permissions, &Keys::default(), pending()).await
}

async fn bed_until(
    observer: Slow,
    permissions: SshPermissions,
    keys: &Keys,
    end: impl Future<Output = String> + Send + 'static,
) -> Bed {
    let observer = Arc::new(observer);
    let (mut user, down) = connected(keys, Role::Server).await;
    let (up, target) = connected(keys, Role::Client).await;
    let mut up = UpstreamSession {
        link: up,
        banners: vec![b"be good\n".to_vec()],
        learner: HostKeyLearner::default(),
    };
    let proven = up.learn_host_keys(Vec::new());
    let watching = Arc::clone(&observer);
    let session = run(DownstreamSession { link: down }, up, permissions, watching, end);
    let running = tokio::spawn(session);
    assert_eq!(next(&mut user).await[..13], *b"\x35\0\0\0\x08be good\n");
    assert_eq!(next(&mut user).await, [message::USERAUTH_SUCCESS]);
    Bed { user, target, observer, running, proven }
}

/// How keys are exchanged on both connections; the defaults are those of a session.
#[derive(Clone, Default)]
struct Keys {
    /// Bytes after which the relay wants new ones.
    ours: Option<u64>,
    /// Bytes after which its peers want new ones.
    theirs: Option<u64>,
    /// The only cipher.
    cipher: Option<Cipher>,
}

/// A client and a server whose keys are exchanged; the relay has the role `ours`.
async fn connected(keys: &Keys, ours: Role) -> (Link, Link) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let link = |tcp: TcpStream, role, host_keys| {
        // Else megabytes are under way between a proposal and its answer.
        setsockopt(&tcp, sockopt::SndBuf, &SOCKET_BUFFER).unwrap();
        setsockopt(&tcp, sockopt::RcvBuf, &SOCKET_BUFFER).unwrap();
        let rekey_bytes = if role == ours { keys.ours } else { keys.theirs };
        let mut preferences = Preferences::default();
        preferences.ciphers = keys.cipher.map_or(preferences.ciphers, |cipher| vec![cipher]);
        let config = Config { host_keys, rekey_bytes, preferences, ..Config::default() };
        Link::new(tcp, Transport::new(role, config).unwrap()).unwrap()
    };
    let client = link(client.unwrap(), Role::Client, Vec::new());
    let server = link(server.unwrap().0, Role::Server, vec![HostKeySigner::new(&key, None).unwrap()]);
    let exchange = async |mut link: Link| {
        assert!(matches!(link.next_event().await, Ok(Event::KeysExchanged { .. })));
        link.transport.authenticated();
        link
    };
    tokio::join!(exchange(client), exchange(server))
}

/// The next message, which must come soon.
async fn next(link: &mut Link) -> Vec<u8> {
    loop {
        let event = timeout(LIMIT, link.next_event()).await.expect("a message comes").unwrap();
        if let Event::Message(range) = event {
            return link.transport.payload(range).to_vec();
        }
    }
}

async fn say(link: &mut Link, payload: &[u8]) {
    link.transport.send(&[payload]).unwrap();
    write_out(link).await;
}

async fn write_out(link: &mut Link) {
    poll_fn(|cx| {
        link.poll_flush(cx);
        if link.transport.pending().is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn message(number: u8, channel: u32, rest: &[u8]) -> Vec<u8> {
    [&[number][..], &channel.to_be_bytes(), rest].concat()
}

fn string(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, text).unwrap();
    out
}

fn open(kind: &[u8], number: u32) -> Vec<u8> {
    let numbers = [number.to_be_bytes(), u32::MAX.to_be_bytes(), 32_768_u32.to_be_bytes()].concat();
    [&[message::CHANNEL_OPEN][..], &string(kind), &numbers].concat()
}

fn global(name: &[u8], want_reply: bool) -> Vec<u8> {
    [&[message::GLOBAL_REQUEST][..], &string(name), &[u8::from(want_reply)]].concat()
}

/// Opens a session channel that the user calls 5 and the target 9.
async fn open_session(bed: &mut Bed) {
    open_channel(bed, b"session").await;
}

async fn open_channel(bed: &mut Bed, kind: &[u8]) {
    say(&mut bed.user, &open(kind, 5)).await;
    assert_eq!(next(&mut bed.target).await, open(kind, 5));
    let rest = [9_u32.to_be_bytes(), u32::MAX.to_be_bytes(), 32_768_u32.to_be_bytes()].concat();
    let confirmation = message(message::CHANNEL_OPEN_CONFIRMATION, 5, &rest);
    say(&mut bed.target, &confirmation).await;
    assert_eq!(next(&mut bed.user).await, confirmation);
}

/// Sends `count` numbered pieces to the peer's `channel` while it expects as many; returns how often keys
/// were exchanged meanwhile.
async fn exchange_bulk(link: &mut Link, channel: u32, count: u32) -> u32 {
    let filler = vec![7; 20_000];
    let (mut sent, mut received, mut exchanges) = (0_u32, 0_u32, 0_u32);
    while sent < count || received < count || !link.transport.pending().is_empty() {
        while sent < count && link.transport.can_send() && link.transport.pending().len() < 300_000 {
            let piece = string(&[&sent.to_be_bytes()[..], &filler].concat());
            link.transport.send(&[&message(message::CHANNEL_DATA, channel, &piece)]).unwrap();
            sent += 1;
        }
        if link.transport.wants_rekey() {
            link.transport.propose().unwrap();
        }
        let Ok(event) = timeout(Duration::from_millis(1), link.next_event()).await else { continue };
        let event = event.unwrap();
        exchanges += u32::from(matches!(event, Event::KeysExchanged { .. }));
        if let Event::Message(range) = event {
            let payload = link.transport.payload(range);
            assert_eq!(payload[0], message::CHANNEL_DATA);
            assert_eq!(payload[9..13], received.to_be_bytes(), "lost or out of order");
            received += 1;
        }
    }
    // The other side may still exchange keys.
    timeout(Duration::from_millis(500), link.next_event()).await.ok();
    exchanges
}

/// Returns how often keys were exchanged with the user and with the target.
async fn bulk_both_ways(pause: Option<Duration>, keys: Keys, count: u32) -> (u32, u32) {
    let observer = Slow { pause, ..Slow::default() };
    let mut bed = bed_until(observer, SshPermissions::NONE, &keys, pending()).await;
    open_session(&mut bed).await;
    let Bed { mut user, mut target, observer, running, .. } = bed;
    let both =
        async { tokio::join!(exchange_bulk(&mut user, 9, count), exchange_bulk(&mut target, 5, count)) };
    let exchanges = timeout(LIMIT, both).await.expect("nobody waits for ever");
    drop(user);
    let outcome = timeout(LIMIT, running).await.unwrap().unwrap();
    assert_eq!(outcome.ended_by, EndedBy::ClientDisconnected);
    let bytes = u64::from(count) * 20_004;
    assert_eq!((outcome.client_bytes, outcome.target_bytes), (bytes, bytes));
    assert_eq!(observer.seen.lock().unwrap().len(), 2 * count as usize, "each piece is seen once");
    let closed =
        RecordEvent::ChannelClosed { channel: ChannelNumber(0), client_bytes: bytes, target_bytes: bytes };
    assert_eq!(observer.events.lock().unwrap().last(), Some(&closed));
    exchanges
}

#[tokio::test]
async fn bulk_both_ways_keeps_order_while_everybody_exchanges_keys() {
    let keys = Keys { ours: Some(700_000), theirs: Some(700_000), cipher: None };
    let (user, target) = bulk_both_ways(None, keys, 800).await;
    assert!(user > 8 && target > 8, "{user} and {target} exchanges");
}

#[tokio::test]
async fn bulk_both_ways_keeps_order_while_the_relay_alone_exchanges_keys_of_every_kind_of_cipher() {
    for cipher in [Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305, Cipher::Aes128Ctr] {
        let keys = Keys { ours: Some(500_000), theirs: None, cipher: Some(cipher) };
        let (user, target) = bulk_both_ways(None, keys, 400).await;
        assert!(user > 4 && target > 4, "{cipher:?}: {user} and {target} exchanges");
    }
}

#[tokio::test]
async fn bulk_both_ways_keeps_order_with_an_observer_that_is_behind() {
    let keys = Keys { ours: Some(500_000), theirs: Some(500_000), cipher: None };
    bulk_both_ways(Some(Duration::from_micros(200)), keys, 150).await;
}

#[tokio::test]
async fn refusals_reach_the_side_that_is_to_answer() {
    let mut bed = bed(Slow::default(), SshPermissions::NONE).await;
    // The relay refuses an open by itself.
    say(&mut bed.user, &open(b"auth-agent@openssh.com", 3)).await;
    assert_eq!(next(&mut bed.user).await[..5], message(message::CHANNEL_OPEN_FAILURE, 3, b""));
    open_session(&mut bed).await;
    // The target is asked for something it does not know, and keeps the order of replies.
    let asked = [string(b"auth-agent-req@openssh.com"), vec![1]].concat();
    let unwanted = [string(b"exec"), vec![1], string(b"unwanted")].concat();
    for request in [asked, unwanted] {
        say(&mut bed.user, &message(message::CHANNEL_REQUEST, 9, &request)).await;
        let refused = [string(b"refused@portreeve"), vec![1]].concat();
        assert_eq!(next(&mut bed.target).await, message(message::CHANNEL_REQUEST, 9, &refused));
    }
    // Host keys stay hidden; what is unknown crosses.
    say(&mut bed.target, &global(b"hostkeys-00@openssh.com", false)).await;
    say(&mut bed.target, &global(b"x@example.com", false)).await;
    assert_eq!(next(&mut bed.user).await, global(b"x@example.com", false));
    let refused: Vec<_> = bed.observer.events.lock().unwrap().clone();
    let refused = refused.iter().filter(|event| matches!(event, RecordEvent::Refused { .. })).count();
    assert_eq!(refused, 2);
}

/// A target may know such channels and run what they ask for; their streams are not recorded.
#[tokio::test]
async fn nothing_runs_on_a_channel_that_is_no_session() {
    let mut bed = bed(Slow::default(), SshPermissions::ALL).await;
    open_channel(&mut bed, b"session@example.com").await;
    let pty = [string(b"vt100"), vec![0; 16], string(b"")].concat();
    let asked =
        [("shell", Vec::new()), ("exec", string(b"id")), ("subsystem", string(b"sftp")), ("pty-req", pty)];
    for (name, content) in asked {
        let request = [string(name.as_bytes()), vec![1], content].concat();
        say(&mut bed.user, &message(message::CHANNEL_REQUEST, 9, &request)).await;
        let refused = [string(b"refused@portreeve"), vec![1]].concat();
        assert_eq!(next(&mut bed.target).await, message(message::CHANNEL_REQUEST, 9, &refused), "{name}");
    }
    let other = [string(b"x@example.com"), vec![1]].concat();
    say(&mut bed.user, &message(message::CHANNEL_REQUEST, 9, &other)).await;
    assert_eq!(next(&mut bed.target).await, message(message::CHANNEL_REQUEST, 9, &other));
    let what = String::from("command outside a session channel");
    let refused = RecordEvent::Refused { channel: Some(ChannelNumber(0)), what };
    assert!(bed.observer.events.lock().unwrap().contains(&refused));
}

/// A client may send its first channel open together with the request that lets it in.
#[tokio::test]
async fn what_came_with_the_login_is_forwarded_as_it_was() {
    let keys = Keys::default();
    let (mut user, mut down) = connected(&keys, Role::Server).await;
    let (up, mut target) = connected(&keys, Role::Client).await;
    let trailing = [open(b"session", 5), vec![0xee; 3_000]].concat();
    say(&mut user, &trailing).await;
    poll_fn(|cx| down.poll_read(cx)).await.unwrap();
    // What another session left in this thread must not be sent instead.
    let (mut other, _peer) = connected(&keys, Role::Client).await;
    other.borrow_input();
    other.transport.spare(1).fill(0x55);
    other.return_input();
    let up = UpstreamSession { link: up, banners: Vec::new(), learner: HostKeyLearner::default() };
    let observer = Arc::new(Slow { pause: Some(Duration::from_millis(20)), ..Slow::default() });
    let session = run(DownstreamSession { link: down }, up, SshPermissions::NONE, observer, pending());
    let (first, _outcome) = tokio::join!(
        async {
            let first = next(&mut target).await;
            drop((user, target));
            first
        },
        session
    );
    assert_eq!(first, trailing);
}

#[tokio::test]
async fn the_target_proves_its_host_keys_to_the_gateway_while_the_user_gets_every_reply() {
    let mut bed = bed(Slow::default(), SshPermissions::ALL).await;
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let blob = key.public_key().to_bytes().unwrap();
    let announced = [global(b"hostkeys-00@openssh.com", false), string(&blob)].concat();
    let prove = [global(b"hostkeys-prove-00@openssh.com", true), string(&blob)].concat();
    let asked = |n: u8| global(&[b'a' + n], true);
    say(&mut bed.user, &asked(1)).await;
    assert_eq!(next(&mut bed.target).await, asked(1));
    say(&mut bed.target, &announced).await;
    assert_eq!(next(&mut bed.target).await, prove);
    // Only the first announcement counts.
    say(&mut bed.target, &announced).await;
    say(&mut bed.user, &asked(2)).await;
    assert_eq!(next(&mut bed.target).await, asked(2));
    let signed = [string(b"hostkeys-prove-00@openssh.com"), string(bed.target.transport.session_id())];
    let signer = HostKeySigner::new(&key, None).unwrap();
    let signature = signer.sign(HostKeyAlgorithm::Ed25519, &[signed.concat(), string(&blob)].concat());
    let success = |content: &[u8]| [&[message::REQUEST_SUCCESS], content].concat();
    say(&mut bed.target, &success(b"1")).await;
    say(&mut bed.target, &success(&string(&signature.unwrap()))).await;
    say(&mut bed.target, &[message::REQUEST_FAILURE]).await;
    assert_eq!(next(&mut bed.user).await, success(b"1"));
    assert_eq!(next(&mut bed.user).await, [message::REQUEST_FAILURE]);
    let proven = timeout(LIMIT, bed.proven).await.unwrap().unwrap();
    assert_eq!(proven.len(), 1);
    assert_eq!(proven[0].key_data(), key.public_key().key_data());
}

/// The user's request is on its way through the observer when the target announces its keys.
#[tokio::test]
async fn a_target_without_proof_proves_nothing_and_the_user_gets_every_reply() {
    let mut bed = bed(Slow::default(), SshPermissions::ALL).await;
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let blob = key.public_key().to_bytes().unwrap();
    let forward = [global(b"tcpip-forward", true), string(b"localhost"), vec![0; 4]].concat();
    let announced = [global(b"hostkeys-00@openssh.com", false), string(&blob)].concat();
    bed.user.transport.send(&[&forward]).unwrap();
    bed.target.transport.send(&[&announced]).unwrap();
    tokio::join!(write_out(&mut bed.user), write_out(&mut bed.target));
    let port = [&[message::REQUEST_SUCCESS][..], &[0, 0, 4, 7]].concat();
    for _ in 0..2 {
        let reply = if next(&mut bed.target).await == forward {
            port.clone()
        } else {
            vec![message::REQUEST_FAILURE]
        };
        say(&mut bed.target, &reply).await;
    }
    assert_eq!(next(&mut bed.user).await, port);
    assert!(timeout(LIMIT, bed.proven).await.unwrap().is_err());
}

/// Begins a key exchange, which stays unfinished until something is awaited on the link.
async fn begin_key_exchange(link: &mut Link) {
    link.transport.propose().unwrap();
    write_out(link).await;
    // What comes is the relay's proposal: it takes part.
    poll_fn(|cx| link.poll_read(cx)).await.unwrap();
}

fn keep_alive(channel: Option<u32>) -> Vec<u8> {
    let asked = [string(b"keepalive@openssh.com"), vec![1]].concat();
    channel.map_or_else(
        || global(b"keepalive@openssh.com", true),
        |number| message(message::CHANNEL_REQUEST, number, &asked),
    )
}

#[tokio::test]
async fn keep_alives_are_answered_while_the_other_side_exchanges_keys_but_not_for_ever() {
    let mut bed = bed(Slow::default(), SshPermissions::ALL).await;
    open_session(&mut bed).await;
    begin_key_exchange(&mut bed.user).await;
    say(&mut bed.target, &keep_alive(None)).await;
    assert_eq!(next(&mut bed.target).await, [message::REQUEST_FAILURE]);
    say(&mut bed.target, &keep_alive(Some(5))).await;
    assert_eq!(next(&mut bed.target).await, message(message::CHANNEL_FAILURE, 9, b""));
    say(&mut bed.target, &keep_alive(None)).await;
    assert_eq!(next(&mut bed.target).await, [message::REQUEST_FAILURE]);
    // The fourth one waits for the user's side.
    say(&mut bed.target, &keep_alive(Some(5))).await;
    assert_eq!(next(&mut bed.user).await, keep_alive(Some(5)));
    say(&mut bed.user, &message(message::CHANNEL_FAILURE, 9, b"")).await;
    assert_eq!(next(&mut bed.target).await, message(message::CHANNEL_FAILURE, 9, b""));
    // The other way, and again after something crossed.
    begin_key_exchange(&mut bed.target).await;
    say(&mut bed.user, &keep_alive(None)).await;
    assert_eq!(next(&mut bed.user).await, [message::REQUEST_FAILURE]);
    say(&mut bed.user, &keep_alive(Some(9))).await;
    assert_eq!(next(&mut bed.user).await, message(message::CHANNEL_FAILURE, 5, b""));
    let piece = message(message::CHANNEL_DATA, 9, &string(b"x"));
    say(&mut bed.user, &piece).await;
    assert_eq!(next(&mut bed.target).await, piece);
}

#[tokio::test]
async fn a_keep_alive_waits_behind_what_came_first() {
    let mut bed = bed(Slow::default(), SshPermissions::ALL).await;
    open_session(&mut bed).await;
    // An earlier request has no reply yet: only the user can give it.
    say(&mut bed.target, &global(b"x@example.com", true)).await;
    assert_eq!(next(&mut bed.user).await, global(b"x@example.com", true));
    begin_key_exchange(&mut bed.user).await;
    say(&mut bed.target, &keep_alive(None)).await;
    assert_eq!(next(&mut bed.user).await, keep_alive(None));
    say(&mut bed.user, &[message::REQUEST_SUCCESS, 7]).await;
    say(&mut bed.user, &[message::REQUEST_FAILURE]).await;
    assert_eq!(next(&mut bed.target).await, [message::REQUEST_SUCCESS, 7]);
    assert_eq!(next(&mut bed.target).await, [message::REQUEST_FAILURE]);
    // Data is ahead of it.
    begin_key_exchange(&mut bed.user).await;
    let piece = message(message::CHANNEL_DATA, 5, &string(b"x"));
    say(&mut bed.target, &piece).await;
    say(&mut bed.target, &keep_alive(None)).await;
    assert_eq!(next(&mut bed.user).await, piece);
    assert_eq!(next(&mut bed.user).await, keep_alive(None));
}

#[tokio::test]
async fn a_disconnect_and_its_text_reach_the_other_side() {
    let mut bed = bed(Slow::default(), SshPermissions::ALL).await;
    open_session(&mut bed).await;
    let text = portreeve_ssh::text::TerminalText::new("going down");
    bed.target.transport.disconnect(7, &text).unwrap();
    write_out(&mut bed.target).await;
    let end = timeout(LIMIT, bed.user.next_event()).await.unwrap();
    assert!(
        matches!(&end, Err(PeerEnd::Disconnected { reason: 7, text }) if text == b"going down"),
        "{end:?}"
    );
    drop(bed.user);
    let outcome = bed.running.await.unwrap();
    assert_eq!(outcome.ended_by, EndedBy::TargetDisconnected { text: Some("going down".into()) });
    let events = bed.observer.events.lock().unwrap();
    let kind = ChannelKind::Session;
    let opened = RecordEvent::ChannelOpen { channel: ChannelNumber(0), source: Source::Client, kind };
    assert_eq!(events.len(), 2);
    assert_eq!(events[0], opened);
}

#[tokio::test]
async fn a_message_out_of_place_ends_the_session_for_its_sender() {
    let mut bed = bed(Slow::default(), SshPermissions::ALL).await;
    // Unknown numbers are answered, late authentication requests are not.
    say(&mut bed.user, &[200, 1, 2]).await;
    say(&mut bed.user, &[message::USERAUTH_REQUEST]).await;
    say(&mut bed.user, &message(message::CHANNEL_DATA, 77, &string(b"x"))).await;
    let end = timeout(LIMIT, bed.user.next_event()).await.unwrap();
    assert!(matches!(end, Err(PeerEnd::Disconnected { reason: 2, .. })), "{end:?}");
    drop((bed.user, bed.target));
    let outcome = bed.running.await.unwrap();
    assert!(matches!(outcome.ended_by, EndedBy::ProtocolBroken { by_target: false, .. }), "{outcome:?}");
}

/// Sends on the user's channel 5, which nobody reads, until every buffer on the way is full.
async fn fill_the_way_to_the_user(target: &mut Link) {
    let piece = message(message::CHANNEL_DATA, 5, &string(&[0; 20_000]));
    let stuffing = async {
        loop {
            target.transport.send(&[&piece]).unwrap();
            write_out(target).await;
        }
    };
    assert!(timeout(Duration::from_secs(2), stuffing).await.is_err());
}

#[tokio::test]
async fn a_revocation_does_not_wait_for_a_client_that_does_not_read() {
    let (revoke, revoked) = tokio::sync::oneshot::channel();
    let end = async { revoked.await.unwrap_or_default() };
    let mut bed = bed_until(Slow::default(), SshPermissions::NONE, &Keys::default(), end).await;
    open_session(&mut bed).await;
    fill_the_way_to_the_user(&mut bed.target).await;
    let started = std::time::Instant::now();
    revoke.send("no more".to_owned()).unwrap();
    let outcome = timeout(LIMIT, bed.running).await.unwrap().unwrap();
    assert_eq!(outcome.ended_by, EndedBy::Revoked { reason: "no more".into() });
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_observer_that_fails_ends_a_session_in_which_nothing_happens() {
    let mut bed = bed(Slow::default(), SshPermissions::NONE).await;
    open_session(&mut bed).await;
    bed.observer.fails.notify_one();
    let end = timeout(LIMIT, bed.user.next_event()).await.unwrap();
    let Err(PeerEnd::Disconnected { text, .. }) = end else { panic!("{end:?}") };
    assert!(text.starts_with(b"portreeve: the session ended because it cannot be recorded"));
    drop((bed.user, bed.target));
    let outcome = timeout(LIMIT, bed.running).await.unwrap().unwrap();
    assert_eq!(outcome.ended_by, EndedBy::ObserverFailed(ObserverFailed("disk full".into())));
}

#[tokio::test]
async fn session_channels_beyond_the_limit_are_refused_one_by_one() {
    let mut bed = bed(Slow::default(), SshPermissions::NONE).await;
    let limit = u32::try_from(portreeve_ssh::relay::MAX_SESSION_CHANNELS).unwrap();
    for number in 0..limit {
        say(&mut bed.user, &open(b"session", number)).await;
        assert_eq!(next(&mut bed.target).await, open(b"session", number));
    }
    say(&mut bed.user, &open(b"session", limit)).await;
    assert_eq!(next(&mut bed.user).await[..5], message(message::CHANNEL_OPEN_FAILURE, limit, b""));
    say(&mut bed.target, &message(message::CHANNEL_OPEN_FAILURE, 0, &[0; 12])).await;
    assert_eq!(next(&mut bed.user).await[..5], message(message::CHANNEL_OPEN_FAILURE, 0, b""));
    say(&mut bed.user, &open(b"session", limit)).await;
    assert_eq!(next(&mut bed.target).await, open(b"session", limit));
}

#[tokio::test]
async fn every_channel_that_was_seen_open_is_closed_in_the_record_when_the_session_is_revoked() {
    let (revoke, revoked) = tokio::sync::oneshot::channel();
    let end = async { revoked.await.unwrap_or_default() };
    let slow = Slow { pause: Some(Duration::from_millis(400)), ..Slow::default() };
    let mut bed = bed_until(slow, SshPermissions::NONE, &Keys::default(), end).await;
    open_session(&mut bed).await;
    say(&mut bed.user, &open(b"session", 6)).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    revoke.send("no more".to_owned()).unwrap();
    drop((bed.user, bed.target));
    timeout(LIMIT, bed.running).await.unwrap().unwrap();
    let events = bed.observer.events.lock().unwrap();
    let opened = events.iter().filter(|event| matches!(event, RecordEvent::ChannelOpen { .. })).count();
    let closed = events.iter().filter(|event| matches!(event, RecordEvent::ChannelClosed { .. })).count();
    assert_eq!((opened, closed), (2, 2), "{events:?}");
}

#[tokio::test]
async fn a_revocation_cuts_what_a_lost_target_left_to_deliver() {
    let (revoke, revoked) = tokio::sync::oneshot::channel();
    let end = async { revoked.await.unwrap_or_default() };
    let mut bed = bed_until(Slow::default(), SshPermissions::NONE, &Keys::default(), end).await;
    open_session(&mut bed).await;
    fill_the_way_to_the_user(&mut bed.target).await;
    drop(bed.target);
    // The user takes a little now and then, so the delivery goes on.
    let (mut running, mut user) = (bed.running, bed.user);
    let trickle = async {
        loop {
            poll_fn(|cx| user.poll_read(cx)).await.ok();
            while let Ok(Some(_)) = user.transport.poll() {}
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let ended = async {
        tokio::select! { _ = &mut running => {}, () = trickle => {} }
    };
    assert!(timeout(Duration::from_secs(1), ended).await.is_err());
    revoke.send("no more".to_owned()).unwrap();
    timeout(Duration::from_secs(3), running).await.expect("cut").unwrap();
}

#[tokio::test]
async fn a_slow_observer_holds_back_window_of_its_channel_and_of_no_other() {
    let (keep_up, behind) = watch::channel(true);
    let observer = Slow { behind: Some(behind), ..Slow::default() };
    let mut bed = bed(observer, SshPermissions::NONE).await;
    open_session(&mut bed).await;
    say(&mut bed.user, &open(b"session", 6)).await;
    assert_eq!(next(&mut bed.target).await, open(b"session", 6));
    let rest = [10_u32.to_be_bytes(), u32::MAX.to_be_bytes(), 32_768_u32.to_be_bytes()].concat();
    say(&mut bed.target, &message(message::CHANNEL_OPEN_CONFIRMATION, 6, &rest)).await;
    next(&mut bed.user).await;
    let adjust =
        |channel: u32, bytes: u32| message(message::CHANNEL_WINDOW_ADJUST, channel, &bytes.to_be_bytes());
    say(&mut bed.user, &adjust(9, 100)).await;
    say(&mut bed.user, &adjust(9, 50)).await;
    say(&mut bed.user, &adjust(10, 7)).await;
    assert_eq!(next(&mut bed.target).await, adjust(10, 7), "the neighbour goes on");
    keep_up.send(false).unwrap();
    assert_eq!(next(&mut bed.target).await, adjust(9, 150), "all that was held back, once");
    say(&mut bed.user, &adjust(9, 3)).await;
    assert_eq!(next(&mut bed.target).await, adjust(9, 3));
}

/// RFC 4254 section 5.3: a side that has closed a channel says nothing more on it; PuTTY ends a session in which one does.
#[tokio::test]
async fn no_window_is_granted_behind_the_close_of_who_granted_it() {
    let (keep_up, behind) = watch::channel(true);
    let observer = Slow { behind: Some(behind), ..Slow::default() };
    let mut bed = bed(observer, SshPermissions::NONE).await;
    open_session(&mut bed).await;
    let close = message(message::CHANNEL_CLOSE, 5, &[]);
    say(&mut bed.target, &message(message::CHANNEL_WINDOW_ADJUST, 5, &100_u32.to_be_bytes())).await;
    say(&mut bed.target, &close).await;
    assert_eq!(next(&mut bed.user).await, close);
    keep_up.send(false).unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let later = [&[message::GLOBAL_REQUEST][..], &string(b"keepalive@openssh.com"), &[0]].concat();
    say(&mut bed.target, &later).await;
    assert_eq!(next(&mut bed.user).await, later);
}
