//! Cases that must look the same with and without the gateway.
//!
//! A case is one function from a testbed to what a user observes. It runs on both routes: the
//! observations must be equal, and must have the expected texts where those are known.

mod channel_limits;
mod commands;
mod defects;
mod endings;
mod files;
mod forwards;
mod other_clients;
mod programs;
mod raw_messages;
mod shared_connection;
mod terminals;
mod transport;
mod volume;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use portreeve_tests::{Route, Testbed};

use crate::beds::Beds;
use crate::observation::Observation;

/// One case.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    run: fn(&Testbed) -> Result<Observation>,
    /// Labels and the texts that must have been observed.
    expected: &'static [(&'static str, &'static str)],
}

impl Case {
    const fn new(name: &'static str, run: fn(&Testbed) -> Result<Observation>) -> Self {
        Self { name, run, expected: &[] }
    }

    const fn expecting(self, expected: &'static [(&'static str, &'static str)]) -> Self {
        Self { expected, ..self }
    }

    fn observe(&self, bed: &Testbed) -> Result<Observation> {
        let seen = (self.run)(bed).with_context(|| format!("on the {} route", bed.route().as_str()))?;
        for (label, text) in self.expected {
            ensure!(
                seen.text(label) == Some(text),
                "{label} on the {} route: expected {text:?}, observed {:?}",
                bed.route().as_str(),
                seen.text(label)
            );
        }
        Ok(seen)
    }

    fn compare(&self, beds: &Beds) -> Result<()> {
        let direct = self.observe(beds.shared(Route::Direct)?)?;
        let intercepted = self.observe(beds.shared(Route::Intercepted)?)?;
        let difference = direct.difference(&intercepted, ("direct", "intercepted"));
        ensure!(difference.is_none(), "the gateway shows:\n{}", difference.unwrap_or_default());
        Ok(())
    }
}

/// Two trials for each case: `transparency::NAME` compares both routes, `direct::NAME` (left out
/// unless asked for by name) runs the direct one alone.
pub(crate) fn trials(beds: &Arc<Beds>) -> Vec<Trial> {
    let groups = [
        commands::CASES,
        terminals::CASES,
        files::CASES,
        forwards::CASES,
        shared_connection::CASES,
        transport::CASES,
        endings::CASES,
        programs::CASES,
        other_clients::CASES,
        raw_messages::CASES,
        channel_limits::CASES,
        volume::CASES,
        defects::CASES,
    ];
    let direct_alone = std::env::args().any(|argument| argument.starts_with("direct"));
    groups.into_iter().flatten().map(|case| trial(*case, Arc::clone(beds), direct_alone)).collect()
}

fn trial(case: Case, beds: Arc<Beds>, direct_alone: bool) -> Trial {
    let failed = |error: anyhow::Error| libtest_mimic::Failed::from(format!("{error:#}"));
    if direct_alone {
        let run = move || beds.shared(Route::Direct).and_then(|bed| case.observe(bed)).map(drop);
        return Trial::test(format!("direct::{}", case.name), move || run().map_err(failed));
    }
    Trial::test(format!("transparency::{}", case.name), move || case.compare(&beds).map_err(failed))
}
