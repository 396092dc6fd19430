//! Where access events and notices of alerts go: whether each server answers, and takes the token. Nothing is sent.

use portreeve_core::config::daemon::Config;
use portreeve_core::config::export::{Export, ExportKind};

use super::Finding;
use crate::export;
use crate::telemetry::with_causes;

pub(super) async fn exports(config: &Config) -> Vec<Finding> {
    let topics = [("access events", &config.access_exports), ("notices of alerts", &config.alert_exports)];
    let mut findings = Vec::new();
    for (topic, exports) in topics {
        for export in exports {
            let about = format!("export of {topic} to {}", place(export));
            findings.push(match export::reach(export).await {
                Ok(()) => Finding::good(about, "answers"),
                Err(error) => Finding::bad(
                    about,
                    with_causes(&error),
                    "4096 events wait for it in memory, further ones are lost to it: look at address, token and certificate",
                ),
            });
        }
    }
    findings
}

/// The server; what else is in a URL may be a secret.
fn place(export: &Export) -> String {
    match &export.kind {
        ExportKind::Syslog { address, .. } => format!("syslog {address}"),
        ExportKind::Http(http) | ExportKind::Otlp(http) => {
            let url = reqwest::Url::parse(&http.url).ok();
            let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or("a URL without a host");
            format!("{} {host}", export.kind.name())
        }
    }
}

#[cfg(test)]
mod tests {
    use portreeve_core::access_event::EventFormat;
    use portreeve_core::config::export::HttpExport;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn to(url: String) -> Export {
        let http = HttpExport { url, allow_http: true, token_file: None, ca_file: None };
        Export { format: EventFormat::Portreeve, kind: ExportKind::Http(http) }
    }

    #[test]
    fn the_path_of_a_url_is_not_shown() {
        let shown = place(&to("https://hooks.example.com/services/s3cr3t?key=s3cr3t".to_owned()));
        assert_eq!(shown, "http hooks.example.com");
    }

    #[tokio::test]
    async fn a_server_that_refuses_the_token_is_told_from_one_that_lacks_a_method() {
        for (status, refused) in [("401 Unauthorized", true), ("405 Method Not Allowed", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let export = to(format!("http://{}/in", listener.local_addr().unwrap()));
            let served = tokio::spawn(async move {
                let mut stream = listener.accept().await.unwrap().0;
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.unwrap();
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                String::from_utf8_lossy(&request[..read]).into_owned()
            });
            let reached = export::reach(&export).await;
            assert_eq!(reached.is_err(), refused, "{status}: {reached:?}");
            assert!(served.await.unwrap().starts_with("HEAD /in "), "something was sent");
        }
    }

    #[tokio::test]
    async fn a_syslog_server_that_is_away_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let export =
            Export { format: EventFormat::Portreeve, kind: ExportKind::Syslog { address, ca_file: None } };
        export::reach(&export).await.unwrap();
        drop(listener);
        export::reach(&export).await.unwrap_err();
    }
}
