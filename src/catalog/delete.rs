//! `DeletePool`: the row goes first, then the pool drains; the name is free when it is gone.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Inner, failure,
    resolve::{self, Removal},
    shelf::{Entry, Phase},
    validate,
};
use crate::{
    error::{Error, Failure, Faults},
    proto::DeletePoolRequest,
};

const LONGEST_DRAIN: Duration = Duration::from_secs(3600);

pub(super) async fn delete(inner: Arc<Inner>, request: DeletePoolRequest) -> Result<(), Failure> {
    let removal = removal(&request)?;
    let name = request.name;
    let turn = inner.turns.wait(&name).await;
    if inner.shelf.is_unsettled(&name) {
        return Err(failure::unsettled(&name));
    }
    let entry = inner.shelf.get(&name).ok_or_else(|| failure::not_found(&name))?;
    if !request.etag.is_empty() && request.etag != entry.etag() {
        return Err(Failure::from(Error::EtagMismatch).pool(&name.as_str().into()));
    }
    if let Phase::Draining(gone) = entry.phase {
        drop(turn);
        if removal.force {
            inner.pools.remove(&name, Duration::ZERO, true).await;
        }
        wait(gone).await;
        return Ok(());
    }
    if let Err(error) = inner.store.delete_pool(&name, entry.revision).await {
        return Err(resolve::after(&inner, turn, error, removal));
    }
    let gone = remove(&inner, &name, entry, removal);
    drop(turn);
    wait(gone).await;
    Ok(())
}

fn removal(request: &DeletePoolRequest) -> Result<Removal, Error> {
    let mut faults = Faults::default();
    let range = Duration::ZERO..=LONGEST_DRAIN;
    let drain = validate::duration(request.drain_timeout, "drain_timeout", range, &mut faults);
    faults.into_result(Removal {
        drain: drain.unwrap_or(Removal::default().drain),
        force: request.force,
    })
}

/// Drains the pool of a definition that is no longer stored. The receiver hears when it is gone.
pub(super) fn remove(inner: &Arc<Inner>, name: &str, entry: Entry, removal: Removal) -> watch::Receiver<()> {
    let (ended, gone) = watch::channel(());
    let runs = matches!(entry.phase, Phase::Serving);
    let phase = Phase::Draining(gone.clone());
    inner.shelf.put(name, Entry { phase, ..entry });
    let (inner, name) = (Arc::clone(inner), name.to_owned());
    tokio::spawn(async move {
        if runs {
            inner.pools.remove(&name, removal.drain, removal.force).await;
        }
        inner.shelf.remove(&name);
        tracing::info!(pool = name, "the pool is gone");
        drop(ended);
    });
    gone
}

async fn wait(mut gone: watch::Receiver<()>) {
    // Nothing is ever sent: the error is the end.
    while gone.changed().await.is_ok() {}
}
