//! The bed: an sshd that trusts one CA, and a proxy made of the parts under test.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use portreeve::ca::host::HostSigner;
use portreeve::ssh::observe::{Decision, ObserverFailed, SessionObserver};
use portreeve::ssh::relay::{self, RelayOutcome};
use portreeve::ssh::shown_keys::ShownKeys;
use portreeve::ssh::{downstream, upstream};
use portreeve_core::host_certificate::HostCertificateSpec;
use portreeve_core::host_key::{self, AccountSecret};
use portreeve_core::id::SessionId;
use portreeve_core::infrastructure::{SshPermissions, TransferRights};
use portreeve_core::net::OriginalDst;
use portreeve_core::record::{ChannelNumber, RecordEvent, Source};
use portreeve_core::target::Hostname;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::{Algorithm, Certificate, EcdsaCurve, LineEnding, PrivateKey};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

pub(crate) const SECRET: [u8; 32] = [7; 32];

const LIMIT: Duration = Duration::from_secs(10);

pub(crate) const EVERYTHING: SshPermissions = SshPermissions {
    pty: true,
    port_forwarding: true,
    agent_forwarding: true,
    x11_forwarding: true,
    user_rc: true,
    file_transfer: TransferRights::ALL,
};

/// What the proxy does, to be changed by a test before it starts.
pub(crate) struct Plan {
    pub(crate) refuse: Option<&'static str>,
    pub(crate) trusted: bool,
    pub(crate) permissions: SshPermissions,
    pub(crate) fail_observer_at: Option<&'static [u8]>,
    pub(crate) target: Option<SocketAddr>,
    pub(crate) sshd_lines: String,
    pub(crate) host_signer: Option<HostSigner>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            refuse: None,
            trusted: true,
            permissions: EVERYTHING,
            fail_observer_at: None,
            target: None,
            sshd_lines: String::new(),
            host_signer: None,
        }
    }
}

/// Sshd, proxy and scratch files of one test.
pub(crate) struct Bed {
    pub(crate) dir: TempDir,
    pub(crate) proxy: SocketAddr,
    pub(crate) sshd_addr: SocketAddr,
    pub(crate) observer: Arc<Watcher>,
    pub(crate) revoke: watch::Sender<Option<String>>,
    outcomes: mpsc::Receiver<RelayOutcome>,
    sshd: Sshd,
}

/// Remembers everything that the relay tells.
#[derive(Default)]
pub(crate) struct Watcher {
    pub(crate) events: Mutex<Vec<RecordEvent>>,
    pub(crate) client_data: Mutex<Vec<u8>>,
    target_data: Mutex<BTreeMap<u32, Vec<u8>>>,
    fail_at: Option<&'static [u8]>,
}

impl SessionObserver for Watcher {
    async fn event(&self, event: RecordEvent) -> Result<Decision, ObserverFailed> {
        let refuse = matches!(&event, RecordEvent::Exec { command, .. } if command.0 == b"forbidden");
        self.events.lock().unwrap().push(event);
        Ok(if refuse { Decision::Refuse { text: String::new() } } else { Decision::Forward })
    }

    async fn data(
        &self,
        _channel: ChannelNumber,
        source: Source,
        code: u32,
        data: &[u8],
    ) -> Result<(), ObserverFailed> {
        if self.fail_at.is_some_and(|needle| data.windows(needle.len()).any(|window| window == needle)) {
            return Err(ObserverFailed("disk full".into()));
        }
        match source {
            Source::Client => keep(&mut self.client_data.lock().unwrap(), data),
            Source::Target => keep(self.target_data.lock().unwrap().entry(code).or_default(), data),
        }
        Ok(())
    }

    async fn keeps_up(&self, _channel: ChannelNumber) {}

    async fn failed(&self) -> ObserverFailed {
        std::future::pending().await
    }
}

impl Watcher {
    pub(crate) fn saw(&self, wanted: impl Fn(&RecordEvent) -> bool) -> bool {
        self.events.lock().unwrap().iter().any(wanted)
    }

    /// The first 8 MiB that the target sent with an extended-data code (0 = stdout).
    pub(crate) fn output(&self, code: u32) -> Vec<u8> {
        self.target_data.lock().unwrap().get(&code).cloned().unwrap_or_default()
    }
}

