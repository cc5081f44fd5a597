//! What the demo's clients have done.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use tonic::Status;

/// What a client does again and again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// Lease, execute, renew, release.
    Lease,
    /// Execute on a pool.
    OneShot,
    /// Execute on a pool, streamed.
    Stream,
    /// A session for as long as a stream lives.
    Session,
}

/// Counters of acts, and the first failure.
#[derive(Debug, Default)]
pub(super) struct Tally {
    leases: AtomicU64,
    one_shots: AtomicU64,
    streams: AtomicU64,
    sessions: AtomicU64,
    failure: OnceLock<String>,
}

impl Tally {
    /// Counts an act, or keeps why it failed.
    pub(super) fn note(&self, act: Act, done: Result<(), Status>) {
        match done {
            Ok(()) => {
                self.counter(act).fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => {
                self.failure
                    .get_or_init(|| format!("{act:?}: {:?}: {}", status.code(), status.message()));
            }
        }
    }

    /// How often an act was done.
    pub(super) fn count(&self, act: Act) -> u64 {
        self.counter(act).load(Ordering::Relaxed)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// The first failure.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    const fn counter(&self, act: Act) -> &AtomicU64 {
        match act {
            Act::Lease => &self.leases,
            Act::OneShot => &self.one_shots,
            Act::Stream => &self.streams,
            Act::Session => &self.sessions,
        }
    }
}
