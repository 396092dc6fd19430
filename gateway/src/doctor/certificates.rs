//! The TLS certificates that servers of recordings, events and notices show, and until when they are good.
//!
//! Whether a certificate is trusted is told where the server is spoken to; here it is looked at only, with a
//! connection that trusts any and carries nothing. A server that cannot be reached is told there too, and left out here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use portreeve_core::config::daemon::Config;
use portreeve_core::config::export::ExportKind;
use portreeve_core::config::shipping::DestinationKind;
use portreeve_core::utc::UtcTime;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::Finding;

/// How long one server may take.
const LIMIT: Duration = Duration::from_secs(10);

/// How long before its end a certificate is told.
const NEAR: Duration = Duration::from_hours(14 * 24);

const DAY: u64 = 24 * 3600;

/// A host and its port, as configured.
type Place = (String, u16);

pub(super) async fn certificates(config: &Config) -> Vec<Finding> {
    let now = UtcTime::from(SystemTime::now());
    let mut findings = Vec::new();
    for (host, port) in places(config) {
        if let Ok(Some(shown)) = timeout(LIMIT, shown(&host, port)).await {
            findings.push(judge(format!("certificate of {host}:{port}"), ends(&shown), now));
        }
    }
    findings
}

/// Every server that is spoken to by TLS, once.
fn places(config: &Config) -> BTreeSet<Place> {
    let shipped = config.ship.iter().filter_map(|destination| match &destination.kind {
        DestinationKind::S3(s3) => s3.endpoint.as_deref().and_then(of_url),
        DestinationKind::Http(http) => of_url(&http.url),
        DestinationKind::Directory { .. } => None,
    });
    let exports = config.access_exports.iter().chain(&config.alert_exports);
    let exported = exports.filter_map(|export| match &export.kind {
        ExportKind::Syslog { address, ca_file } => {
            let (host, port) = address.rsplit_once(':').filter(|_| ca_file.is_some())?;
            Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
        }
        ExportKind::Http(http) | ExportKind::Otlp(http) => of_url(&http.url),
    });
    shipped.chain(exported).collect()
}

fn of_url(url: &str) -> Option<Place> {
    let url = reqwest::Url::parse(url).ok().filter(|url| url.scheme() == "https")?;
    Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port_or_known_default()?))
}

/// What a server shows, its own certificate first; `None` where it cannot be spoken to.
async fn shown(host: &str, port: u16) -> Option<Vec<CertificateDer<'static>>> {
    let stream = TcpStream::connect((host, port)).await.ok()?;
    let mut config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any))
        .with_no_client_auth();
    // A server that wants to hear of HTTP/1.1 hears it.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    stream.get_ref().1.peer_certificates().map(<[_]>::to_vec)
}

/// When the first of these certificates ends.
fn ends(shown: &[CertificateDer<'_>]) -> Option<UtcTime> {
    let end = |certificate: &CertificateDer<'_>| {
        let certificate = Certificate::from_der(certificate).ok()?;
        let end = certificate.tbs_certificate().validity().not_after;
        Some(UtcTime::from_unix_seconds(end.to_unix_duration().as_secs()))
    };
    shown.iter().filter_map(end).min()
}

fn judge(about: String, ends: Option<UtcTime>, now: UtcTime) -> Finding {
    let Some(ends) = ends else {
        return Finding::warning(
            about,
            "cannot be read",
            "see what the server shows: `openssl s_client -showcerts`",
        );
    };
    let renew = "renew it on that server; what is sent there waits in the meantime";
    if ends <= now {
        return Finding::bad(about, format!("ended at {ends}"), renew);
    }
    let days = (ends.unix_seconds() - now.unix_seconds()) / DAY;
    let found = format!("good until {ends}, {days} days");
    if ends <= now.after(NEAR) { Finding::warning(about, found, renew) } else { Finding::good(about, found) }
}

/// Takes any certificate, since it is looked at alone.
#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use portreeve_core::config::daemon;

    use super::super::Grade;
    use super::*;

    #[test]
    fn a_certificate_is_told_two_weeks_before_its_end() {
        let now = UtcTime::from_unix_seconds(1_000_000_000);
        let days = |days: u64| Some(UtcTime::from_unix_seconds(1_000_000_000 + days * DAY));
        let past = Some(UtcTime::from_unix_seconds(999_999_999));
        for (ends, grade, word) in [
            (days(90), Grade::Good, "90 days"),
            (days(14), Grade::Warning, "14 days"),
            (days(0), Grade::Bad, "ended"),
            (past, Grade::Bad, "ended"),
            (None, Grade::Warning, "cannot be read"),
        ] {
            let finding = judge("certificate".to_owned(), ends, now);
            assert!(finding.grade == grade && finding.found.contains(word), "{finding:?}");
        }
    }

    #[test]
    fn servers_are_looked_at_once_and_only_those_with_tls() {
        let config = r#"
            alerts.export = [{ kind = "http", url = "https://in.example.com/hook" }]
            [datapath]
            interfaces = ["eth0"]
            [recording]
            recipient_key_file = "/none"
            [[ship]]
            name = "bucket"
            kind = "s3"
            endpoint = "https://s3.example.com:9000"
            bucket = "b"
            credentials_file = "/none"
            [[ship]]
            name = "plain"
            kind = "http"
            url = "http://plain.example.com/{path}"
            allow_http = true
            [[ship]]
            name = "collector"
            kind = "http"
            url = "https://in.example.com/{path}"
            [[access_log.export]]
            kind = "syslog"
            address = "[2001:db8::1]:6514"
            ca_file = "/none"
            [[access_log.export]]
            kind = "syslog"
            address = "clear.example.com:601"
            tls = false
        "#;
        let config = daemon::load(config, "portreeve.toml").unwrap();
        let places: Vec<_> = places(&config).into_iter().collect();
        let place = |host: &str, port| (host.to_owned(), port);
        let expected =
            [place("2001:db8::1", 6514), place("in.example.com", 443), place("s3.example.com", 9000)];
        assert_eq!(places, expected);
    }
}
