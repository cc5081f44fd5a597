//! Sessions with a scripted server, which reads, answers and cancels when a test says so.

mod peer;
mod sending;
mod settling;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::noop_waker_ref;
use serde_json::{Value, json};

use self::peer::{Line, Peer};
use super::{definition::Server, session::PostgresSession};
use crate::{
    backend::{
        Body, Fence, Inspected, Operation, Params, Session as _, Sink, registry::Surroundings,
        secrets::Secrets,
    },
    clock::Clock,
    proto::{Endpoint, PoolSpec, PostgresBackend, postgres_backend::Reset},
};

/// The most that a step may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// A session, the fence before it, and the server behind it.
struct Bench {
    peer: Peer,
    line: Line,
    fence: Arc<Fence>,
    session: PostgresSession,
}

impl Bench {
    async fn new() -> Self {
        let mut peer = Peer::start().await;
        let own = PostgresBackend {
            user: "sublet".to_owned(),
            reset: Reset::Transaction.into(),
            ..PostgresBackend::default()
        };
        let spec = PoolSpec {
            endpoints: vec![Endpoint {
                address: peer.address.to_string(),
                ..Endpoint::default()
            }],
            ..PoolSpec::default()
        };
        let clock = Clock::tokio();
        let surroundings = Surroundings {
            secrets: Secrets::with_variables("/nowhere", [].into()),
            clock: clock.clone(),
        };
        let server = Arc::new(Server::read(&spec, &own, &surroundings).unwrap());
        let fence = Arc::new(Fence::default());
        fence.open(1);
        let (session, line) = tokio::join!(
            PostgresSession::dial(server, clock, Arc::clone(&fence)),
            peer.login()
        );
        Self {
            peer,
            line,
            fence,
            session: session.unwrap(),
        }
    }

    /// Runs a call until it waits for the server, `events` of its answer are there, and drops it then.
    async fn drop_call(&mut self, params: Value, answer: &[u8], events: usize) {
        let (out, taken) = tokio::sync::mpsc::channel(1);
        let mut sink = Sink::Stream(out);
        let mut call = self.session.execute(simple(&params), &mut sink);
        assert!(poll(&mut call).is_pending());
        if !answer.is_empty() {
            self.line.message().await;
            self.line.say(answer).await;
            assert!(poll(&mut call).is_pending());
        }
        while taken.len() < events {
            assert!(poll(&mut call).is_pending());
            tokio::task::yield_now().await;
        }
    }
}

fn simple(params: &Value) -> Operation {
    Operation {
        name: "simple".to_owned(),
        params: Params::Object(params.clone()),
        args: Vec::new(),
        body: Body::Whole(Bytes::new()),
        alone: true,
        inspected: Inspected::default(),
    }
}

fn sql(text: &str) -> Value {
    json!({ "sql": text, "rows": "json" })
}

/// Waits for both, and returns what the first came to. Neither may hang.
async fn both<T>(one: impl Future<Output = T>, other: impl Future<Output = ()>) -> T {
    let both = tokio::time::timeout(PATIENCE, async { tokio::join!(one, other) }).await;
    both.expect("the session and the server wait for each other").0
}

/// Polls once; who is woken is of no interest.
fn poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
    Pin::new(future).poll(&mut Context::from_waker(noop_waker_ref()))
}
