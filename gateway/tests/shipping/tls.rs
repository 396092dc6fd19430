//! TLS in front of the S3 and the HTTP server, with a certificate of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use portreeve_core::config::shipping::{DestinationKind, Http, HttpConfirm, HttpMethod, S3};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::Test;
use crate::bed::{Bed, run, until};
use crate::http::{Behaviour, serve};
use crate::s3::{self, Server, credentials};

/// Tests with TLS.
pub(crate) const TESTS: &[Test] = &[
    ("s3_over_tls_gets_sessions_if_its_certificate_is_trusted", to_s3),
    ("an_http_server_over_tls_gets_sessions_if_its_certificate_is_trusted", to_http),
];

/// Makes `key.pem` and `cert.pem`, a certificate for `host` that signs itself.
pub(crate) fn certificate(dir: &Path, host: &str) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    command.args(["-nodes", "-days", "2"]);
    command.args(["-subj", &format!("/CN={host}"), "-addext", &format!("subjectAltName=DNS:{host}")]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.arg("-keyout").arg(dir.join("key.pem")).arg("-out").arg(dir.join("cert.pem"));
    assert!(command.stderr(Stdio::null()).status().unwrap().success());
}

/// Passes what comes by TLS on to a port; the port where it listens, under the name `localhost`.
async fn in_front_of(port: u16, dir: &Path) -> u16 {
    certificate(dir, "localhost");
    let chain = vec![CertificateDer::from_pem_file(dir.join("cert.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let shown = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut from = acceptor.accept(stream).await.ok()?;
                let mut to = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
                tokio::io::copy_bidirectional(&mut from, &mut to).await.ok()
            });
        }
    });
    shown
}

/// Ships three sessions to what `destination` makes of a CA file: without it none gets there, with it all do.
async fn ship(bed: &mut Bed, destination: impl Fn(Option<PathBuf>) -> DestinationKind) {
    let names: Vec<String> = (1..=3).map(|number| bed.session(number, 10_000)).collect();
    bed.ship(destination(None), None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((bed.confirmed(), bed.aside()), (0, 0), "an unknown certificate was trusted");
    bed.tasks.shutdown().await;
    bed.ship(destination(Some(bed.dir.path().join("cert.pem"))), None);
    until("all are there", || bed.confirmed() == names.len()).await;
}

fn to_s3() {
    run(async {
        let mut bed = Bed::new();
        let server = Server::start(&bed.dir.path().join("s3"));
        let endpoint = format!("https://localhost:{}", in_front_of(server.port, bed.dir.path()).await);
        let credentials = credentials(&bed, "secret");
        ship(&mut bed, |ca_file| {
            DestinationKind::S3(S3 { allow_http: false, ca_file, ..s3::destination(&endpoint, &credentials) })
        })
        .await;
    });
}

fn to_http() {
    run(async {
        let mut bed = Bed::new();
        let (port, files) = serve(|_, _| Behaviour::Good).await;
        let url = format!("https://localhost:{}/in/{{path}}", in_front_of(port, bed.dir.path()).await);
        ship(&mut bed, |ca_file| {
            let (url, confirm) = (url.clone(), HttpConfirm::Digest);
            let method = HttpMethod::Put;
            DestinationKind::Http(Http { url, allow_http: false, method, token_file: None, ca_file, confirm })
        })
        .await;
        assert_eq!(files.lock().unwrap().len(), 6, "an events file and a manifest for each");
    });
}
