//! One client's connection: its state, which handlers find in their requests' extensions, and its life on a worker.

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::debug;

use super::{limits, preface};

/// What is known of a client's connection. In the extensions of each of its requests, as `Arc<Connection>`.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    peer: SocketAddr,
    requests: AtomicU64,
    waiting: AtomicU32,
}

impl Connection {
    /// Connection `number`, which came from `peer`.
    #[must_use]
    pub const fn new(number: u64, peer: SocketAddr) -> Self {
        Self {
            number,
            peer,
            requests: AtomicU64::new(0),
            waiting: AtomicU32::new(0),
        }
    }

    /// Where it came from.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Its number, from 1 in each run of the broker.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The number of its next request, from 1.
    pub(super) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The right to wait for a session, for as long as the permit lives; none if [`limits::MAX_WAITING`] requests of
    /// this connection wait already, which a handler answers with `QUEUE_FULL`.
    #[must_use]
    pub fn try_wait(self: &Arc<Self>) -> Option<WaitPermit> {
        // Nothing else is guarded by this counter, so that no ordering is needed.
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < limits::MAX_WAITING).then_some(waiting + 1)
            })
            .ok()
            .map(|_| WaitPermit(Arc::clone(self)))
    }
}

/// One request's right to wait.
#[derive(Debug)]
pub struct WaitPermit(Arc<Connection>);

impl Drop for WaitPermit {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one connection on the present runtime until its peer closes it, it breaks a limit, or `closing` is
/// cancelled; then its streams have [`limits::CLOSE_TIMEOUT`] to end. Dropping the future closes the socket and
/// cancels its requests.
pub(super) async fn serve<IO, S, B>(
    io: IO,
    connection: Arc<Connection>,
    service: S,
    closing: CancellationToken,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let number = connection.number();
    let arrived = tokio::select! {
        arrived = preface::wait(io) => arrived,
        () = closing.cancelled() => return,
    };
    let io = match arrived {
        Ok(io) => io,
        Err(error) => return debug!(connection = number, %error, "no HTTP/2 preface"),
    };
    // Generated services are always ready, so that `poll_ready` need not be asked.
    let tagged = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&connection));
        service.clone().call(request)
    });
    let mut served = pin!(builder().serve_connection(TokioIo::new(io), tagged));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = closing.cancelled() => {
            served.as_mut().graceful_shutdown();
            timeout(limits::CLOSE_TIMEOUT, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        debug!(connection = number, error = %with_cause(&error), "the connection broke");
    }
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::MAX_STREAMS)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_send_buf_size(limits::SEND_BUFFER)
        .max_header_list_size(limits::MAX_HEADER_LIST)
        .keep_alive_interval(limits::PING_INTERVAL)
        .keep_alive_timeout(limits::PING_TIMEOUT)
        // No gRPC client reads it.
        .auto_date_header(false);
    builder
}

/// Hyper's own words say only "connection error"; the cause says which.
fn with_cause(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
