//! Who may use a session, and for how long.
//!
//! Loops: [`Leases::reap`] sleeps until the next lease is due and ends it. Detection (here) is apart from what an end
//! means for a session (`broker/`).

mod bounds;
mod memory;
mod table;
#[cfg(test)]
mod tests;
mod token;

use std::{fmt, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;

pub use self::{
    bounds::Bounds,
    table::{End, Ended, Listed, Overdue, Status, Table, Terms},
    token::{Claim, Tokens},
};
use crate::clock::{Clock, Time};

/// The shell of the lease table.
///
/// Lock discipline: the table's lock is a leaf, but for a new lease's own slot, which is filled under it. It is never held together with a
/// pool's.
pub struct Leases<H> {
    table: Mutex<Table<H>>,
    /// Tells the reaper that something is due sooner, and who waits for the end of the last lease that it came.
    sooner: Notify,
    empty: Notify,
    clock: Clock,
}

impl<H: Clone> Leases<H> {
    /// An empty table.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            table: Mutex::new(Table::default()),
            sooner: Notify::new(),
            empty: Notify::new(),
            clock,
        }
    }

    /// Grants a lease.
    pub fn grant(&self, terms: Terms, make: impl FnOnce(u64) -> H) -> (H, Status) {
        self.change(|table, now| table.grant(now, terms, make))
    }

    /// The handle of a live lease.
    ///
    /// # Errors
    /// How it ended.
    pub fn find(&self, id: u64) -> Result<H, End> {
        self.table.lock().find(id)
    }

    /// Starts a call; false if one runs already.
    ///
    /// # Errors
    /// How the lease ended.
    pub fn begin(&self, id: u64) -> Result<bool, End> {
        self.change(|table, now| table.begin(now, id))
    }

    /// Ends a call.
    ///
    /// # Errors
    /// How the lease ended meanwhile: the caller takes care of its session.
    pub fn finish(&self, id: u64) -> Result<Status, End> {
        self.change(|table, now| table.finish(now, id))
    }

    /// Extends a lease.
    ///
    /// # Errors
    /// How it ended.
    pub fn renew(&self, id: u64, ttl: Option<Duration>) -> Result<Status, End> {
        self.change(|table, now| table.renew(now, id, ttl))
    }

    /// A lease's status.
    ///
    /// # Errors
    /// How it ended.
    pub fn status(&self, id: u64) -> Result<Status, End> {
        let now = self.clock.now();
        self.table.lock().status(now, id)
    }

    /// Ends a lease.
    pub fn end(&self, id: u64, end: End) -> Ended<H> {
        let ended = self.change(|table, now| table.end(now, id, end));
        self.note_empty();
        ended
    }

    /// Live leases that `wanted` wants, the oldest first. It is asked under the table's lock.
    #[must_use]
    pub fn list(&self, wanted: impl Fn(&H) -> bool) -> Vec<Listed<H>> {
        let now = self.clock.now();
        self.table.lock().list(now, wanted)
    }

    /// Returns once no lease lives.
    pub async fn when_empty(&self) {
        loop {
            let empty = self.empty.notified();
            if self.table.lock().is_empty() {
                return;
            }
            empty.await;
        }
    }

    /// Ends leases as they come due and tells `ended` of each, outside the lock. Runs until it is dropped.
    pub async fn reap(&self, ended: impl Fn(Overdue<H>)) {
        loop {
            let sooner = self.sooner.notified();
            let next = self.table.lock().next_deadline();
            tokio::select! {
                () = sooner => continue,
                () = self.clock.sleep_until(next) => {}
            }
            let now = self.clock.now();
            let overdue = self.table.lock().tick(now);
            for lease in overdue {
                ended(lease);
            }
            self.note_empty();
        }
    }

    /// Changes the table, and wakes the reaper if it would sleep too long.
    fn change<T>(&self, change: impl FnOnce(&mut Table<H>, Time) -> T) -> T {
        let now = self.clock.now();
        let mut table = self.table.lock();
        let before = table.next_deadline();
        let result = change(&mut table, now);
        let sooner = table.next_deadline() < before;
        drop(table);
        if sooner {
            self.sooner.notify_one();
        }
        result
    }

    fn note_empty(&self) {
        if self.table.lock().is_empty() {
            self.empty.notify_waiters();
        }
    }
}

impl<H> fmt::Debug for Leases<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases").finish_non_exhaustive()
    }
}
