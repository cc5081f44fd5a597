//! The caller's deadline: `grpc-timeout` bounds a request from its first header to the last byte of its answer.
//!
//! tonic's own would answer CANCELLED, and covers only the time until the response's headers.

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tower::Service;

use super::status::status;
use crate::{
    clock::{Clock, Time},
    error::{Error, Executed, Failure, Faults},
};

/// When a request's caller gives up. In the request's extensions if the caller said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Time);

/// Answers `DEADLINE_EXCEEDED` when the caller's deadline passes, and cancels what runs; `INVALID_ARGUMENT` when its
/// `grpc-timeout` cannot be read. Requests without one pass at no cost.
#[derive(Clone, Debug)]
pub struct Deadlines<S> {
    inner: S,
    clock: Clock,
}

impl<S> Deadlines<S> {
    /// Deadlines for the requests to `inner`.
    #[must_use]
    pub const fn new(inner: S, clock: Clock) -> Self {
        Self { inner, clock }
    }
}

impl<S, A, B> Service<Request<A>> for Deadlines<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>,
    S::Future: Unpin,
    B: Body<Data = Bytes> + Default + Unpin,
{
    type Response = Response<DeadlineBody<B>>;
    type Error = Infallible;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let timeout = match request.headers().get("grpc-timeout").map(parse).transpose() {
            Ok(timeout) => timeout,
            Err(malformed) => return DeadlineFuture::Refused(Some(malformed)),
        };
        if let Some(timeout) = timeout {
            request
                .extensions_mut()
                .insert(Deadline(self.clock.now() + timeout));
        }
        let executed = executes(request.uri().path()).then_some(Executed::Unknown);
        let timer = timeout.map(|timeout| Timer {
            sleep: Box::pin(sleep(timeout)),
            executed,
        });
        DeadlineFuture::Running {
            timer,
            inner: self.inner.call(request),
        }
    }
}

/// Whether a method runs operations, so that its caller wants to know whether one was executed.
fn executes(path: &str) -> bool {
    let method = path.strip_prefix("/sublet.v1.BrokerService/");
    matches!(method, Some("Execute" | "ExecuteStream" | "OpenSession"))
}

/// A request's deadline.
#[derive(Debug)]
pub struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// What is known of its operations when it ends here.
    executed: Option<Executed>,
}

impl Timer {
    /// What the caller gets whose deadline has passed; usually it no longer listens.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        ready!(self.sleep.as_mut().poll(cx));
        let mut failure = Failure::from(Error::DeadlineExceeded);
        failure.executed = self.executed;
        Poll::Ready(status(&failure))
    }
}

/// Reads a `grpc-timeout`: up to eight digits and a unit.
fn parse(value: &HeaderValue) -> Result<Duration, Status> {
    read(value).ok_or_else(|| {
        let right = "must be 1 to 8 digits and a unit of H, M, S, m, u, n, such as 500m";
        let faults = Faults::one("grpc-timeout", right);
        status(&Error::Invalid { faults }.into())
    })
}

fn read(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// A response that comes before the deadline, or says that it has passed.
#[derive(Debug)]
pub enum DeadlineFuture<F> {
    /// The handler runs.
    Running {
        /// Ends it; absent without a deadline.
        timer: Option<Timer>,
        /// The handler.
        inner: F,
    },
    /// The request is refused; empty once that was said.
    Refused(Option<Status>),
}

impl<F, B> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: Default,
{
    type Output = Result<Response<DeadlineBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Self::Running { timer, inner } = this {
            if let Poll::Ready(Ok(response)) = Pin::new(inner).poll(cx) {
                let timer = timer.take();
                return Poll::Ready(Ok(response.map(|body| DeadlineBody::Open { body, timer })));
            }
            let exceeded = match timer {
                Some(timer) => ready!(timer.poll(cx)),
                None => return Poll::Pending,
            };
            // Drops the handler, which cancels it.
            *this = Self::Refused(Some(exceeded));
        }
        match this {
            Self::Refused(status) => match status.take() {
                Some(status) => Poll::Ready(Ok(status.into_http())),
                None => Poll::Pending,
            },
            Self::Running { .. } => Poll::Pending,
        }
    }
}

/// A response's body that ends at the deadline, with its status in the trailers.
#[derive(Debug, Default)]
pub enum DeadlineBody<B> {
    /// It goes on.
    Open {
        /// The body.
        body: B,
        /// Ends it; absent without a deadline.
        timer: Option<Timer>,
    },
    /// The deadline has passed and that was said.
    #[default]
    Ended,
}

impl<B: Body<Data = Bytes> + Unpin> Body for DeadlineBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let Self::Open { body, timer } = this else {
            return Poll::Ready(None);
        };
        // The timer first: a body that is always ready must end too.
        if let Some(Poll::Ready(exceeded)) = timer.as_mut().map(|timer| timer.poll(cx)) {
            // Drops the body, which cancels the handler behind it.
            *this = Self::Ended;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&exceeded)))));
        }
        Pin::new(body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Open { body, .. } => body.is_end_stream(),
            Self::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            // A deadline may cut it short.
            Self::Open { body, timer: None } => body.size_hint(),
            Self::Open { .. } => SizeHint::default(),
            Self::Ended => SizeHint::with_exact(0),
        }
    }
}

fn trailers(exceeded: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(5);
    // It refuses only metadata that is no header, and there is none.
    exceeded.add_header(&mut trailers).ok();
    trailers
}
