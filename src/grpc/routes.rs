//! Which service answers a request: the data plane by one comparison, all others through tonic's router.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{Request, Response};
use tonic::{
    body::Body,
    server::NamedService,
    service::{Routes, RoutesBuilder},
};
use tower::Service;

/// The broker's services. `S` is the one whose speed matters; tonic's router would cost each call a second clone, a
/// path match and two boxes more.
#[derive(Clone, Debug)]
pub struct Services<S> {
    fast: S,
    others: Routes,
}

impl<S: NamedService> Services<S> {
    /// `fast`, and the services added to `others`. A method that neither has is answered UNIMPLEMENTED.
    #[must_use]
    pub fn new(fast: S, others: RoutesBuilder) -> Self {
        Self {
            fast,
            others: others.routes().prepare(),
        }
    }

    fn is_fast(path: &str) -> bool {
        path.strip_prefix('/')
            .and_then(|path| path.strip_prefix(S::NAME))
            .is_some_and(|method| method.starts_with('/'))
    }
}

impl<S, A> Service<Request<A>> for Services<S>
where
    S: Service<Request<A>, Response = Response<Body>, Error = Infallible> + NamedService,
    Routes: Service<Request<A>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, <Routes as Service<Request<A>>>::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated services and the router always are.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        if Self::is_fast(request.uri().path()) {
            Either::Left(self.fast.call(request))
        } else {
            Either::Right(self.others.call(request))
        }
    }
}
