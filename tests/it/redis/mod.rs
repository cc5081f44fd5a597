//! Sessions of a real Redis server.

mod basics;
mod blocking;
mod canary;
mod leftovers;
mod logins;
mod loss;
mod pubsub;
mod streams;
mod values;

use serde_json::Value;
use sublet::proto::{
    Endpoint, ExecuteRequest, ExecuteStreamRequest, ExecuteStreamResponse, PoolSpec, RedisBackend, Sizing,
    event, pool_spec::Backend,
};
use tonic::{Status, Streaming};

use crate::support::{
    app::App,
    calls::*,
    redis::{Admin, Server},
};

/// A broker with one pool, `cache`, over a database of its own.
struct Stage {
    app: App,
    broker: Broker,
    admin: Admin,
    /// What CLIENT LIST shows of the pool's sessions, and of no other test's.
    own: String,
}

impl Stage {
    async fn with(sessions: u32) -> Self {
        Self::on_server(Server::shared(), sessions).await
    }

    async fn on_server(server: &Server, sessions: u32) -> Self {
        let database = Server::database();
        let own = RedisBackend {
            database,
            client_name: format!("session-{database}-"),
            ..RedisBackend::default()
        };
        let app = App::start().await;
        create(&app.address, "cache", definition(server, sessions, own)).await;
        let broker = broker(&app.address);
        let mut admin = server.connect().await;
        admin.run(&format!("SELECT {database}")).await;
        Self {
            app,
            broker,
            admin,
            own: format!("name=session-{database}- "),
        }
    }

    /// Runs a one-shot.
    async fn one(&mut self, name: &str, params: Value) -> Result<Value, Status> {
        self.call(one_shot("cache", name, &params.to_string())).await
    }

    async fn on(&mut self, token: &str, name: &str, params: Value) -> Result<Value, Status> {
        self.call(on_lease(token, name, &params.to_string())).await
    }

    async fn call(&mut self, request: ExecuteRequest) -> Result<Value, Status> {
        let text = execute(&mut self.broker, request).await?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Runs a command, written with single blanks between its words, as a one-shot.
    async fn run(&mut self, command: &str) -> Result<Value, Status> {
        self.one("command", words(command)).await
    }

    /// The same on a lease.
    async fn run_on(&mut self, token: &str, command: &str) -> Result<Value, Status> {
        self.on(token, "command", words(command)).await
    }

    /// Waits until the server has so many of the pool's sessions that show all of `wanted`.
    async fn until(&mut self, count: usize, wanted: &[&str]) {
        let wanted: Vec<_> = wanted.iter().copied().chain([self.own.as_str()]).collect();
        self.admin.until(count, &wanted).await;
    }
}

/// Begins a streamed call, and returns when its session is held.
async fn begin_stream(broker: &mut Broker, request: ExecuteRequest) -> Streaming<ExecuteStreamResponse> {
    let request = ExecuteStreamRequest {
        request: Some(request),
    };
    let mut stream = broker.execute_stream(request).await.unwrap().into_inner();
    let first = next(&mut stream).await.unwrap();
    assert!(matches!(first, event::Event::Accepted(_)), "{first:?}");
    stream
}

/// A stream's next event.
async fn next(stream: &mut Streaming<ExecuteStreamResponse>) -> Result<event::Event, Status> {
    let answer = stream.message().await?.unwrap();
    Ok(answer.event.unwrap().event.unwrap())
}

/// A streamed call's items, to its end.
async fn items(broker: &mut Broker, request: ExecuteRequest) -> Result<Vec<Value>, Status> {
    let mut stream = begin_stream(broker, request).await;
    let mut items = Vec::new();
    loop {
        match next(&mut stream).await? {
            event::Event::JsonText(text) => items.push(serde_json::from_str(&text).unwrap()),
            event::Event::End(_) => return Ok(items),
            _ => {}
        }
    }
}

fn words(command: &str) -> Value {
    let words: Vec<&str> = command.split(' ').collect();
    serde_json::json!({ "args": words })
}

/// A pool's definition.
fn definition(server: &Server, sessions: u32, own: RedisBackend) -> PoolSpec {
    PoolSpec {
        endpoints: vec![Endpoint {
            address: server.address().to_string(),
            ..Endpoint::default()
        }],
        sizing: Some(Sizing {
            max_sessions: Some(sessions),
            ..Sizing::default()
        }),
        backend: Some(Backend::Redis(own)),
        ..PoolSpec::default()
    }
}
