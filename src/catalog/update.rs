//! `UpdatePool`.

use std::sync::Arc;

use prost_reflect::ReflectMessage as _;
use prost_types::FieldMask;

use super::{
    Inner, failure, load, mask, proto_json, resolve,
    shelf::{Entry, Phase},
    validate::validate,
};
use crate::{
    error::{Error, Failure, Faults},
    proto::{Pool, PoolSpec},
    store::Draft,
};

pub(super) async fn update(
    inner: Arc<Inner>,
    change: Pool,
    mask: Option<FieldMask>,
    validate_only: bool,
) -> Result<Pool, Failure> {
    let name = change.name.clone();
    let turn = inner.turns.wait(&name).await;
    let entry = changeable(&inner, &name, &change.etag)?;
    let spec =
        mask::merge(&entry.spec, &change, mask.as_ref()).map_err(|faults| Error::Invalid { faults })?;
    let pool = Pool {
        name: name.clone(),
        spec: Some(spec.clone()),
        ..Pool::default()
    };
    let plan = validate(&pool, &inner.surroundings);
    let plan = same_kind(&entry.spec, &spec, plan).map_err(|faults| Error::Invalid { faults })?;
    if validate_only {
        let changed = Entry { spec, ..entry };
        return Ok(changed.pool(&name, inner.pools.is_paused(&name)));
    }
    let draft = Draft {
        name: name.clone(),
        spec: proto_json::canonical(&spec),
        time_us: inner.time_us(),
    };
    match inner.store.update_pool(draft, entry.revision).await {
        Ok(row) => load::apply(&inner, &row, spec, plan),
        Err(error) => return Err(resolve::after(&inner, turn, error, resolve::Removal::default())),
    }
    inner.get(&name)
}

/// The pool as it is, if it can be changed now and is what the caller has read.
fn changeable(inner: &Inner, name: &str, etag: &str) -> Result<Entry, Failure> {
    let entry = inner.shelf.get(name);
    if inner.shelf.is_unsettled(name) {
        return Err(failure::unsettled(name));
    }
    let entry = entry.ok_or_else(|| failure::not_found(name))?;
    match entry.phase {
        Phase::Draining(_) => Err(failure::draining(name)),
        Phase::Serving | Phase::Invalid if !etag.is_empty() && etag != entry.etag() => {
            Err(Failure::from(Error::EtagMismatch).pool(&name.into()))
        }
        Phase::Serving | Phase::Invalid => Ok(entry),
    }
}

/// Leases and statistics of a pool would mean something else after a change of its kind.
fn same_kind<T>(before: &PoolSpec, after: &PoolSpec, plan: Result<T, Faults>) -> Result<T, Faults> {
    match (kind(before), kind(after)) {
        (Some(before), Some(after)) if before != after => {
            let mut faults = plan.err().unwrap_or_else(|| Faults::below("pool"));
            let message =
                format!("a pool's backend kind never changes: this one is `{before}`; create another pool");
            faults.within("spec", |faults| faults.add(&after, message));
            Err(faults)
        }
        _ => plan,
    }
}

/// The field of the definition that its backend is in.
fn kind(spec: &PoolSpec) -> Option<String> {
    let message = proto_json::dynamic(spec);
    let backends = message
        .descriptor()
        .oneofs()
        .find(|oneof| oneof.name() == "backend")?;
    let set = backends.fields().find(|field| message.has_field(field))?;
    Some(set.name().to_owned())
}
