//! The one connection to a database. Every piece of work is a transaction in a task of its own; a connection that
//! fails, or that does not answer in time, is closed and never used again.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use super::{
    StoreError,
    error::{NoAnswer, TaskGone},
};
use crate::clock::Clock;

/// How one kind of database connects, and how its transactions begin and end.
pub(super) trait Database: Send + Sync + fmt::Debug + 'static {
    /// A live connection; dropping it closes it, and what it did not commit is undone.
    type Connection: Send;

    /// Connects and takes the broker's lock, if that goes with the connection.
    fn connect(&self) -> BoxFuture<'_, Result<Self::Connection, StoreError>>;

    /// Hears that the connection is gone.
    fn lost(&self);

    /// Runs `BEGIN`, `COMMIT` or `ROLLBACK`, and returns when the database has answered.
    fn statement<'c>(
        connection: &'c mut Self::Connection,
        sql: &'static str,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>>;

    /// The statement that begins a transaction.
    const BEGIN: &'static str;

    /// Whether an error that answers `COMMIT` proves that nothing was committed.
    fn proves_rollback(error: &sqlx::Error) -> bool;
}

/// The connection, or the place of the next one.
pub(super) struct Link<D: Database> {
    database: D,
    slot: Mutex<Option<D::Connection>>,
    clock: Clock,
    limit: Duration,
}

impl<D: Database> Link<D> {
    /// Connects at the first work if there is no connection yet. `limit` bounds each piece of work, the wait for the
    /// connection included.
    pub(super) fn new(
        database: D,
        connection: Option<D::Connection>,
        clock: Clock,
        limit: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            database,
            slot: Mutex::new(connection),
            clock,
            limit,
        })
    }

    /// Runs `work` in a transaction. Dropping the future does not stop it.
    pub(super) async fn write<T, W>(self: &Arc<Self>, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut D::Connection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        let link = Arc::clone(self);
        let task = tokio::spawn(async move { link.bounded(work).await });
        task.await
            .unwrap_or_else(|_| Err(StoreError::outcome_unknown(TaskGone)))
    }

    /// As [`Link::write`], for work that may as well be done twice: a lost answer is no more than a fault.
    pub(super) async fn read<T, W>(self: &Arc<Self>, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut D::Connection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        self.write(work).await.map_err(StoreError::repeatable)
    }

    async fn bounded<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        W: for<'c> FnOnce(&'c mut D::Connection) -> BoxFuture<'c, Result<T, StoreError>>,
    {
        let committing = AtomicBool::new(false);
        let deadline = self.clock.now() + self.limit;
        tokio::select! {
            biased;
            done = self.transact(work, &committing) => done,
            () = self.clock.sleep_until(deadline) => {
                self.database.lost();
                if committing.load(SeqCst) {
                    Err(StoreError::outcome_unknown(NoAnswer(self.limit)))
                } else {
                    Err(StoreError::unavailable(NoAnswer(self.limit)))
                }
            }
        }
    }

    /// The connection is out of its slot while it works: wherever this future is dropped, or fails, the connection
    /// is closed with it, and what it did not commit is undone.
    async fn transact<T, W>(&self, work: W, committing: &AtomicBool) -> Result<T, StoreError>
    where
        W: for<'c> FnOnce(&'c mut D::Connection) -> BoxFuture<'c, Result<T, StoreError>>,
    {
        let mut slot = self.slot.lock().await;
        let mut connection = self.begin(slot.take()).await?;
        let done = match work(&mut connection).await {
            Ok(done) => done,
            Err(error) => {
                match D::statement(&mut connection, "ROLLBACK").await {
                    Ok(()) => *slot = Some(connection),
                    Err(_) => self.database.lost(),
                }
                return Err(error);
            }
        };
        committing.store(true, SeqCst);
        match D::statement(&mut connection, "COMMIT").await {
            Ok(()) => {
                *slot = Some(connection);
                Ok(done)
            }
            Err(error) => {
                self.database.lost();
                if D::proves_rollback(&error) {
                    Err(StoreError::unavailable(error))
                } else {
                    Err(StoreError::outcome_unknown(error))
                }
            }
        }
    }

    /// Begins a transaction. A connection that broke while it was idle is replaced: nothing was sent over it yet.
    async fn begin(&self, idle: Option<D::Connection>) -> Result<D::Connection, StoreError> {
        if let Some(mut connection) = idle {
            match D::statement(&mut connection, D::BEGIN).await {
                Ok(()) => return Ok(connection),
                Err(error) => {
                    tracing::warn!(%error, "the store's connection broke; connecting again");
                    self.database.lost();
                }
            }
        }
        let mut connection = self.database.connect().await?;
        match D::statement(&mut connection, D::BEGIN).await {
            Ok(()) => Ok(connection),
            Err(error) => {
                self.database.lost();
                Err(error.into())
            }
        }
    }
}

impl<D: Database> fmt::Debug for Link<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.database).finish()
    }
}
