//! Targets that show certificates, over loopback.

use std::time::{SystemTime, UNIX_EPOCH};

use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::Ed25519Keypair;
use tokio::net::TcpListener;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// A certificate of some CA for `key(1)`, valid for `seconds` around now.
fn certificate(kind: CertType, principal: &str, seconds: std::ops::Range<i64>) -> Certificate {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let at = |offset: i64| now.checked_add_signed(offset).unwrap();
    let (after, before) = (at(seconds.start), at(seconds.end));
    let mut builder = Builder::new(vec![7; 32], key(1).public_key(), after, before).unwrap();
    builder.cert_type(kind).unwrap();
    builder.valid_principal(principal).unwrap();
    builder.key_id("some key id").unwrap();
    builder.sign(&key(9)).unwrap()
}

/// What we make of a target that shows this certificate for `key(1)`.
async fn connect_to(certificate: &Certificate) -> Result<PublicKey, UpstreamError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    let host_keys = vec![HostKeySigner::new(&key(1), Some(certificate)).unwrap()];
    let config = Config { host_keys, ..Config::default() };
    let mut target = Link::new(tcp, Transport::new(Role::Server, config).unwrap()).unwrap();
    // Ends when the other side drops its end.
    let serving = async { while target.next_event().await.is_ok() {} };
    let connecting = async {
        let identified = connect(dialled, &[], false, LIMIT).await?;
        identified.exchange_keys(LIMIT).await.map(|upstream| upstream.host_key)
    };
    tokio::join!(connecting, serving).0
}

/// No CA vouches for targets: a certificate is worth the key in it, which is pinned.
#[tokio::test]
async fn a_targets_certificate_counts_as_its_key_whatever_it_says() {
    for (what, certificate) in [
        ("good", certificate(CertType::Host, "127.0.0.1", -60..60)),
        ("expired", certificate(CertType::Host, "127.0.0.1", -3600..-60)),
        ("not valid yet", certificate(CertType::Host, "127.0.0.1", 3600..7200)),
        ("for another host", certificate(CertType::Host, "elsewhere", -60..60)),
        ("for a user", certificate(CertType::User, "root", -60..60)),
    ] {
        let shown = connect_to(&certificate).await.unwrap();
        assert_eq!(shown.key_data(), key(1).public_key().key_data(), "{what}");
    }
}

#[tokio::test]
async fn a_targets_certificate_that_its_ca_did_not_sign_is_refused() {
    let good = certificate(CertType::Host, "127.0.0.1", -60..60);
    let mut blob = good.to_bytes().unwrap();
    let at = blob.windows(11).position(|window| window == b"some key id").unwrap();
    blob[at] = b'S';
    let error = connect_to(&Certificate::from_bytes(&blob).unwrap()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Protocol(_)), "{error:?}");
}
