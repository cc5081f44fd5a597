//! Servers that tell what they do: a real PostgreSQL, by `pg_stat_activity`, and a real Redis, by CLIENT LIST.

use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use sublet::proto::{PostgresBackend, RedisBackend, pool_spec::Backend};

use super::Work;
use crate::{
    broker::Broker,
    client::Call,
    support::{
        postgres::{self, Database},
        redis::{Admin, Server},
    },
};

/// Rows without end, a kilobyte each.
const ROWS: &str = "select generate_series(1, 1000000000000) as n, repeat('x', 1000) as pad";
const SLEEP: &str = "select pg_sleep(3600)";

/// A database, its pool, and a connection beside it.
pub struct Postgres {
    beside: PgConnection,
    _server: postgres::Server,
}

impl Postgres {
    pub async fn start(broker: &Broker) -> Self {
        let server = postgres::Server::start();
        let database = Database::fresh_on(&server).await;
        let backend = Backend::Postgres(PostgresBackend {
            user: "sublet".to_owned(),
            database: database.name().to_owned(),
            ..PostgresBackend::default()
        });
        let address = database.address().to_string();
        broker.create("db", 1, backend, Some(&address)).await;
        Self {
            beside: database.connect().await,
            _server: server,
        }
    }

    fn call(sql: &str) -> Call {
        Call {
            pool: "db",
            operation: "query",
            params: json!({ "sql": sql }).to_string(),
        }
    }

    /// Asks until so many sessions are at work on a statement.
    async fn until(&mut self, sql: &str, wanted: i64) {
        let count = format!(
            "select count(*) from pg_stat_activity where datname = current_database() and state = 'active' \
             and query = '{}'",
            sql.replace('\'', "''")
        );
        loop {
            let counted = sqlx::query_scalar::<_, i64>(AssertSqlSafe(count.clone()));
            if counted.fetch_one(&mut self.beside).await.expect("an answer") == wanted {
                return;
            }
        }
    }
}

/// An answer whose rows come and come.
pub struct Rows<'a>(pub &'a mut Postgres);

impl Work for Rows<'_> {
    const NAME: &'static str = "postgres, in the rows of an answer";
    const ANSWERS: bool = true;

    fn call(&self) -> Call {
        Postgres::call(ROWS)
    }

    async fn begun(&mut self) {
        self.0.until(ROWS, 1).await;
    }

    async fn stopped(&mut self) {
        self.0.until(ROWS, 0).await;
    }
}

/// A statement that says nothing for long.
pub struct Statement<'a>(pub &'a mut Postgres);

impl Work for Statement<'_> {
    const NAME: &'static str = "postgres, in a long statement";
    const ANSWERS: bool = false;

    fn call(&self) -> Call {
        Postgres::call(SLEEP)
    }

    async fn begun(&mut self) {
        self.0.until(SLEEP, 1).await;
    }

    async fn stopped(&mut self) {
        self.0.until(SLEEP, 0).await;
    }
}

/// A Redis, its pool, and a connection beside it.
pub struct Redis {
    beside: Admin,
    _server: Server,
}

impl Redis {
    pub async fn start(broker: &Broker) -> Self {
        let server = Server::start_with("", |_| {});
        let address = server.address().to_string();
        let backend = Backend::Redis(RedisBackend::default());
        broker.create("cache", 1, backend, Some(&address)).await;
        Self {
            beside: server.connect().await,
            _server: server,
        }
    }
}

/// A subscription.
pub struct Subscription<'a>(pub &'a mut Redis);

impl Work for Subscription<'_> {
    const NAME: &'static str = "redis, in a subscription";
    const ANSWERS: bool = true;

    fn call(&self) -> Call {
        Call {
            pool: "cache",
            operation: "subscribe",
            params: json!({ "channels": ["news"] }).to_string(),
        }
    }

    async fn begun(&mut self) {
        self.0.beside.until(1, &["sub=1 "]).await;
        self.0.beside.run("PUBLISH news x").await;
    }

    async fn stopped(&mut self) {
        self.0.beside.until(0, &["sub=1 "]).await;
    }
}

/// A command that waits for something to come.
pub struct Wait<'a>(pub &'a mut Redis);

impl Work for Wait<'_> {
    const NAME: &'static str = "redis, in BLPOP";
    const ANSWERS: bool = false;

    fn call(&self) -> Call {
        Call {
            pool: "cache",
            operation: "command",
            params: json!({ "args": ["BLPOP", "queue", 0] }).to_string(),
        }
    }

    async fn begun(&mut self) {
        self.0.beside.until(1, &["flags=b "]).await;
    }

    async fn stopped(&mut self) {
        self.0.beside.until(0, &["flags=b "]).await;
    }
}
