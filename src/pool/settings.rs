//! What a definition says about a pool, with every default filled in.

use std::{sync::Arc, time::Duration};

/// A pool's limits and policy. Defaults are those that `proto/sublet/v1/pool.proto` documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where sessions are opened; none for a kind that needs no address.
    pub endpoints: Vec<EndpointSettings>,
    /// Sessions to keep open even when nobody needs them.
    pub min_sessions: u32,
    /// Sessions at most, in whatever state.
    pub max_sessions: u32,
    /// Idle sessions to keep at most.
    pub max_idle: u32,
    /// Dials at the same time at most.
    pub max_dialing: u32,
    /// Time to open a session.
    pub connect: Duration,
    /// Time after which an idle session above the minimum is closed.
    pub idle: Duration,
    /// A session's life, before its random shortening.
    pub max_lifetime: Duration,
    /// Time to settle and reset a session.
    pub reset: Duration,
    /// Time to close a session.
    pub close: Duration,
    /// Waiters at most.
    pub max_waiters: u32,
    /// Time waited that lifts a waiter one priority class.
    pub ageing: Duration,
    /// How idle sessions are checked; not at all if absent.
    pub health: Option<HealthSettings>,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSettings {
    /// What leases and statistics call it, and what callers ask for. No other has it.
    pub name: Arc<str>,
    /// Where it is, in the one form that stands for all ways to write it. No other has it: while it stays the same, so do
    /// the sessions that count against its limit.
    pub address: Arc<str>,
    /// Sessions at most, beside the pool's own limit.
    pub max_sessions: Option<u32>,
}

/// How idle sessions are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// How often in the background.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// Idle time after which a session is checked before it is granted.
    pub probe_after_idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            min_sessions: 0,
            max_sessions: 10,
            max_idle: 10,
            max_dialing: 4,
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(300),
            max_lifetime: Duration::from_secs(1800),
            reset: Duration::from_secs(5),
            close: Duration::from_secs(5),
            max_waiters: 1000,
            ageing: Duration::from_secs(5),
            health: Some(HealthSettings::default()),
        }
    }
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
            probe_after_idle: Duration::from_secs(1),
        }
    }
}
