//! The machine that is measured, and the ways in which it forwards.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use portreeve_tests::run;
use portreeve_tests::server::accounts::LOGIN;
use portreeve_tests::topology::offload;
use portreeve_vm_tests::appliance::Firmware;
use portreeve_vm_tests::bed::Bed;
use portreeve_vm_tests::image::Image;
use portreeve_vm_tests::seed::{CARDS, break_glass};

use super::figures::Measure;

const LIMIT: Duration = Duration::from_secs(60);
const ACCOUNT: &str = "keeper";
const PASSWORD: &str = "measured";

/// Which units the start waited for; the processes with the most memory, in kB (proportional); the kernel's own.
const PARTS: &str = "systemd-analyze time | head -n 1; \
    systemd-analyze critical-chain --no-pager portreeve-ready.service | tail -n +4; \
    for process in /proc/[0-9]*; do \
    echo \"$(sed -n 's/^Pss: *\\([0-9]*\\) kB/\\1/p' $process/smaps_rollup) $(cat $process/comm)\"; \
    done 2>/dev/null | sort -rn | head -n 12; \
    grep -E '^(MemTotal|MemFree|MemAvailable|Cached|Shmem|AnonPages|Slab|SUnreclaim|KernelStack|Percpu|VmallocUsed):' /proc/meminfo";

/// What the machine does with what it forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// The gateway runs, with the fast path in the drivers of both cards.
    FastPath,
    /// The gateway runs.
    Gateway,
    /// No gateway runs and no program is attached.
    Plain,
}

/// The machine, and somebody at its console.
pub(super) struct Router {
    pub(super) bed: Bed,
}

/// Processor time of the machine so far, in its ticks (proc_stat(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Ticks {
    total: f64,
    idle: f64,
    interrupts: f64,
}

impl Way {
    /// In the order in which they are measured.
    pub(super) const ALL: [Self; 3] = [Self::FastPath, Self::Gateway, Self::Plain];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FastPath => "gateway, fast path",
            Self::Gateway => "gateway",
            Self::Plain => "plain router",
        }
    }
}

impl Router {
    /// Boots an image; returns how long it took until the gateway served.
    ///
    /// # Errors
    /// Why it does not serve.
    pub(super) fn start(image: &Image) -> Result<(Self, Duration)> {
        let firmware = Firmware::Direct { image: image.clone(), more: String::new() };
        let mut bed = Bed::new("bench", firmware, &image.disk(), &seed()?)?;
        let began = Instant::now();
        bed.boot()?;
        let boot = began.elapsed();
        ensure!(bed.appliance()?.log_in(ACCOUNT, PASSWORD)?, "the account is refused");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(bed.dir().join("client/id_ed25519"));
        run(&mut keygen, b"", LIMIT)?.success()?;
        let public = std::fs::read_to_string(bed.dir().join("client/id_ed25519.pub"))?;
        bed.server()?.authorize_key(LOGIN, &public)?;
        Ok((Self { bed }, boot))
    }

    /// Has the machine forward in another way.
    ///
    /// # Errors
    /// When it refuses.
    pub(super) fn turn(&mut self, way: Way) -> Result<()> {
        match way {
            Way::FastPath => {}
            Way::Gateway => {
                self.type_in("sed -i 's/\"native\"/\"off\"/' /etc/portreeve/portreeve.toml")?;
                self.type_in("systemctl restart portreeve@boot")?;
                let said = self.type_in("portreeve ready --wait 50s")?;
                ensure!(said.contains(":tcx:") && !said.contains(":xdp-"), "{said}");
            }
            Way::Plain => {
                self.type_in("systemctl stop portreeve@boot && portreeve datapath detach")?;
            }
        }
        // Frames as they are on a wire: what hosts leave to each other's virtual cards is no work of a router. The card's
        // driver sets this anew when programs come and go.
        let topology = self.bed.topology();
        offload(&[(&topology.client, "eth0", "off"), (&topology.server, "eth0", "off")])
    }

    /// What the start and the memory are made of, for who reads why the figures are as they are.
    ///
    /// # Errors
    /// When the machine does not tell.
    pub(super) fn parts(&mut self) -> Result<String> {
        self.type_in(PARTS)
    }

