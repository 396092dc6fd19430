//! What lies below sessions: rekeying, compression, ciphers, keep-alives, many connections.

use std::thread;

use anyhow::{Result, bail};
use portreeve_tests::{Finished, Testbed};

use super::Case;
use crate::observation::Observation;
use crate::ssh::{TARGET, noise, sha256, ssh, ssh_with};

const SAME: &[(&str, &str)] = &[("status", "exit 0"), ("stderr", ""), ("equal", "true")];

pub(super) const CASES: &[Case] = &[
    Case::new("rekey_while_uploading", |bed| up(bed, &["-o", "RekeyLimit=256K"])).expecting(SAME),
    Case::new("rekey_while_downloading", |bed| down(bed, "rekey_down", &["-o", "RekeyLimit=256K"]))
        .expecting(SAME),
    Case::new("rekey_by_time", rekey_by_time).expecting(&[("stdout", "1\n2\n3\n"), ("status", "exit 0")]),
    Case::new("compressed_upload", |bed| up(bed, &["-C"])).expecting(SAME),
    Case::new("compressed_download", |bed| down(bed, "compressed_down", &["-C"])).expecting(SAME),
    Case::new("every_cipher", every_cipher),
    Case::new("every_key_exchange", every_key_exchange),
    Case::new("keep_alives_are_answered", keep_alives)
        .expecting(&[("status", "exit 0"), ("stdout", "alive\n")]),
    Case::new("ten_connections_at_once", ten_at_once).expecting(&[("status", "0 1 2 3 4 5 6 7 8 9")]),
    Case::new("thirty_connections_in_a_row", in_a_row).expecting(&[("status", "30 x exit 3")]),
];

fn up(bed: &Testbed, options: &[&str]) -> Result<Observation> {
    let bytes = noise(3_000_000);
    let args: Vec<&str> = options.iter().copied().chain([TARGET, "sha256sum"]).collect();
    let finished = ssh_with(bed, &args, &bytes)?;
    let equal = finished.out().starts_with(&sha256(&bytes)?);
    Ok(Observation::of(&finished).with("equal", equal.to_string()))
}

fn down(bed: &Testbed, case: &str, options: &[&str]) -> Result<Observation> {
    let bytes = noise(3_000_000);
    std::fs::write(bed.server().home("alice").join(case), &bytes)?;
    let command = format!("cat {case}");
    let args: Vec<&str> = options.iter().copied().chain([TARGET, &command]).collect();
    let finished = ssh(bed, &args)?;
    Ok(Observation::new()
        .with("status", finished.ending())
        .with("stderr", finished.err())
        .with("equal", (finished.stdout == bytes).to_string()))
}

fn rekey_by_time(bed: &Testbed) -> Result<Observation> {
    let script = "for i in 1 2 3; do echo $i; sleep 1; done";
    Ok(Observation::of(&ssh(bed, &["-o", "RekeyLimit=default 1", TARGET, script])?))
}

/// Those that an OpenSSH client offers by itself.
fn every_cipher(bed: &Testbed) -> Result<Observation> {
    let mut seen = Observation::new();
    for cipher in [
        "chacha20-poly1305@openssh.com",
        "aes128-ctr",
        "aes192-ctr",
        "aes256-ctr",
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
    ] {
        seen = seen.and(cipher, Observation::of(&ssh(bed, &["-c", cipher, TARGET, "seq 20000"])?));
    }
    Ok(seen)
}

fn every_key_exchange(bed: &Testbed) -> Result<Observation> {
    let mut seen = Observation::new();
    for exchange in ["curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256"] {
        let option = format!("KexAlgorithms={exchange}");
        seen = seen.and(exchange, Observation::of(&ssh(bed, &["-o", &option, TARGET, "true"])?));
    }
    Ok(seen)
}

fn keep_alives(bed: &Testbed) -> Result<Observation> {
    let alive = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1"];
    let args: Vec<&str> = alive.into_iter().chain([TARGET, "sleep 3.5; echo alive"]).collect();
    Ok(Observation::of(&ssh(bed, &args)?))
}

fn ten_at_once(bed: &Testbed) -> Result<Observation> {
    let finished: Vec<Result<Finished>> = thread::scope(|scope| {
        let one = |number: u32| scope.spawn(move || ssh(bed, &[TARGET, &format!("exit {number}")]));
        let all: Vec<_> = (0..10).map(one).collect();
        all.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("a connection panicked"))).collect()
    });
    let mut codes = Vec::new();
    for one in finished {
        codes.push(one?.status.code().map_or_else(|| "none".to_owned(), |code| code.to_string()));
    }
    Ok(Observation::new().with("status", codes.join(" ")))
}

fn in_a_row(bed: &Testbed) -> Result<Observation> {
    let mut right = 0;
    for _ in 0..30 {
        right += u32::from(ssh(bed, &[TARGET, "exit 3"])?.ending() == "exit 3");
    }
    Ok(Observation::new().with("status", format!("{right} x exit 3")))
}
