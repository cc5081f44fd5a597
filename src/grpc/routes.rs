//! Which service answers a request.
//!
//! Health and reflection answer from the first moment. The broker's own services come once its definitions are
//! loaded; until then their callers are told that the store is not available.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use tonic::{
    Status,
    body::Body,
    server::NamedService,
    service::{Routes, RoutesBuilder},
};
use tower::Service;

use super::status::status;
use crate::error::Error;

/// What the paths of the broker's own services begin with.
const OURS: &str = "/sublet.";

/// The broker's services. `S` is the one whose speed matters: it is found by one comparison, where tonic's router
/// would cost each call a path match and two boxes more. Cheap to clone.
pub struct Services<S>(Arc<Shared<S>>);

struct Shared<S> {
    always: Routes,
    own: OnceLock<Own<S>>,
}

struct Own<S> {
    fast: S,
    others: Routes,
}

impl<S: NamedService> Services<S> {
    /// Services of which only `always` answer yet.
    #[must_use]
    pub fn new(always: RoutesBuilder) -> Self {
        Self(Arc::new(Shared {
            always: always.routes().prepare(),
            own: OnceLock::new(),
        }))
    }

    /// From now on the broker's own services answer: `fast`, and those added to `others`. Called once; a second time
    /// changes nothing.
    pub fn open(&self, fast: S, others: RoutesBuilder) {
        self.0.own.get_or_init(|| Own {
            fast,
            others: others.routes().prepare(),
        });
    }

    fn is_fast(path: &str) -> bool {
        path.strip_prefix('/')
            .and_then(|path| path.strip_prefix(S::NAME))
            .is_some_and(|method| method.starts_with('/'))
    }
}

impl<S> Clone for Services<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Services<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services")
            .field("open", &self.0.own.get().is_some())
            .finish()
    }
}

type OthersFuture<A> = <Routes as Service<Request<A>>>::Future;
type Refused = Ready<Result<Response<Body>, Infallible>>;

impl<S, A> Service<Request<A>> for Services<S>
where
    S: Service<Request<A>, Response = Response<Body>, Error = Infallible> + NamedService + Clone,
    Routes: Service<Request<A>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Either<OthersFuture<A>, Refused>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated services and the router always are.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let path = request.uri().path();
        if !path.starts_with(OURS) {
            return Either::Right(Either::Left(self.0.always.clone().call(request)));
        }
        match self.0.own.get() {
            Some(own) if Self::is_fast(path) => Either::Left(own.fast.clone().call(request)),
            Some(own) => Either::Right(Either::Left(own.others.clone().call(request))),
            None => Either::Right(Either::Right(ready(Ok(not_yet().into_http())))),
        }
    }
}

fn not_yet() -> Status {
    status(
        &Error::StoreUnavailable {
            source: Arc::new(NotLoaded),
        }
        .into(),
    )
}

/// Why the broker's own services do not answer yet.
#[derive(Debug, thiserror::Error)]
#[error("the definitions are not loaded yet")]
struct NotLoaded;
