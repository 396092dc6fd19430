//! Servers that take events, take none, and go away; rsyslog is met in the test `shipping` of this package.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpListener;

use super::*;

fn syslog(address: String) -> Export {
    Export { format: EventFormat::Portreeve, kind: ExportKind::Syslog { address, ca_file: None } }
}

fn line(number: usize) -> Exported {
    let line =
        format!("{{\"session\":\"{number}\",\"outcome\":\"closed\",\"time\":\"2026-01-01T00:00:00Z\"}}");
    Exported::Access(serde_json::from_str(&line).unwrap())
}

/// One frame that counts octets.
async fn frame(stream: &mut BufReader<TcpStream>) -> String {
    let mut length = Vec::new();
    stream.read_until(b' ', &mut length).await.unwrap();
    let length: usize = String::from_utf8(length).unwrap().trim().parse().unwrap();
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.unwrap();
    String::from_utf8(message).unwrap()
}

#[tokio::test]
async fn events_reach_a_server_that_was_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let metrics = ExportMetrics::default();
    let (exports, exporters) =
        Exports::open(Topic::Access, &[syslog(address.to_string())], &metrics).unwrap();
    let tasks: Vec<_> = exporters.into_iter().map(|exporter| tokio::spawn(exporter.run())).collect();
    (0..10).for_each(|number| exports.offer(line(number)));
    sleep(Duration::from_millis(300)).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let mut stream = BufReader::new(listener.accept().await.unwrap().0);
    for number in 0..10 {
        let message = frame(&mut stream).await;
        assert!(
            message.starts_with("<86>1 2026-01-01T00:00:00Z ")
                && message.contains(&format!("\"session\":\"{number}\"")),
            "{message}"
        );
    }
    exports.flush().await;
    assert_eq!(metrics.lost("syslog"), 0);
    drop(exports);
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_not_written_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (exports, exporters) =
        Exports::open(Topic::Access, &[syslog(address)], &ExportMetrics::default()).unwrap();
    for exporter in exporters {
        tokio::spawn(exporter.run());
    }
    for number in 0..3 {
        exports.offer(line(number));
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        assert!(frame(&mut stream).await.contains(&format!("\"session\":\"{number}\"")));
        exports.flush().await;
        drop(stream);
    }
}

#[tokio::test]
async fn a_server_that_takes_nothing_holds_nobody_up_and_what_is_lost_is_counted() {
    let metrics = ExportMetrics::default();
    let (exports, exporters) =
        Exports::open(Topic::Access, &[syslog("127.0.0.1:1".to_owned())], &metrics).unwrap();
    let began = std::time::Instant::now();
    (0..QUEUED + 10).for_each(|number| exports.offer(line(number)));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(metrics.lost("syslog"), 10);
    drop(exporters);
}

#[tokio::test]
async fn http_gets_lines_and_a_batch_that_is_refused_for_good_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let http = HttpExport { url, allow_http: true, token_file: None, ca_file: None };
    let exports = [Export { format: EventFormat::Ecs, kind: ExportKind::Http(http) }];
    let metrics = ExportMetrics::default();
    let (exports, exporters) = Exports::open(Topic::Access, &exports, &metrics).unwrap();
    for exporter in exporters {
        tokio::spawn(exporter.run());
    }
    for (number, status) in [(1, "503 Busy"), (1, "200 OK"), (2, "400 Bad Request")] {
        if status.starts_with("503") || status.starts_with("400") {
            exports.offer(line(number));
        }
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        let mut length = 0;
        loop {
            let mut head = String::new();
            stream.read_line(&mut head).await.unwrap();
            if let Some(value) = head.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if head == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(event["event"]["id"], number.to_string());
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    exports.flush().await;
    assert_eq!(metrics.lost("http"), 1);
}
