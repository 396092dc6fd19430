//! A gateway process: steering and a listener that says what it sees, driven over standard input.
//!
//! Every connection is greeted with `intercepted LOCAL PEER`; then lines are echoed, until the line
//! `bye` or the end, when the gateway closes first.

use std::io::{BufRead as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use ipnet::IpNet;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use portreeve::datapath::loader::TcMechanism;
use portreeve::datapath::{Datapath, DatapathError, LinkEvents, Warning};
use portreeve::listener::socket::{self, ListenerPorts, Listeners};
use portreeve_core::config::daemon::{DatapathConfig, FastPathMode, ReversePath};
use portreeve_core::net::flow_box::{FlowBox, Span};
use portreeve_core::network_policy::address_rules::{AddressRule, AddressRules, AddressVerdict};
use portreeve_core::port::PortSet;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::network::first_line;
use crate::verdicts::target;

/// First argument of a process in this role; then `PIN_DIR INTERFACE,.. MODE`, where an INTERFACE may say how
/// it takes part in the fast path (`lan0:native`), and MODE is `clsact`, `tcx` for TCX where this kernel has it, or
/// for that and more: `log`, the kernel log on standard error; `any-source`, no reverse path; `ignore`, a fast path
/// that ignores firewalls; `limited`, 20 new connections in a second of one source and 40 in all.
pub(crate) const ROLE: &str = "--as-gateway";

pub(crate) const MARK: u32 = 0x7072;
pub(crate) const TABLE: u32 = 28_786;

pub(crate) fn run(mut args: impl Iterator<Item = String>) -> ExitCode {
    let mut next = || args.next().unwrap();
    let (pin_dir, interfaces, mode) = (PathBuf::from(next()), next(), next());
    let config = DatapathConfig {
        reverse_path: if mode == "any-source" { ReversePath::Off } else { ReversePath::Strict },
        new_connections: if mode == "limited" { 40 } else { 0 },
        new_connections_per_source: if mode == "limited" { 20 } else { 0 },
        kernel_log: mode == "log",
        fast_path_ignores_firewall: mode == "ignore",
        ..config(pin_dir, &interfaces)
    };
    let mechanism = if mode == "clsact" { TcMechanism::Clsact } else { TcMechanism::of_this_kernel() };
    // Connections are served while targets are applied.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(serve(config, mechanism))
}

/// Steering of these interfaces, written as [`ROLE`] has them.
pub(crate) fn config(pin_dir: PathBuf, interfaces: &str) -> DatapathConfig {
    let interfaces: Vec<_> =
        interfaces.split(',').map(|text| text.split_once(':').unwrap_or((text, ""))).collect();
    let mode = |&(name, mode): &(&str, &str)| match mode {
        "native" => Some((name.to_owned(), FastPathMode::Native)),
        "generic" => Some((name.to_owned(), FastPathMode::Generic)),
        _ => None,
    };
    DatapathConfig {
        pin_dir,
        fast_path: interfaces.iter().filter_map(mode).collect(),
        interfaces: interfaces.iter().map(|(name, _)| (*name).to_owned()).collect(),
        mark: MARK,
        route_table: TABLE,
        reverse_path: ReversePath::Strict,
        new_connections: 0,
        new_connections_per_source: 0,
        kernel_log: false,
        fast_path_ignores_firewall: false,
    }
}

fn say(text: &str) {
    println!("{text}");
    std::io::stdout().flush().unwrap();
}

async fn serve(config: DatapathConfig, mechanism: TcMechanism) -> ExitCode {
    let listeners = Listeners::bind().unwrap();
    let mut links = LinkEvents::subscribe().unwrap();
    let (mut datapath, warnings) = match attach(&config, &listeners, mechanism).await {
        Ok(started) => started,
        Err(error) => {
            say(&format!("error {}", chain(&error)));
            return ExitCode::FAILURE;
        }
    };
    if let Some(log) = datapath.take_kernel_log() {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(std::io::stderr)
            .init();
        tokio::spawn(log.run());
    }
    let ports = listeners.ports();
    let [v4, v6] = listeners.into_tokio().unwrap();
    tokio::spawn(accept(v4, ports));
    tokio::spawn(accept(v6, ports));
    say(&format!("ready {} {ports:?}", warnings.len()));
    let mut commands = commands();
    loop {
        let line = tokio::select! {
            line = commands.recv() => line,
            () = links.next() => {
                datapath.ensure_attached();
                continue;
            }
        };
        let Some(line) = line else { break };
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match command {
            "apply" => {
                let targets = rest.split_whitespace().map(target).collect();
                answer(
                    datapath
                        .apply(&targets)
                        .map(|done| format!("+{} -{} ~{}", done.added, done.removed, done.changed)),
                );
            }
            "dial" => say(&format!("ok {}", dial(rest))),
            "block" => {
                let targets = rest.split_whitespace().map(target).collect();
                answer(datapath.apply_policy(&targets, &block_all()).map(|_| "blocked".to_owned()));
            }
            "many" => answer(apply_many(&mut datapath, rest)),
            "counters" => answer(datapath.counters().map(|counters| words(counters.packets))),
            "fast" => answer(datapath.counters().map(|counters| words(counters.fast_path))),
            _ => break,
        }
    }
    answer(datapath.stop().await.map(|()| "stopped".to_owned()));
    ExitCode::SUCCESS
}

/// `FIRST COUNT TARGET ..`: as many addresses from a first one, and some targets more. Answers with
/// what `apply` does, and the milliseconds that it took.
fn apply_many(datapath: &mut Datapath, words: &str) -> Result<String, DatapathError> {
    let mut words = words.split_whitespace();
    let first = u32::from(words.next().unwrap().parse::<Ipv4Addr>().unwrap());
    let count: u32 = words.next().unwrap().parse().unwrap();
    let ports = PortSet::of(22).unwrap();
    let many = (first..first + count).map(|n| (IpNet::from(IpAddr::from(Ipv4Addr::from(n))), ports.clone()));
    let targets = many.chain(words.map(target)).collect();
    let begin = Instant::now();
    let done = datapath.apply(&targets)?;
    let took = begin.elapsed().as_millis();
    Ok(format!("+{} -{} ~{} {took}", done.added, done.removed, done.changed))
}

fn words(counters: Vec<(&'static str, u64)>) -> String {
    counters.iter().map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ")
}

/// One rule, which blocks every flow.
fn block_all() -> AddressRules {
    let (addresses, ports) = (Span { first: 0, last: u128::MAX }, Span { first: 0, last: u16::MAX });
    let flows = FlowBox { family: None, src: addresses, dst: addresses, src_port: ports, dst_port: ports };
    let rule = AddressRule { flows, verdict: AddressVerdict::Block, policy: 0 };
    AddressRules { rules: vec![rule], policies: vec!["all".into()], stopped: None }
}

/// `FROM TO`: connects in the name of another address, and answers with the first line that comes.
fn dial(words: &str) -> String {
    let (from, to) = words.split_once(' ').unwrap();
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, sockopt::IpTransparent, &true).unwrap();
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(5)).unwrap();
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::seconds(5)).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from.parse().unwrap(), 0))).unwrap();
    if let Err(errno) = connect(fd.as_raw_fd(), &SockaddrStorage::from(to.parse::<SocketAddr>().unwrap())) {
        return errno.to_string();
    }
    first_line(&std::net::TcpStream::from(fd)).unwrap()
}

