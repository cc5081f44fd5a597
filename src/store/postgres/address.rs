//! Which database, and how a connection to it is made ready: lock first, then the session's limits.

use std::str::FromStr;

use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Timing, lock};
use crate::store::{LockState, StoreError, link::Database};

/// The database, and the state of the lock on it.
pub(super) struct Postgres {
    options: PgConnectOptions,
    place: String,
    /// How the server's list of sessions shows this broker, so that it knows its own ones again.
    label: String,
    timing: Timing,
    lock: watch::Sender<LockState>,
}

/// The options hold the password.
impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// The database that `url` names.
    pub(super) fn at(url: &str, timing: Timing) -> Result<Self, StoreError> {
        let label = format!("sublet-{}-{}", std::process::id(), Uuid::new_v4().simple());
        let options = parse(url)?
            .application_name(&label)
            // A broker that vanished must not keep the lock for the hours that TCP would take to notice.
            .options([
                ("tcp_keepalives_idle", "10"),
                ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "3"),
            ]);
        let place = place(&options);
        let (lock, _) = watch::channel(LockState::Lost);
        Ok(Self {
            options,
            place,
            label,
            timing,
            lock,
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn follow_lock(&self) -> watch::Receiver<LockState> {
        self.lock.subscribe()
    }

    async fn open(&self) -> Result<PgConnection, StoreError> {
        if let LockState::Taken { by } = &*self.lock.borrow() {
            return Err(StoreError::Locked { by: by.clone() });
        }
        let mut connection = PgConnection::connect_with(&self.options)
            .await
            .map_err(|e| self.refused(e))?;
        match lock::take(&mut connection, &self.label, self.timing.lock).await? {
            lock::Taking::Ours => {}
            lock::Taking::Theirs(holder) => {
                let by = format!(
                    "{holder} has {}; stop it, or give this one a database of its own",
                    self.place
                );
                self.lock.send_replace(LockState::Taken { by: by.clone() });
                return Err(StoreError::Locked { by });
            }
        }
        prepare(&mut connection, self.timing).await?;
        self.lock.send_replace(LockState::Held);
        Ok(connection)
    }

    /// What a person must mend does not get better by trying again: a login, or a database that is not there.
    fn refused(&self, error: sqlx::Error) -> StoreError {
        let code = error.as_database_error().and_then(|error| error.code());
        let permanent = code.is_some_and(|code| code.starts_with("28") || code == "3D000");
        if permanent {
            StoreError::unusable(format!("{} refuses: {error}", self.place), error)
        } else {
            StoreError::unavailable(error)
        }
    }
}

/// The cause is left out of the message: it may quote a part of the URL.
fn parse(url: &str) -> Result<PgConnectOptions, StoreError> {
    let scheme = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let parsed = PgConnectOptions::from_str(url).ok().filter(|_| scheme);
    parsed.ok_or_else(|| StoreError::Unusable {
        reason: "the database URL cannot be understood: give postgres://USER:PASSWORD@HOST:PORT/DATABASE"
            .into(),
        source: None,
    })
}

fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(socket) => format!("PostgreSQL at {}, database {database}", socket.display()),
        None => {
            let (host, port) = (options.get_host(), options.get_port());
            format!("PostgreSQL at {host}:{port}, database {database}")
        }
    }
}

/// Sets the session's limits: the server gives up before the broker does, and so the lock is not kept by a statement
/// whose broker has gone. An answer to a commit must mean that it is on disk, whatever the server's default is.
async fn prepare(connection: &mut PgConnection, timing: Timing) -> Result<(), sqlx::Error> {
    const SQL: &str = "SELECT set_config('statement_timeout', $1, false),
        set_config('idle_in_transaction_session_timeout', $1, false),
        set_config('synchronous_commit',
            CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
            ELSE current_setting('synchronous_commit') END, false)";
    let limit = timing.work.as_millis().to_string();
    sqlx::query(SQL).bind(limit).execute(connection).await.map(drop)
}

/// Brings the tables up to date, in the transactions that the migrator makes itself.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<(), StoreError> {
    let mut migrator = sqlx::migrate!("migrations/postgres");
    migrator.set_ignore_missing(true);
    migrator
        .run_direct(None, connection, false)
        .await
        .map_err(|error| {
            let reason = format!("the database cannot be migrated: {error}");
            StoreError::unusable(reason, error)
        })
}

impl Database for Postgres {
    type Connection = PgConnection;

    fn connect(&self) -> BoxFuture<'_, Result<PgConnection, StoreError>> {
        self.open().boxed()
    }

    fn lost(&self) {
        self.lock.send_if_modified(|state| {
            let held = *state == LockState::Held;
            if held {
                *state = LockState::Lost;
            }
            held
        });
    }

    fn statement<'c>(
        connection: &'c mut PgConnection,
        sql: &'static str,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>> {
        async move { sqlx::raw_sql(sql).execute(connection).await.map(drop) }.boxed()
    }

    const BEGIN: &'static str = "BEGIN";

    fn proves_rollback(error: &sqlx::Error) -> bool {
        // Integrity, rollback and resource errors abort the commit; a session that is ended (57P..) or a connection
        // that breaks (08...) may have committed just before.
        let code = error.as_database_error().and_then(|error| error.code());
        code.is_some_and(|code| {
            ["23", "25", "40", "53"]
                .iter()
                .any(|class| code.starts_with(class))
        })
    }
}
