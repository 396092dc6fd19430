//! Three network namespaces, client - gateway - server, and a gateway process in the middle one.
//!
//! Everything has names of its own, so tests run side by side, and everything is gone after a test.
//! On the server's two addresses, and on the router itself (on its wildcard address, as its own sshd
//! would be), a listener answers every connection with its name.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use portreeve::datapath;
use portreeve_core::config::daemon::DatapathConfig;
use portreeve_tests::wire::Wire;
use portreeve_tests::{Netns, deadline, tun};
use tempfile::TempDir;

use crate::cards::Cards;
use crate::gateway::{self, ROLE};

pub(crate) const TARGETS: [&str; 2] = ["10.77.2.2", "fd77:2::2"];
pub(crate) const OPEN: [&str; 2] = ["10.77.2.3", "fd77:2::3"];
pub(crate) const ROUTER: [&str; 2] = ["10.77.1.1", "fd77:1::1"];
pub(crate) const CLIENTS: [&str; 2] = ["10.77.1.2", "fd77:1::2"];
/// `apply` command that makes [`TARGETS`] targets.
pub(crate) const APPLY: &str = "apply 10.77.2.2/32@22 fd77:2::2/128@22";

/// How long an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long no answer must come before a connection counts as closed.
const CLOSED_AFTER: Duration = Duration::from_millis(1500);

/// The namespaces, and a bpffs for pins.
pub(crate) struct Network {
    prefix: String,
    directory: TempDir,
    joints: Joints,
}

/// What joins the hosts to the gateway.
enum Joints {
    Veth,
    Cards(Cards),
    /// TUN devices, whose packets have no header of a link.
    Tun,
}