async fn attach(
    config: &DatapathConfig,
    listeners: &Listeners,
    mechanism: TcMechanism,
) -> Result<(Datapath, Vec<Warning>), DatapathError> {
    let (mut datapath, warnings) = Datapath::attach_with(config, mechanism).await?;
    datapath.listen(listeners.fds()).await?;
    Ok((datapath, warnings))
}

fn answer(result: Result<String, DatapathError>) {
    match result {
        Ok(text) => say(&format!("ok {text}")),
        Err(error) => say(&format!("error {}", chain(&error))),
    }
}

fn chain(error: &DatapathError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.replace('\n', " ")
}

/// Lines of standard input; its end is the end of the process.
fn commands() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

async fn accept(listener: TcpListener, ports: ListenerPorts) {
    while let Ok((stream, _)) = listener.accept().await {
        if ports.is_direct(stream.local_addr().unwrap()) {
            socket::reset(stream).unwrap();
        } else {
            tokio::spawn(greet(stream));
        }
    }
}

async fn greet(stream: TcpStream) -> std::io::Result<()> {
    let greeting = format!("intercepted {} {}\n", stream.local_addr()?, stream.peer_addr()?);
    let mut stream = BufReader::new(stream);
    stream.write_all(greeting.as_bytes()).await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 && line.trim_end() != "bye" {
        stream.write_all(line.as_bytes()).await?;
        line.clear();
    }
    Ok(())
}
