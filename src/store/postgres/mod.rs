//! The store in Postgres: one connection, which also holds the broker's lock, so that nothing can be written without
//! the lock, and nothing is read before lost work has come to its end.
//!
//! Its loop: the keeper asks for a sign of life every few seconds and so connects again and takes the lock again.

mod address;
mod keeper;
mod lock;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{PgConnection, Row, postgres::PgRow};
use tokio::sync::watch;

use self::{address::Postgres, keeper::Keeper};
use super::{
    Draft, LockState, MAX_BOOT, PoolRow, Store, StoreError,
    error::{BootsUsedUp, NoAnswer},
    link::{Database, Link},
};
use crate::clock::Clock;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Each piece of work, connecting included.
    pub(super) work: Duration,
    /// From one sign of life to the next.
    pub(super) keep: Duration,
    /// For a lock whose holder may just be going: a killed broker's connection takes a moment to end.
    pub(super) lock: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            work: Duration::from_secs(10),
            keep: Duration::from_secs(3),
            lock: Duration::from_secs(2),
        }
    }
}

/// A store in a Postgres database.
#[derive(Debug)]
pub(super) struct PostgresStore {
    link: Arc<Link<Postgres>>,
    place: String,
    lock: watch::Receiver<LockState>,
    _keeper: Keeper,
}

impl PostgresStore {
    /// Connects, takes the lock, migrates, and begins to keep the connection.
    pub(super) async fn open(url: &str, timing: Timing, clock: &Clock) -> Result<Self, StoreError> {
        let database = Postgres::at(url, timing)?;
        let place = database.place().to_owned();
        let lock = database.follow_lock();
        let connection = first(&database, timing.work, clock).await?;
        let link = Link::new(database, Some(connection), clock.clone(), timing.work);
        let keeper = Keeper::start(Arc::clone(&link), timing.keep, clock.clone());
        Ok(Self {
            link,
            place,
            lock,
            _keeper: keeper,
        })
    }
}

/// Connects within `limit`; the migration then has all the time it needs.
async fn first(database: &Postgres, limit: Duration, clock: &Clock) -> Result<PgConnection, StoreError> {
    let mut connection = tokio::select! {
        connected = database.connect() => connected?,
        () = clock.sleep_until(clock.now() + limit) => return Err(StoreError::unavailable(NoAnswer(limit))),
    };
    address::migrate(&mut connection).await?;
    Ok(connection)
}

/// The columns of a [`PoolRow`]; times as whole microseconds, which numeric carries exactly.
macro_rules! columns {
    () => {
        "name, spec::text AS spec, revision,
         (extract(epoch FROM create_time) * 1000000)::bigint AS create_time_us,
         (extract(epoch FROM update_time) * 1000000)::bigint AS update_time_us"
    };
}

impl Store for PostgresStore {
    fn place(&self) -> &str {
        &self.place
    }

    fn begin_boot(&self) -> BoxFuture<'_, Result<u32, StoreError>> {
        const SQL: &str = "INSERT INTO broker (id, boot) VALUES (1, 1)
            ON CONFLICT (id) DO UPDATE SET boot = broker.boot + 1 RETURNING boot";
        let work = self.link.read(|connection| {
            async {
                let boot: i64 = sqlx::query_scalar(SQL).fetch_one(connection).await?;
                let boot = u32::try_from(boot).ok().filter(|boot| *boot <= MAX_BOOT);
                boot.ok_or_else(|| StoreError::unavailable(BootsUsedUp))
            }
            .boxed()
        });
        work.boxed()
    }

    fn pools(&self) -> BoxFuture<'_, Result<Vec<PoolRow>, StoreError>> {
        const SQL: &str = concat!("SELECT ", columns!(), " FROM pools ORDER BY name");
        let work = self.link.read(|connection| {
            async {
                let rows = sqlx::query(SQL).fetch_all(connection).await?;
                rows.iter().map(row).collect()
            }
            .boxed()
        });
        work.boxed()
    }

    fn pool(&self, name: &str) -> BoxFuture<'_, Result<Option<PoolRow>, StoreError>> {
        let name = name.to_owned();
        let work = self.link.read(|connection| find(connection, name).boxed());
        work.boxed()
    }

    fn insert_pool(&self, draft: Draft) -> BoxFuture<'_, Result<PoolRow, StoreError>> {
        const SQL: &str = concat!(
            "INSERT INTO pools (name, spec, revision, create_time, update_time)
             SELECT $1, $2::jsonb, 1, now.now, now.now
             FROM (SELECT 'epoch'::timestamptz + $3 * interval '1 microsecond' AS now) AS now
             ON CONFLICT (name) DO NOTHING RETURNING ",
            columns!()
        );
        let work = self.link.write(move |connection| {
            async move {
                let query = sqlx::query(SQL)
                    .bind(draft.name)
                    .bind(draft.spec)
                    .bind(draft.time_us);
                let inserted = query.fetch_optional(connection).await?;
                inserted.as_ref().map_or(Err(StoreError::Exists), row)
            }
            .boxed()
        });
        work.boxed()
    }

    fn update_pool(&self, draft: Draft, expected: i64) -> BoxFuture<'_, Result<PoolRow, StoreError>> {
        const SQL: &str = concat!(
            "UPDATE pools SET spec = $2::jsonb, revision = revision + 1,
                 update_time = 'epoch'::timestamptz + $3 * interval '1 microsecond'
             WHERE name = $1 AND revision = $4 RETURNING ",
            columns!()
        );
        let work = self.link.write(move |connection| {
            async move {
                let query = sqlx::query(SQL).bind(&draft.name).bind(&draft.spec);
                let query = query.bind(draft.time_us).bind(expected);
                match query.fetch_optional(&mut *connection).await? {
                    Some(updated) => row(&updated),
                    None => Err(refusal(find(connection, draft.name).await?.as_ref())),
                }
            }
            .boxed()
        });
        work.boxed()
    }

    fn delete_pool(&self, name: &str, expected: i64) -> BoxFuture<'_, Result<(), StoreError>> {
        const SQL: &str = "DELETE FROM pools WHERE name = $1 AND revision = $2";
        let name = name.to_owned();
        let work = self.link.write(move |connection| {
            async move {
                let query = sqlx::query(SQL).bind(&name).bind(expected);
                if query.execute(&mut *connection).await?.rows_affected() == 1 {
                    return Ok(());
                }
                Err(refusal(find(connection, name).await?.as_ref()))
            }
            .boxed()
        });
        work.boxed()
    }

    fn lock(&self) -> watch::Receiver<LockState> {
        self.lock.clone()
    }
}

async fn find(connection: &mut PgConnection, name: String) -> Result<Option<PoolRow>, StoreError> {
    const SQL: &str = concat!("SELECT ", columns!(), " FROM pools WHERE name = $1");
    let found = sqlx::query(SQL).bind(name).fetch_optional(connection).await?;
    found.as_ref().map(row).transpose()
}

/// Why no row was changed.
fn refusal(found: Option<&PoolRow>) -> StoreError {
    found.map_or(StoreError::NotFound, |_| StoreError::Conflict)
}

fn row(row: &PgRow) -> Result<PoolRow, StoreError> {
    Ok(PoolRow {
        name: row.try_get("name")?,
        spec: row.try_get("spec")?,
        revision: row.try_get("revision")?,
        create_time_us: row.try_get("create_time_us")?,
        update_time_us: row.try_get("update_time_us")?,
    })
}
