//! What the daemon's configuration reads as, and what it refuses.

use super::*;
use crate::command::{InputRules, Mask, Masks, UnechoedInput};
use crate::config::shipping::Retention;

const LEAST: &str = "[datapath]\ninterfaces = [\"eth0\"]\n[recording]\nrecipient_key_file = \"/k.pub\"\n";

fn errors(text: &str) -> String {
    load(text, "portreeve.toml").unwrap_err().to_string()
}

#[test]
fn defaults() {
    let config = load(LEAST, "portreeve.toml").unwrap();
    let expected = Config {
        state_dir: "/var/lib/portreeve".into(),
        policy_file: "/etc/portreeve/policy.toml".into(),
        datapath: DatapathConfig {
            interfaces: vec!["eth0".to_owned()],
            pin_dir: "/sys/fs/bpf/portreeve".into(),
            mark: 0x7072,
            route_table: 28_786,
            reverse_path: ReversePath::Strict,
            new_connections: 50_000,
            new_connections_per_source: 1_000,
            kernel_log: false,
            fast_path: BTreeMap::new(),
            fast_path_ignores_firewall: false,
        },
        downstream: DownstreamConfig { host_certificates: false },
        upstream: UpstreamConfig {
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(30),
        },
        recording: RecordingConfig {
            recipient_key_files: vec!["/k.pub".into()],
            spool_dir: "/var/lib/portreeve/spool".into(),
            on_failure: OnRecordingFailure::End,
            break_glass_unrecorded: false,
            chain_head_interval: Duration::from_mins(1),
            spool: SpoolConfig {
                segment_size: 64 << 20,
                segment_time: Duration::from_hours(1),
                fsync: Fsync::Second,
                reserve: 256 << 20,
                memory: 256 << 20,
            },
            input: InputRules::default(),
            retention: Retention::default(),
        },
        metrics_listen: None,
        access_log: AccessLog::Stdout,
        access_exports: Vec::new(),
        alert_exports: Vec::new(),
        limits: Limits {
            handshake_timeout: Duration::from_secs(30),
            handshakes_per_source: 128,
            connections_per_source: 512,
            connections: 16_384,
            drain_timeout: Duration::from_hours(8),
        },
        ship: Vec::new(),
    };
    assert_eq!(config, expected);
}

const EVERY_KEY: &str = r#"
        state_dir = "/srv/state"
        policy_file = "/srv/policy.json"
        downstream = { host_certificates = true }
        upstream = { connect_timeout = "500ms", handshake_timeout = "3m" }
        metrics = { listen = "[::]:9470" }
        access_log = { path = "/var/log/access.json" }
        limits = { handshake_timeout = "2s", handshakes_per_source = 1, connections_per_source = 2, connections = 3, drain_timeout = "4m" }
        [recording]
        recipient_key_files = ["/k.pub", "/l.pub"]
        spool_dir = "/spool"
        on_failure = "continue"
        chain_head_interval = "5s"
        segment_size = "1MiB"
        segment_time = "5m"
        fsync = "never"
        reserve = "0"
        memory = "1GiB"
        break_glass_unrecorded = true
        unechoed_input = "keep"
        mask = ["token=\\S+"]
        [datapath]
        interfaces = ["lan0", "lan1.7", "lan2"]
        pin_dir = "/bpf/x"
        mark = 0x10
        route_table = 100
        reverse_path = "off"
        new_connections = 0
        new_connections_per_source = 7
        kernel_log = true
        fast_path = { lan0 = "native", "lan1.7" = "generic", lan2 = "off" }
        fast_path_ignores_firewall = true
    "#;

#[test]
fn every_key_is_read() {
    let expected = Config {
        state_dir: "/srv/state".into(),
        policy_file: "/srv/policy.json".into(),
        datapath: DatapathConfig {
            interfaces: ["lan0", "lan1.7", "lan2"].map(str::to_owned).into(),
            pin_dir: "/bpf/x".into(),
            mark: 16,
            route_table: 100,
            reverse_path: ReversePath::Off,
            new_connections: 0,
            new_connections_per_source: 7,
            kernel_log: true,
            fast_path: BTreeMap::from([
                ("lan0".to_owned(), FastPathMode::Native),
                ("lan1.7".to_owned(), FastPathMode::Generic),
            ]),
            fast_path_ignores_firewall: true,
        },
        downstream: DownstreamConfig { host_certificates: true },
        upstream: UpstreamConfig {
            connect_timeout: Duration::from_millis(500),
            handshake_timeout: Duration::from_secs(180),
        },
        recording: RecordingConfig {
            recipient_key_files: vec!["/k.pub".into(), "/l.pub".into()],
            spool_dir: "/spool".into(),
            on_failure: OnRecordingFailure::Continue,
            break_glass_unrecorded: true,
            chain_head_interval: Duration::from_secs(5),
            spool: SpoolConfig {
                segment_size: 1 << 20,
                segment_time: Duration::from_mins(5),
                fsync: Fsync::Never,
                reserve: 0,
                memory: 1 << 30,
            },
            input: InputRules {
                unechoed: UnechoedInput::Keep,
                masks: Masks::new(vec![Mask::new("token=\\S+").unwrap()]),
            },
            retention: Retention::default(),
        },
        metrics_listen: Some("[::]:9470".parse().unwrap()),
        access_log: AccessLog::File("/var/log/access.json".into()),
        access_exports: Vec::new(),
        alert_exports: Vec::new(),
        limits: Limits {
            handshake_timeout: Duration::from_secs(2),
            handshakes_per_source: 1,
            connections_per_source: 2,
            connections: 3,
            drain_timeout: Duration::from_mins(4),
        },
        ship: Vec::new(),
    };
    assert_eq!(load(EVERY_KEY, "portreeve.toml").unwrap(), expected);
}

