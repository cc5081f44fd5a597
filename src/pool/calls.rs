//! Statistics of executed calls. They have a lock of their own, because they say nothing about sessions and come
//! once for each call; it is never held together with another one.

use std::time::Duration;

use parking_lot::Mutex;

use super::core::{Histogram, Stats};

#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<Tally>);

#[derive(Debug, Default)]
struct Tally {
    ok: u64,
    failed: u64,
    execute: Histogram,
}

impl Calls {
    pub(super) fn record(&self, ok: bool, elapsed: Duration) {
        let mut tally = self.0.lock();
        tally.execute.record(elapsed);
        let count = if ok { &mut tally.ok } else { &mut tally.failed };
        *count += 1;
    }

    /// Adds these numbers to the core's.
    pub(super) fn fill(&self, stats: &mut Stats) {
        let tally = self.0.lock();
        stats.requests = tally.ok + tally.failed;
        (stats.requests_ok, stats.requests_failed) = (tally.ok, tally.failed);
        stats.execute = tally.execute.clone();
    }

    pub(super) fn reset(&self) {
        *self.0.lock() = Tally::default();
    }
}
