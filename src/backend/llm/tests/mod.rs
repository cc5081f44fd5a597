//! The kind against scripted providers on real sockets.

mod asked;
mod definition;
mod errors;
#[path = "../../../../tests/it/support/llm_peer.rs"]
#[allow(dead_code, reason = "integration tests use the rest")]
mod llm_peer;
mod losses;
mod providers;
mod recorded;
mod shared;
mod streams;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use self::http_peer::{End, Peer, Step};
use super::*;
use crate::backend::http::tests::peer as http_peer;
use crate::{
    backend::{
        Body, CallError, Completion, Event, Inspected, Output, Params, Sink, registry, secrets::Secrets,
    },
    clock::Clock,
    error::{BackendError, Executed},
    proto::{Endpoint, LlmDefaults, SecretRef, llm_backend::Dialect as Wire, pool_spec, secret_ref::Source},
};

const KEY: &str = "sk-canary-0123456789";

/// A session of a pool, as the broker would use it.
struct Bench {
    backend: Arc<dyn Backend>,
    fence: Arc<Fence>,
    session: Box<dyn Session>,
}

/// A streamed answer.
#[derive(Debug, Default)]
struct Streamed {
    text: String,
    raw: Vec<String>,
    data: Vec<u8>,
    usage: Option<prost_types::Struct>,
    attributes: BTreeMap<String, String>,
}

fn own(dialect: Wire) -> LlmBackend {
    LlmBackend {
        dialect: dialect.into(),
        api_key: Some(env("SUBLET_SECRET_KEY")),
        ..LlmBackend::default()
    }
}

fn env(name: &str) -> SecretRef {
    SecretRef {
        source: Some(Source::Env(name.to_owned())),
    }
}

fn spec(address: &str, own: LlmBackend) -> PoolSpec {
    PoolSpec {
        endpoints: vec![Endpoint {
            address: address.to_owned(),
            ..Endpoint::default()
        }],
        backend: Some(pool_spec::Backend::Llm(own)),
        ..PoolSpec::default()
    }
}

fn backend(spec: &PoolSpec) -> Result<Arc<dyn Backend>, Faults> {
    let variables = [
        ("SUBLET_SECRET_KEY", KEY),
        ("SUBLET_SECRET_SCHEME", "Bearer gw-canary-9876543210"),
        ("SUBLET_SECRET_SHORT", "Token word"),
    ];
    let variables = variables.map(|(name, secret)| (name.to_owned(), secret.to_owned()));
    let surroundings = Surroundings {
        secrets: Secrets::with_variables(Path::new("/nowhere"), variables.into()),
        clock: Clock::tokio(),
    };
    registry::build(spec, &surroundings)
}

fn operation(name: &str, params: &str) -> Operation {
    Operation {
        name: name.to_owned(),
        params: Params::Text(params.to_owned()),
        args: Vec::new(),
        body: Body::Whole(Bytes::new()),
        alone: false,
        inspected: Inspected::default(),
    }
}

fn span(millis: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration {
        seconds: 0,
        nanos: millis * 1_000_000,
    })
}

const HELLO: &str = r#"{"prompt":"hello"}"#;

impl Bench {
    /// A session with a provider of OpenAI's dialect.
    async fn with(peer: &Peer) -> Self {
        Self::of(peer, own(Wire::Openai)).await
    }

    async fn of(peer: &Peer, own: LlmBackend) -> Self {
        Self::made(&spec(&peer.address(), own)).await
    }

    async fn made(spec: &PoolSpec) -> Self {
        Self::at(backend(spec).unwrap(), &spec.endpoints[0].address).await
    }

    /// A session at one of several endpoints.
    async fn at(backend: Arc<dyn Backend>, endpoint: &str) -> Self {
        let fence = Arc::new(Fence::default());
        fence.open(1);
        let session = backend.dial(Arc::clone(&fence), endpoint).await.unwrap();
        Self {
            backend,
            fence,
            session,
        }
    }

    async fn ask(&mut self, name: &str, params: &str) -> Result<Completion, CallError> {
        let operation = operation(name, params);
        self.backend.inspect(&operation).map_err(CallError::Invalid)?;
        let mut sink = Sink::collect(4 << 20);
        self.session.execute(operation, &mut sink).await
    }

    async fn stream(&mut self, name: &str, params: &str) -> Result<Streamed, CallError> {
        let operation = operation(name, params);
        self.backend.inspect(&operation).map_err(CallError::Invalid)?;
        let (events, mut seen) = mpsc::channel(10_000);
        let mut sink = Sink::Stream(events);
        let completion = self.session.execute(operation, &mut sink).await?;
        drop(sink);
        let mut streamed = Streamed {
            attributes: completion.attributes.into_iter().collect(),
            ..Streamed::default()
        };
        while let Some(event) = seen.recv().await {
            match event {
                Event::Text(text) => streamed.text.push_str(&text),
                Event::Json(raw) => streamed.raw.push(raw),
                Event::Data(bytes) => streamed.data.extend_from_slice(&bytes),
                Event::Usage(usage) => streamed.usage = Some(usage),
                other @ (Event::Head(_) | Event::Rows(_) | Event::Progress(_)) => panic!("{other:?}"),
            }
        }
        Ok(streamed)
    }

    /// As [`Bench::stream`], of a call that the provider fails.
    async fn fail(&mut self, name: &str, params: &str) -> (BackendError, Executed) {
        failure(self.stream(name, params).await.unwrap_err())
    }
}

fn failure(error: CallError) -> (BackendError, Executed) {
    let CallError::Backend(error, executed) = error else {
        panic!("{error:?}");
    };
    (error, executed)
}

fn json_of(completion: &Completion) -> &str {
    let Output::Json(text) = &completion.output else {
        panic!("{completion:?}");
    };
    text
}

/// The bodies of the requests that came.
fn bodies(peer: &Peer) -> Vec<String> {
    let requests = peer.requests().into_iter();
    requests
        .map(|seen| String::from_utf8(seen.body).unwrap())
        .collect()
}

fn figure(usage: &Option<prost_types::Struct>, name: &str) -> f64 {
    let Some(prost_types::value::Kind::NumberValue(number)) = usage.as_ref().unwrap().fields[name].kind
    else {
        panic!("{usage:?}");
    };
    number
}
