//! What a pool counts. Every number changes in the step that changes what it counts, under the same lock, so no
//! gauge can run ahead of the truth or below zero.

use std::time::Duration;

use super::{histogram::Histogram, sessions::Counts};
use crate::clock::Time;

/// Counters since the pool's start or the last reset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) acquires: u64,
    pub(crate) granted: u64,
    pub(crate) refused: u64,
    pub(crate) cancelled: u64,
    pub(crate) created: u64,
    pub(crate) closed: u64,
    pub(crate) failed: u64,
    pub(crate) reused: u64,
    pub(crate) peak_sessions: u32,
    pub(crate) peak_waiters: u32,
    pub(crate) wait: Histogram,
    pub(crate) dial: Histogram,
    pub(crate) hold: Histogram,
}

impl Counters {
    /// Zero, with the peaks where the gauges are and the waiters that are there already counted as asking, so that
    /// the sum over what becomes of requests goes on to hold.
    pub(crate) fn starting_from(sessions: u32, waiters: u32) -> Self {
        Self {
            acquires: u64::from(waiters),
            peak_sessions: sessions,
            peak_waiters: waiters,
            ..Self::default()
        }
    }
}

/// A pool's statistics: one moment's gauges, and counters since the start or the last reset. The gauges add up:
/// `total = active + idle + dialing + probing + resetting + closing`; so do
/// `acquires = granted + refused + cancelled + waiters`.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Sessions in all.
    pub total: u32,
    /// Sessions that someone holds.
    pub active: u32,
    /// Sessions that wait for a holder.
    pub idle: u32,
    /// Sessions being opened.
    pub dialing: u32,
    /// Sessions being checked.
    pub probing: u32,
    /// Sessions being brought to a clean state.
    pub resetting: u32,
    /// Sessions being closed.
    pub closing: u32,
    /// The limit in force: the definition's, the cluster's or the learned one, whichever is lowest.
    pub max: u32,
    /// The most sessions at one time.
    pub peak: u32,
    /// Those who wait now.
    pub waiters: u32,
    /// The most who waited at one time.
    pub peak_waiters: u32,
    /// Requests for a session.
    pub acquires: u64,
    /// Requests that got one, even if the caller had gone when it came.
    pub granted: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests whose caller went away while it waited.
    pub cancelled: u64,
    /// Calls executed, ok and failed.
    pub requests: u64,
    /// Calls that the backend answered without an error.
    pub requests_ok: u64,
    /// Calls that failed.
    pub requests_failed: u64,
    /// Sessions opened.
    pub sessions_created: u64,
    /// Sessions closed.
    pub sessions_closed: u64,
    /// Dials that failed.
    pub sessions_failed: u64,
    /// Grants of a session that had served someone before.
    pub sessions_reused: u64,
    /// Time that granted requests waited.
    pub wait: Histogram,
    /// Time to open a session.
    pub dial: Histogram,
    /// Time to run a call.
    pub execute: Histogram,
    /// Time that sessions were held.
    pub hold: Histogram,
    /// Time since the pool was started.
    pub uptime: Duration,
    /// When the counters were last reset, if ever.
    pub last_reset: Option<Time>,
    /// Sessions beside the pool's own, which are in no other gauge.
    pub sessions_beside: u32,
    /// Those who wait for one of them now.
    pub waiters_beside: u32,
}

impl Stats {
    /// The share of grants that reused a session, 0 to 1; 0 before the first grant.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a ratio needs no more than 52 bits")]
    pub fn reuse_ratio(&self) -> f64 {
        if self.granted == 0 {
            return 0.0;
        }
        self.sessions_reused as f64 / self.granted as f64
    }

    /// With the core's share of the numbers.
    pub(crate) fn of(counts: Counts, counters: &Counters) -> Self {
        Self {
            total: counts.total(),
            active: counts.leased,
            idle: counts.idle,
            dialing: counts.dialing,
            probing: counts.probing,
            resetting: counts.resetting,
            closing: counts.closing,
            peak: counters.peak_sessions,
            peak_waiters: counters.peak_waiters,
            acquires: counters.acquires,
            granted: counters.granted,
            refused: counters.refused,
            cancelled: counters.cancelled,
            sessions_created: counters.created,
            sessions_closed: counters.closed,
            sessions_failed: counters.failed,
            sessions_reused: counters.reused,
            wait: counters.wait.clone(),
            dial: counters.dial.clone(),
            hold: counters.hold.clone(),
            ..Self::default()
        }
    }
}
