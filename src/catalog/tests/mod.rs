//! The catalog over a store and pools that do as the tests say.

mod change;
mod doubles;
mod lifecycle;
mod outage;
mod races;

use prost_types::Duration as Span;

use self::doubles::{Call, FakeStore, Recorder};
use super::Catalog;
use crate::{
    backend::{registry::Surroundings, secrets::Secrets},
    clock::Clock,
    error::{Error, Executed, Failure},
    proto::{DeletePoolRequest, EchoBackend, Pool, PoolSpec, Sizing, pool_spec::Backend},
};

/// A catalog with what is around it.
struct Bench {
    catalog: Catalog,
    store: FakeStore,
    pools: Recorder,
}

impl Bench {
    fn new() -> Self {
        Self::over(FakeStore::default())
    }

    /// A catalog as after a restart of the broker.
    fn over(store: FakeStore) -> Self {
        let clock = Clock::tokio();
        let surroundings = Surroundings {
            secrets: Secrets::below("/nowhere"),
            clock: clock.clone(),
        };
        let pools = Recorder::default();
        let catalog = Catalog::new(store.shared(), pools.clone(), surroundings, clock);
        Self {
            catalog,
            store,
            pools,
        }
    }
}

/// An echo pool with so many sessions.
fn echo(name: &str, max_sessions: u32) -> Pool {
    Pool {
        name: name.into(),
        spec: Some(PoolSpec {
            sizing: Some(Sizing {
                max_sessions: Some(max_sessions),
                ..Sizing::default()
            }),
            backend: Some(Backend::Echo(EchoBackend::default())),
            ..PoolSpec::default()
        }),
        ..Pool::default()
    }
}

fn deletion(name: &str) -> DeletePoolRequest {
    DeletePoolRequest {
        name: name.into(),
        drain_timeout: Some(Span { seconds: 7, nanos: 0 }),
        ..DeletePoolRequest::default()
    }
}

fn faults(result: Result<impl std::fmt::Debug, Failure>) -> Vec<String> {
    match result.map_err(|failure| failure.error) {
        Err(Error::Invalid { faults }) => faults.list().iter().map(|fault| fault.field.clone()).collect(),
        other => panic!("{other:?}"),
    }
}

fn is_unavailable(failure: &Failure) -> bool {
    matches!(failure.error, Error::StoreUnavailable { .. }) && failure.executed == Some(Executed::No)
}

fn is_unknown(failure: &Failure) -> bool {
    matches!(failure.error, Error::OutcomeUnknown { .. }) && failure.executed == Some(Executed::Unknown)
}
