//! `CreatePool`.

use std::sync::Arc;

use super::{Inner, failure, load, proto_json, resolve, shelf::Phase, validate::validate};
use crate::{
    error::{Error, Failure},
    proto::Pool,
    store::Draft,
};

pub(super) async fn create(inner: Arc<Inner>, pool: Pool, validate_only: bool) -> Result<Pool, Failure> {
    let plan = validate(&pool, &inner.surroundings).map_err(|faults| Error::Invalid { faults })?;
    let Pool { name, spec, .. } = pool;
    let spec = spec.unwrap_or_default();
    let turn = inner.turns.wait(&name).await;
    if inner.shelf.is_unsettled(&name) {
        return Err(failure::unsettled(&name));
    }
    match inner.shelf.get(&name).map(|entry| entry.phase) {
        Some(Phase::Draining(_)) => return Err(failure::draining(&name)),
        Some(Phase::Serving | Phase::Invalid) => return Err(failure::exists(&name)),
        None => {}
    }
    if validate_only {
        return Ok(Pool {
            name,
            spec: Some(spec),
            ..Pool::default()
        });
    }
    let draft = Draft {
        name: name.clone(),
        spec: proto_json::canonical(&spec),
        time_us: inner.time_us(),
    };
    match inner.store.insert_pool(draft).await {
        Ok(row) => load::apply(&inner, &row, spec, plan),
        Err(error) => return Err(resolve::after(&inner, turn, error, resolve::Removal::default())),
    }
    inner.get(&name)
}
