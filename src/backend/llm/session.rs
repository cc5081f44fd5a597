//! One slot to a provider: a request at a time.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, StatusCode, header};

use super::{
    Read,
    definition::{Place, Provider},
    fault::{self, Kind},
    frames::Division,
    plan::Plan,
    stream::Stream,
    whole,
};
use crate::{
    backend::{
        CallError, Cleanliness, Completion, DialError, Fence, Operation, Session, SessionLost, Sink,
        http::{Asked, Client, Exchange},
    },
    clock::Time,
    error::{BackendError, Executed},
};

/// An endpoint that has answered anyone so lately lives, and is not asked whether it does.
const LATELY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct LlmSession {
    provider: Arc<Provider>,
    place: Arc<Place>,
    client: Client,
}

/// What a call goes by.
pub(super) struct Scene<'a> {
    pub(super) provider: &'a Provider,
    pub(super) plan: &'a Plan,
    begun: Time,
}

/// Why an answer came to nothing.
pub(super) enum Ended {
    /// The provider said something else, or too little.
    Provider {
        error: Box<BackendError>,
        executed: Executed,
        /// All of its answer was read.
        whole: bool,
    },
    /// For another reason; the session has to be settled.
    For(CallError),
}

impl Scene<'_> {
    pub(super) fn elapsed(&self) -> Duration {
        self.provider.clock.now().since(self.begun)
    }

    pub(super) fn first_token_due(&self) -> Time {
        self.begun + self.provider.first_token
    }

    pub(super) fn wall(&self) -> SystemTime {
        let clock = &self.provider.clock;
        clock.wall(clock.now())
    }

    /// An answer that is not whole, or not what it should be.
    pub(super) fn lost(
        &self,
        exchange: &Exchange<'_>,
        kind: Kind,
        message: &str,
        executed: Executed,
    ) -> Ended {
        let message = exchange.redacted(message);
        let answer = (exchange.head.status, &exchange.head.headers);
        Ended::Provider {
            error: Box::new(fault::of_shape(kind, answer, &message, "", self.wall())),
            executed,
            whole: false,
        }
    }

    /// As [`Scene::lost`], of an answer that came whole.
    pub(super) fn misshapen(&self, exchange: &Exchange<'_>, message: &str, body: &str) -> Ended {
        let body = exchange.redacted(body);
        let answer = (exchange.head.status, &exchange.head.headers);
        Ended::Provider {
            error: Box::new(fault::of_shape(
                Kind::Malformed,
                answer,
                message,
                &body,
                self.wall(),
            )),
            executed: Executed::Yes,
            whole: true,
        }
    }

    /// The provider's error inside an answer that began well. What follows it is not waited for.
    pub(super) fn part(&self, exchange: &Exchange<'_>, part: &str) -> Ended {
        let part = exchange.redacted(part);
        let error = fault::of_part(&exchange.head.headers, &part, self.wall());
        Ended::Provider {
            error: Box::new(error),
            executed: Executed::Yes,
            whole: false,
        }
    }
}

impl LlmSession {
    /// Opens a slot at an endpoint.
    pub(super) async fn dial(
        provider: Arc<Provider>,
        place: Arc<Place>,
        fence: Arc<Fence>,
    ) -> Result<Self, DialError> {
        let client = place.service.dial(fence).await?;
        Ok(Self {
            provider,
            place,
            client,
        })
    }

    async fn run(&mut self, mut operation: Operation, sink: &mut Sink) -> Result<Completion, CallError> {
        let read = operation.inspected.take::<Read>();
        let plan = match read.filter(|read| Arc::ptr_eq(&read.by, &self.provider)) {
            Some(read) => read.plan,
            None => Plan::read(&operation, &self.provider).map_err(CallError::Invalid)?,
        };
        // The request is made of the plan; a large prompt need not be held twice.
        drop(operation);
        let streamed = plan.streams(sink.streams()).map_err(CallError::Invalid)?;
        let scene = Scene {
            provider: &self.provider,
            plan: &plan,
            begun: self.provider.clock.now(),
        };
        let asked = plan.asked(self.provider.dialect, self.place.service.base(), streamed);
        let mut exchange = ask(&mut self.client, &asked, &scene, streamed).await?;
        self.place.heard(scene.provider.clock.now());
        let outcome = answer(&mut exchange, &scene, streamed, sink).await;
        match outcome {
            Ok((completion, whole)) => {
                exchange.finish(whole).await;
                Ok(completion)
            }
            Err(Ended::Provider {
                error,
                executed,
                whole,
            }) => {
                exchange.finish(whole).await;
                Err(CallError::Backend(*error, executed))
            }
            Err(Ended::For(error)) => Err(error),
        }
    }

