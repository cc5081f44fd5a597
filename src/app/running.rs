//! The broker's pools, as the catalog changes them.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{
    backend::Backend,
    broker::{Broker, Plan, Policy},
    catalog::Pools,
    pool::Settings,
};

/// The pools of a broker.
#[derive(Debug)]
pub(super) struct Running(pub(super) Arc<Broker>);

impl Pools for Running {
    fn add(&self, name: &str, plan: Plan) {
        self.0.add_pool(name, plan);
    }

    fn change(&self, name: &str, settings: Settings, policy: Policy, backend: Option<Arc<dyn Backend>>) {
        self.0.change_pool(name, settings, policy, backend);
    }

    fn remove(&self, name: &str, drain: Duration, force: bool) -> BoxFuture<'static, ()> {
        let (broker, name) = (Arc::clone(&self.0), name.to_owned());
        async move { broker.remove_pool(&name, drain, force).await }.boxed()
    }

    fn is_paused(&self, name: &str) -> bool {
        self.0.pools.get(name).is_ok_and(|entry| entry.pool.is_paused())
    }
}
