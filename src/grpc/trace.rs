//! A span for each request, `request{rpc, peer, id}`, in which everything logged on its behalf is found again.
//!
//! It is of level DEBUG: at the default INFO it is never made, because formatting it would cost a tenth of the
//! broker's throughput. Metadata and messages are never logged, so that no token or secret can be.

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tower::Service;
use tracing::{Instrument as _, Span, debug, field::Empty, instrument::Instrumented};

use super::connection::Connection;

/// Runs each request to `inner` within its span.
#[derive(Clone, Debug)]
pub struct Traced<S> {
    inner: S,
}

impl<S> Traced<S> {
    /// Spans for the requests to `inner`.
    #[must_use]
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, A, B> Service<Request<A>> for Traced<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<TracedBody<B>>;
    type Error = Infallible;
    type Future = TracedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let span = span(&request);
        // The handler's first steps may be taken here already.
        let inner = span.in_scope(|| self.inner.call(request));
        TracedFuture(inner.instrument(span))
    }
}

fn span<A>(request: &Request<A>) -> Span {
    let rpc = request.uri().path().trim_start_matches('/');
    let span = tracing::debug_span!("request", rpc, peer = Empty, id = Empty);
    if !span.is_disabled()
        && let Some(connection) = request.extensions().get::<Arc<Connection>>()
    {
        span.record("peer", tracing::field::display(connection.peer()));
        span.record(
            "id",
            format_args!("{}-{}", connection.number(), connection.next_request()),
        );
    }
    span
}

/// A handler within its span.
#[derive(Debug)]
pub struct TracedFuture<F>(Instrumented<F>);

impl<F, B> Future for TracedFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
{
    type Output = Result<Response<TracedBody<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_ok(|response| {
            let span = self.0.span().clone();
            response.map(|body| TracedBody { body, span })
        })
    }
}

/// A response's body within its request's span.
#[derive(Debug)]
pub struct TracedBody<B> {
    body: B,
    span: Span,
}

impl<B: Body<Data = Bytes> + Unpin> Body for TracedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Self { body, span } = &mut *self;
        let _within = span.enter();
        Pin::new(body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for TracedBody<B> {
    fn drop(&mut self) {
        self.span.in_scope(|| debug!("the request has ended"));
    }
}
