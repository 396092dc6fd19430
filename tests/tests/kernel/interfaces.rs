//! Interfaces that are removed and made anew, with and without a gateway that runs.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};

use crate::gateway::TABLE;
use crate::network::{APPLY, Network, PATIENCE, TARGETS, wait_for};
use crate::steering::{BOTH, status};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("interface_made_anew_without_gateway_is_attached_by_the_next", without_gateway_is_attached_by_the_next),
    ("interface_made_anew_is_attached_at_once", made_anew_is_attached_at_once),
    ("interface_made_anew_is_attached_at_once_by_clsact", made_anew_is_attached_at_once_by_clsact),
    ("interface_made_anew_many_times_is_attached_each_time", many_times_is_attached_each_time),
    ("interface_whose_filter_is_deleted_is_attached_again", whose_filter_is_deleted_is_attached_again),
    ("interface_that_is_renamed_counts_as_gone", that_is_renamed_counts_as_gone),
    ("interface_is_not_attached_again_after_detach", is_not_attached_again_after_detach),
];

fn without_gateway_is_attached_by_the_next() -> Outcome {
    let network = Network::new();
    let mut gateway = network.gateway(BOTH, "tcx")?;
    gateway.command(APPLY)?;
    gateway.kill();
    network.ip("g", "link del lan.10");
    network.link_client();
    let found = status(&network).unwrap();
    assert_eq!((found.interfaces, found.not_attached), (vec!["wan0".to_owned()], vec!["lan.10".to_owned()]));
    let _gateway = network.gateway(BOTH, "tcx")?;
    network.assert_targets_intercepted();
    assert_eq!(status(&network).unwrap().interfaces, ["lan.10", "wan0"]);
    Ok(())
}

fn made_anew_is_attached_at_once() -> Outcome {
    attaches_what_is_made_anew("tcx", Duration::from_secs(1))
}

fn made_anew_is_attached_at_once_by_clsact() -> Outcome {
    attaches_what_is_made_anew("clsact", Duration::from_secs(1))
}

fn attaches_what_is_made_anew(mode: &str, within: Duration) -> Outcome {
    let network = Network::new();
    let mut gateway = network.gateway(BOTH, mode)?;
    gateway.command(APPLY)?;
    network.assert_targets_intercepted();
    network.ip("g", "link del lan.10");
    let gone = status(&network).unwrap();
    assert_eq!((gone.interfaces, gone.not_attached), (vec!["wan0".to_owned()], vec!["lan.10".to_owned()]));
    let gap = gap_of_the_next(&network);
    network.link_client();
    let gap = gap.recv_timeout(PATIENCE)?;
    println!("{mode}: attached {gap:?} after the interface was there");
    assert!(gap < within, "{gap:?}");
    let there = status(&network).unwrap();
    assert_eq!((there.interfaces.len(), there.not_attached.len()), (2, 0), "{there:?}");
    network.assert_targets_intercepted();
    network.assert_rest_open();
    gateway.kill();
    network.assert_targets_closed();
    Ok(())
}

/// Yields how long the next `lan.10` is there without the program.
fn gap_of_the_next(network: &Network) -> Receiver<Duration> {
    let (sender, receiver) = sync_channel(1);
    let (netns, config) = (network.open_netns("g"), network.config(BOTH));
    thread::spawn(move || {
        setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
        while if_nametoindex("lan.10").is_err() {
            thread::yield_now();
        }
        let there = Instant::now();
        while !portreeve::datapath::status(&config).unwrap().unwrap().not_attached.is_empty() {
            thread::yield_now();
        }
        sender.send(there.elapsed()).unwrap();
    });
    receiver
}

fn many_times_is_attached_each_time() -> Outcome {
    let network = Network::new();
    let mut gateway = network.gateway(BOTH, "tcx")?;
    gateway.command(APPLY)?;
    for round in 0..10 {
        network.ip("g", "link del lan.10");
        // A link of the same index too: the pin of the old one is named like the new one's.
        let index = if round % 2 == 0 { "" } else { "index 777" };
        network.link_client_as(index);
        wait_for(|| status(&network).unwrap().not_attached.is_empty(), "attachment");
        network.assert_targets_intercepted();
    }
    Ok(())
}

/// No event tells of it; the gateway looks by itself every few seconds.
fn whose_filter_is_deleted_is_attached_again() -> Outcome {
    let network = Network::new();
    let mut gateway = network.gateway(BOTH, "clsact")?;
    gateway.command(APPLY)?;
    // The kernel refuses while the gateway asks for the filter.
    let delete = "tc qdisc del dev lan.10 clsact && echo gone || true";
    wait_for(|| network.shell("g", delete) == "gone\n", "deletion");
    wait_for(|| status(&network).unwrap().not_attached.is_empty(), "attachment");
    network.assert_targets_intercepted();
    Ok(())
}

fn that_is_renamed_counts_as_gone() -> Outcome {
    let network = Network::new();
    let mut gateway = network.gateway(BOTH, "tcx")?;
    gateway.command(APPLY)?;
    network.shell("g", "ip link set lan.10 down && ip link set lan.10 name old0");
    wait_for(|| status(&network).unwrap().not_attached == ["lan.10"], "loss of the name");
    network.shell("g", "ip link del old0");
    network.link_client();
    wait_for(|| status(&network).unwrap().not_attached.is_empty(), "attachment");
    network.assert_targets_intercepted();
    Ok(())
}

fn is_not_attached_again_after_detach() -> Outcome {
    let network = Network::new();
    for mode in ["tcx", "clsact"] {
        let mut gateway = network.gateway(BOTH, mode)?;
        gateway.command(APPLY)?;
        assert!(network.detach());
        network.ip("g", "link del lan.10");
        network.link_client();
        let open = || network.greeting(TARGETS[0], 22).is_ok_and(|greeting| greeting == "server");
        wait_for(open, "way past the gateway");
        assert_eq!(status(&network), None);
        gateway.stop();
        assert!(!network.ip("g", "rule show").contains(&TABLE.to_string()), "the rule is gone");
    }
    Ok(())
}
