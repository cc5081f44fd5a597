//! A lease's session: where it is kept between calls, and how it goes back to its pool.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Broker, PoolEntry, replay::Ledger};
use crate::{
    backend::Fence,
    clock::Time,
    error::{Error, Failure},
    lease::{End, Ended, Status},
    pool::{GiveBack, Held, Pool},
};

/// A lease's session, and what is known of the lease.
///
/// Lock discipline: `held` and `settling` are leaves, taken for a moment to put something in or take it out. `ledger` may be held while
/// the lease table is asked, never the other way round.
#[derive(Debug)]
pub struct LeasedSession {
    /// The lease's number in the table.
    pub number: u64,
    /// The lease's public id.
    pub id: String,
    /// The pool and its policy.
    pub entry: Arc<PoolEntry>,
    /// The session's id.
    pub session_id: Arc<str>,
    /// The endpoint it is connected to.
    pub endpoint: Arc<str>,
    /// The fence of this grant.
    pub fence_number: u64,
    /// How long its caller waited.
    pub waited: Duration,
    /// Whether the session had served anyone before.
    pub reused: bool,
    /// What its holder calls itself.
    pub client: Option<Arc<str>>,
    /// When it was granted.
    pub granted: Time,
    pub(super) ledger: Mutex<Ledger>,
    fence: Arc<Fence>,
    discard: AtomicBool,
    /// The session between calls; whoever runs a call has taken it out.
    held: Mutex<Option<Held>>,
    /// Cancelled once the session is settled after a call that was stopped in the middle.
    settling: Mutex<CancellationToken>,
}

/// Who a lease is for.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) entry: Arc<PoolEntry>,
    pub(super) client: Option<Arc<str>>,
    pub(super) granted: Time,
}

impl LeasedSession {
    /// A lease's session; `held` goes in later if a stream keeps it.
    pub(super) fn new(number: u64, id: String, held: &Held, holder: Holder) -> Self {
        let settled = CancellationToken::new();
        settled.cancel();
        Self {
            number,
            id,
            entry: holder.entry,
            session_id: Arc::clone(held.session_id()),
            endpoint: Arc::clone(held.endpoint()),
            fence_number: held.number(),
            waited: held.waited(),
            reused: held.reused(),
            client: holder.client,
            granted: holder.granted,
            ledger: Mutex::default(),
            fence: Arc::clone(held.fence()),
            discard: AtomicBool::new(false),
            held: Mutex::new(None),
            settling: Mutex::new(settled),
        }
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.entry.pool
    }

    /// Whether this grant may still be used.
    pub(super) fn is_open(&self) -> bool {
        self.fence.number() == self.fence_number
    }

    pub(super) const fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    pub(super) fn put(&self, held: Held) {
        *self.held.lock() = Some(held);
    }

    pub(super) fn take(&self) -> Option<Held> {
        self.held.lock().take()
    }

    /// Notes that the session is being settled, until the guard is dropped.
    pub(super) fn settling(&self) -> DropGuard {
        let settling = CancellationToken::new();
        *self.settling.lock() = settling.clone();
        settling.drop_guard()
    }

    /// Returns once the session is not being settled, or the lease has ended.
    pub(super) async fn when_settled(&self) {
        let settling = self.settling.lock().clone();
        if settling.is_cancelled() || !self.is_open() {
            return;
        }
        tokio::select! {
            () = settling.cancelled() => {}
            () = self.fence.when_shut() => {}
        }
    }

    /// As [`LeasedSession::when_settled`] for a numbered call; one that repeats another needs no session.
    pub(super) async fn when_ready(&self, seqno: u64) {
        let new = self.ledger.lock().is_next(seqno);
        if new {
            self.when_settled().await;
        }
    }

    /// Gives the session back to its pool.
    pub(super) fn give_back(&self, held: Held, how: GiveBack) {
        if self.discard.load(Ordering::SeqCst) {
            held.give_back(GiveBack::Discard);
        } else {
            held.give_back(how);
        }
    }

    /// A failure of this lease.
    pub(super) fn failure(&self, error: Error) -> Failure {
        Failure::from(error)
            .pool(self.pool().name())
            .lease(self.id.clone())
            .endpoint(&self.endpoint)
    }
}

impl Broker {
    /// Ends a lease and sees to its session: an idle one goes back, a running call is cut at the fence and gives it
    /// back itself. Returns what ended it, which is `end` or whatever came first.
    pub(super) fn end_lease(&self, number: u64, end: End, discard: bool) -> End {
        if discard && let Ok(leased) = self.leases.find(number) {
            leased.discard.store(true, Ordering::SeqCst);
        }
        let ended = self.leases.end(number, end);
        if let Ended::Before(before) = ended {
            return before;
        }
        self.see_to(ended, end);
        end
    }

    /// Sees to the session of a lease that has just ended.
    pub(super) fn see_to(&self, ended: Ended<Arc<LeasedSession>>, end: End) {
        match ended {
            Ended::Idle(leased) => {
                tracing::debug!(lease = leased.id, pool = %leased.pool().name(), ?end, "lease ended");
                if let Some(held) = leased.take() {
                    leased.give_back(held, GiveBack::Used);
                }
                self.forget_later(&leased);
            }
            Ended::Running(leased) => {
                tracing::debug!(lease = leased.id, pool = %leased.pool().name(), ?end, "lease ended in a call");
                // First of all, and for this grant only: by now the call may have ended, and the session been granted anew.
                leased.fence.shut_for(leased.fence_number);
                self.forget_later(&leased);
            }
            Ended::Before(_) => {}
        }
    }

    /// Returns a session to its lease after a call, or to its pool if the lease has ended meanwhile.
    ///
    /// # Errors
    /// How the lease ended.
    pub(super) fn return_to_lease(
        &self,
        leased: &LeasedSession,
        held: Held,
        how: GiveBack,
    ) -> Result<Status, End> {
        // In this order: once the table says that nothing runs, whoever ends the lease looks for the session there.
        leased.put(held);
        let finished = self.leases.finish(leased.number);
        if finished.is_err()
            && let Some(held) = leased.take()
        {
            leased.give_back(held, how);
        }
        finished
    }
}

/// What an Execute on an ended lease is told.
#[must_use]
pub fn end_error(end: End) -> Error {
    match end {
        End::Released => Error::LeaseReleased,
        End::Expired => Error::LeaseExpired { how: "expired" },
        End::HardLimit => Error::LeaseExpired { how: "hard limit" },
        End::Revoked => Error::LeaseRevoked { how: "revoked" },
        End::PoolDeleted => Error::LeaseRevoked { how: "pool deleted" },
        End::SessionLost => Error::SessionLost {
            message: "the lease's session is gone".to_owned(),
        },
        End::BrokerStopped => Error::BrokerDraining,
        End::NotFound => Error::LeaseNotFound,
    }
}
