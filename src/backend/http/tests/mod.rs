//! The HTTP backend against scripted services on real sockets.

mod cancel;
mod exchange;
mod faults;
mod h2;
#[path = "../../../../tests/it/support/h2_peer.rs"]
#[allow(dead_code, reason = "integration tests use the rest")]
pub(in crate::backend) mod h2_peer;
#[path = "../../../../tests/it/support/http_peer.rs"]
#[allow(dead_code, reason = "integration tests use the rest")]
pub(in crate::backend) mod peer;
mod secure;
mod streams;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};

use self::peer::{End, Identity, Peer, Step};
use super::*;
use crate::{
    backend::{
        Body, CallError, Cleanliness, Completion, DialErrorKind, Output, Params, Sink, registry,
        secrets::Secrets,
    },
    clock::Clock,
    error::Executed,
    proto::{Endpoint, pool_spec},
};

/// A session of a pool, as the broker would use it.
#[derive(Debug)]
struct Bench {
    backend: Arc<dyn Backend>,
    fence: Arc<Fence>,
    session: Box<dyn Session>,
}

/// A unary answer.
#[derive(Debug)]
struct Answer {
    output: Output,
    attributes: BTreeMap<String, String>,
    retries: u32,
}

fn spec(address: &str, own: HttpBackend) -> PoolSpec {
    PoolSpec {
        endpoints: vec![Endpoint {
            address: address.to_owned(),
            ..Endpoint::default()
        }],
        backend: Some(pool_spec::Backend::Http(own)),
        ..PoolSpec::default()
    }
}

fn backend(spec: &PoolSpec, root: &Path) -> Result<Arc<dyn Backend>, Faults> {
    let variables = [("SUBLET_SECRET_KEY".to_owned(), "Bearer canary".to_owned())];
    let surroundings = Surroundings {
        secrets: Secrets::with_variables(root, variables.into()),
        clock: Clock::tokio(),
    };
    registry::build(spec, &surroundings)
}

impl Bench {
    /// A session with `peer`, with everything else left at its default.
    async fn with(peer: &Peer) -> Self {
        let bench = Self::made(&spec(&peer.address(), HttpBackend::default())).await;
        peer.until(|lines| !lines.is_empty()).await;
        bench
    }

    async fn made(spec: &PoolSpec) -> Self {
        let backend = backend(spec, Path::new("/nowhere")).unwrap();
        let fence = Arc::new(Fence::default());
        fence.open(1);
        let session = backend.dial(Arc::clone(&fence), "").await.unwrap();
        Self {
            backend,
            fence,
            session,
        }
    }

    async fn run(&mut self, operation: Operation) -> Result<Answer, CallError> {
        self.backend.inspect(&operation).map_err(CallError::Invalid)?;
        let mut sink = Sink::collect(4 << 20);
        let Completion { retries, .. } = self.session.execute(operation, &mut sink).await?;
        let Sink::Collect(collected) = sink else {
            unreachable!()
        };
        let (output, attributes) = collected.into_parts();
        Ok(Answer {
            output,
            attributes: attributes.into_iter().collect(),
            retries,
        })
    }

    async fn ask(&mut self, params: Value) -> Result<Answer, CallError> {
        self.run(request(params)).await
    }

    /// What the broker would say of a failed call, by the rule of [`CallError`].
    fn executed(&self, error: &CallError, sent_before: u64) -> Executed {
        let by_rule = if self.fence.sent() == sent_before {
            Executed::No
        } else {
            Executed::Unknown
        };
        match error {
            CallError::Lost { executed, .. } | CallError::Broken { executed, .. } => {
                executed.unwrap_or(by_rule)
            }
            CallError::Invalid(_) | CallError::Dial(_) => Executed::No,
            CallError::Backend(_, executed) | CallError::LeftOpen(executed) => *executed,
            CallError::Timeout { .. } | CallError::Sink(_) | CallError::Input => by_rule,
        }
    }
}

impl Answer {
    fn text(&self) -> &str {
        match &self.output {
            Output::Json(text) => text,
            Output::None | Output::Rows(_) | Output::Body(_) => panic!("no JSON: {self:?}"),
        }
    }

    fn body(&self) -> &[u8] {
        match &self.output {
            Output::Body(bytes) => bytes,
            Output::None => b"",
            Output::Json(_) | Output::Rows(_) => panic!("no bytes: {self:?}"),
        }
    }
}

fn request(params: Value) -> Operation {
    Operation {
        name: "request".to_owned(),
        params: Params::Object(params),
        args: Vec::new(),
        body: Body::Whole(Bytes::new()),
        alone: false,
        inspected: crate::backend::Inspected::default(),
    }
}

fn answer(text: &str) -> Step {
    Step::Send(text.replace('\n', "\r\n").into_bytes())
}

fn span(millis: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration {
        seconds: i64::from(millis / 1000),
        nanos: millis % 1000 * 1_000_000,
    })
}