    /// Bytes that the machine has in use, and those of the gateway if it runs.
    ///
    /// # Errors
    /// When the machine does not tell.
    pub(super) fn memory(&mut self) -> Result<Vec<(Measure, f64)>> {
        let text = self.type_in(
            "cat /proc/meminfo; pid=$(systemctl show --value --property=MainPID portreeve@boot); \
             cat /proc/$pid/smaps_rollup || true",
        )?;
        let sizes = kilobytes(&text);
        let size = |name: &str| sizes.get(name).copied();
        // As free(1): what is free or only kept as long as nobody else wants it is not in use.
        let left =
            ["MemFree", "Buffers", "Cached", "SReclaimable"].map(|name| size(name).unwrap_or_default());
        let in_use = size("MemTotal").context("no memory")? - left.iter().sum::<f64>();
        let mut found = vec![(Measure::Memory, in_use * 1024.0)];
        found.extend(size("Pss").map(|pss| (Measure::GatewayMemory, pss * 1024.0)));
        Ok(found)
    }

    /// Processor time so far.
    ///
    /// # Errors
    /// When the machine does not tell.
    pub(super) fn ticks(&mut self) -> Result<Ticks> {
        let text = self.type_in("grep '^cpu ' /proc/stat")?;
        text.lines().find_map(ticks).with_context(|| text.clone())
    }

    fn type_in(&mut self, line: &str) -> Result<String> {
        self.bed.appliance()?.run(line)?.success().with_context(|| line.to_owned())
    }

    pub(super) fn stop(self) -> Result<()> {
        self.bed.stop()
    }
}

impl Ticks {
    /// Shares of the time since `before`, in percent: busy, and busy in interrupts, where forwarding is.
    pub(super) fn busy_since(self, before: Self) -> (f64, f64) {
        let total = (self.total - before.total).max(1.0);
        let share = |part: f64| 100.0 * part / total;
        (100.0 - share(self.idle - before.idle), share(self.interrupts - before.interrupts))
    }
}

fn seed() -> Result<String> {
    let [(lan, _), (wan, _)] = CARDS;
    Ok(format!(
        "{}[firewall]\ndrop_forwarded_to_targets = false\n\
         [gateway.datapath]\nfast_path = {{ {lan} = \"native\", {wan} = \"native\" }}\n",
        break_glass(ACCOUNT, PASSWORD)?
    ))
}

/// Lines as `Name:  12 kB`.
fn kilobytes(text: &str) -> BTreeMap<&str, f64> {
    text.lines()
        .filter_map(|line| {
            let (name, size) = line.split_once(':')?;
            Some((name, size.trim().strip_suffix(" kB")?.parse().ok()?))
        })
        .collect()
}

/// The line of all processors: user, nice, system, idle, waiting, interrupts, soft interrupts, and more.
fn ticks(line: &str) -> Option<Ticks> {
    let numbers: Vec<f64> =
        line.strip_prefix("cpu ")?.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [_, _, _, idle, waiting, hard, soft, ..] = numbers.as_slice() else { return None };
    Some(Ticks { total: numbers.iter().sum(), idle: idle + waiting, interrupts: hard + soft })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_time_between() {
        let before = ticks("cpu  10 0 10 100 0 0 10 0 0 0").unwrap();
        let after = ticks("cpu  20 0 20 140 10 10 40 0 0 0").unwrap();
        assert_eq!(after.busy_since(before), (100.0 - 5000.0 / 110.0, 4000.0 / 110.0));
        assert_eq!((ticks("cpu0 1 2 3 4 5 6 7"), ticks("cpu  1 2 3")), (None, None));
    }

    #[test]
    fn sizes_are_found_by_name() {
        let sizes =
            kilobytes("MemTotal:  1000 kB\n55 ---p 0 00:00 0 [rollup]\nPss:  812 kB\nPss_Dirty: 7 kB\n");
        assert_eq!(sizes, BTreeMap::from([("MemTotal", 1000.0), ("Pss", 812.0), ("Pss_Dirty", 7.0)]));
    }
}