/// A gateway process; killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it said when it was ready.
    pub(crate) ready: String,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self::joined_by(Joints::Veth)
    }

    /// Of the network cards of a virtual machine.
    pub(crate) fn with_cards() -> Self {
        Self::joined_by(Joints::Cards(Cards::take()))
    }

    /// Of packets without a header of a link.
    pub(crate) fn without_frames() -> Self {
        Self::joined_by(Joints::Tun)
    }

    fn joined_by(joints: Joints) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("ptk{}x{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let network = Self { prefix, directory: TempDir::new().unwrap(), joints };
        fs::create_dir(network.bpffs()).unwrap();
        mount(Some("bpf"), &network.bpffs(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        network.build();
        for (side, name) in [("s", "server"), ("g", "router")] {
            for address in ["0.0.0.0:22", "0.0.0.0:2222", "[::]:22"] {
                network.answer_with(side, address, name);
            }
        }
        network.settle();
        network
    }

    pub(crate) fn pin_dir(&self) -> PathBuf {
        self.bpffs().join("portreeve")
    }

    /// File with the standard error of the gateway processes.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.path().join("stderr")
    }

    /// Steering of these interfaces.
    pub(crate) fn config(&self, interfaces: &str) -> DatapathConfig {
        gateway::config(self.pin_dir(), interfaces)
    }

    /// Detaches, in the namespace, where the interfaces are.
    pub(crate) fn detach(&self) -> bool {
        let pin_dir = self.pin_dir();
        self.inside("g", move || datapath::detach(&pin_dir)).unwrap()
    }

    /// Makes the veth pair between the client and the gateway; the name has a dot, as VLANs have.
    pub(crate) fn link_client(&self) {
        self.link_client_as("");
    }

    /// [`Network::link_client`], with words of `ip link` for the gateway's end, such as its index.
    pub(crate) fn link_client_as(&self, words: &str) {
        self.link("c", CLIENTS, &format!("lan.10 {words}"), ROUTER);
        self.ip("c", "route add 10.77.2.0/24 via 10.77.1.1");
        self.ip("c", "route add fd77:2::/64 via fd77:1::1");
    }

    /// Runs `ip ARGS` in a namespace: `c`, `g` or `s`.
    pub(crate) fn ip(&self, side: &str, args: &str) -> String {
        let mut ip = Command::new("ip");
        ip.args(args.split_whitespace());
        self.printed(side, ip)
    }

    /// Runs a shell command in a namespace and returns what it printed.
    pub(crate) fn shell(&self, side: &str, command: &str) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]);
        self.printed(side, shell)
    }

    /// What a command prints in a namespace. The thread that starts it joins that: a program of its own to do so is a fifth of
    /// the work of a test.
    fn printed(&self, side: &str, mut command: Command) -> String {
        let shown = format!("{command:?}");
        let output = self.inside(side, move || command.output()).unwrap();
        assert!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a gateway process on interfaces; what it says instead of `ready` is the error.
    pub(crate) fn gateway(&self, interfaces: &str, mode: &str) -> Result<Gateway, String> {
        self.gateway_with_pins(&self.pin_dir(), interfaces, mode)
    }

    pub(crate) fn gateway_with_pins(
        &self,
        pin_dir: &Path,
        interfaces: &str,
        mode: &str,
    ) -> Result<Gateway, String> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        // What it says it needs, and nothing else.
        let capabilities = "-all,+net_admin,+bpf,+perfmon";
        let mut child = Command::new("nsenter")
            .arg(format!("--net={}", self.netns("g").display()))
            .args(["setpriv", "--bounding-set", capabilities])
            .arg(env::current_exe().unwrap())
            .arg(ROLE)
            .arg(pin_dir)
            .args([interfaces, mode])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut gateway = Gateway { child, input, output, ready: String::new() };
        gateway.ready = gateway.line();
        if gateway.ready.starts_with("ready") { Ok(gateway) } else { Err(gateway.ready.clone()) }
    }

    /// Adds a host `d` behind the client. Its link takes packets of `mtu` bytes from the client, which
    /// it does not know.
    pub(crate) fn add_host_behind_client(&self, mtu: u32) {
        let (d, [client4, client6]) = (format!("{}d", self.prefix), CLIENTS);
        run(&["ip", "netns", "add", &d]);
        self.shell("c", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        self.ip("c", &format!("link add behind type veth peer name eth0 netns {d}"));
        for (side, device, host) in [("c", "behind", 1), ("d", "eth0", 2)] {
            self.ip(side, &format!("addr add 10.77.9.{host}/24 dev {device}"));
            self.ip(side, &format!("addr add fd77:9::{host}/64 dev {device} nodad"));
            self.shell(side, &format!("ethtool -K {device} tx off tso off gso off gro on >/dev/null"));
            self.ip(side, &format!("link set {device} up"));
        }
        self.ip("c", &format!("link set behind mtu {mtu}"));
        // It sends no packet that does not fit, and says that it takes any.
        self.ip("d", &format!("route add default via 10.77.9.1 mtu {mtu} advmss 1460"));
        self.ip("d", &format!("route add default via fd77:9::1 mtu {mtu} advmss 1440"));
        self.ip("g", &format!("route add 10.77.9.0/24 via {client4}"));
        self.ip("g", &format!("route add fd77:9::/64 via {client6}"));
        wait_for(|| self.connect("d", OPEN[1], 22).is_ok(), "the host behind the client");
    }

    /// Connects from one of the addresses of a namespace.
    pub(crate) fn connect_as(&self, side: &str, from: &'static str, to: &str, port: u16) -> io::Result<()> {
        let to = SocketAddr::new(to.parse::<IpAddr>().unwrap(), port);
        self.inside(side, move || connect_from(SocketAddr::new(from.parse().unwrap(), 0), to)).map(drop)
    }

    /// Connects from a namespace.
    pub(crate) fn connect(&self, side: &str, to: &str, port: u16) -> io::Result<TcpStream> {
        let to = SocketAddr::new(to.parse::<IpAddr>().unwrap(), port);
        let stream = self.inside(side, move || TcpStream::connect_timeout(&to, CLOSED_AFTER))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// The first line that a connection from the client is answered with.
    pub(crate) fn greeting(&self, to: &str, port: u16) -> io::Result<String> {
        first_line(&self.connect("c", to, port)?)
    }

    /// Asserts that `to` is intercepted with its own address and the client's.
    pub(crate) fn assert_intercepted(&self, to: &str, client: &str) {
        let greeting = self.greeting(to, 22).unwrap();
        let words: Vec<_> = greeting.split(' ').collect();
        let &["intercepted", local, peer] = &words[..] else { panic!("{to}: {greeting:?}") };
        assert_eq!(local.parse(), Ok(SocketAddr::new(to.parse().unwrap(), 22)), "original destination");
        assert_eq!(peer.parse::<SocketAddr>().unwrap().ip(), client.parse::<IpAddr>().unwrap(), "client");
    }

    pub(crate) fn assert_targets_intercepted(&self) {
        for (to, client) in TARGETS.into_iter().zip(CLIENTS) {
            self.assert_intercepted(to, client);
        }
    }

    /// Asserts that no target answers.
    pub(crate) fn assert_targets_closed(&self) {
        for to in TARGETS {
            let error = self.greeting(to, 22).expect_err(to);
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{to}: {error}");
        }
    }

    /// Asserts that what is no target is forwarded: other addresses, and other ports of targets.
    pub(crate) fn assert_rest_open(&self) {
        for to in OPEN {
            assert_eq!(self.greeting(to, 22).unwrap(), "server", "{to}");
        }
        assert_eq!(self.greeting(TARGETS[0], 2222).unwrap(), "server", "other port of a target");
    }

    /// A namespace by its name.
    pub(crate) fn side(&self, side: &str) -> Netns {
        Netns::new(format!("{}{side}", self.prefix))
    }

    /// The file that stands for a namespace.
    pub(crate) fn open_netns(&self, side: &str) -> fs::File {
        fs::File::open(self.netns(side)).unwrap()
    }

    fn bpffs(&self) -> PathBuf {
        self.directory.path().join("bpffs")
    }

    fn netns(&self, side: &str) -> PathBuf {
        PathBuf::from(format!("/run/netns/{}{side}", self.prefix))
    }

    fn build(&self) {
        for side in ["c", "g", "s"] {
            run(&["ip", "netns", "add", &format!("{}{side}", self.prefix)]);
            self.ip(side, "link set lo up");
        }
        self.link_client();
        self.link("s", TARGETS, "wan0", ["10.77.2.1", "fd77:2::1"]);
        self.ip("s", "addr add 10.77.2.3/24 dev eth0");
        self.ip("s", "addr add fd77:2::3/64 dev eth0 nodad");
        self.ip("s", "route add default via 10.77.2.1");
        self.ip("s", "route add default via fd77:2::1");
        self.shell("g", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    }

    /// Joins a host to the gateway; its packets need checksums of their own, and the gateway's end
    /// must not lose segments that were put together.
    fn link(&self, side: &str, addrs: [&str; 2], gateway: &str, gateway_addrs: [&str; 2]) {
        let netns = format!("{}{side}", self.prefix);
        let device = gateway.split(' ').next().unwrap();
        match &self.joints {
            Joints::Cards(cards) => {
                cards.plug(side, "eth0", &netns);
                cards.plug("g", device, &format!("{}g", self.prefix));
            }
            Joints::Tun => tun::join([(&self.side(side), "eth0"), (&self.side("g"), device)]).unwrap(),
            Joints::Veth => {
                self.ip("g", &format!("link add {gateway} type veth peer name eth0 netns {netns}"));
            }
        }
        for (side, device, addrs) in [(side, "eth0", addrs), ("g", device, gateway_addrs)] {
            let [v4, v6] = addrs;
            self.ip(side, &format!("addr add {v4}/24 dev {device}"));
            self.ip(side, &format!("addr add {v6}/64 dev {device} nodad"));
            // What nobody computes sums for has them from the start.
            if !matches!(self.joints, Joints::Tun) {
                self.shell(side, &format!("ethtool -K {device} tx off gro on >/dev/null"));
            }
            self.ip(side, &format!("link set {device} up"));
        }
    }

    /// Waits until every address answers: a fresh interface loses its first packets.
    fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        for (to, name) in
            TARGETS.iter().chain(&OPEN).map(|to| (to, "server")).chain(ROUTER.iter().map(|to| (to, "router")))
        {
            while self.greeting(to, 22).ok().as_deref() != Some(name) {
                assert!(Instant::now() < deadline, "{to} does not answer");
            }
        }
    }

    fn answer_with(&self, side: &str, address: &str, name: &'static str) {
        let address: SocketAddr = address.parse().unwrap();
        if address.is_ipv6() {
            self.shell(side, "sysctl -qw net.ipv6.bindv6only=1");
        }
        let listener = self.inside(side, move || TcpListener::bind(address)).unwrap();
        // Ends with the test program.
        thread::spawn(move || {
            for stream in listener.incoming() {
                drop(stream.and_then(|mut stream| writeln!(stream, "{name}")));
            }
        });
    }

    /// Runs a closure in a namespace; sockets that it opens stay there.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        side: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let netns = self.open_netns(side);
        let entered = thread::spawn(move || {
            setns(&netns, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        entered.join().unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Joints::Cards(cards) = &self.joints {
            cards.give_back(&self.prefix);
        }
        for side in ["c", "g", "s", "d"].into_iter().filter(|side| self.netns(side).exists()) {
            drop(Command::new("ip").args(["netns", "del", &format!("{}{side}", self.prefix)]).status());
        }
        umount2(&self.bpffs(), MntFlags::MNT_DETACH).unwrap_or_default();
    }
}

impl Gateway {
    /// Sends a command and returns what comes after `ok`; the rest is the error.
    pub(crate) fn command(&mut self, command: &str) -> Result<String, String> {
        writeln!(self.input, "{command}").unwrap();
        let line = self.line();
        line.strip_prefix("ok ").map(str::to_owned).ok_or(line)
    }

    /// Value of one counter of steering.
    pub(crate) fn counter(&mut self, name: &str) -> u64 {
        self.value("counters", name)
    }

    /// Value of one counter of the fast path.
    pub(crate) fn fast(&mut self, name: &str) -> u64 {
        self.value("fast", name)
    }

    fn value(&mut self, command: &str, name: &str) -> u64 {
        let counters = self.command(command).unwrap();
        let value = counters.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {name} in {counters}")).parse().unwrap()
    }

    /// Ends the process as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Orderly exit.
    pub(crate) fn stop(mut self) {
        assert_eq!(self.command("stop").unwrap(), "stopped");
        assert!(self.child.wait().unwrap().success());
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Connects from an address that the host has, within a bounded time.
pub(crate) fn connect_from(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::milliseconds(1500))?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(from))?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Err(Errno::EINPROGRESS) => return Err(io::ErrorKind::TimedOut.into()),
        result => result?,
    }
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Waits until a condition holds.
pub(crate) fn wait_for(mut condition: impl FnMut() -> bool, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        thread::yield_now();
    }
}

/// The frames that cross a wire up to one that `last` holds for, and that one.
pub(crate) fn frames_until(
    wire: &Wire,
    what: &str,
    last: impl Fn(&[u8]) -> bool,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    deadline::until(what, PATIENCE, || {
        let Some(seen) = wire.receive()? else { return Ok(None) };
        let found = last(&seen.frame).then_some(());
        all.push(seen.frame);
        Ok(found)
    })?;
    Ok(all)
}

/// Reads one line, byte by byte, so that the rest stays unread.
pub(crate) fn first_line(mut stream: &TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte != *b"\n" {
        line.extend(byte);
    }
    String::from_utf8(line).map_err(io::Error::other)
}

fn run(command: &[&str]) {
    let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
