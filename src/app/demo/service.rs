//! The HTTP service behind the demo's second pool: slow to answer, and it counts its connections.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Time for an answer.
const DELAY: Duration = Duration::from_millis(25);

/// A running service; it ends when dropped.
#[derive(Debug)]
pub(super) struct HttpService {
    address: SocketAddr,
    connections: Arc<Connections>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Connections {
    now: AtomicU32,
    most: AtomicU32,
}

impl HttpService {
    /// Starts it on a free port.
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(Connections::default());
        let accepting = tokio::spawn(accept(listener, Arc::clone(&connections)));
        Ok(Self {
            address,
            connections,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The most connections at one time.
    pub(super) fn most_connections(&self) -> u32 {
        self.connections.most.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, connections: Arc<Connections>) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).ok();
        let now = connections.now.fetch_add(1, Ordering::Relaxed) + 1;
        connections.most.fetch_max(now, Ordering::Relaxed);
        tokio::spawn(serve(stream, Arc::clone(&connections)));
    }
}

async fn serve(stream: TcpStream, connections: Arc<Connections>) {
    // How a connection ends is the broker's to decide.
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await
        .ok();
    connections.now.fetch_sub(1, Ordering::Relaxed);
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::time::sleep(DELAY).await;
    let mut response = Response::new(Full::from(r#"{"price": 42}"#));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}
