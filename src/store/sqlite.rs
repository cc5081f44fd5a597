//! The embedded store: one SQLite file under the data folder, in WAL mode with every commit synced to disk, so that
//! what was acknowledged survives a kill and a power cut.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{
    Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};
use tokio::sync::watch;

use super::{
    Draft, LockState, MAX_BOOT, PoolRow, Store, StoreError,
    error::BootsUsedUp,
    link::{Database, Link},
};
use crate::clock::Clock;

const FILE: &str = "sublet.db";
const LOCK: &str = "sublet.lock";

/// A store in a folder of this machine.
#[derive(Debug)]
pub(super) struct SqliteStore {
    link: Arc<Link<Sqlite>>,
    place: String,
    lock: watch::Sender<LockState>,
}

/// The database file, and the locked file beside it. The lock lives as long as any work on the database.
#[derive(Debug)]
struct Sqlite {
    file: PathBuf,
    _lock: File,
}

impl SqliteStore {
    /// Makes the folder if needed, locks it, opens the database and migrates it.
    pub(super) async fn open(folder: &Path, limit: Duration, clock: &Clock) -> Result<Self, StoreError> {
        make_folder(folder)?;
        let database = Sqlite {
            file: folder.join(FILE),
            _lock: take_lock(folder)?,
        };
        let place = format!("SQLite in {}", folder.display());
        // The first connection migrates without the limit of a piece of work: a large table may take its time.
        migrate(&database).await?;
        let (lock, _) = watch::channel(LockState::Held);
        Ok(Self {
            link: Link::new(database, None, clock.clone(), limit),
            place,
            lock,
        })
    }

    /// The journal's kind and when it is synced, as the database itself says.
    #[cfg(test)]
    pub(super) async fn durability(&self) -> Result<(String, i64), StoreError> {
        let asked = self.link.read(|connection| {
            async move {
                let journal = sqlx::query_scalar("PRAGMA journal_mode")
                    .fetch_one(&mut *connection)
                    .await?;
                let synchronous = sqlx::query_scalar("PRAGMA synchronous")
                    .fetch_one(connection)
                    .await?;
                Ok((journal, synchronous))
            }
            .boxed()
        });
        asked.await
    }
}

fn make_folder(folder: &Path) -> Result<(), StoreError> {
    let made = std::fs::create_dir_all(folder);
    // The folder's own entry must be on disk before anything in it counts as durable.
    let synced = made.and_then(|()| match folder.parent() {
        Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    });
    synced.map_err(|error| {
        let reason = format!(
            "the data folder {} cannot be made ({error}): give another one with --data-dir, or the right to write it",
            folder.display()
        );
        StoreError::unusable(reason, error)
    })
}

/// The lock goes with the process, however it ends.
fn take_lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(LOCK);
    let unusable = |error: std::io::Error| {
        let reason = format!("{} cannot be locked: {error}", path.display());
        StoreError::unusable(reason, error)
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The number is for people only: an unreadable one is left out.
            if file.read_to_string(&mut holder).is_err() {
                holder.clear();
            }
            return Err(StoreError::Locked {
                by: format!(
                    "process {} has the data folder {}; stop it, or give this one another folder with --data-dir",
                    holder.trim(),
                    folder.display()
                ),
            });
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    file.set_len(0).map_err(unusable)?;
    file.rewind().map_err(unusable)?;
    writeln!(file, "{}", std::process::id()).map_err(unusable)?;
    Ok(file)
}

async fn migrate(database: &Sqlite) -> Result<(), StoreError> {
    let unusable =
        |error: &dyn std::fmt::Display| format!("{} cannot be used: {error}", database.file.display());
    let mut connection = match database.connect().await {
        // A file of this machine that cannot be opened now will not get better by itself.
        Err(StoreError::Unavailable { source }) => {
            return Err(StoreError::unusable(unusable(&source), source));
        }
        connected => connected?,
    };
    let mut migrator = sqlx::migrate!("migrations/sqlite");
    migrator.set_ignore_missing(true);
    let migrated = migrator.run_direct(None, &mut connection, false).await;
    migrated.map_err(|error| StoreError::unusable(unusable(&error), error))?;
    connection.close().await?;
    Ok(())
}

impl Database for Sqlite {
    type Connection = SqliteConnection;

    fn connect(&self) -> BoxFuture<'_, Result<SqliteConnection, StoreError>> {
        async {
            let options = SqliteConnectOptions::new()
                .filename(&self.file)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(5));
            Ok(SqliteConnection::connect_with(&options).await?)
        }
        .boxed()
    }

    /// The lock is the folder's, not the connection's.
    fn lost(&self) {}

    fn statement<'c>(
        connection: &'c mut SqliteConnection,
        sql: &'static str,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>> {
        async move { sqlx::raw_sql(sql).execute(connection).await.map(drop) }.boxed()
    }

    /// Immediate, so that even a read waits for whatever an abandoned connection still writes.
    const BEGIN: &'static str = "BEGIN IMMEDIATE";

    fn proves_rollback(error: &sqlx::Error) -> bool {
        // BUSY, LOCKED, READONLY and FULL leave no commit in the log; an I/O error may.
        let code = error.as_database_error().and_then(|error| error.code());
        let code = code.and_then(|code| code.parse::<u32>().ok());
        code.is_some_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 13))
    }
}

impl Store for SqliteStore {
    fn place(&self) -> &str {
        &self.place
    }

    fn begin_boot(&self) -> BoxFuture<'_, Result<u32, StoreError>> {
        const SQL: &str = "INSERT INTO broker (id, boot) VALUES (1, 1)
            ON CONFLICT (id) DO UPDATE SET boot = boot + 1 RETURNING boot";
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
        const SQL: &str =
            "SELECT name, spec, revision, create_time_us, update_time_us FROM pools ORDER BY name";
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
        const SQL: &str = "INSERT INTO pools (name, spec, revision, create_time_us, update_time_us)
            VALUES (?1, ?2, 1, ?3, ?3) ON CONFLICT (name) DO NOTHING
            RETURNING name, spec, revision, create_time_us, update_time_us";
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
        const SQL: &str = "UPDATE pools SET spec = ?2, revision = revision + 1, update_time_us = ?3
            WHERE name = ?1 AND revision = ?4
            RETURNING name, spec, revision, create_time_us, update_time_us";
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
        const SQL: &str = "DELETE FROM pools WHERE name = ?1 AND revision = ?2";
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
        self.lock.subscribe()
    }
}

async fn find(connection: &mut SqliteConnection, name: String) -> Result<Option<PoolRow>, StoreError> {
    const SQL: &str =
        "SELECT name, spec, revision, create_time_us, update_time_us FROM pools WHERE name = ?1";
    let found = sqlx::query(SQL).bind(name).fetch_optional(connection).await?;
    found.as_ref().map(row).transpose()
}

/// Why no row was changed.
fn refusal(found: Option<&PoolRow>) -> StoreError {
    found.map_or(StoreError::NotFound, |_| StoreError::Conflict)
}

fn row(row: &SqliteRow) -> Result<PoolRow, StoreError> {
    Ok(PoolRow {
        name: row.try_get("name")?,
        spec: row.try_get("spec")?,
        revision: row.try_get("revision")?,
        create_time_us: row.try_get("create_time_us")?,
        update_time_us: row.try_get("update_time_us")?,
    })
}
