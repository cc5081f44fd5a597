//! Keeps definitions: SQLite embedded by default, Postgres by URL. Never on the way of a request.
//!
//! One broker per store: a lock refuses a second. Each piece of work runs in a task of its own with a time limit, so
//! that a caller that goes away never leaves a connection in the middle of a statement.

mod error;
mod link;
mod open;
mod postgres;
mod sqlite;
#[cfg(test)]
mod tests;

use std::fmt;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

pub use self::{
    error::StoreError,
    open::{Settings, open, open_when_available},
};

/// The highest boot number: fences keep it in 24 bits.
pub const MAX_BOOT: u32 = 1 << 24;

/// What a broker keeps across restarts. Every future may be dropped: the work it began goes on to its end or its
/// time limit.
pub trait Store: Send + Sync + fmt::Debug {
    /// Where the store is, for people and logs; no secret in it.
    fn place(&self) -> &str;

    /// Begins a start of the broker: a number that rises with every start, 1 to [`MAX_BOOT`]. Draws another one if
    /// it is called again.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Locked`].
    fn begin_boot(&self) -> BoxFuture<'_, Result<u32, StoreError>>;

    /// Every pool, by name.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Locked`].
    fn pools(&self) -> BoxFuture<'_, Result<Vec<PoolRow>, StoreError>>;

    /// One pool, if it is there. After [`StoreError::OutcomeUnknown`] this is the truth: it does not read before
    /// the lost work has come to its end.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Locked`].
    fn pool(&self, name: &str) -> BoxFuture<'_, Result<Option<PoolRow>, StoreError>>;

    /// Adds a pool with revision 1. It is durable when this returns.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::Unavailable`], [`StoreError::Locked`], [`StoreError::OutcomeUnknown`].
    fn insert_pool(&self, draft: Draft) -> BoxFuture<'_, Result<PoolRow, StoreError>>;

    /// Replaces a pool's definition if it still has the revision `expected`, which rises by one. It is durable when
    /// this returns.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`] and those of [`Store::insert_pool`] but `Exists`.
    fn update_pool(&self, draft: Draft, expected: i64) -> BoxFuture<'_, Result<PoolRow, StoreError>>;

    /// Removes a pool if it still has the revision `expected`. It is durable when this returns.
    ///
    /// # Errors
    /// As [`Store::update_pool`].
    fn delete_pool(&self, name: &str, expected: i64) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Follows the lock that keeps a second broker out. At [`LockState::Taken`] this broker must drain.
    fn lock(&self) -> watch::Receiver<LockState>;
}

/// A pool as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRow {
    /// Its name.
    pub name: String,
    /// Its definition's proto-JSON.
    pub spec: String,
    /// Rises by one with every update.
    pub revision: i64,
    /// When it was added, in microseconds since 1970.
    pub create_time_us: i64,
    /// When it was last changed, in microseconds since 1970.
    pub update_time_us: i64,
}

/// What a caller gives to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The pool's name.
    pub name: String,
    /// Its definition's proto-JSON.
    pub spec: String,
    /// The time of the change, in microseconds since 1970.
    pub time_us: i64,
}

/// The lock that keeps a second broker out of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockState {
    /// This broker has it. Exits: `Lost`.
    Held,
    /// It went with its connection and is being taken again; nothing can be written meanwhile. Exits: `Held`, `Taken`.
    Lost,
    /// Another broker has it: this one writes nothing any more. No exit.
    Taken {
        /// Who has it, for people.
        by: String,
    },
}
