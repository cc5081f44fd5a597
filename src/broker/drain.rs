//! The end of a broker: no new grants, lease holders go on until the grace ends, then everything is cut.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Broker, PoolEntry};
use crate::{
    error::{Error, Failure},
    lease::End,
    pool::Ending,
};

/// Time for sessions to close once everything is cut.
const CLOSING: Duration = Duration::from_secs(5);

impl Broker {
    /// Whether the broker is stopping.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Stops the broker: waiters and new acquires, one-shots and sessions are refused at once; leases, open streams and
    /// running calls go on until `grace` has passed or the last of them ends; then what is left ends as broker stopped.
    /// Call it once.
    pub async fn drain(&self, grace: Duration) {
        self.draining.store(true, Ordering::SeqCst);
        let pools = self.pools.all();
        for entry in &pools {
            entry.pool.refuse_new(Ending::BrokerStopping);
        }
        let emptied = async {
            self.leases.when_empty().await;
            for entry in &pools {
                entry.pool.when_empty().await;
            }
        };
        let deadline = self.clock.now() + grace;
        tokio::select! {
            () = emptied => return,
            () = self.clock.sleep_until(deadline) => {}
        }
        for entry in &pools {
            self.cut_pool(entry, Ending::BrokerStopping);
        }
        let closed = async {
            for entry in &pools {
                entry.pool.when_empty().await;
            }
        };
        let deadline = self.clock.now() + CLOSING;
        tokio::select! {
            () = closed => {}
            () = self.clock.sleep_until(deadline) => {}
        }
    }

    /// Closes a session: a call on it is cut, and its lease ends as revoked.
    ///
    /// # Errors
    /// [`Error::PoolNotFound`], [`Error::SessionNotFound`].
    pub fn close_session(self: &Arc<Self>, pool: &str, session_id: &str) -> Result<(), Failure> {
        let entry = self.pools.get(pool)?;
        let mut found = self.revoke_holder(&entry, session_id);
        found |= entry.pool.close_session(session_id);
        // A lease made of a grant between the two; a later one finds its fence shut.
        found |= self.revoke_holder(&entry, session_id);
        if found {
            return Ok(());
        }
        let error = Error::SessionNotFound {
            id: session_id.to_owned(),
        };
        Err(Failure::from(error).pool(entry.pool.name()))
    }
    fn revoke_holder(&self, entry: &PoolEntry, session_id: &str) -> bool {
        let leases = self.leases_of(entry);
        let lease = leases
            .iter()
            .find(|lease| &*lease.handle.session_id == session_id);
        lease.is_some_and(|lease| self.end_lease(lease.id, End::Revoked, true) == End::Revoked)
    }
}
