//! The keeper's loop: a sign of life every few seconds. When the connection is lost, the next one takes the lock
//! again, or finds that another broker has it, and then the loop ends.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::task::JoinHandle;

use super::address::Postgres;
use crate::{
    clock::Clock,
    store::{
        StoreError,
        link::{Database, Link},
    },
};

/// The running loop; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Keeper(JoinHandle<()>);

impl Keeper {
    pub(super) fn start(link: Arc<Link<Postgres>>, pause: Duration, clock: Clock) -> Self {
        Self(tokio::spawn(keep(link, pause, clock)))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep(link: Arc<Link<Postgres>>, pause: Duration, clock: Clock) {
    loop {
        clock.sleep_until(clock.now() + pause).await;
        let alive =
            link.read(|connection| async { Ok(Postgres::statement(connection, "SELECT 1").await?) }.boxed());
        match alive.await {
            Ok(()) => {}
            Err(StoreError::Locked { by }) => {
                tracing::error!(%by, "another broker has taken the store: this one drains");
                return;
            }
            Err(error) => tracing::warn!(%error, "the store does not answer; trying again"),
        }
    }
}
