//! Host certificates as ssh judges them: which names it takes, at a port that is not 22.

use std::fs;

use portreeve::ca::host::HostSigner;
use portreeve::ca::key::{CaAlgorithm, HostCaKey};

use super::bed::{Bed, Plan, output, stderr};

/// ssh looks for [NAME]:PORT in known_hosts and then for NAME; a certificate's names have no port.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and sshd; run by cargo xtask test"]
async fn a_certificate_counts_for_address_and_hostname_at_any_port() {
    let state = tempfile::tempdir().unwrap();
    let ca = HostCaKey::init(state.path(), CaAlgorithm::default()).unwrap();
    let line = ca.public_key().to_openssh().unwrap();
    let bed = Bed::with(Plan { host_signer: Some(HostSigner::new(ca)), ..Plan::default() }).await;
    let port = bed.proxy.port();
    let with_port = format!("[127.0.0.1]:{port}");
    for (hosts, alias, accepted) in [
        ("*", None, true),
        (with_port.as_str(), None, true),
        ("127.0.0.1", None, true),
        ("[127.0.0.2]:*", None, false),
        ("db1", Some("HostKeyAlias=db1"), true),
        ("*", Some("HostKeyAlias=db1"), true),
        ("*", Some("HostKeyAlias=db2"), false),
    ] {
        fs::write(bed.path("known_hosts"), format!("@cert-authority {hosts} {line}\n")).unwrap();
        for algorithm in ["ssh-ed25519", "ecdsa-sha2-nistp256"] {
            let algorithms = format!("HostKeyAlgorithms={algorithm}-cert-v01@openssh.com");
            let mut ssh = bed.openssh_checking("yes", "ssh", "-p");
            ssh.args(["-o", &algorithms]).args(alias.iter().flat_map(|alias| ["-o", alias]));
            ssh.args(["root@127.0.0.1", "true"]);
            let ran = output(ssh).await;
            assert_eq!(ran.status.success(), accepted, "{hosts} {alias:?} {algorithm}: {}", stderr(&ran));
            let known = fs::read_to_string(bed.path("known_hosts")).unwrap();
            assert_eq!(known.lines().count(), 1, "nothing is learnt: {known}");
        }
    }
}
