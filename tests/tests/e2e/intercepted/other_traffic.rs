//! What is no target passes untouched.

use anyhow::{Result, ensure};
use portreeve_tests::Route;
use portreeve_tests::deadline::until;
use portreeve_tests::topology::{ECHO_PORT, OPEN4, OPEN6, SSH_PORT, TARGET4, TARGET6, at};

use super::{Check, SOON, first_line};
use crate::beds::Beds;
use crate::ssh::{converse, noise};

pub(super) const CHECKS: &[Check] = &[
    Check::new("ssh_to_what_is_no_target_reaches_the_server", banners),
    Check::new("other_ports_of_a_target_pass", other_ports),
    Check::new("bulk_to_what_is_no_target_passes", bulk),
];

fn banners(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    for address in [at(OPEN4, SSH_PORT), at(OPEN6, SSH_PORT)] {
        let line = first_line(bed, address)?;
        let log = || bed.server().log().unwrap_or_default();
        ensure!(line.starts_with("SSH-2.0-OpenSSH"), "{address} answers {line:?}; sshd says {}", log());
    }
    // Targets are known by their own line, and every connection to them is in the access log.
    for address in [at(TARGET4, SSH_PORT), at(TARGET6, SSH_PORT)] {
        let line = first_line(bed, address)?;
        ensure!(line.starts_with("SSH-2.0-OpenSSH"), "{address} answers {line:?}");
        until("the access event", SOON, || {
            let log = bed.gateway()?.access_log()?;
            Ok(log.iter().any(|event| event["target"] == address.to_string()).then_some(()))
        })?;
    }
    Ok(())
}

fn other_ports(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    for address in [at(TARGET4, ECHO_PORT), at(TARGET6, ECHO_PORT)] {
        let answer = converse(bed.client_netns().connect(address)?, b"ping")?;
        ensure!(answer == b"ping", "{address} answers {answer:?}");
    }
    Ok(())
}

fn bulk(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let bytes = noise(10_000_000);
    for address in [at(OPEN4, ECHO_PORT), at(OPEN6, ECHO_PORT)] {
        let answer = converse(bed.client_netns().connect(address)?, &bytes)?;
        ensure!(answer == bytes, "{address} changed the bytes");
    }
    Ok(())
}
