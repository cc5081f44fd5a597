//! Sessions of drivers that speak sublet.plugin.v1, and the conformance kit.

mod basics;
mod cancel;
mod kit;
mod loss;
mod reach;

use serde_json::{Value, json};
use sublet::proto::{
    ExecuteRequest, ExecuteStreamRequest, ExecuteStreamResponse, PluginBackend, PoolSpec, Sizing,
    event::Event as Told, pool_spec::Backend,
};
use tonic::{Status, Streaming};

use crate::support::{
    app::App,
    calls::*,
    driver::{Fault, Running},
};

/// A broker with one pool, `dev`, and its driver.
struct Stage {
    app: App,
    broker: Broker,
    driver: Running,
}

impl Stage {
    async fn with(sessions: u32) -> Self {
        Self::broken(sessions, Fault::None).await
    }

    async fn broken(sessions: u32, fault: Fault) -> Self {
        let driver = Running::start(fault).await;
        let app = App::start().await;
        create(&app.address, "dev", definition(&driver.address, sessions)).await;
        let broker = broker(&app.address);
        Self { app, broker, driver }
    }

    /// Runs a one-shot.
    async fn one(&mut self, name: &str, params: Value) -> Result<Value, Status> {
        self.call(one_shot("dev", name, &params.to_string())).await
    }

    async fn on(&mut self, token: &str, name: &str, params: Value) -> Result<Value, Status> {
        self.call(on_lease(token, name, &params.to_string())).await
    }

    async fn call(&mut self, request: ExecuteRequest) -> Result<Value, Status> {
        let text = execute(&mut self.broker, request).await?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn stream(&mut self, request: ExecuteRequest) -> Streaming<ExecuteStreamResponse> {
        let request = ExecuteStreamRequest {
            request: Some(request),
        };
        self.broker.execute_stream(request).await.unwrap().into_inner()
    }

    async fn created(&self) -> u64 {
        stats(&self.app.address, "dev").await.sessions_created
    }
}

/// The next event of a stream, past `accepted`.
async fn next(events: &mut Streaming<ExecuteStreamResponse>) -> Result<Option<Told>, Status> {
    loop {
        match events.message().await?.and_then(|answer| answer.event?.event) {
            Some(Told::Accepted(_)) => {}
            other => return Ok(other),
        }
    }
}

/// A pool's definition.
fn definition(address: &str, sessions: u32) -> PoolSpec {
    PoolSpec {
        sizing: Some(Sizing {
            max_sessions: Some(sessions),
            ..Sizing::default()
        }),
        backend: Some(Backend::Plugin(PluginBackend {
            address: address.to_owned(),
            ..PluginBackend::default()
        })),
        ..PoolSpec::default()
    }
}
