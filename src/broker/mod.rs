//! The use cases: acquire, execute, stream, renew. A file each.
//!
//! Loops: [`Broker::run`] ends leases as they come due. Calls with a sequence number or a request id, streams, and
//! settling sessions run in tasks on the broker's runtime, which outlives every connection.

mod acquire;
mod answers;
mod call;
mod drain;
mod execute;
mod leased;
mod noted;
mod on_lease;
mod plan;
mod policy;
mod pools;
mod renew;
mod replay;
mod session;
mod stream;
#[cfg(test)]
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it expects; all else is a failure"
)]
mod tests;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::runtime::Handle;

pub use self::{
    acquire::{AcquireLease, Granted, RequestId, Waiting},
    call::{CallRequest, UNARY_LIMIT},
    execute::{Place, PoolCall},
    leased::{LeasedSession, end_error},
    on_lease::LeaseCall,
    plan::Plan,
    policy::Policy,
    pools::{PoolEntry, PoolTable},
    renew::Renewed,
    replay::Fingerprint,
    session::{
        OpenSession, Opened, Outbound, Outbox, QUEUED_CALLS, SessionCall, SessionInput, SessionOutput, outbox,
    },
    stream::CallStream,
};
use crate::{
    backend::Output,
    clock::Clock,
    error::Failure,
    lease::{Leases, Listed, Tokens},
};

/// What a call comes to. Shared, because repeats get the same answer.
pub type CallResult = Result<Arc<Answer>, Failure>;

/// The answer to a call.
#[derive(Debug)]
pub struct Answer {
    /// The output; empty at the end of a stream.
    pub output: Output,
    /// Facts beside it.
    pub attributes: Vec<(String, String)>,
    /// How the call was carried out.
    pub info: Info,
    /// Whether JSON has to go out as text, because the params came so.
    pub want_text: bool,
}

/// How a call was carried out.
#[derive(Clone, Debug)]
pub struct Info {
    /// The session's id.
    pub session_id: Arc<str>,
    /// The endpoint's name.
    pub endpoint: Arc<str>,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// Whether the session had served anyone before.
    pub reused: bool,
    /// The fence of the session's grant.
    pub fence: u64,
    /// Time waited for the session.
    pub waited: Duration,
    /// Time from the grant to the answer.
    pub elapsed: Duration,
}

impl Default for Info {
    fn default() -> Self {
        Self {
            session_id: Arc::from(""),
            endpoint: Arc::from(""),
            attempt: 1,
            reused: false,
            fence: 0,
            waited: Duration::ZERO,
            elapsed: Duration::ZERO,
        }
    }
}

/// One broker.
///
/// Lock discipline, from outer to inner: a lease's ledger, then the lease table or `replays`; `acquires` alone. None is
/// held across an await, and none together with a pool's.
pub struct Broker {
    /// Its pools.
    pub pools: PoolTable,
    leases: Leases<Arc<LeasedSession>>,
    tokens: Tokens,
    boot: u32,
    clock: Clock,
    runtime: Handle,
    draining: AtomicBool,
    acquires: Mutex<acquire::AcquireLog>,
    replays: Mutex<Replays>,
}

#[derive(Debug, Default)]
struct Replays {
    answers: answers::Answers,
    one_shots: execute::OneShots,
}

impl Broker {
    /// A broker without pools. `runtime` must outlive every connection. `boot` rises at every start.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(boot: u32, clock: Clock, runtime: Handle) -> Result<Arc<Self>, ring::error::Unspecified> {
        Ok(Arc::new(Self {
            pools: PoolTable::default(),
            leases: Leases::new(clock.clone()),
            tokens: Tokens::new("0", boot)?,
            boot,
            clock,
            runtime,
            draining: AtomicBool::new(false),
            acquires: Mutex::default(),
            replays: Mutex::default(),
        }))
    }

    /// Ends leases as they come due. Runs until it is dropped.
    pub async fn run(self: Arc<Self>) {
        self.leases
            .reap(|overdue| self.see_to(overdue.ended, overdue.end))
            .await;
    }

    /// The broker's clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Live leases of a pool, the oldest first.
    #[must_use]
    pub fn leases_of(&self, entry: &PoolEntry) -> Vec<Listed<Arc<LeasedSession>>> {
        self.leases.list(|leased| Arc::ptr_eq(leased.pool(), &entry.pool))
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("boot", &self.boot)
            .field("pools", &self.pools)
            .finish_non_exhaustive()
    }
}
