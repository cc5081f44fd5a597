//! What becomes of a change that the store did not answer, or answered as if somebody else had changed the row: the
//! row is read until the store says how it is, and the pool is made so.

use std::{sync::Arc, time::Duration};

use super::{Inner, delete, failure, load, shelf::Phase, turns::Turn};
use crate::{error::Failure, store::StoreError};

/// How a pool is removed if its row turns out to be gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    /// Time for leases to end by themselves.
    pub(super) drain: Duration,
    /// Revokes them at once.
    pub(super) force: bool,
}

impl Default for Removal {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(30),
            force: false,
        }
    }
}

/// The failure that a store's error is to the caller. If it leaves open what is stored, the name stays reserved, and
/// a task finds out.
pub(super) fn after(inner: &Arc<Inner>, turn: Turn, error: StoreError, removal: Removal) -> Failure {
    let name = turn.name().to_owned();
    match error {
        StoreError::Exists
        | StoreError::NotFound
        | StoreError::Conflict
        | StoreError::OutcomeUnknown { .. } => {
            inner.shelf.unsettle(&name);
            tokio::spawn(find_out(Arc::clone(inner), name.clone(), removal));
        }
        StoreError::Locked { .. } | StoreError::Unavailable { .. } | StoreError::Unusable { .. } => {}
    }
    failure::from_store(error, &name)
}

/// Ends when the store has answered, or when another broker has it: then this one drains and changes nothing more.
async fn find_out(inner: Arc<Inner>, name: String, removal: Removal) {
    let (mut pause, longest) = load::PAUSES;
    loop {
        match inner.store.pool(&name).await {
            Ok(row) => {
                let _turn = inner.turns.wait(&name).await;
                match (row, inner.shelf.get(&name)) {
                    (Some(row), _) => load::adopt(&inner, &row),
                    (None, Some(entry)) if !matches!(entry.phase, Phase::Draining(_)) => {
                        drop(delete::remove(&inner, &name, entry, removal));
                    }
                    (None, _) => {}
                }
                inner.shelf.settle(&name);
                return;
            }
            Err(StoreError::Locked { .. }) => return,
            Err(error) => {
                tracing::warn!(pool = name, %error, ?pause, "what became of a change is not known yet");
                inner.clock.sleep_until(inner.clock.now() + pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}
