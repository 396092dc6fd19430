//! What the kernel programs log, forwarded to tracing.
//!
//! Exists only when the configuration switches it on: otherwise the programs are loaded without
//! their logging code. Records that come faster than they are read are lost, never waited for.

use std::time::Duration;

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tokio::time::{MissedTickBehavior, interval};

use super::DatapathError;

const READ_EVERY: Duration = Duration::from_millis(50);

/// Reader of the ring buffer that the kernel programs log to.
pub struct KernelLog {
    ring: EbpfLogger<ToTracing>,
}

impl KernelLog {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let ring = EbpfLogger::init_with_logger(ebpf, ToTracing)
            .map_err(|source| DatapathError::KernelLog(Box::new(source)))?;
        Ok(Self { ring })
    }

    /// Forwards records for ever; dropping the future ends it.
    pub async fn run(mut self) {
        let mut ticks = interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.ring.flush();
        }
    }
}

struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        tracing::enabled!(target: "portreeve::kernel", tracing::Level::DEBUG)
    }

    fn log(&self, record: &Record<'_>) {
        tracing::debug!(target: "portreeve::kernel", "{}", record.args());
    }

    fn flush(&self) {}
}
