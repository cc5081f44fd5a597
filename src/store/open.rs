//! Opens the store that the settings name.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use super::{Store, StoreError, postgres, sqlite};
use crate::clock::Clock;

/// Each piece of work takes this long at most, connecting included.
const WORK: Duration = Duration::from_secs(10);
/// The first and the longest pause between attempts to open a store that does not answer.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Where the store is.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// `postgres://user:password@host:port/database`; none for SQLite under `data_dir`.
    pub url: Option<String>,
    /// The folder of everything the broker keeps itself; made if it is not there.
    pub data_dir: PathBuf,
}

/// The URL may hold a password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.url.as_ref().map(|_| "(set)"))
            .field("data_dir", &self.data_dir)
            .finish()
    }
}

/// Opens the store once: connects, takes the lock, migrates.
///
/// # Errors
/// [`StoreError::Unavailable`] (try again), [`StoreError::Locked`], [`StoreError::Unusable`].
pub async fn open(settings: &Settings, clock: &Clock) -> Result<Arc<dyn Store>, StoreError> {
    match &settings.url {
        Some(url) => {
            let timing = postgres::Timing {
                work: WORK,
                ..postgres::Timing::default()
            };
            Ok(Arc::new(postgres::PostgresStore::open(url, timing, clock).await?))
        }
        None => Ok(Arc::new(
            sqlite::SqliteStore::open(&settings.data_dir, WORK, clock).await?,
        )),
    }
}

/// Opens the store, waiting for as long as it does not answer. May be dropped at any time.
///
/// # Errors
/// [`StoreError::Locked`], [`StoreError::Unusable`].
pub async fn open_when_available(settings: &Settings, clock: &Clock) -> Result<Arc<dyn Store>, StoreError> {
    let (mut pause, longest) = PAUSES;
    loop {
        match open(settings, clock).await {
            Err(StoreError::Unavailable { source }) => {
                tracing::warn!(error = %source, ?pause, "the store does not answer; trying again");
                clock.sleep_until(clock.now() + pause).await;
                pause = (pause * 2).min(longest);
            }
            other => return other,
        }
    }
}