/// Keeps the first 8 MiB.
fn keep(kept: &mut Vec<u8>, data: &[u8]) {
    if kept.len() < 8 << 20 {
        kept.extend(data);
    }
}

struct Sshd(Child);

impl Drop for Sshd {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with(Plan::default()).await
    }

    pub(crate) async fn with(plan: Plan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca =
            PrivateKey::random(&mut rand::rng(), Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }).unwrap();
        let other = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let trusted = if plan.trusted { &ca } else { &other };
        fs::write(dir.path().join("ca.pub"), trusted.public_key().to_openssh().unwrap()).unwrap();
        let (sshd, sshd_addr) = start_sshd(dir.path(), &plan.sshd_lines);
        let observer = Arc::new(Watcher { fail_at: plan.fail_observer_at, ..Watcher::default() });
        let (revoke, end) = watch::channel(None);
        let (outcome_sender, outcomes) = mpsc::channel(64);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = listener.local_addr().unwrap();
        let server = Arc::new(Server {
            target: plan.target.unwrap_or(sshd_addr),
            plan,
            ca,
            observer: Arc::clone(&observer),
            end,
            outcomes: outcome_sender,
        });
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tokio::spawn(Arc::clone(&server).serve(tcp));
            }
        });
        Self { dir, proxy, sshd_addr, observer, revoke, outcomes, sshd }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `PROGRAM` with options for the proxy; `port_flag` is -p, or -P for scp and sftp.
    pub(crate) fn openssh(&self, program: &str, port_flag: &str) -> Command {
        self.openssh_checking("accept-new", program, port_flag)
    }

    /// As [`Self::openssh`], with a value for `StrictHostKeyChecking`.
    pub(crate) fn openssh_checking(&self, checking: &str, program: &str, port_flag: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=1", "120", program, "-F", "/dev/null", port_flag]);
        command.arg(self.proxy.port().to_string());
        command.args(["-o", &format!("StrictHostKeyChecking={checking}")]);
        command.args(["-o", "BatchMode=yes", "-o", "IdentityFile=none"]);
        let known_hosts = self.path("known_hosts");
        command.args(["-o", &format!("UserKnownHostsFile={}", known_hosts.display())]);
        command.env_remove("SSH_AUTH_SOCK");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `ssh OPTIONS root@127.0.0.1 COMMAND`, to its end.
    pub(crate) async fn ssh(&self, options: &[&str], command: &[&str]) -> Output {
        let mut ssh = self.openssh("ssh", "-p");
        ssh.args(options).arg("root@127.0.0.1").args(command);
        output(ssh).await
    }

    pub(crate) async fn outcome(&mut self) -> RelayOutcome {
        tokio::time::timeout(LIMIT, self.outcomes.recv()).await.expect("a relay ended").unwrap()
    }

    /// Kills what serves connections at the target: the children of the listening sshd.
    pub(crate) fn kill_sshd_connections(&self) {
        kill_children(&self.sshd.0);
    }
}

/// Kills the children of a process without notice.
pub(crate) fn kill_children(parent: &Child) {
    let parent = parent.id().to_string();
    let listed = Command::new("ps").args(["-o", "pid=", "--ppid", &parent]).output().unwrap();
    for pid in String::from_utf8(listed.stdout).unwrap().split_whitespace() {
        Command::new("kill").args(["-9", pid]).status().unwrap();
    }
}

