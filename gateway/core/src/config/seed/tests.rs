//! Seeds, what they are rendered into, and what is told of wrong ones.

use super::*;

const RECIPIENT: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

fn seed(more: &str) -> String {
    format!(
        "#portreeve-seed\nhostname = \"gw1\"\nrecipients = [\"{RECIPIENT}\"]\ndns = [\"192.0.2.53\", \"2001:db8::53\"]\n{more}\n\
         [[interfaces]]\nname = \"lan0\"\naddresses = [\"192.0.2.1/24\", \"2001:db8:1::1/64\"]\n\
         [gateway.datapath]\ninterfaces = [\"lan0\"]\n[gateway.metrics]\nlisten = \"192.0.2.1:9470\"\n\
         [[policy.targets]]\nhostname = \"db\"\nip.ipv4.ip_addr = \"10.1.2.3\"\nip.ipv6.ip_addr = \"2001:db8:2::3\"\n"
    )
}

fn refused(text: &str) -> String {
    load(text, "seed").err().map(|errors| errors.to_string()).unwrap_or_default()
}

fn text_of<'f>(files: &'f [File], path: &str) -> &'f str {
    files.iter().find(|file| file.path == path).map(|file| file.text.as_str()).unwrap_or_default()
}

#[test]
fn a_small_seed_makes_a_whole_gateway() {
    let seed = load(&seed(""), "seed").unwrap();
    let files = seed.gateway_files();
    let config = daemon::load(text_of(files, "/etc/portreeve/portreeve.toml"), "c").unwrap();
    assert_eq!(config.datapath.interfaces, ["lan0"]);
    assert_eq!(config.recording.recipient_key_files.len(), 1);
    assert_eq!(text_of(files, "/etc/portreeve/recipient-1.pub"), RECIPIENT);
    let policy =
        policy::load(text_of(files, "/etc/portreeve/policy.toml"), Format::Toml, "p", Generation(1)).unwrap();
    assert_eq!(policy.snapshot.infrastructure.targets().len(), 1);
    assert_eq!(
        files.last().unwrap().path,
        "/etc/portreeve/portreeve.toml",
        "what makes it a gateway comes last"
    );
    let host = seed.host_files(&BTreeMap::new());
    let lan0 = text_of(&host, "/run/systemd/network/30-lan0.network");
    assert!(lan0.contains("Address=192.0.2.1/24\n") && lan0.contains("Address=2001:db8:1::1/64\n"), "{lan0}");
    assert!(lan0.contains("DHCP=no\n") && lan0.contains("IPv6AcceptRA=no\n"), "{lan0}");
    assert!(
        text_of(&host, "/run/sysctl.d/90-portreeve.conf")
            .contains("kernel.hostname = gw1\nnet.ipv4.ip_forward = 1\n")
    );
    assert_eq!(
        text_of(&host, "/run/systemd/resolved.conf.d/portreeve.conf"),
        "[Resolve]\nDNS=192.0.2.53 2001:db8::53\n"
    );
}

