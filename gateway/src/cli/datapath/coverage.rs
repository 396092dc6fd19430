//! `portreeve datapath coverage`: flows seen = proxied + denied + dropped, with the terms.

use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::{ConfigArg, print};
use super::account::Account;
use crate::datapath::{self, Coverage, Part};

/// Exit status of an account that does not balance.
const UNBALANCED: u8 = 4;

/// Arguments of `portreeve datapath coverage`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The kernel's equation is exact: each frame for a target that was seen is steered, denied or dropped. Where
[metrics] listen is configured and a gateway answers, its connections are held against the SYNs that it was given
and what its policies blocked. There cannot be more connections than these. There may be fewer: attempts whose
handshake was never completed, SYNs sent again to a full queue, log-ins that go on, and what an earlier or a
draining gateway was given. --slack says how many of those are believed.
Exit status 4 means that it does not balance.")]
pub(in crate::cli) struct CoverageArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// At most so many attempts may be without a connection
    #[arg(long, value_name = "N")]
    slack: Option<u64>,
}

#[derive(Serialize)]
struct Report {
    balances: bool,
    kernel: Kernel,
    /// Absent: no metrics are configured, or no gateway answers.
    gateway: Option<Gateway>,
}

#[derive(Serialize)]
struct Kernel {
    balances: bool,
    /// Before and after the terms were read.
    seen: (u64, u64),
    connection: Map<String, Value>,
    proxied: Map<String, Value>,
    denied: Map<String, Value>,
    dropped: Map<String, Value>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Gateway {
    balances: bool,
    attempts: u64,
    blocked_in_kernel: u64,
    connections: u64,
    active: u64,
    outcomes: Map<String, Value>,
    /// Attempts and blocked frames without a connection; below 0, connections without either.
    without_connection: i128,
    slack: Option<u64>,
}

impl CoverageArgs {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let config = self.config.load()?;
        // First: what is in it has met the kernel before.
        let account = config.metrics_listen.map(Account::ask).transpose()?.flatten();
        let coverage =
            datapath::coverage(&config.datapath)?.context("nothing is attached: targets are open")?;
        let gateway = account.map(|account| Gateway::new(&account, &coverage, self.slack));
        let kernel = Kernel::new(&coverage);
        let balances = kernel.balances && gateway.as_ref().is_none_or(|gateway| gateway.balances);
        let report = Report { balances, kernel, gateway };
        if json {
            print::json(&report)?;
        } else {
            print::line(&report.text(&coverage))?;
        }
        Ok(if balances { ExitCode::SUCCESS } else { ExitCode::from(UNBALANCED) })
    }
}

impl Kernel {
    fn new(coverage: &Coverage) -> Self {
        let terms = |part: Part| {
            let of_part = coverage.terms.iter().filter(|(other, ..)| *other == part);
            of_part.map(|(_, reason, frames)| ((*reason).to_owned(), (*frames).into())).collect()
        };
        Self {
            balances: coverage.balances(),
            seen: coverage.seen,
            connection: terms(Part::Connection),
            proxied: terms(Part::Proxied),
            denied: terms(Part::Denied),
            dropped: terms(Part::Dropped),
        }
    }
}

impl Gateway {
    fn new(account: &Account, coverage: &Coverage, slack: Option<u64>) -> Self {
        let connections = account.connections();
        let known = i128::from(coverage.attempts) + i128::from(coverage.blocked);
        let without = known - i128::from(connections);
        Self {
            balances: without >= 0 && slack.is_none_or(|slack| without <= i128::from(slack)),
            attempts: coverage.attempts,
            blocked_in_kernel: coverage.blocked,
            connections,
            active: account.active,
            outcomes: account.ended.iter().map(|(name, count)| (name.clone(), (*count).into())).collect(),
            without_connection: without,
            slack,
        }
    }

