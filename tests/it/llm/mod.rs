//! Pools of LLM providers, through the broker.

mod cancel;
mod wire;

use sublet::proto::{
    Endpoint, Event, ExecuteRequest, ExecuteStreamRequest, ExecuteStreamResponse, LlmBackend, PoolSpec,
    Sizing, Tls, event, llm_backend::Dialect, pool_spec::Backend,
};
use tonic::{Status, Streaming};

use crate::support::{app::App, calls::*, http_peer::Peer};

fn definition(address: &str, own: LlmBackend) -> PoolSpec {
    PoolSpec {
        endpoints: vec![Endpoint {
            address: address.to_owned(),
            ..Endpoint::default()
        }],
        sizing: Some(Sizing {
            max_sessions: Some(1),
            ..Sizing::default()
        }),
        backend: Some(Backend::Llm(own)),
        ..PoolSpec::default()
    }
}

/// A broker with one pool, `llm`, of one session.
async fn stage(address: &str, own: LlmBackend) -> (App, Broker) {
    let app = App::start().await;
    create(&app.address, "llm", definition(address, own)).await;
    let broker = broker(&app.address);
    (app, broker)
}

fn trusting(dialect: Dialect) -> LlmBackend {
    LlmBackend {
        dialect: dialect.into(),
        tls: Some(Tls {
            skip_verify: true,
            ..Tls::default()
        }),
        ..LlmBackend::default()
    }
}

fn hello() -> ExecuteRequest {
    one_shot("llm", "chat", r#"{"prompt":"hello"}"#)
}

async fn begin(
    broker: &mut Broker,
    request: ExecuteRequest,
) -> Result<Streaming<ExecuteStreamResponse>, Status> {
    let request = ExecuteStreamRequest {
        request: Some(request),
    };
    Ok(broker.execute_stream(request).await?.into_inner())
}

async fn next(stream: &mut Streaming<ExecuteStreamResponse>) -> Result<Option<event::Event>, Status> {
    let message = stream.message().await?;
    Ok(message
        .and_then(|message| message.event)
        .and_then(|Event { event }| event))
}

/// Reads a stream up to its first text.
async fn first_text(stream: &mut Streaming<ExecuteStreamResponse>) -> String {
    loop {
        match next(stream).await.unwrap().unwrap() {
            event::Event::Accepted(_) => {}
            event::Event::Text(text) => return text,
            other => panic!("{other:?}"),
        }
    }
}

/// The error that a streamed call ends with.
async fn error(broker: &mut Broker, request: ExecuteRequest) -> Status {
    let mut stream = match begin(broker, request).await {
        Ok(stream) => stream,
        Err(status) => return status,
    };
    loop {
        match next(&mut stream).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended well"),
            Err(status) => return status,
        }
    }
}

/// What an error says beside its message.
fn told(status: &Status, name: &str) -> String {
    use tonic_types::StatusExt as _;
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    info.metadata.get(name).cloned().unwrap_or_default()
}

fn openai(peer: &Peer) -> String {
    format!("http://{}", peer.address())
}
