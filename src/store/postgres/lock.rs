//! The lock that keeps a second broker out: a session's advisory lock, which ends with its connection.

use std::time::Duration;

use sqlx::{PgConnection, Row};

/// `subl`: keeps the lock apart from those of other programs.
const CLASS: i32 = 0x7375_626c;
/// One broker per schema; the server keeps databases apart itself.
const KEY: &str = "SELECT (oid::bigint & 2147483647)::int FROM pg_namespace WHERE nspname = current_schema()";
/// A holder may go between two looks; whoever comes then may go as well.
const ROUNDS: u32 = 5;

/// Who has the lock now.
pub(super) enum Taking {
    /// This connection.
    Ours,
    /// Another broker, described for people.
    Theirs(String),
}

/// Takes the lock. A connection of this very broker (`label`) that the server has not yet seen ending is ended; for
/// anyone else's lock it waits `patience`, because a killed broker's connection takes a moment to end.
pub(super) async fn take(
    connection: &mut PgConnection,
    label: &str,
    patience: Duration,
) -> Result<Taking, sqlx::Error> {
    let key: Option<i32> = sqlx::query_scalar(KEY).fetch_optional(&mut *connection).await?;
    // Without a schema the migration will say what is wrong.
    let key = key.unwrap_or_default();
    let mut theirs = String::from("another session");
    for _ in 0..ROUNDS {
        let taken = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
            .bind(CLASS)
            .bind(key);
        if taken.fetch_one(&mut *connection).await? {
            return Ok(Taking::Ours);
        }
        match holder(connection, key).await? {
            Some(holder) if holder.label == label => end(connection, holder.pid).await?,
            Some(holder) => theirs = holder.described(),
            None => continue,
        }
        if wait(connection, key, patience).await? {
            return Ok(Taking::Ours);
        }
        if holder(connection, key)
            .await?
            .is_some_and(|holder| holder.label != label)
        {
            return Ok(Taking::Theirs(theirs));
        }
    }
    Ok(Taking::Theirs(theirs))
}

struct Holder {
    pid: i32,
    label: String,
    address: String,
    since: String,
}

impl Holder {
    fn described(&self) -> String {
        format!(
            "the session `{}` (server process {}, from {}, since {})",
            self.label, self.pid, self.address, self.since
        )
    }
}

async fn holder(connection: &mut PgConnection, key: i32) -> Result<Option<Holder>, sqlx::Error> {
    const SQL: &str = "SELECT activity.pid, coalesce(application_name, '') AS label,
            coalesce(host(client_addr), 'the same machine') AS address,
            coalesce(to_char(backend_start, 'YYYY-MM-DD HH24:MI:SS TZ'), 'an unknown time') AS since
        FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)
        WHERE locktype = 'advisory' AND granted AND objsubid = 2
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = $1::int::oid AND objid = $2::int::oid";
    let found = sqlx::query(SQL)
        .bind(CLASS)
        .bind(key)
        .fetch_optional(connection)
        .await?;
    let Some(row) = found else { return Ok(None) };
    Ok(Some(Holder {
        pid: row.try_get("pid")?,
        label: row.try_get("label")?,
        address: row.try_get("address")?,
        since: row.try_get("since")?,
    }))
}

/// Ends a connection of our own that is lost to us and still there for the server.
async fn end(connection: &mut PgConnection, pid: i32) -> Result<(), sqlx::Error> {
    let query = sqlx::query("SELECT pg_terminate_backend($1)").bind(pid);
    query.execute(connection).await.map(drop)
}

/// Waits for the lock in the server, which grants it in the moment it comes free.
async fn wait(connection: &mut PgConnection, key: i32, patience: Duration) -> Result<bool, sqlx::Error> {
    limit(connection, patience).await?;
    let query = sqlx::query("SELECT pg_advisory_lock($1, $2)")
        .bind(CLASS)
        .bind(key);
    let waited = query.execute(&mut *connection).await;
    limit(connection, Duration::ZERO).await?;
    match waited {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => Ok(false),
        Err(error) => Err(error),
    }
}

/// Zero is no limit.
async fn limit(connection: &mut PgConnection, limit: Duration) -> Result<(), sqlx::Error> {
    let query =
        sqlx::query("SELECT set_config('lock_timeout', $1, false)").bind(limit.as_millis().to_string());
    query.execute(connection).await.map(drop)
}
