//! Waiting for something to become true, never for ever and never by a fixed sleep.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const STEP: Duration = Duration::from_millis(5);

/// Asks `probe` until it yields something.
///
/// # Errors
/// The probe's own error at once, or a message that names `what` when `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("{what}: not within {limit:?}");
        }
        thread::sleep(STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yields_what_the_probe_finds_and_names_what_never_came() {
        let mut asked = 0;
        let found = until("three", Duration::from_secs(5), || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(found.unwrap(), 3);
        let error = until::<()>("the moon", Duration::from_millis(1), || Ok(None)).unwrap_err();
        assert!(error.to_string().starts_with("the moon: not within"), "{error}");
    }
}
