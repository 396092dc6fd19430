//! The testbeds that cases share: one for each route, started when the first case needs it.
//!
//! A case that changes its testbed starts one of its own.

use std::sync::OnceLock;

use anyhow::{Result, anyhow};
use portreeve_tests::topology::{TARGET4, TARGET6};
use portreeve_tests::{Options, Route, Testbed};

use crate::ssh::ssh;

/// All cases are one source, of which the gateway lets in as many users as would be behind one address; those that are not let in
/// here would be cases that failed because of others.
const LIMITS: &str = "[limits]\nhandshakes_per_source = 1024\nconnections_per_source = 4096\n";

/// Shared testbeds.
#[derive(Debug, Default)]
pub(crate) struct Beds {
    direct: OnceLock<Result<Testbed, String>>,
    intercepted: OnceLock<Result<Testbed, String>>,
}

impl Beds {
    /// The shared testbed of a route; cases leave it as they found it.
    pub(crate) fn shared(&self, route: Route) -> Result<&Testbed> {
        let slot = match route {
            Route::Direct => &self.direct,
            Route::Intercepted => &self.intercepted,
        };
        let options = || Options { config: Some(LIMITS.to_owned()), ..Options::default() };
        let started = slot.get_or_init(|| start(route, &options()).map_err(|error| format!("{error:#}")));
        started.as_ref().map_err(|error| anyhow!("the {} testbed: {error}", route.as_str()))
    }

    /// Tears down what was started.
    pub(crate) fn stop(self) -> Result<()> {
        let slots = [self.direct, self.intercepted];
        let mut beds = slots.into_iter().filter_map(|mut slot| slot.take()).flatten();
        beds.try_for_each(Testbed::stop)
    }
}

/// A testbed of the intercepted route for one case alone.
pub(crate) fn own(options: &Options) -> Result<Testbed> {
    start(Route::Intercepted, options)
}

/// Starts a testbed whose client knows the target's host keys, so that ssh has nothing to say
/// about them.
pub(crate) fn start(route: Route, options: &Options) -> Result<Testbed> {
    let bed = Testbed::start(route, options)?;
    for address in [TARGET4.to_string(), TARGET6.to_string()] {
        ssh(&bed, &[&format!("alice@{address}"), "true"])?.success()?;
    }
    Ok(bed)
}
