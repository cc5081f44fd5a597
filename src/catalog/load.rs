//! From a stored row to a pool that runs.

use std::{sync::Arc, time::Duration};

use super::{
    Inner, failure, proto_json,
    shelf::{Entry, Phase},
    validate::validate,
};
use crate::{
    backend::{Place, endpoint_name, registry},
    broker::Plan,
    error::Failure,
    proto::{Pool, PoolSpec},
    store::{PoolRow, StoreError},
};

/// The first and the longest pause before the store is asked again.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

pub(super) async fn load(inner: &Arc<Inner>) -> Result<(), Failure> {
    let (mut pause, longest) = PAUSES;
    loop {
        match inner.store.pools().await {
            Ok(rows) => {
                for row in &rows {
                    let _turn = inner.turns.wait(&row.name).await;
                    adopt(inner, row);
                }
                tracing::info!(pools = rows.len(), "definitions loaded");
                return Ok(());
            }
            Err(error @ StoreError::Locked { .. }) => return Err(failure::from_store(error, "")),
            Err(error) => {
                tracing::warn!(%error, ?pause, "definitions cannot be loaded yet; trying again");
                inner.clock.sleep_until(inner.clock.now() + pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

/// Makes the pool what the row says. The caller has the name's turn.
pub(super) fn adopt(inner: &Inner, row: &PoolRow) {
    let known = inner.shelf.get(&row.name);
    if known.is_some_and(|entry| entry.revision == row.revision && entry.create_time_us == row.create_time_us)
    {
        return;
    }
    let (spec, ignored) = match proto_json::stored(&row.spec) {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(pool = row.name, %error, "the stored definition cannot be read; it is not served");
            return set_aside(inner, row, PoolSpec::default());
        }
    };
    if !ignored.is_empty() {
        let keys = ignored.join(", ");
        tracing::warn!(
            pool = row.name,
            keys,
            "the stored definition has keys that this version does not know"
        );
    }
    let pool = Pool {
        name: row.name.clone(),
        spec: Some(spec.clone()),
        ..Pool::default()
    };
    match validate(&pool, &inner.surroundings) {
        Ok(plan) => apply(inner, row, spec, plan),
        Err(faults) => {
            tracing::error!(pool = row.name, %faults, "the stored definition is not valid; it is not served");
            set_aside(inner, row, spec);
        }
    }
}

/// Lists a definition that cannot be served. A pool that runs by an older revision goes on so.
fn set_aside(inner: &Inner, row: &PoolRow, spec: PoolSpec) {
    let runs = inner.shelf.get(&row.name).map(|entry| entry.phase);
    let phase = runs
        .filter(|phase| matches!(phase, Phase::Serving))
        .unwrap_or(Phase::Invalid);
    inner.shelf.put(&row.name, Entry::new(row, spec, phase));
}

/// What sessions depend on of a definition's endpoints; their limits apply to sessions that are there.
fn places(spec: &PoolSpec) -> impl Iterator<Item = (Arc<str>, Place)> {
    let place = |endpoint| (endpoint_name(endpoint), registry::place(spec, endpoint));
    spec.endpoints.iter().map(place)
}

/// Starts the pool, or changes the one that runs. Sessions are replaced only if the endpoints or the backend are
/// others than before.
pub(super) fn apply(inner: &Inner, row: &PoolRow, spec: PoolSpec, plan: Plan) {
    let before = inner
        .shelf
        .get(&row.name)
        .filter(|entry| matches!(entry.phase, Phase::Serving));
    match before {
        Some(before) => {
            let same = before.spec.backend == spec.backend && places(&before.spec).eq(places(&spec));
            let backend = (!same).then_some(plan.backend);
            inner.pools.change(&row.name, plan.settings, plan.policy, backend);
        }
        None => inner.pools.add(&row.name, plan),
    }
    inner.shelf.put(&row.name, Entry::new(row, spec, Phase::Serving));
}