    fn text(&self) -> String {
        let Self { attempts, blocked_in_kernel, connections, active, without_connection, .. } = self;
        let slack = match self.slack {
            Some(slack) => format!("at most {slack} may be"),
            None => "any number may be".to_owned(),
        };
        format!(
            "gateway: {attempts} attempts + {blocked_in_kernel} blocked by policy\n\
             \x20 = {connections} connections ({}active {active})\n\
             \x20 + {without_connection} without a connection ({slack}): {}",
            self.outcomes.iter().map(|(name, count)| format!("{name} {count}, ")).collect::<String>(),
            verdict(self.balances)
        )
    }
}

impl Report {
    fn text(&self, coverage: &Coverage) -> String {
        let Kernel { seen: (before, after), .. } = self.kernel;
        let seen = if before == after { before.to_string() } else { format!("{before} to {after}") };
        let part = |part, name, terms: &Map<String, Value>| {
            let terms: Vec<_> = terms
                .iter()
                .filter(|(_, frames)| frames.as_u64() != Some(0))
                .map(|(reason, frames)| format!("{reason} {frames}"))
                .collect();
            let terms = if terms.is_empty() { String::new() } else { format!(" ({})", terms.join(", ")) };
            format!("{} {name}{terms}", coverage.sum(part))
        };
        let kernel = format!(
            "kernel: {seen} frames for targets\n  = {}\n  + {}\n  + {}\n  + {}: {}",
            part(Part::Connection, "of connections", &self.kernel.connection),
            part(Part::Proxied, "first ones proxied", &self.kernel.proxied),
            part(Part::Denied, "denied", &self.kernel.denied),
            part(Part::Dropped, "dropped", &self.kernel.dropped),
            verdict(self.kernel.balances)
        );
        let gateway = match &self.gateway {
            Some(gateway) => gateway.text(),
            None => "gateway: no metrics are configured, or no gateway answers".to_owned(),
        };
        format!("{kernel}\n{gateway}")
    }
}

const fn verdict(balances: bool) -> &'static str {
    if balances { "balances" } else { "DOES NOT BALANCE" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_held_against_what_the_kernel_let_in() {
        let ended = [("closed".to_owned(), 5), ("blocked".to_owned(), 2)].into();
        let account = Account { ended, active: 1 };
        for (attempts, slack, without, balances) in [
            (7, None, 1, true),
            (7, Some(1), 1, true),
            (7, Some(0), 1, false),
            (6, Some(0), 0, true),
            (5, None, -1, false),
        ] {
            let coverage = Coverage { seen: (9, 9), terms: Vec::new(), attempts, blocked: 2 };
            let gateway = Gateway::new(&account, &coverage, slack);
            assert_eq!((gateway.without_connection, gateway.balances), (without, balances), "{gateway:?}");
        }
    }

    #[test]
    fn people_read_both_equations_with_their_terms() {
        let terms = vec![
            (Part::Connection, "steered_established", 4),
            (Part::Proxied, "steered_new", 2),
            (Part::Proxied, "steered_time_wait", 0),
            (Part::Dropped, "dropped_fragment", 1),
        ];
        let coverage = Coverage { seen: (7, 8), terms, attempts: 2, blocked: 0 };
        let account = Account { ended: [("closed".to_owned(), 1)].into(), active: 0 };
        let (kernel, gateway) = (Kernel::new(&coverage), Gateway::new(&account, &coverage, Some(0)));
        let report = Report { balances: false, kernel, gateway: Some(gateway) };
        assert_eq!(
            report.text(&coverage),
            "kernel: 7 to 8 frames for targets\n  = 4 of connections (steered_established 4)\n  \
             + 2 first ones proxied (steered_new 2)\n  + 0 denied\n  \
             + 1 dropped (dropped_fragment 1): balances\n\
             gateway: 2 attempts + 0 blocked by policy\n  = 1 connections (closed 1, active 0)\n  \
             + 1 without a connection (at most 0 may be): DOES NOT BALANCE"
        );
    }
}
