//! More ways to set a stage, and what several groups of tests ask of it.

use std::{process::Command, time::Duration};

use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use sublet::proto::{
    Endpoint, ExecuteRequest, ExecuteStreamRequest, PoolSpec, PostgresBackend, Result as Answer, Rows, Value,
    event::Event, pool_spec::Backend, result::Output, value::Kind,
};
use tonic::Status;

use super::{Stage, definition};
use crate::support::{
    app::App,
    calls::*,
    postgres::{Database, find_binaries},
    proxy::Proxy,
};

/// The most that a step may take before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_secs(30);

impl Stage {
    /// Over a given database, with a definition that is changed first.
    pub async fn over(database: Database, sessions: u32, change: impl FnOnce(&mut PoolSpec)) -> Self {
        let app = App::start().await;
        let mut spec = definition(&database, sessions);
        change(&mut spec);
        create(&app.address, "db", spec).await;
        let broker = broker(&app.address);
        Self {
            app,
            broker,
            database,
        }
    }

    /// With a proxy between the broker and the server.
    pub async fn behind_a_proxy(sessions: u32, change: impl FnOnce(&mut PoolSpec)) -> (Self, Proxy) {
        let database = Database::fresh().await;
        let proxy = Proxy::before(database.address()).await;
        let address = proxy.address().to_string();
        let stage = Self::over(database, sessions, |spec| {
            spec.endpoints = vec![Endpoint {
                address,
                ..Endpoint::default()
            }];
            change(spec);
        });
        (stage.await, proxy)
    }

    /// A one-shot's whole answer.
    pub async fn answer(&mut self, request: ExecuteRequest) -> Result<Answer, Status> {
        let response = self.broker.execute(request).await?;
        Ok(response.into_inner().result.unwrap())
    }

    /// The typed rows of a query with typed arguments.
    pub async fn typed(&mut self, sql: &str, args: Vec<Value>) -> Result<Rows, Status> {
        let mut request = one_shot("db", "query", &serde_json::json!({ "sql": sql }).to_string());
        request.operation.as_mut().unwrap().args = args;
        match self.answer(request).await?.output {
            Some(Output::Rows(rows)) => Ok(rows),
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// A statement of which only its success matters.
    pub async fn run(&mut self, sql: &str) {
        self.one("simple", serde_json::json!({ "sql": sql }))
            .await
            .unwrap();
    }
}

/// The definition's own part.
pub fn own(spec: &mut PoolSpec) -> &mut PostgresBackend {
    match &mut spec.backend {
        Some(Backend::Postgres(own)) => own,
        other => panic!("{other:?}"),
    }
}

/// A call whose answer is streamed.
pub async fn stream(
    broker: &mut Broker,
    request: ExecuteRequest,
) -> Result<tonic::Streaming<sublet::proto::ExecuteStreamResponse>, Status> {
    let request = ExecuteStreamRequest {
        request: Some(request),
    };
    Ok(broker.execute_stream(request).await?.into_inner())
}

/// Everything that a streamed call says.
pub async fn events(broker: &mut Broker, request: ExecuteRequest) -> Result<Vec<Event>, Status> {
    let mut events = stream(broker, request).await?;
    let mut all = Vec::new();
    while let Some(event) = next(&mut events).await? {
        all.push(event);
    }
    Ok(all)
}

/// The next event of a stream.
pub async fn next(
    events: &mut tonic::Streaming<sublet::proto::ExecuteStreamResponse>,
) -> Result<Option<Event>, Status> {
    let response = events.message().await?;
    Ok(response.map(|response| response.event.unwrap().event.unwrap()))
}

pub fn text(text: &str) -> Value {
    of(Kind::Text(text.to_owned()))
}

pub fn of(kind: Kind) -> Value {
    Value {
        kind: Some(kind),
        ..Value::default()
    }
}

/// The one number that a query returns, asked beside the broker.
pub async fn count(admin: &mut PgConnection, sql: &str) -> i64 {
    let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    let row = sqlx::Executor::fetch_one(&mut *admin, row).await.unwrap();
    row.try_get::<i64, _>(0).unwrap()
}

/// Waits until a query returns the number.
pub async fn until(admin: &mut PgConnection, sql: &str, wanted: i64) {
    let reached = async {
        while count(admin, sql).await != wanted {
            tokio::task::yield_now().await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    assert!(reached.is_ok(), "{sql} never came to {wanted}");
}

/// Waits until a number has stood still while the server was asked many times over.
pub async fn settled(admin: &mut PgConnection, number: impl Fn() -> u64) -> u64 {
    let still = async {
        let (mut seen, mut rounds) = (number(), 0);
        while rounds < 1000 {
            count(admin, "select 1::int8").await;
            rounds = if number() == seen { rounds + 1 } else { 0 };
            seen = number();
        }
        seen
    };
    tokio::time::timeout(PATIENCE, still)
        .await
        .expect("it stands still some time")
}

/// What psql prints for each of these queries, settings first.
pub fn psql(database: &Database, settings: &str, queries: &[String]) -> Vec<String> {
    let mut command = Command::new(find_binaries().join("psql"));
    command
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-0",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &database.url(),
        ])
        .args(["-P", "null=<null>"])
        .env("PGCLIENTENCODING", "UTF8");
    if !settings.is_empty() {
        command.args(["-c", settings]);
    }
    for query in queries {
        command.args(["-c", query]);
    }
    let said = command.output().expect("psql is beside the server's programs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8(said.stdout).unwrap();
    let records: Vec<_> = text.split('\0').map(str::to_owned).collect();
    // A zero byte ends each record, so the last part is empty.
    let (last, records) = records.split_last().unwrap();
    assert_eq!((last.as_str(), records.len()), ("", queries.len()));
    records.to_vec()
}
