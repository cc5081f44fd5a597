//! The pools of this broker, by name.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::RwLock;
use tokio::sync::watch;

use super::{Broker, Plan, Policy};
use crate::{
    backend::Backend,
    error::{Error, Executed, Failure},
    lease::End,
    pool::{Ending, Identity, Pool, Settings},
};

/// A pool with its policy.
#[derive(Debug)]
pub struct PoolEntry {
    /// The pool.
    pub pool: Arc<Pool>,
    policy: RwLock<Policy>,
    settings: RwLock<Settings>,
    /// Why everything was cut, if it was: one-shots have no lease whose end would tell them.
    cut: OnceLock<Ending>,
}

impl PoolEntry {
    /// The policy in force now.
    #[must_use]
    pub fn policy(&self) -> Policy {
        *self.policy.read()
    }

    /// The definition's limit of sessions.
    #[must_use]
    pub fn max_sessions(&self) -> u32 {
        self.settings.read().max_sessions
    }

    /// Time that checking an idle session may take; none if they are not checked.
    #[must_use]
    pub fn probe_timeout(&self) -> Duration {
        let settings = self.settings.read();
        settings
            .health
            .as_ref()
            .map_or(Duration::ZERO, |health| health.timeout)
    }

    /// What the holder of a session without a lease is told when its session was closed under it.
    pub(super) fn closed(&self) -> Error {
        match self.cut.get() {
            Some(Ending::BrokerStopping) => Error::BrokerDraining,
            Some(Ending::Deleted) => Error::PoolDraining,
            None => Error::SessionLost {
                message: "it was closed by an administrator".to_owned(),
            },
        }
    }

    /// Time that settling a session may take.
    #[must_use]
    pub fn reset_timeout(&self) -> Duration {
        self.settings.read().reset
    }
}

/// Pools by name. Its lock is held for look-ups only, and never together with another.
#[derive(Debug, Default)]
pub struct PoolTable {
    pools: RwLock<HashMap<Arc<str>, Arc<PoolEntry>>>,
    changed: watch::Sender<u64>,
}

impl PoolTable {
    /// A pool.
    ///
    /// # Errors
    /// [`Error::PoolNotFound`].
    pub fn get(&self, name: &str) -> Result<Arc<PoolEntry>, Failure> {
        let found = self.pools.read().get(name).cloned();
        found.ok_or_else(|| {
            let error = Error::PoolNotFound {
                name: name.to_owned(),
            };
            Failure::from(error).pool(&Arc::from(name))
        })
    }

    /// A pool, for a call: if there is none, the call was not executed.
    pub(super) fn get_to_execute(&self, name: &str) -> Result<Arc<PoolEntry>, Failure> {
        self.get(name).map_err(|failure| failure.executed(Executed::No))
    }

    /// Changes whenever a pool comes or goes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Every pool, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<PoolEntry>> {
        let mut all: Vec<_> = self.pools.read().values().cloned().collect();
        all.sort_unstable_by(|left, right| left.pool.name().cmp(right.pool.name()));
        all
    }
}

impl Broker {
    /// Starts a pool. One of this name must not be there.
    pub fn add_pool(&self, name: &str, plan: Plan) {
        let identity = Identity {
            name: Arc::from(name),
            boot: self.boot,
            seed: RandomState::new().hash_one(name),
        };
        let settings = plan.settings.clone();
        let entry = Arc::new(PoolEntry {
            pool: Pool::start(identity, plan.backend, plan.settings, self.clock.clone()),
            policy: RwLock::new(plan.policy),
            settings: RwLock::new(settings),
            cut: OnceLock::new(),
        });
        if self.is_draining() {
            entry.pool.refuse_new(Ending::BrokerStopping);
        }
        let name = Arc::clone(entry.pool.name());
        self.pools.pools.write().insert(name, entry);
        self.pools.changed.send_modify(|change| *change += 1);
    }

    /// Changes a running pool; a new backend replaces its sessions as they come free.
    pub fn change_pool(
        &self,
        name: &str,
        settings: Settings,
        policy: Policy,
        backend: Option<Arc<dyn Backend>>,
    ) {
        if let Ok(entry) = self.pools.get(name) {
            *entry.policy.write() = policy;
            *entry.settings.write() = settings.clone();
            entry.pool.reconfigure(settings, backend);
        }
    }

    /// Ends a pool: waiters are refused, leases live until `drain` has passed, or are revoked at once with `force`.
    /// Returns when no session is left. Spawn it: dropped, the pool stays in its last state.
    pub async fn remove_pool(self: Arc<Self>, name: &str, drain: Duration, force: bool) {
        if let Ok(entry) = self.pools.get(name) {
            let drain = if force { Duration::ZERO } else { drain };
            self.drain_pool(entry, drain).await;
        }
    }

    /// Drains a pool: waiters are refused, leases live until the drain deadline, then they are revoked. The pool can
    /// be found until it is empty, so that its lease holders can go on.
    async fn drain_pool(&self, entry: Arc<PoolEntry>, drain: Duration) {
        entry.pool.refuse_new(Ending::Deleted);
        let deadline = self.clock.now() + drain;
        tokio::select! {
            () = entry.pool.when_empty() => {}
            () = self.clock.sleep_until(deadline) => self.cut_pool(&entry, Ending::Deleted),
        }
        entry.pool.when_empty().await;
        self.pools.pools.write().remove(entry.pool.name());
        self.pools.changed.send_modify(|change| *change += 1);
    }

    /// Ends every lease of a pool and cuts its one-shots.
    pub(super) fn cut_pool(&self, entry: &PoolEntry, why: Ending) {
        let end = match why {
            Ending::Deleted => End::PoolDeleted,
            Ending::BrokerStopping => End::BrokerStopped,
        };
        // Before any fence is shut, so that whoever finds its own shut finds the reason too. The first one stays.
        entry.cut.set(why).ok();
        self.end_leases(entry, end);
        // What is held now is held by one-shots: this shuts their fences.
        entry.pool.close_sessions();
        // Leases made of grants between the two; a later one finds its fence shut.
        self.end_leases(entry, end);
    }

    fn end_leases(&self, entry: &PoolEntry, end: End) {
        for lease in self.leases_of(entry) {
            self.end_lease(lease.id, end, false);
        }
    }
}
