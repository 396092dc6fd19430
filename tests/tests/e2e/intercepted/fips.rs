//! A gateway that is a FIPS build; run by `cargo xtask test fips` alone.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::template::POLICY;
use portreeve_tests::topology::TARGET4;
use portreeve_tests::{Options, Route, Testbed};

use super::audit::{ensure_accepted, offered, read_report, ssh_audit};
use super::bad_input::{ensure_error, portreeve};
use super::{Check, SOON, ensure_refused, metric, sample};
use crate::beds::Beds;
use crate::ssh::{TARGET, noise, ssh, ssh_with};

pub(super) const CHECKS: &[Check] = &[
    Check::new("fips_build_says_that_it_is_one", says_so),
    Check::new("fips_build_offers_users_what_is_approved_alone", offers),
    Check::new("fips_build_serves_clients_that_have_something_approved_alone", clients),
    Check::new("fips_build_reaches_targets_that_have_something_approved_alone", targets),
    Check::new("fips_build_refuses_a_policy_with_a_legacy_target", legacy),
];

const LEGACY: &str = "legacy is not possible in a FIPS build";

fn says_so(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let version = portreeve(bed, &["--version"])?.success()?;
    ensure!(version.trim_end().ends_with("(FIPS build)"), "{version}");
    let log = bed.gateway()?.log()?;
    ensure!(log.lines().any(|line| line.contains("starting") && line.contains("fips=true")), "{log}");
    Ok(())
}

fn offers(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let names = [
        "aes128-ctr",
        "aes128-gcm@openssh.com",
        "aes192-ctr",
        "aes256-ctr",
        "aes256-gcm@openssh.com",
        "ecdh-sha2-nistp256",
        "ecdh-sha2-nistp384",
        "ecdh-sha2-nistp521",
        "ecdsa-sha2-nistp256",
        "ext-info-s",
        "hmac-sha2-256",
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-512",
        "hmac-sha2-512-etm@openssh.com",
        "kex-strict-s-v00@openssh.com",
        "ssh-ed25519",
    ];
    let offered = offered(bed)?;
    ensure!(offered == names, "{offered:?}");
    let report = ssh_audit(bed, &["-n", &TARGET4.to_string()])?.out();
    let (seen, findings) = read_report(&report);
    ensure!(seen.contains("ecdh-sha2-nistp256"), "{report}");
    let names = BTreeSet::from(names);
    ensure!(seen.is_subset(&names), "{report}");
    ensure_accepted(&findings)
}

fn clients(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let by_default = ssh(bed, &["-v", TARGET, "echo served"])?;
    ensure!(by_default.status.success() && by_default.out() == "served\n", "{}", by_default.err());
    for agreed in ["kex: algorithm: ecdh-sha2-nistp256", "cipher: aes128-gcm@openssh.com"] {
        ensure!(by_default.err().contains(agreed), "{}", by_default.err());
    }
    let input = noise(4 << 20);
    for options in [
        &["-c", "aes256-gcm@openssh.com", "-o", "RekeyLimit=1M"][..],
        &["-c", "aes192-ctr", "-m", "hmac-sha2-512"],
        &[
            "-c",
            "aes256-ctr",
            "-m",
            "hmac-sha2-256-etm@openssh.com",
            "-o",
            "KexAlgorithms=ecdh-sha2-nistp521",
        ],
    ] {
        let echoed = ssh_with(bed, &[options, &[TARGET, "cat"]].concat(), &input)?;
        ensure!(echoed.status.success() && echoed.stdout == input, "{options:?}: {}", echoed.err());
    }
    for options in [
        &["-c", "chacha20-poly1305@openssh.com"][..],
        &["-o", "KexAlgorithms=curve25519-sha256"],
        &["-o", "KexAlgorithms=diffie-hellman-group14-sha256"],
    ] {
        let args = [options, &[TARGET, "id"]].concat();
        ensure_refused(&ssh(bed, &args)?, &["no matching"])?;
    }
    Ok(())
}

fn targets(_: &Beds) -> Result<()> {
    for (line, missing) in [
        ("KexAlgorithms curve25519-sha256,diffie-hellman-group16-sha512", Some("key exchange method")),
        ("KexAlgorithms diffie-hellman-group14-sha1", Some("key exchange method")),
        ("Ciphers chacha20-poly1305@openssh.com", Some("cipher")),
        ("KexAlgorithms ecdh-sha2-nistp384\nCiphers aes256-ctr\nMACs hmac-sha2-256", None),
    ] {
        let options = Options { sshd_config: Some(format!("{line}\n")), ..Options::default() };
        let bed = Testbed::start(Route::Intercepted, &options)?;
        let finished = ssh(&bed, &[TARGET, "true"])?;
        match missing {
            None => drop(finished.success()?),
            Some(missing) => {
                ensure_refused(&finished, &[&format!("no {missing}"), "in common"])?;
                ensure!(
                    !finished.err().contains("legacy"),
                    "what is not possible is advised: {}",
                    finished.err()
                );
            }
        }
        bed.stop()?;
    }
    Ok(())
}

fn legacy(_: &Beds) -> Result<()> {
    let bed = Testbed::start(Route::Intercepted, &Options::default())?;
    let gateway = bed.gateway()?;
    let rejected = metric(gateway, sample::RELOADS_REJECTED)?;
    gateway.files().write_policy(&POLICY.replace("[[targets]]\n", "[[targets]]\nlegacy = true\n"))?;
    until("a refused policy", SOON, || {
        Ok((metric(gateway, sample::RELOADS_REJECTED)? > rejected).then_some(()))
    })?;
    ensure!(gateway.log()?.contains(LEGACY), "{}", gateway.log()?);
    ssh(&bed, &[TARGET, "true"])?.success()?;
    let config = gateway.files().config_file().display().to_string();
    ensure_error(&portreeve(&bed, &["check-config", "--config", &config])?, &[LEGACY, "policy.toml"])
}
