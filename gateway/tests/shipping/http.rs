//! An HTTP server that misbehaves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use portreeve_core::config::shipping::{DestinationKind, Http, HttpConfirm, HttpMethod};
use portreeve_core::shipping::digest_field;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::Test;
use crate::bed::{Bed, run, until};

/// Tests with an HTTP server.
pub(crate) const TESTS: &[Test] = &[
    (
        "http_server_that_misbehaves_gets_everything_in_the_end_and_one_poisoned_session_holds_nothing_up",
        misbehaving,
    ),
    ("http_server_that_confirms_another_digest_is_not_believed", another_digest),
    ("http_server_without_digests_is_believed_only_if_that_is_said", by_status),
];

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Good,
    NoDigest,
    WrongDigest,
    Error,
    /// Breaks off in the middle of the body.
    Reset,
    /// Reads all and never answers.
    Stall,
    /// Reads a little at a time.
    Slow,
}

/// What a server has, by path.
pub(crate) type Files = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Starts a server that behaves as `choose` says for the number of the request and its path; its port.
pub(crate) async fn serve(choose: impl Fn(usize, &str) -> Behaviour + Send + Sync + 'static) -> (u16, Files) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (files, choose) = (Files::default(), Arc::new(choose));
    let kept = Arc::clone(&files);
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let (kept, choose) = (Arc::clone(&kept), Arc::clone(&choose));
            tokio::spawn(async move { answer(stream, number, &kept, &*choose).await });
        }
    });
    (port, files)
}

async fn answer(
    mut stream: TcpStream,
    number: usize,
    files: &Files,
    choose: &(impl Fn(usize, &str) -> Behaviour + Sync),
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1)?.trim_start_matches("/in/").to_owned();
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length: usize = field("content-length")?.parse().unwrap();
    let behaviour = choose(number, &path);
    if behaviour == Behaviour::Reset {
        stream.read_exact(&mut vec![0; length / 2]).await.ok()?;
        stream.set_zero_linger().unwrap();
        return None;
    }
    let mut body = vec![0; length];
    if behaviour == Behaviour::Slow {
        for piece in body.chunks_mut(1000) {
            stream.read_exact(piece).await.ok()?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    } else {
        stream.read_exact(&mut body).await.ok()?;
    }
    let told = digest_field(&digest(&SHA256, &body).as_ref().try_into().unwrap());
    assert_eq!(field("content-digest"), Some(told.clone()), "the body is the file");
    let answer = match behaviour {
        Behaviour::Stall => std::future::pending().await,
        Behaviour::Error => "HTTP/1.1 500 Internal Server Error\r\n".to_owned(),
        Behaviour::NoDigest => "HTTP/1.1 204 No Content\r\n".to_owned(),
        Behaviour::WrongDigest => format!("HTTP/1.1 200 OK\r\nRepr-Digest: {}\r\n", digest_field(&[7; 32])),
        Behaviour::Good | Behaviour::Slow | Behaviour::Reset => {
            format!("HTTP/1.1 201 Created\r\nRepr-Digest: {told}\r\n")
        }
    };
    if matches!(behaviour, Behaviour::Good | Behaviour::Slow | Behaviour::NoDigest) {
        files.lock().unwrap().insert(path, body);
    }
    stream.write_all(format!("{answer}Content-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).await.ok()
}

fn destination(port: u16, confirm: HttpConfirm) -> DestinationKind {
    DestinationKind::Http(Http {
        url: format!("http://127.0.0.1:{port}/in/{{path}}"),
        allow_http: true,
        method: HttpMethod::Put,
        token_file: None,
        ca_file: None,
        confirm,
    })
}

fn misbehaving() {
    run(async {
        let mut bed = Bed::new();
        let poisoned = bed.session(1, 100);
        let names: Vec<String> = (2..100).map(|number| bed.session(number, 30_000)).collect();
        let bad = poisoned.clone();
        let (port, files) = serve(move |number, path| match number {
            _ if path.starts_with(&bad) => Behaviour::Error,
            5 => Behaviour::Stall,
            _ if number % 50 == 7 => Behaviour::Reset,
            _ if number % 50 == 17 => Behaviour::WrongDigest,
            _ if number % 50 == 27 => Behaviour::Error,
            _ if number % 50 == 37 => Behaviour::NoDigest,
            _ if number % 50 == 47 => Behaviour::Slow,
            _ => Behaviour::Good,
        })
        .await;
        bed.ship(destination(port, HttpConfirm::Digest), None);
        until("all good ones are confirmed", || bed.confirmed() == names.len()).await;
        for name in &names {
            for file in ["events.log", "manifest.json"] {
                let there = files.lock().unwrap().get(&format!("{name}/{file}")).cloned();
                assert_eq!(there, std::fs::read(bed.spool().join(name).join(file)).ok(), "{name}/{file}");
            }
        }
        assert!(!files.lock().unwrap().contains_key(&format!("{poisoned}/manifest.json")));
        // The others are through; more of them come until it is clear whose fault it is.
        for number in 1000..1100 {
            if bed.aside() == 1 {
                break;
            }
            bed.session(number, 10);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        until("the poisoned one is set aside", || bed.aside() == 1).await;
    });
}

fn another_digest() {
    run(async {
        let mut bed = Bed::new();
        let name = bed.session(1, 100);
        let (port, _) = serve(|_, _| Behaviour::WrongDigest).await;
        bed.ship(destination(port, HttpConfirm::Status), Some(Duration::ZERO));
        until("a status is enough where that is said", || !bed.spool().join(&name).exists()).await;
        bed.tasks.shutdown().await;
        let again = bed.session(2, 100);
        let (port, _) = serve(|_, _| Behaviour::WrongDigest).await;
        bed.ship(destination(port, HttpConfirm::Digest), Some(Duration::ZERO));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!bed.spool().join(name).exists() && bed.spool().join(again).exists());
        assert_eq!((bed.confirmed(), bed.log().len()), (0, 1));
    });
}

fn by_status() {
    run(async {
        for (confirm, confirmed) in [(HttpConfirm::Digest, 0), (HttpConfirm::Status, 1)] {
            let mut bed = Bed::new();
            bed.session(1, 100);
            let (port, _) = serve(|_, _| Behaviour::NoDigest).await;
            bed.ship(destination(port, confirm), None);
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(bed.confirmed(), confirmed, "{confirm:?}");
        }
    });
}
