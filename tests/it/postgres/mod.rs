//! Sessions of a real PostgreSQL server.

mod basics;
mod canary;
mod cancel;
mod definition;
mod judged;
mod kept;
mod killed;
mod loss;
mod notify;
mod opened;
mod prepared;
mod staged;
mod standby;
mod streams;
mod values;
mod wire;

use serde_json::{Value, json};
use sublet::proto::{
    Endpoint, ExecuteRequest, PoolSpec, PostgresBackend, Sizing, pool_spec::Backend, postgres_backend::Reset,
};
use tonic::Status;

use crate::support::{app::App, calls::*, postgres::Database};

/// A broker with one pool, `db`, over a database of its own.
struct Stage {
    app: App,
    broker: Broker,
    database: Database,
}

impl Stage {
    async fn with(sessions: u32) -> Self {
        Self::reset_by(sessions, Reset::Full).await
    }

    async fn reset_by(sessions: u32, reset: Reset) -> Self {
        let database = Database::fresh().await;
        let app = App::start().await;
        let mut spec = definition(&database, sessions);
        if let Some(Backend::Postgres(own)) = &mut spec.backend {
            own.set_reset(reset);
        }
        create(&app.address, "db", spec).await;
        let broker = broker(&app.address);
        Self {
            app,
            broker,
            database,
        }
    }

    /// Runs a one-shot.
    async fn one(&mut self, name: &str, params: Value) -> Result<Value, Status> {
        self.call(one_shot("db", name, &params.to_string())).await
    }

    async fn on(&mut self, token: &str, name: &str, params: Value) -> Result<Value, Status> {
        self.call(on_lease(token, name, &params.to_string())).await
    }

    async fn call(&mut self, request: ExecuteRequest) -> Result<Value, Status> {
        let text = execute(&mut self.broker, request).await?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A query's rows as JSON.
    async fn rows(&mut self, sql: &str) -> Value {
        self.one("query", json!({ "sql": sql, "rows": "json" }))
            .await
            .unwrap()
    }
}

/// A pool's definition.
pub fn definition(database: &Database, sessions: u32) -> PoolSpec {
    PoolSpec {
        endpoints: vec![Endpoint {
            address: database.address().to_string(),
            ..Endpoint::default()
        }],
        sizing: Some(Sizing {
            max_sessions: Some(sessions),
            ..Sizing::default()
        }),
        backend: Some(Backend::Postgres(PostgresBackend {
            user: "sublet".to_owned(),
            database: database.name().to_owned(),
            ..PostgresBackend::default()
        })),
        ..PoolSpec::default()
    }
}
