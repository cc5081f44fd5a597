//! Threads that serve connections, each with a current-thread runtime of its own.
//!
//! tokio's multi-thread scheduler costs an HTTP/2 server about half of its throughput: a woken task lands in the
//! waking worker's slot, so that answers leave in four times as many writes. Here a connection lives on one thread
//! from its first byte to its last, and nothing moves.
//!
//! What a handler spawns runs on the thread of the connection that called it. That may be a pool's dial or reset,
//! which outlives the request and the connection; so the threads outlive every pool, and are stopped last of all.

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tower::Service;
use tracing::warn;

use super::{
    accept::{Accepted, Acceptor},
    connection,
};

/// Time for a thread's blocking work to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The threads. Dropped, they stop by themselves and are not waited for.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    stop: DropGuard,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Connections it serves.
    connections: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

impl Workers {
    /// Starts `count` threads, at least one.
    ///
    /// # Errors
    /// When the system gives no more threads or descriptors.
    pub fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let workers = (0..count.max(1))
            .map(|number| Worker::start(number, stop.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            workers,
            stop: stop.drop_guard(),
        })
    }

    /// The runtime of the thread with the fewest connections, and their counter.
    fn least_busy(&self) -> Option<(&Handle, Arc<AtomicUsize>)> {
        let worker = self
            .workers
            .iter()
            .min_by_key(|worker| worker.connections.load(Ordering::Relaxed))?;
        Some((&worker.runtime, Arc::clone(&worker.connections)))
    }

    /// Stops the threads and drops every task left on them. Blocks, for [`STOP_TIMEOUT`] at most where nothing is
    /// stuck: to be called outside of any runtime.
    pub fn stop(self) {
        drop(self.stop);
        for worker in self.workers {
            if worker.thread.join().is_err() {
                warn!("a worker thread had panicked");
            }
        }
    }
}

impl Worker {
    fn start(number: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let thread = thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                runtime.block_on(stop.cancelled());
                runtime.shutdown_timeout(STOP_TIMEOUT);
            })?;
        Ok(Self {
            runtime: handle,
            connections: Arc::default(),
            thread,
        })
    }
}

/// A connection's place in its worker's count.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(counter: Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts connections and serves them on `workers` until `closing` is cancelled; then closes the listener, lets
/// every connection finish what it began for a few seconds, and returns when all have ended. If the future is
/// dropped, the listener is closed, and the connections end with `closing` or with the threads.
pub async fn serve<S, B>(acceptor: Acceptor, workers: &Workers, service: S, closing: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connections = TaskTracker::new();
    let hand_out = |accepted: Accepted| {
        let Some((runtime, counter)) = workers.least_busy() else {
            return;
        };
        let counted = Counted::new(counter);
        let serving = serve_one(accepted, service.clone(), closing.clone());
        connections.spawn_on(
            async move {
                serving.await;
                drop(counted);
            },
            runtime,
        );
    };
    acceptor.run(closing.clone(), hand_out).await;
    connections.close();
    connections.wait().await;
}

/// Moves a socket to the present thread and serves it there.
async fn serve_one<S, B>(accepted: Accepted, service: S, closing: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Accepted {
        stream,
        connection,
        place,
    } = accepted;
    match stream.into_std().and_then(TcpStream::from_std) {
        Ok(stream) => connection::serve(stream, connection, service, closing).await,
        Err(error) => warn!(%error, "cannot serve a connection"),
    }
    drop(place);
}
