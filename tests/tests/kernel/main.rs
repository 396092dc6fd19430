//! Tests of the kernel programs and of the datapath that loads them; root only.
//!
//! `verdicts` runs single frames through the TC program by `BPF_PROG_TEST_RUN`; `steering` sends
//! real traffic through network namespaces of its own, `interfaces` makes
//! interfaces anew, `tags` sends raw frames, `bare` packets without frames, `verifier` asks what loading takes, and `fast_path` compares with
//! plain forwarding. Without root, or without the object file that `cargo xtask build` makes, every test fails and says why.
//!
//! The steering tests need a gateway process that they can kill: this program again, in the role
//! of [`gateway`].
//!
//! In a virtual machine, where `portreeve-vm-tests` runs this program on other kernels, [`IN_MACHINES`] are run, since
//! all takes long where every instruction is emulated; with `PORTREEVE_VIRTUAL_MACHINE=all` all of them. [`devices`] are
//! run there only.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test program: a step that fails is a test that fails"
)]

mod bare;
mod cards;
mod devices;
mod fast_path;
mod frames;
mod gateway;
mod interfaces;
mod network;
mod paths;
mod rules;
mod steering;
mod tags;
mod verdicts;
mod verifier;

use std::process::ExitCode;
use std::{env, thread};

use libtest_mimic::{Arguments, Failed, Trial};

/// What a test returns.
type Outcome = Result<(), Failed>;

/// Name and function of a test.
type Test = (&'static str, fn() -> Outcome);

/// What may end otherwise on another kernel: verifier, helpers, ways to attach, sockets, the stack around them. Each once,
/// since most of the time is the emulated verifier's, which sees all programs whenever a gateway starts.
const IN_MACHINES: &[&str] = &[
    "verdict_any_bytes_have_one_outcome",
    "verifier_has_little_to_follow",
    "steering_reaches_listener_with_original_destination",
    "steering_lets_packets_pass_whose_sums_are_left_to_devices",
    "steering_by_clsact_survives_restart",
    "kernel_log_names_steered_and_dropped_packets",
    "killed_gateway_leaves_targets_closed_and_rest_open",
    "restart_on_pins_keeps_targets_and_counters",
    "reconnect_in_time_wait_is_answered_at_once",
    "host_that_cannot_steer_is_told_what_to_do",
    "interface_made_anew_many_times_is_attached_each_time",
    "tags_of_vid_0_hide_no_target",
    "fast_path_treats_frames_as_the_stack_does",
    "vlan_device_leads_to_the_gateway",
    "vlan_devices_on_vlan_devices_lead_to_the_gateway",
    "vlan_devices_lead_to_the_gateway_by_clsact",
    "vlan_device_is_asked_for_its_sources",
    "vlan_devices_take_part_in_the_generic_fast_path",
    "packets_without_frames_are_steered",
    "packets_without_frames_are_steered_by_clsact",
    "wireguard_packets_without_frames_are_steered",
    "network_cards_steer_and_have_a_native_fast_path",
];

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    if args.next().as_deref() == Some(gateway::ROLE) {
        return gateway::run(args);
    }
    let all = verdicts::TESTS
        .iter()
        .chain(steering::TESTS)
        .chain(interfaces::TESTS)
        .chain(tags::TESTS)
        .chain(paths::TESTS)
        .chain(rules::TESTS)
        .chain(bare::TESTS)
        .chain(verifier::TESTS)
        .chain(fast_path::TESTS);
    let machine = env::var("PORTREEVE_VIRTUAL_MACHINE").ok();
    let of_machines = if machine.is_some() { devices::TESTS } else { &[] };
    let is_run =
        |name: &str| machine.as_ref().is_none_or(|which| which == "all" || IN_MACHINES.contains(&name));
    let tests: Vec<&Test> = all.chain(of_machines).filter(|(name, _)| is_run(name)).collect();
    assert!(machine.is_none() || tests.len() >= IN_MACHINES.len(), "a test of machines is not there");
    let trials = tests
        .into_iter()
        .map(|&(name, test)| Trial::test(name, move || ready().and_then(|()| test())))
        .collect();
    let mut arguments = Arguments::from_args();
    // Half of the time is spent in waiting for what must not come.
    arguments.test_threads.get_or_insert_with(|| 2 * thread::available_parallelism().map_or(1, usize::from));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn ready() -> Outcome {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root: run `cargo xtask test kernel` as root".into());
    }
    Ok(())
}