    /// Looks at the connection, and if nobody has heard of the endpoint for a while, asks for its list of models: never
    /// a prompt, which would cost.
    async fn probed(&mut self) -> Result<(), SessionLost> {
        self.client.session_mut().probe().await?;
        let now = self.provider.clock.now();
        if self.place.was_heard(now, LATELY) {
            return Ok(());
        }
        let Some(plan) = Plan::of_health(&self.provider) else {
            return Ok(());
        };
        let asked = plan.asked(self.provider.dialect, self.place.service.base(), false);
        let lost = |error: CallError| SessionLost::because(error.to_string());
        let mut exchange = self.client.ask(&asked).await.map_err(lost)?;
        let status = exchange.head.status;
        let mut whole = true;
        let mut seen = 0;
        while let Some(part) = exchange.next().await.map_err(lost)? {
            seen += part.len();
            if seen > MAX_LISTING {
                whole = false;
                break;
            }
        }
        exchange.finish(whole).await;
        // Who knows of no such list is well: it is none of the server errors that tell of trouble.
        let broken = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
        if status == StatusCode::UNAUTHORIZED || broken {
            let message = format!("the provider answered {} to a health check", status.as_u16());
            return Err(SessionLost::because(message));
        }
        self.place.heard(now);
        Ok(())
    }
}

/// A list of models that is longer costs less as a new connection.
const MAX_LISTING: usize = 256 * 1024;

async fn ask<'a>(
    client: &'a mut Client,
    asked: &Asked,
    scene: &Scene<'_>,
    streamed: bool,
) -> Result<Exchange<'a>, CallError> {
    let due = if streamed {
        scene.first_token_due()
    } else {
        Time::NEVER
    };
    tokio::select! {
        biased;
        exchange = client.ask(asked) => exchange,
        () = scene.provider.clock.sleep_until(due) => Err(CallError::Timeout {
            what: "first token",
            limit: scene.provider.first_token,
        }),
    }
}

/// Reads the answer. True beside the completion if all of it was read.
async fn answer(
    exchange: &mut Exchange<'_>,
    scene: &Scene<'_>,
    streamed: bool,
    sink: &mut Sink,
) -> Result<(Completion, bool), Ended> {
    if !exchange.head.status.is_success() {
        return Err(whole::refusal(exchange, scene).await);
    }
    let division = scene.provider.dialect.division();
    if streamed && comes_in_parts(&exchange.head.headers, division) {
        return Stream::new(exchange, scene).pass_on(sink).await;
    }
    whole::take(exchange, scene, sink)
        .await
        .map(|completion| (completion, true))
}

/// Some servers know of no streams and answer with the whole.
fn comes_in_parts(headers: &HeaderMap, division: Division) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let whole = kind.is_some_and(|kind| {
        kind.trim_start()
            .to_ascii_lowercase()
            .starts_with("application/json")
    });
    division == Division::Lines || !whole
}

impl Session for LlmSession {
    fn endpoint(&self) -> &Arc<str> {
        &self.place.name
    }

    fn execute<'a>(
        &'a mut self,
        operation: Operation,
        sink: &'a mut Sink,
    ) -> BoxFuture<'a, Result<Completion, CallError>> {
        self.run(operation, sink).boxed()
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.client.session_mut().settle()
    }

    /// A provider keeps nothing between requests.
    fn cleanliness(&self) -> Cleanliness {
        self.client.session().cleanliness()
    }

    fn reset(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.client.session_mut().reset()
    }

    fn probe(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.probed().boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.client.into_session().close()
    }
}
