//! The clock of a node: how long it has been running, which nobody sets.

use exactlog::Clock;
use std::time::{Duration, Instant};

/// It is ahead by what its log's clock was let go on, so that both are as much ahead.
#[derive(Clone, Debug)]
pub(crate) struct Uptime {
    started: Instant,
    clock: Clock,
}

impl Uptime {
    pub(crate) fn new(clock: Clock) -> Uptime {
        Uptime { started: Instant::now(), clock }
    }

    /// In ms.
    pub(crate) fn now_ms(&self) -> i64 {
        (self.started.elapsed() + self.clock.ahead()).as_millis() as i64
    }

    /// When it will say so, or has.
    pub(crate) fn instant(&self, ms: i64) -> Instant {
        let time = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        self.started + time.saturating_sub(self.clock.ahead())
    }
}