#[test]
fn all_errors_are_told_at_once_with_lines_and_keys_of_the_seed() {
    let text = "hostname = \"a b\"\nrecipients = [\"x\"]\n\n[break_glass]\naccount = \"root\"\npassword = \"secret\"\n\
                [[interfaces]]\nname = \"lan0\"\naddresses = [\"192.0.2.1\"]\nvlan = { on = \"eno9\", id = 5000 }\ncolour = 1\n\
                [gateway.datapath]\ninterfaces = [\"lan0\"]\n[policy]\ntargets = []\n";
    let told = refused(text);
    for part in [
        "seed:1: hostname: \"a b\" is no name for a host",
        "seed:2: recipients[0]: a recipient key is 44 characters",
        "seed:5: break_glass.account: \"root\" is no name",
        "seed:6: break_glass.password: this is no hash",
        "seed:9: interfaces[0].addresses[0]: \"192.0.2.1\" is no address with a prefix length",
        "seed:10: interfaces[0].vlan.id: write an integer from 1 to 4094",
        "seed:11: interfaces[0].colour: there is no key \"colour\" here",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert!(!told.contains("secret"), "{told}");
}

#[test]
fn errors_of_the_gateway_and_of_the_policy_have_their_place_in_the_seed() {
    let text = seed("").replace("[\"lan0\"]", "[\"lan0\"]\nmark = 0").replace("10.1.2.3", "10.1.2.300");
    let told = refused(&text);
    let line = |wanted: &str| text.lines().position(|line| line.starts_with(wanted)).unwrap() + 1;
    for part in [
        format!("seed:{}: gateway.datapath.mark: ", line("mark")),
        format!("seed:{}: policy.targets[0].ip.ipv4.ip_addr: ", line("ip.ipv4")),
    ] {
        assert!(told.contains(&part), "{part}\n{told}");
    }
    let missing = refused(&seed("").replace("interfaces = [\"lan0\"]\n", "mark = 7\n"));
    assert!(missing.contains("gateway.datapath.interfaces: this key is missing"), "{missing}");
    assert!(refused("x = ").contains("seed:1"), "no TOML");
    assert!(refused("hostname = \"a\"").contains("there is no section [gateway]"));
}

#[test]
fn vlans_bonds_and_what_a_router_offers_are_networkd_files() {
    let more = "[[interfaces]]\nname = \"lan0.100\"\nvlan = { on = \"lan0\", id = 100 }\naddresses = [\"10.9.0.1/24\", \"fd00:9::1/64\"]\n\
                router_advertisements = true\ndhcp_server = true\nmtu = 1400\nroutes = [{ to = \"0.0.0.0/0\", via = \"10.9.0.254\" }]\n\
                [[interfaces]]\nname = \"bond0\"\nbond = { ports = [\"eno1\", \"eno2\"] }\ndhcp = \"both\"\n\
                [[interfaces]]\nname = \"eno1\"\nmac = \"52:54:00:AA:bb:02\"\n\
                [[interfaces]]\nname = \"wan0\"\nmac = \"52:54:00:AA:bb:01\"\ndhcp = \"ipv4\"\n";
    let seed = load(&seed(more), "seed").unwrap();
    let files = seed.host_files(&BTreeMap::new());
    let text = |name: &str| text_of(&files, &format!("/run/systemd/network/{name}")).to_owned();
    assert!(text("30-lan0.network").contains("VLAN=lan0.100\n"));
    assert_eq!(text("20-lan0.100.netdev"), "[NetDev]\nName=lan0.100\nKind=vlan\n\n[VLAN]\nId=100\n");
    let vlan = text("30-lan0.100.network");
    for part in [
        "MTUBytes=1400",
        "IPv6SendRA=yes",
        "DHCPServer=yes",
        "[IPv6Prefix]\nPrefix=fd00:9::/64",
        "[DHCPServer]\nDNS=192.0.2.53",
        "[IPv6SendRA]\nDNS=2001:db8::53",
        "[Route]\nDestination=0.0.0.0/0\nGateway=10.9.0.254",
    ] {
        assert!(vlan.contains(part), "{part}\n{vlan}");
    }
    let rules = text_of(&files, "/run/portreeve/nftables/seed.nft");
    assert!(rules.contains("open iifname \"lan0.100\" udp dport 67 accept\n"), "{rules}");
    assert!(text("20-bond0.netdev").contains("Mode=802.3ad"));
    for port in ["eno1", "eno2"] {
        let name = format!("/run/systemd/network/30-{port}.network");
        let of_port: Vec<_> = files.iter().filter(|file| file.path == name).map(|file| &file.text).collect();
        assert_eq!(of_port, [&format!("[Match]\nName={port}\n\n[Network]\nBond=bond0\n")]);
    }
    assert!(text("10-eno1.link").contains("PermanentMACAddress=52:54:00:aa:bb:02\n"));
    assert!(
        text("30-bond0.network").contains("DHCP=yes\n")
            && text("30-bond0.network").contains("IPv6AcceptRA=yes")
    );
    assert!(text("10-wan0.link").contains("PermanentMACAddress=52:54:00:aa:bb:01\n"));
}

#[test]
fn the_firewall_admits_what_is_named_and_drops_what_would_pass_by_the_gateway() {
    let more = "[firewall]\nmetrics_from = [\"10.7.0.1/16\"]\nopen = [{ port = 179, from = [\"2001:db8::7\"] }, { port = 53, protocol = \"udp\" }]\n";
    let text = text_of(
        &load(&seed(more), "seed").unwrap().host_files(&BTreeMap::new()),
        "/run/portreeve/nftables/seed.nft",
    )
    .to_owned();
    for part in [
        "add rule inet portreeve open ip saddr 10.7.0.0/16 tcp dport 9470 accept",
        "add rule inet portreeve open ip6 saddr 2001:db8::7/128 tcp dport 179 accept",
        "add rule inet portreeve open udp dport 53 accept",
        "elements = { 10.1.2.3/32 }",
        "ip6 daddr @ip6_targets_0 tcp dport { 22 } counter drop",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let without = load(&seed("[firewall]\ndrop_forwarded_to_targets = false\n"), "seed").unwrap();
    assert_eq!(
        text_of(&without.host_files(&BTreeMap::new()), "/run/portreeve/nftables/seed.nft"),
        "",
        "the metrics are for nobody"
    );
}

#[test]
fn keys_and_files_are_kept_to_themselves() {
    let secret = "ab".repeat(32);
    let more = format!(
        "[keys]\nca = \"PEM\"\naccount_secret = \"{secret}\"\n[[files]]\nname = \"s3-credentials\"\ntext = \"k\"\n"
    );
    let read = load(&seed(&more), "seed").unwrap();
    assert_eq!(read.keys.as_ref().unwrap().account_secret, secret);
    let file = read.gateway_files().iter().find(|file| file.path == "/etc/portreeve/s3-credentials").unwrap();
    assert_eq!((file.mode, file.text.as_str()), (0o600, "k"));
    for name in ["../x", "policy.toml", ".hidden", "recipient-1.pub", ""] {
        let told = refused(&seed(&format!("[[files]]\nname = \"{name}\"\ntext = \"\"\n")));
        assert!(told.contains("is no name for a file here"), "{name}: {told}");
    }
}

/// The key pairs of RFC 7748 section 6.1, whose private halves nobody else may use.
const KEYS: [&str; 2] =
    ["hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=", "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08="];

/// A WireGuard interface with two devices of alice, in a seed that `lan0` is a part of.
fn tunnel() -> String {
    let [one, other] = KEYS;
    let more = format!(
        "[[interfaces]]\nname = \"wg0\"\naddresses = [\"10.66.0.1/24\", \"fd66::1/64\"]\n[interfaces.wireguard]\nlisten_port = 51820\n\
         [[interfaces.wireguard.peers]]\nname = \"laptop\"\npublic_key = \"{one}\"\nallowed_ips = [\"10.66.0.2\", \"fd66::2\"]\n\
         identity = \"Alice@example.com\"\npreshared_key = \"{other}\"\n\
         [[interfaces.wireguard.peers]]\nname = \"phone\"\npublic_key = \"{other}\"\nallowed_ips = [\"10.66.0.3/32\"]\n\
         identity = \"alice@example.com\"\nendpoint = \"[2001:db8::7]:51820\"\nkeepalive = 25\n"
    );
    let user = "[[policy.identities]]\nemail = \"alice@example.com\"\ngroups = [\"staff\"]\n";
    format!("{}{user}", seed(&more).replace("interfaces = [\"lan0\"]", "interfaces = [\"lan0\", \"wg0\"]"))
}

#[test]
fn a_wireguard_interface_is_a_device_with_its_secrets_apart() {
    let seed = load(&tunnel(), "seed").unwrap();
    assert_eq!(seed.wireguard().collect::<Vec<_>>(), [("wg0", None)]);
    let files = seed.host_files(&BTreeMap::from([("wg0".to_owned(), "made".to_owned())]));
    let device = text_of(&files, "/run/systemd/network/20-wg0.netdev");
    for part in [
        "PrivateKey=@network.wireguard.private.20-wg0\nListenPort=51820\nRouteTable=main\n",
        "# laptop\n[WireGuardPeer]\n",
        "PresharedKey=@network.wireguard.preshared.20-wg0.0\nAllowedIPs=10.66.0.2/32\nAllowedIPs=fd66::2/128\n",
        "Endpoint=[2001:db8::7]:51820\nPersistentKeepalive=25\n",
    ] {
        assert!(device.contains(part), "{part}\n{device}");
    }
    for (name, text) in [("private.20-wg0", "made"), ("preshared.20-wg0.0", KEYS[1])] {
        let path = format!("/run/credstore/network.wireguard.{name}");
        let file = files.iter().find(|file| file.path == path).unwrap();
        assert_eq!((file.mode, file.text.as_str()), (0o600, text));
    }
    assert!(text_of(&files, "/run/systemd/network/30-wg0.network").contains("Address=10.66.0.1/24\n"));
    let rules = text_of(&files, "/run/portreeve/nftables/seed.nft");
    assert!(rules.contains("add rule inet portreeve open udp dport 51820 accept\n"), "{rules}");
}

#[test]
fn peers_are_identities_on_their_interface_alone() {
    let identities = |text: &str| {
        let seed = load(text, "seed").unwrap();
        let policy: Table = text_of(seed.gateway_files(), "/etc/portreeve/policy.toml").parse().unwrap();
        let list = |entry: &Value, key: &str| entry.get(key).map(Value::to_string).unwrap_or_default();
        let entries = policy["identities"].as_array().unwrap().iter();
        entries.map(|entry| (list(entry, "interfaces"), list(entry, "addresses"))).collect::<Vec<_>>()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let behind = pair("[\"wg0\"]", "[\"10.66.0.2\", \"fd66::2\", \"10.66.0.3/32\"]");
    assert_eq!(identities(&tunnel()), std::slice::from_ref(&behind));
    let at_home =
        tunnel().replace("groups = [\"staff\"]", "groups = [\"staff\"]\naddresses = [\"192.0.2.10\"]");
    assert_eq!(identities(&at_home), [pair("", "[\"192.0.2.10\"]"), behind]);
}

#[test]
fn wrong_tunnels_are_told_with_their_keys() {
    let text = tunnel();
    for (from, to, told) in [
        ("listen_port = 51820", "", "interfaces[0].wireguard.listen_port: this key is missing"),
        (
            "10.66.0.3/32",
            "10.66.0.2/32",
            "interfaces[0].wireguard.peers[1]: 10.66.0.2/32 is an address of \"laptop\" already",
        ),
        ("10.66.0.3/32", "10.66.0.3/16", "interfaces[0].wireguard.peers[1].allowed_ips[0]: "),
        ("[2001:db8::7]:51820", "2001:db8::7", "interfaces[0].wireguard.peers[1].endpoint: "),
        ("keepalive = 25", "keepalive = 0", "interfaces[0].wireguard.peers[1].keepalive: "),
        (
            "Alice@example.com",
            "bob@example.com",
            "interfaces[0].wireguard.peers[0].identity: no entry of [[policy.identities]]",
        ),
        (", \"wg0\"]", "]", "interfaces[0].wireguard.peers[1].identity: who comes in on \"wg0\" is not seen"),
        (
            "groups = [\"staff\"]",
            "interfaces = [\"lan0\"]",
            "policy.identities[0].interfaces: these are those of the peers",
        ),
        (
            "name = \"wg0\"",
            "name = \"wg0\"\ndhcp = \"ipv4\"",
            "interfaces[0].dhcp: a WireGuard interface has peers",
        ),
        (
            "name = \"wg0\"",
            "name = \"wg0\"\nvlan = { on = \"lan0\", id = 7 }",
            "interfaces[0]: an interface is a VLAN, a bond or WireGuard",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let said = refused(&text.replacen(from, to, 1));
        assert!(said.contains(told), "{told}\n{said}");
    }
    let secret = refused(
        &text.replace(&format!("preshared_key = \"{}\"", KEYS[1]), "preshared_key = \"open sesame\""),
    );
    assert!(
        secret.contains("peers[0].preshared_key: this is no key of WireGuard") && !secret.contains("sesame"),
        "{secret}"
    );
}

#[test]
fn a_bond_and_its_ports_say_each_thing_once() {
    let entry = |text: &str| format!("[[interfaces]]\n{text}\n");
    let bond = entry("name = \"bond0\"\nbond = { ports = [\"eno1\", \"eno2\"] }");
    let port = entry("name = \"eno1\"\nmac = \"52:54:00:aa:bb:02\"");
    load(&seed(&format!("{bond}{port}")), "seed").map(drop).unwrap();
    for (more, told) in [
        ("name = \"eno2\"\ndhcp = \"both\"", "it is a port of bond0, which has the rest"),
        ("name = \"eno2\"\nmtu = 9000", "it is a port of bond0, which has the rest"),
        ("name = \"bond1\"\nbond = { ports = [\"eno2\"] }", "\"eno2\" is a port of two bonds"),
        ("name = \"eno2.7\"\nvlan = { on = \"eno2\", id = 7 }", "on a port of bond0: put it on bond0"),
        ("name = \"x.7\"\nvlan = { on = \"x\", id = 7 }", "on \"x\", which is none of the interfaces"),
        (
            "name = \"bond1\"\nmac = \"52:54:00:aa:bb:03\"\nbond = { ports = [\"eno3\"] }",
            "mac: only a card is found by its hardware address",
        ),
    ] {
        let said = refused(&seed(&format!("{bond}{port}{}", entry(more))));
        assert!(said.contains(told), "{told}\n{said}");
    }
}

#[test]
fn daemons_get_their_files_in_their_own_words() {
    let more = "[firewall]\nopen = [{ protocol = \"vrrp\", from = [\"192.0.2.2\"] }, { protocol = \"ospf\" }]\n\
                [routing]\nkeepalived = \"vrrp_instance a {}\"\nfrr = \"router bgp 65010\"\nfrr_daemons = [\"bgpd\", \"ospf6d\"]\n";
    let read = load(&seed(more), "seed").unwrap();
    let files = read.host_files(&BTreeMap::new());
    let keepalived =
        files.iter().find(|file| file.path == "/run/portreeve/keepalived/keepalived.conf").unwrap();
    assert_eq!((keepalived.mode, keepalived.text.as_str()), (0o600, "vrrp_instance a {}"));
    assert_eq!(text_of(&files, "/run/portreeve/frr/frr.conf"), "router bgp 65010");
    let daemons = text_of(&files, "/run/portreeve/frr/daemons");
    for line in ["staticd=yes", "bgpd=yes", "bgpd_options=\"-A 127.0.0.1\"", "ospf6d_options=\"-A ::1\""] {
        assert!(daemons.lines().any(|same| same == line), "{line}\n{daemons}");
    }
    assert!(read.has_frr() && !daemons.contains("ospfd="), "{daemons}");
    let rules = text_of(&files, "/run/portreeve/nftables/seed.nft");
    for rule in ["open ip saddr 192.0.2.2/32 meta l4proto 112 accept\n", "open meta l4proto 89 accept\n"] {
        assert!(rules.contains(rule), "{rule}\n{rules}");
    }
    let none = load(&seed(""), "seed").unwrap();
    assert!(!none.has_frr());
    let files = none.host_files(&BTreeMap::new());
    assert!(!files.iter().any(|file| file.path.contains("keepalived") || file.path.contains("frr")));
    for (more, told) in [
        ("[routing]\nfrr_daemons = [\"bgpd\"]", "frr_daemons[0]: give them a configuration"),
        ("[routing]\nfrr = \"\"\nfrr_daemons = [\"bgp\"]", "frr_daemons[0]: "),
        (
            "[firewall]\nopen = [{ protocol = \"vrrp\", port = 7 }]",
            "open[0].port: this protocol has no ports",
        ),
        ("[firewall]\nopen = [{ protocol = \"udp\" }]", "open[0].port: this key is missing"),
    ] {
        let said = refused(&seed(&format!("{more}\n")));
        assert!(said.contains(told), "{told}\n{said}");
    }
}

#[test]
fn every_example_is_a_seed() {
    for (name, text) in [
        ("seed.toml", include_str!("../../../../../appliance-image/examples/seed.toml")),
        ("seed-vlans.toml", include_str!("../../../../../appliance-image/examples/seed-vlans.toml")),
        ("seed-wireguard.toml", include_str!("../../../../../appliance-image/examples/seed-wireguard.toml")),
        ("seed-pair.toml", include_str!("../../../../../appliance-image/examples/seed-pair.toml")),
    ] {
        assert!(text.starts_with(MARK), "{name}");
        load(text, name).map(drop).unwrap();
    }
}
