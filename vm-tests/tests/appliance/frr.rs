//! The image with FRR, whose seed has routes for its daemons: what is no target's goes where they say.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::run;
use portreeve_tests::topology::{ECHO_PORT, GATEWAY4, OPEN4, at};
use portreeve_vm_tests::appliance::Firmware;
use portreeve_vm_tests::bed::Bed;
use portreeve_vm_tests::image::Image;
use portreeve_vm_tests::seed::break_glass;

use crate::Case;
use crate::scene::LIMIT;

/// Run when they are asked for: `cargo test ... -- --ignored`.
pub(crate) const ON_DEMAND: &[Case] = &[("follows_routes_of_frr", follows_routes)];

const ACCOUNT: &str = "keeper";
const PASSWORD: &str = "open, says the keeper";
/// Behind the server's host; only FRR knows the way.
const FAR: [u8; 4] = [198, 51, 100, 9];
/// How long one try may wait for an answer.
const TRY: Duration = Duration::from_secs(3);

fn follows_routes() -> Result<()> {
    let image = Image::of_flavour("cloud-frr")?;
    let firmware =
        Firmware::Direct { image: image.clone(), more: "systemd.journald.forward_to_console=1".to_owned() };
    let mut bed = Bed::new("frr", firmware, &image.disk(), &seed()?)?;
    bed.boot()?;
    let far = std::net::Ipv4Addr::from(FAR);
    let topology = bed.topology().clone();
    for (netns, words) in [
        (&topology.server, format!("address add {far}/32 dev lo")),
        (&topology.client, format!("route add {far}/32 via {GATEWAY4}")),
    ] {
        run(netns.command("ip").args(words.split(' ')), b"", LIMIT)?.success()?;
    }
    let reached = || Ok(topology.client.connect_within(at(far, ECHO_PORT), TRY).ok().map(drop));
    until("the host behind FRR's route", LIMIT, reached).with_context(|| "no way")?;
    let appliance = bed.appliance()?;
    ensure!(appliance.log_in(ACCOUNT, PASSWORD)?, "the console lets nobody in");
    for (command, wanted) in [
        ("ip route show 198.51.100.0/24", "proto static"),
        ("vtysh -c 'show ip route 198.51.100.9'", "Known via \"static\""),
        ("vtysh -c 'show bgp summary'", "local AS number 65010"),
        // Its terminal is for this machine alone.
        ("ss --listening --numeric --tcp", "127.0.0.1:2605"),
    ] {
        let told = appliance.run(command)?.success().with_context(|| command.to_owned())?;
        ensure!(told.contains(wanted), "{command}: {told}");
    }
    let session = run(bed.client_ssh("ssh").args(["-q", "alice@10.1.2.3", "echo served"]), b"", LIMIT)?;
    ensure!(session.success()? == "served\n", "no session");
    bed.stop()
}

fn seed() -> Result<String> {
    Ok(format!(
        "{}[routing]\nfrr_daemons = [\"bgpd\"]\n\
         frr = \"\"\"\nip route 198.51.100.0/24 {OPEN4}\n!\nrouter bgp 65010\n bgp router-id 10.1.1.1\n neighbor 10.1.2.4 remote-as 65020\n\"\"\"\n",
        break_glass(ACCOUNT, PASSWORD)?
    ))
}
