//! Machines below a directory: first starts, later ones, and seeds that are wrong.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const RECIPIENT: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

fn text(more: &str) -> String {
    format!(
        "hostname = \"gw1\"\nrecipients = [\"{RECIPIENT}\"]\n{more}\n[[interfaces]]\nname = \"lan0\"\naddresses = [\"192.0.2.1/24\"]\n\
         [gateway.datapath]\ninterfaces = [\"lan0\"]\n[policy]\ntargets = []\n"
    )
}

/// A machine below a directory, and a seed beside it.
fn machine(seed: &str) -> (tempfile::TempDir, Provisioning) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    fs::write(root.join("etc/shadow"), "root:*:1::::::\n").unwrap();
    let path = dir.path().join("seed.toml");
    fs::write(&path, seed).unwrap();
    (dir, Provisioning { root, seed: Some(path), tpm: None })
}

fn later(first: &Provisioning) -> Provisioning {
    Provisioning { seed: None, ..first.clone() }
}

#[test]
fn the_first_start_writes_all_and_later_ones_what_the_host_needs() {
    let (_dir, first) =
        machine(&text("[break_glass]\naccount = \"keeper\"\npassword = \"$6$salt$0123456789abcdef\"\n"));
    assert_eq!(later(&first).run().unwrap(), Outcome::NoSeed);
    assert!(matches!(first.run().unwrap(), Outcome::First(_)));
    let mode = |path: &str| fs::metadata(first.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("/etc/portreeve/seed.toml"), 0o600);
    assert_eq!(mode("/run/portreeve/shadow"), 0o600);
    let shadow = fs::read_to_string(first.path("/run/portreeve/shadow")).unwrap();
    assert_eq!(shadow, "root:*:1::::::\nkeeper:$6$salt$0123456789abcdef:20000::::::\n");
    let ca = fs::read(first.path("/var/lib/portreeve/ca_key")).unwrap();
    // The operator changes the policy, and the machine starts again with an empty /run.
    fs::write(first.path("/etc/portreeve/policy.toml"), "targets = [] # mine\n").unwrap();
    fs::remove_dir_all(first.path("/run")).unwrap();
    assert_eq!(later(&first).run().unwrap(), Outcome::Again);
    assert!(first.path("/run/systemd/network/30-lan0.network").exists());
    assert_eq!(
        fs::read_to_string(first.path("/etc/portreeve/policy.toml")).unwrap(),
        "targets = [] # mine\n"
    );
    assert_eq!(fs::read(first.path("/var/lib/portreeve/ca_key")).unwrap(), ca);
}

#[test]
fn a_root_may_be_relative_and_need_not_be_there() {
    let (_dir, first) =
        machine(&text("[break_glass]\naccount = \"keeper\"\npassword = \"$6$salt$0123456789abcdef\"\n"));
    // Made where tests run, removed when the test ends.
    let place = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    fs::remove_dir(place.path()).unwrap();
    let relative = Provisioning { root: place.path().file_name().unwrap().into(), ..first };
    relative.run().unwrap();
    assert!(place.path().join("etc/portreeve/seed.toml").exists());
    let passwd = fs::read_to_string(place.path().join("run/portreeve/passwd")).unwrap();
    assert_eq!(passwd, "keeper:x:0:0:break-glass:/:/bin/bash\n");
}

#[test]
fn a_wrong_seed_writes_nothing_and_names_its_line() {
    let (_dir, wrong) = machine(&text("dns = [\"here\"]"));
    let told = wrong.run().unwrap_err().to_string();
    assert!(told.contains("seed.toml:3: dns[0]: \"here\" is no IP address"), "{told}");
    assert!(
        !wrong.path("/etc/portreeve").exists()
            && !wrong.path("/run").exists()
            && !wrong.path("/var").exists()
    );
}

#[test]
fn routes_for_frr_need_a_machine_that_has_it() {
    let (_dir, first) = machine(&text("[routing]\nfrr = \"ip route 198.51.100.0/24 192.0.2.7\"\n"));
    fs::create_dir(first.path("/usr")).unwrap();
    let told = first.run().unwrap_err().to_string();
    assert!(told.starts_with("routing.frr: this machine has no FRR"), "{told}");
    assert!(!first.path("/etc/portreeve").exists());
    fs::create_dir_all(first.path("/usr/lib/frr")).unwrap();
    fs::write(first.path(FRR), "").unwrap();
    first.run().unwrap();
    let conf = fs::read_to_string(first.path("/run/portreeve/frr/frr.conf")).unwrap();
    assert_eq!(conf, "ip route 198.51.100.0/24 192.0.2.7");
}

#[test]
fn another_seed_takes_the_files_of_the_first_away_and_keeps_the_keys() {
    let (_dir, first) = machine(&text(""));
    first.run().unwrap();
    let ca = fs::read(first.path("/var/lib/portreeve/ca_key")).unwrap();
    fs::write(first.seed.as_ref().unwrap(), text("").replace("lan0", "lan7")).unwrap();
    first.run().unwrap();
    assert!(!first.path("/run/systemd/network/30-lan0.network").exists());
    assert!(first.path("/run/systemd/network/30-lan7.network").exists());
    assert_eq!(fs::read(first.path("/var/lib/portreeve/ca_key")).unwrap(), ca);
}

#[test]
fn keys_of_the_seed_are_used_and_not_kept_with_it() {
    let secret = "ab".repeat(32);
    let (_dir, first) = machine(&text(&format!("[keys]\nca = \"PEM\"\naccount_secret = \"{secret}\"\n")));
    first.run().unwrap();
    assert_eq!(fs::read_to_string(first.path("/var/lib/portreeve/account_secret")).unwrap(), secret);
    assert_eq!(fs::read_to_string(first.path("/var/lib/portreeve/ca_key")).unwrap(), "PEM");
    assert!(!fs::read_to_string(first.path(KEPT)).unwrap().contains("PEM"));
    assert_eq!(later(&first).run().unwrap(), Outcome::Again, "what is kept is a seed");
}

#[test]
fn a_key_of_wireguard_is_made_once_and_handed_to_networkd_alone() {
    let tunnel = "[[interfaces]]\nname = \"wg0\"\nwireguard.listen_port = 51820\n";
    let (_dir, first) = machine(&text(tunnel));
    assert!(later(&first).public_keys().unwrap().is_empty());
    first.run().unwrap();
    let kept = first.path("/var/lib/portreeve/wireguard/wg0.key");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&kept), mode(kept.parent().unwrap())), (0o600, 0o700));
    let key = fs::read_to_string(&kept).unwrap();
    assert_eq!(key.len(), 44);
    fs::remove_dir_all(first.path("/run")).unwrap();
    later(&first).run().unwrap();
    let credential = first.path("/run/credstore/network.wireguard.private.20-wg0");
    assert_eq!((fs::read_to_string(&credential).unwrap(), mode(&credential)), (key.clone(), 0o600));
    let device = fs::read_to_string(first.path("/run/systemd/network/20-wg0.netdev")).unwrap();
    assert!(!device.contains(&key), "{device}");
    let public = later(&first).public_keys().unwrap();
    assert_eq!(public.keys().collect::<Vec<_>>(), ["wg0"]);
    assert_ne!(public["wg0"], key);
}
