//! Memory of the process in the middle for each session that is open and silent.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use portreeve_tests::raw_client::{Message, RawClient};
use portreeve_tests::server::accounts::LOGIN;

use super::bulk::CIPHERS;
use super::process::memory;
use super::report::Report;
use super::routes::{Route, Routes};

/// Buffers that go back when a connection falls silent have gone by then.
const SILENCE: Duration = Duration::from_secs(2);

/// The measure's name for a number of sessions.
pub(super) fn name(sessions: usize) -> String {
    format!("memory per idle session at {sessions}, kB")
}

/// Opens sessions that run `cat`, takes a figure at each of the rising `counts`, and closes them. Meant
/// for a process that has just started: memory that was used before would hide some of the growth.
///
/// # Errors
/// When one cannot be opened.
pub(super) fn measure(routes: &Routes, report: &mut Report, route: Route, counts: &[usize]) -> Result<()> {
    let Some(middle) = routes.middle(route, CIPHERS[0]) else { return Ok(()) };
    // What the first session loads is no session's own.
    drop(idle(routes, route)?);
    thread::sleep(SILENCE);
    let before = memory(middle)?;
    let mut open = Vec::new();
    for &count in counts {
        while open.len() < count {
            let number = open.len();
            let session = idle(routes, route);
            open.push(session.with_context(|| format!("session {number} by way of {}", route.name()))?);
        }
        thread::sleep(SILENCE);
        report.sample(&name(count), route, (memory(middle)? - before) / 1e3 / count as f64);
    }
    Ok(())
}

fn idle(routes: &Routes, route: Route) -> Result<RawClient> {
    let mut client = RawClient::connect_to(routes.bed(route), routes.address(route), LOGIN)?;
    let channel = client.open_session(0, 1 << 21, 1 << 15)?;
    client.send(&Message::request(channel, "exec", true)?.string("echo go; exec cat")?)?;
    client.receive_until("0: data go\\n")?;
    Ok(client)
}
