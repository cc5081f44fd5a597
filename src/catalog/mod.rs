//! Definitions of pools: validated, stored, applied, in this order.
//!
//! Every change runs in a task of its own, so that a caller that goes away cannot leave it half done, and changes of
//! one pool wait for each other. Loops: a change whose commit was not answered is read again until the store says
//! what became of it; a deleted pool is drained.

mod create;
mod delete;
mod failure;
mod list;
mod load;
mod mask;
pub mod proto_json;
mod resolve;
mod shelf;
#[cfg(test)]
mod tests;
mod turns;
mod update;
mod validate;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;
use tracing::Instrument as _;

use self::{shelf::Shelf, turns::Turns};
use crate::{
    backend::{Backend, registry::Surroundings},
    broker::{Plan, Policy},
    clock::Clock,
    error::{Error, Failure},
    pool::Settings,
    proto::{DeletePoolRequest, Pool},
    store::Store,
};

/// The pools that run, as the catalog sees them.
pub trait Pools: Send + Sync {
    /// Starts a pool. There is none of this name.
    fn add(&self, name: &str, plan: Plan);

    /// Changes a pool that runs. A backend, if given, replaces its sessions as they come free.
    fn change(&self, name: &str, settings: Settings, policy: Policy, backend: Option<Arc<dyn Backend>>);

    /// Takes a pool away: waiters are refused, leases live until `drain` has passed or are revoked at once (`force`).
    /// Returns when it is gone; until then it may be called again to force it.
    fn remove(&self, name: &str, drain: Duration, force: bool) -> BoxFuture<'static, ()>;

    /// Whether a pool is paused; false if there is none.
    fn is_paused(&self, name: &str) -> bool;
}

/// Keeps the definitions, and the pools that run true to them. Cheap to clone.
#[derive(Clone)]
pub struct Catalog(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    pools: Box<dyn Pools>,
    surroundings: Surroundings,
    clock: Clock,
    shelf: Shelf,
    turns: Turns,
}

impl Catalog {
    /// A catalog without definitions yet; [`Catalog::load`] comes next.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        pools: impl Pools + 'static,
        surroundings: Surroundings,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            pools: Box::new(pools),
            surroundings,
            clock,
            shelf: Shelf::default(),
            turns: Turns::default(),
        }))
    }

    /// Creates a pool: name and definition count. It is durable and runs when this returns. Dropping the future stops
    /// nothing. With `validate_only` nothing is stored or started.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::PoolExists`], [`Error::PoolDraining`], [`Error::StoreUnavailable`] (nothing was
    /// created), [`Error::OutcomeUnknown`] (the store did not answer; the catalog finds out by itself),
    /// [`Error::BrokerDraining`] (another broker has the store).
    pub async fn create(&self, pool: Pool, validate_only: bool) -> Result<Pool, Failure> {
        self.run(|inner| create::create(inner, pool, validate_only)).await
    }

    /// One pool.
    ///
    /// # Errors
    /// [`Error::PoolNotFound`].
    pub fn get(&self, name: &str) -> Result<Pool, Failure> {
        self.0.get(name)
    }

    /// Pools by name, and the token of the next page, empty on the last. `page_size` 0 means 100, more than 1000
    /// means 1000; a page is shorter where it would not fit into an answer.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn list(&self, page_size: i32, page_token: &str) -> Result<(Vec<Pool>, String), Failure> {
        list::list(&self.0, page_size, page_token)
    }

    /// Changes a pool while it runs. Without a mask, or with an empty one, every populated field changes. Dropping
    /// the future stops nothing. With `validate_only` nothing is stored or changed.
    ///
    /// # Errors
    /// [`Error::PoolNotFound`], [`Error::EtagMismatch`] and those of [`Catalog::create`] but `PoolExists`.
    pub async fn update(
        &self,
        pool: Pool,
        mask: Option<prost_types::FieldMask>,
        validate_only: bool,
    ) -> Result<Pool, Failure> {
        self.run(move |inner| update::update(inner, pool, mask, validate_only))
            .await
    }

    /// Deletes a pool and returns when it is gone. Its definition goes first; dropping the future undoes nothing. A
    /// second call joins the first, and forces it if it says so.
    ///
    /// # Errors
    /// As [`Catalog::update`], but `PoolDraining`.
    pub async fn delete(&self, request: DeletePoolRequest) -> Result<(), Failure> {
        self.run(move |inner| delete::delete(inner, request)).await
    }

    /// Reads every definition and starts its pool. Waits for as long as the store does not answer; may be dropped and
    /// called again. A definition that is not valid for this version is logged and kept, listed as `INVALID`, and
    /// serves nothing until it is updated or deleted.
    ///
    /// # Errors
    /// [`Error::BrokerDraining`] if another broker has the store.
    pub async fn load(&self) -> Result<(), Failure> {
        load::load(&self.0).await
    }

    async fn run<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let work = work(Arc::clone(&self.0)).in_current_span();
        let done = tokio::spawn(work).await;
        done.unwrap_or_else(|gone| {
            Err(Error::Internal {
                source: Arc::new(gone),
            }
            .into())
        })
    }
}

impl Inner {
    /// The present wall time in microseconds since 1970.
    fn time_us(&self) -> i64 {
        let now = self.clock.wall(self.clock.now());
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    fn get(&self, name: &str) -> Result<Pool, Failure> {
        let entry = self.shelf.get(name).ok_or_else(|| failure::not_found(name))?;
        Ok(entry.pool(name, self.pools.is_paused(name)))
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog")
            .field("store", &self.0.store)
            .finish_non_exhaustive()
    }
}