/// Runs a command to its end without blocking the proxy.
pub(crate) async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Standard output as text.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until `ready`, 10 s at most.
pub(crate) async fn eventually(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !ready() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn start_sshd(dir: &Path, lines: &str) -> (Sshd, SocketAddr) {
    fs::create_dir_all("/run/sshd").unwrap();
    let host_key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let key_path = dir.join("host_key");
    fs::write(dir.join("host_key.pub"), host_key.public_key().to_openssh().unwrap()).unwrap();
    host_key.write_openssh_file(&key_path, LineEnding::LF).unwrap();
    fs::set_permissions(&key_path, PermissionsExt::from_mode(0o600)).unwrap();
    let port = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let ca = dir.join("ca.pub");
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nTrustedUserCAKeys {}\nPidFile none\nStrictModes no\n\
         UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         AuthorizedKeysFile none\nAcceptEnv TB_*\nSubsystem sftp internal-sftp\nMaxStartups 200\nMaxSessions 50\n\
         PrintMotd no\nPrintLastLog no\n{lines}\n",
        key_path.display(),
        ca.display(),
    );
    let config_path = dir.join("sshd_config");
    fs::write(&config_path, config).unwrap();
    let log = fs::File::create(dir.join("sshd.log")).unwrap();
    let child = Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(&config_path)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("/usr/sbin/sshd starts");
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let deadline = Instant::now() + LIMIT;
    while std::net::TcpStream::connect(addr).is_err() {
        assert!(
            Instant::now() < deadline,
            "sshd does not listen: {}",
            fs::read_to_string(dir.join("sshd.log")).unwrap()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    (Sshd(child), addr)
}

struct Server {
    plan: Plan,
    target: SocketAddr,
    ca: PrivateKey,
    observer: Arc<Watcher>,
    end: watch::Receiver<Option<String>>,
    outcomes: mpsc::Sender<RelayOutcome>,
}

impl Server {
    async fn serve(self: Arc<Self>, tcp: TcpStream) {
        let secret = AccountSecret::new(SECRET);
        let target = TcpStream::connect(self.target).await.unwrap();
        let mut shown = b"SSH-2.0-portreeve".to_vec();
        let up = match upstream::connect(target, &[], false, LIMIT).await {
            Ok(identified) => {
                shown = identified.identification().to_vec();
                identified.exchange_keys(LIMIT).await
            }
            Err(error) => Err(error),
        };
        // A target without a host key is shown under a key of its own, so that the user can be told.
        let key = match &up {
            Ok(up) => up.host_key().clone(),
            Err(_) => self.ca.public_key().clone(),
        };
        let keys = host_key::derive(&secret, &key);
        let certificates = self.plan.host_signer.as_ref().map(|signer| {
            let (hostname, dst) =
                (Hostname::new("db1").unwrap(), OriginalDst::new(tcp.local_addr().unwrap()));
            let session = SessionId::from_random_bytes([0; 16]);
            let spec = HostCertificateSpec::for_target(&hostname, dst, session, SystemTime::now());
            signer.issue(&spec, &keys).unwrap()
        });
        let Ok(greeted) = downstream::greet(tcp, &shown, certificates.is_some(), LIMIT).await else {
            return;
        };
        let keys = ShownKeys::new(keys).unwrap();
        let Ok(attempt) = greeted.ask_login(keys, certificates.as_ref(), LIMIT).await else {
            return;
        };
        let up = match up {
            Ok(up) => up,
            Err(error) => return attempt.refuse(&error.to_string()).await,
        };
        let Some(login) = attempt.login().cloned() else {
            let reason = attempt.login_error().unwrap().to_string();
            return attempt.refuse(&reason).await;
        };
        if let Some(reason) = self.plan.refuse {
            return attempt.refuse(reason).await;
        }
        let (key, certificate) = self.certify(login.as_str());
        let up = match up.log_in(&login, key, certificate, LIMIT).await {
            Ok(up) => up,
            Err(error) => return attempt.refuse(&error.to_string()).await,
        };
        let mut end = self.end.clone();
        let revoked = async move { end.wait_for(Option::is_some).await.unwrap().clone().unwrap() };
        let observer = Arc::clone(&self.observer);
        let outcome = relay::run(attempt.admit(), up, self.plan.permissions, observer, revoked).await;
        self.outcomes.try_send(outcome).unwrap();
    }

    fn certify(&self, login: &str) -> (PrivateKey, Certificate) {
        let algorithm = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
        let key = PrivateKey::random(&mut rand::rng(), algorithm).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut builder =
            Builder::new_with_random_nonce(&mut rand::rng(), key.public_key(), now - 90, now + 90).unwrap();
        builder.cert_type(CertType::User).unwrap();
        builder.valid_principal(login).unwrap();
        builder.key_id("test").unwrap();
        for extension in
            ["permit-pty", "permit-port-forwarding", "permit-agent-forwarding", "permit-X11-forwarding"]
        {
            builder.extension(extension, "").unwrap();
        }
        (key, builder.sign(&self.ca).unwrap())
    }
}
