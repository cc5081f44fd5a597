//! What a pool shows of itself.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use super::{
    Pool,
    core::{SessionState, Stats},
    request::Priority,
};
use crate::clock::Time;

/// A session, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub id: Arc<str>,
    /// What it is doing.
    pub state: SessionState,
    /// The endpoint that it is connected to, or dialed at.
    pub endpoint: Arc<str>,
    /// Time since it was opened, or since its dial began.
    pub age: Duration,
    /// Time in its present state.
    pub state_age: Duration,
    /// Grants so far.
    pub grants: u64,
    /// The fence number of its last grant; 0 before the first.
    pub fence: u64,
    /// Whether it is one of those beside.
    pub beside: bool,
}

/// Someone who waits, as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaiterInfo {
    /// What the caller calls itself.
    pub client: Option<Arc<str>>,
    /// The only endpoint that will do; absent, any will.
    pub endpoint: Option<Arc<str>>,
    /// The class that it asked for.
    pub priority: Priority,
    /// The class that it has by now.
    pub effective_priority: Priority,
    /// Time waited so far.
    pub waited: Duration,
    /// Time left before it is refused.
    pub remaining: Duration,
    /// Whether it waits for one of the sessions beside.
    pub beside: bool,
}

/// How a check went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Whether a session could be opened and checked.
    pub healthy: bool,
    /// What failed, for people; empty if healthy.
    pub message: String,
    /// The endpoint.
    pub endpoint: Arc<str>,
    /// Time to open the session; zero if an idle one was checked because there was no place for another.
    pub dial_time: Duration,
    /// Time to check it.
    pub probe_time: Duration,
}

impl Pool {
    /// Every session, the oldest first; those beside included.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let family = self.family().enumerate();
        let mut found: Vec<_> = family
            .flat_map(|(far, pool)| pool.own_sessions(far > 0))
            .collect();
        found.sort_by_key(|(born, _)| *born);
        found.into_iter().map(|(_, info)| info).collect()
    }

    fn own_sessions(&self, beside: bool) -> Vec<(Time, SessionInfo)> {
        let now = self.clock.now();
        self.exchange.look_inside(|inner| {
            let listed = inner.core.sessions().filter_map(|(key, record)| {
                let face = &inner.slot(key)?.face;
                let info = SessionInfo {
                    id: Arc::clone(&face.id),
                    state: record.state(),
                    endpoint: Arc::clone(&face.endpoint),
                    age: now.since(record.born),
                    state_age: now.since(record.since),
                    grants: record.grants,
                    fence: record.number,
                    beside,
                };
                Some((record.born, info))
            });
            listed.collect()
        })
    }

    /// The first `limit` of those who wait, in the order in which they would be served now, and how many there are. Those
    /// who wait for a session beside are among them, although they wait for each other only.
    #[must_use]
    pub fn waiters(&self, limit: usize) -> (Vec<WaiterInfo>, u32) {
        let now = self.clock.now();
        let (mut found, mut total) = (Vec::new(), 0);
        for (far, pool) in self.family().enumerate() {
            let (waiters, count) = pool.own_waiters(now, limit, far > 0);
            found.extend(waiters);
            total += count;
        }
        // Those of each pool are in this order already.
        found.sort_by_key(|waiter| Reverse((waiter.effective_priority, waiter.waited)));
        found.truncate(limit);
        (found, total)
    }

    fn own_waiters(&self, now: Time, limit: usize, beside: bool) -> (Vec<WaiterInfo>, u32) {
        self.exchange.look_inside(|inner| {
            let ageing = inner.core.settings().ageing;
            let listed = inner.core.waiters(now).take(limit).map(|waiter| WaiterInfo {
                client: inner.client(waiter.tag),
                endpoint: waiter
                    .place
                    .and_then(|place| inner.core.place_name(place).cloned()),
                priority: waiter.priority,
                effective_priority: waiter.effective(now, ageing),
                waited: now.since(waiter.arrived),
                remaining: waiter.deadline.since(now),
                beside,
            });
            (listed.collect(), inner.core.waiter_count())
        })
    }

    /// The names of its endpoints; one without a name for a backend that has none.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Arc<str>> {
        self.exchange.look(super::core::Core::open_places)
    }

    /// Statistics of this moment. Sessions beside and those who wait for one are two gauges of their own, and in no other
    /// number but those of calls.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let stats = self.exchange.look(super::core::Core::stats);
        self.complete(stats)
    }

    /// Sets counters, peaks and timings to zero, and returns them as they were just before.
    pub fn reset_stats(&self) -> Stats {
        let (stats, todo) = self.exchange.order(|core| {
            let stats = core.stats();
            core.reset_counters();
            stats
        });
        self.finish(todo);
        let stats = self.complete(stats);
        self.calls.reset();
        *self.last_reset.lock() = Some(self.clock.now());
        stats
    }

    /// Counts a call: whether the backend answered it without an error, and how long it took from the grant.
    pub fn record_call(&self, ok: bool, elapsed: Duration) {
        self.calls.record(ok, elapsed);
    }

    fn complete(&self, mut stats: Stats) -> Stats {
        self.calls.fill(&mut stats);
        for beside in self.family().skip(1) {
            let theirs = beside.exchange.look(super::core::Core::stats);
            stats.sessions_beside += theirs.total;
            stats.waiters_beside += theirs.waiters;
        }
        stats.uptime = self.clock.now().since(self.started);
        stats.last_reset = *self.last_reset.lock();
        stats
    }
}