#[test]
fn an_empty_file_names_both_keys_that_it_needs() {
    let expected = "\
portreeve.toml:1: datapath: this key is missing: write for example [datapath] with interfaces = [\"eth0\"]
portreeve.toml:1: recording: this key is missing: write for example [recording] with recipient_key_file = \"/etc/portreeve/recipient.pub\"";
    assert_eq!(errors(""), expected);
}

#[test]
fn all_errors_at_once() {
    let text = r#"state_dri = "/srv"
policy_file = "policy.toml"
[datapath]
interfaces = ["eth0", "eth0", "a name", 7]
mark = 0
route_table = 254
kernel_log = "yes"
fast_path = { eth0 = "on", eth1 = "native" }
[upstream]
connect_timeout = 10
handshake_timeout = "10"
[recording]
on_failure = "ends"
[metrics]
listen = "9470"
[access_log]
path = "access.log"
[limits]
connections = 0
connection_per_source = 9
"#;
    let expected = "\
portreeve.toml:1: state_dri: there is no key \"state_dri\" here: did you mean \"state_dir\"?
portreeve.toml:2: policy_file: \"policy.toml\" is no absolute path: begin it with /
portreeve.toml:4: datapath.interfaces[1]: the interface \"eth0\" is named twice: take one out
portreeve.toml:4: datapath.interfaces[2]: \"a name\" is no name of an interface: write one that `ip link` shows, at most 15 characters
portreeve.toml:4: datapath.interfaces[3]: write a string in quotes, not an integer
portreeve.toml:5: datapath.mark: write an integer from 1 to 4294967295
portreeve.toml:6: datapath.route_table: tables 253 to 255 are the kernel's own: use another number
portreeve.toml:7: datapath.kernel_log: write true or false, not a string
portreeve.toml:8: datapath.fast_path.eth0: \"on\" is not possible here: write one of off, native, generic
portreeve.toml:8: datapath.fast_path.eth1: this is none of datapath.interfaces: add it there, or take it out here
portreeve.toml:10: upstream.connect_timeout: write a string in quotes, not an integer
portreeve.toml:11: upstream.handshake_timeout: \"10\" is no duration: write a whole number and a unit, as \"500ms\", \"10s\", \"3m\" or \"1h\"
portreeve.toml:12: recording.recipient_key_file: this key is missing: write for example recipient_key_file = \"/etc/portreeve/recipient.pub\"
portreeve.toml:13: recording.on_failure: \"ends\" is not possible here: did you mean \"end\"?
portreeve.toml:15: metrics.listen: \"9470\" is no address and port: write it as \"127.0.0.1:9470\" or \"[::1]:9470\"
portreeve.toml:17: access_log.path: \"access.log\" is no absolute path: begin it with /
portreeve.toml:19: limits.connections: write an integer from 1 to 1000000
portreeve.toml:20: limits.connection_per_source: there is no key \"connection_per_source\" here: did you mean \"connections_per_source\"?";
    assert_eq!(errors(text), expected);
}

#[test]
fn recipients_are_named_by_one_key_and_each_once() {
    let with = |lines: &str| format!("[datapath]\ninterfaces = [\"eth0\"]\n[recording]\n{lines}\n");
    let cases = [
        (
            "recipient_key_files = []",
            "4: recording.recipient_key_files: name 1 to 8 files of recipients' public keys",
        ),
        (
            "recipient_key_files = [\"/a\", \"/a\"]",
            "4: recording.recipient_key_files[1]: this file is named twice: take one out",
        ),
        (
            "recipient_key_files = [\"/a\"]\nrecipient_key_file = \"/b\"",
            "5: recording.recipient_key_file: recipient_key_files is there too: write all files there and take this out",
        ),
        (
            "recipient_key_files = [\"a\"]\nsegment_size = \"1KiB\"",
            "4: recording.recipient_key_files[0]: \"a\" is no absolute path: begin it with /\nportreeve.toml:5: \
                 recording.segment_size: write a size from \"1MiB\" to \"1TiB\"",
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(errors(&with(lines)), format!("portreeve.toml:{expected}"));
    }
}

#[test]
fn sections_of_the_wrong_kind_are_named_once() {
    assert_eq!(
        errors("datapath = 1\nrecording = []\n"),
        "portreeve.toml:1: datapath: write a table, not an integer\n\
             portreeve.toml:2: recording: write a table, not an array"
    );
    let none = LEAST.replace("[\"eth0\"]", "[]");
    assert_eq!(errors(&none), "portreeve.toml:2: datapath.interfaces: name at least one interface");
}
