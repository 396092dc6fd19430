//! SIGINT, SIGTERM and SIGHUP of a program that owns testbeds.

use std::future::poll_fn;
use std::task::Poll;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

const WATCHED: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Calls `on_signal`, on a thread of its own, at the first signal that asks the program to end.
/// The default action (to die at once) is off from now on; later signals are ignored.
///
/// # Errors
/// When the signals cannot be caught.
pub fn watch(on_signal: impl FnOnce(Signal) + Send + 'static) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("signals")?;
    let mut streams = Vec::new();
    {
        let _inside = runtime.enter();
        for kind in WATCHED {
            streams.push((kind, signal(SignalKind::from_raw(kind as i32)).context("signals")?));
        }
    }
    thread::spawn(move || {
        let first = runtime.block_on(poll_fn(|context| {
            for (kind, stream) in &mut streams {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*kind);
                }
            }
            Poll::Pending
        }));
        on_signal(first);
    });
    Ok(())
}
