//! A real rsyslog that access events are exported to, over TCP and TLS.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portreeve::access_log::{AccessEvent, AccessLog};
use portreeve::metrics::Metrics;
use portreeve_core::access_event::EventFormat;
use portreeve_core::config::daemon::AccessLog as Destination;
use portreeve_core::config::export::{Export, ExportKind};

use crate::Test;
use crate::bed::{run, until};
use crate::tls::certificate;

/// Tests with rsyslog.
pub(crate) const TESTS: &[Test] = &[
    ("rsyslog_gets_every_event_over_tcp_also_after_it_was_away", || exported(None)),
    ("rsyslog_gets_every_event_over_tls_also_after_it_was_away", || exported(Some("localhost"))),
    ("rsyslog_with_the_certificate_of_another_host_gets_nothing", another_host),
];

const EVENTS: usize = 500;

/// A running rsyslog that writes messages to a file; killed when dropped.
struct Server {
    dir: PathBuf,
    port: u16,
    child: Child,
}

impl Server {
    fn start(dir: &Path, certificate: bool) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let shown = dir.display();
        let tls = if certificate {
            format!(
                "global(DefaultNetstreamDriver=\"gtls\" DefaultNetstreamDriverCAFile=\"{shown}/cert.pem\" \
                 DefaultNetstreamDriverCertFile=\"{shown}/cert.pem\" DefaultNetstreamDriverKeyFile=\"{shown}/key.pem\")\n\
                 module(load=\"imtcp\" StreamDriver.Name=\"gtls\" StreamDriver.Mode=\"1\" StreamDriver.Authmode=\"anon\")\n"
            )
        } else {
            "module(load=\"imtcp\")\n".to_owned()
        };
        let rules = format!(
            "{tls}input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\")\n\
             template(name=\"message\" type=\"string\" string=\"%syslogfacility% %syslogseverity% %app-name% %msg%\\n\")\n\
             action(type=\"omfile\" file=\"{shown}/messages\" template=\"message\")\n"
        );
        fs::write(dir.join("rsyslog.conf"), rules).unwrap();
        Self { dir: dir.to_owned(), port, child: spawn(dir, port) }
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn messages(&self) -> String {
        fs::read_to_string(self.dir.join("messages")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(dir: &Path, port: u16) -> Child {
    let mut command = Command::new("rsyslogd");
    command.arg("-n").arg("-f").arg(dir.join("rsyslog.conf")).arg("-i").arg(dir.join("pid"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.expect("rsyslogd is missing: run `cargo xtask setup`");
    let limit = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < limit, "rsyslogd does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn log(dir: &Path, port: u16, tls: bool, metrics: &Metrics) -> AccessLog {
    let kind = ExportKind::Syslog {
        address: format!("localhost:{port}"),
        ca_file: tls.then(|| dir.join("cert.pem")),
    };
    let mut log = AccessLog::open(Destination::File(dir.join("access.log")), metrics.clone()).unwrap();
    for exporter in log.export(&[Export { format: EventFormat::Ocsf, kind }]).unwrap() {
        tokio::spawn(exporter.run());
    }
    log
}

fn write(log: &AccessLog, numbers: std::ops::Range<usize>) {
    for number in numbers {
        log.write(&AccessEvent {
            session: format!("session-{number}."),
            time: "2026-01-02T03:04:05.678901Z".to_owned(),
            outcome: "denied",
            ..AccessEvent::default()
        });
    }
}

fn exported(host: Option<&str>) {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        host.inspect(|host| certificate(dir.path(), host));
        let mut server = Server::start(dir.path(), host.is_some());
        let metrics = Metrics::default();
        let log = log(dir.path(), server.port, host.is_some(), &metrics);
        let all = |server: &Server, numbers: std::ops::Range<usize>| {
            let messages = server.messages();
            numbers.into_iter().all(|number| messages.contains(&format!("\"session-{number}.\"")))
        };
        write(&log, 0..EVENTS);
        until("all are there", || all(&server, 0..EVENTS)).await;
        assert!(server.messages().starts_with("10 4 portreeve {"), "{}", server.messages());
        server.stop();
        // The first may go to a connection that nobody reads any more: that is syslog.
        write(&log, EVENTS..EVENTS + 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        write(&log, EVENTS + 1..2 * EVENTS);
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.child = spawn(&server.dir, server.port);
        until("those of the meantime are there", || all(&server, EVENTS + 1..2 * EVENTS)).await;
        assert_eq!(metrics.exports.lost("syslog"), 0);
    });
}

fn another_host() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        certificate(dir.path(), "other.example.com");
        let server = Server::start(dir.path(), true);
        let log = log(dir.path(), server.port, true, &Metrics::default());
        write(&log, 0..10);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(server.messages(), "");
    });
}
