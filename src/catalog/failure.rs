//! What the store's errors mean to the caller of a change.

use std::sync::Arc;

use thiserror::Error as ThisError;

use crate::{
    error::{Error, Executed, Failure},
    store::StoreError,
};

/// A change of this pool came before and is not settled yet.
#[derive(Debug, ThisError)]
#[error("the store has not yet said what became of an earlier change of this pool")]
struct Unsettled;

pub(super) fn not_found(name: &str) -> Failure {
    Failure::from(Error::PoolNotFound { name: name.into() }).pool(&name.into())
}

pub(super) fn exists(name: &str) -> Failure {
    Failure::from(Error::PoolExists { name: name.into() }).pool(&name.into())
}

pub(super) fn draining(name: &str) -> Failure {
    Failure::from(Error::PoolDraining).pool(&name.into())
}

pub(super) fn unsettled(name: &str) -> Failure {
    let source = Arc::new(Unsettled);
    Failure::from(Error::StoreUnavailable { source })
        .executed(Executed::No)
        .pool(&name.into())
}

pub(super) fn from_store(error: StoreError, name: &str) -> Failure {
    let failure = match error {
        StoreError::Exists => return exists(name),
        StoreError::NotFound => return not_found(name),
        StoreError::Conflict => Error::EtagMismatch.into(),
        StoreError::Locked { .. } => Failure::from(Error::BrokerDraining).executed(Executed::No),
        StoreError::Unavailable { source } => {
            Failure::from(Error::StoreUnavailable { source }).executed(Executed::No)
        }
        unusable @ StoreError::Unusable { .. } => {
            let source = Arc::new(unusable);
            Failure::from(Error::StoreUnavailable { source }).executed(Executed::No)
        }
        StoreError::OutcomeUnknown { source } => {
            tracing::warn!(pool = name, error = %source, "the store did not answer a commit; reading again");
            let message =
                "the store did not answer the commit; the broker reads the pool again as soon as it can, \
                           and then GetPool tells"
                    .into();
            Failure::from(Error::OutcomeUnknown { message }).executed(Executed::Unknown)
        }
    };
    failure.pool(&name.into())
}
