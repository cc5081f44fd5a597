//! One HTTP/2 connection to a driver, driven by a task of its own, and cut at once when it is dropped. h2 itself is
//! used, without a client library above it: nothing here connects again, retries, or reads ahead of who reads.
//!
//! Loops: one task for each connection, which ends when h2 is done with it or it is cut.

use std::{net::Shutdown, sync::Arc};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{
    HeaderValue, Method, Request, Version,
    header::{CONTENT_TYPE, TE, USER_AGENT},
};
use prost::Message;
use socket2::{SockRef, Socket};
use tokio::task::JoinHandle;

use super::{
    access::Access,
    exchange::Exchange,
    fault::Fault,
    gate::{Gate, Outgoing},
    wire::Wire,
};
use crate::backend::{
    DialError, Fence, FencedIo, Line,
    carrier::Carrier,
    socket::{Pending, pending},
};

/// What a driver may send of one call before the broker has read it: some events, so that a quick driver need not wait
/// for every one of them.
pub(super) const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for the connection: more, so that a call which nobody reads cannot hold back a Cancel's answer.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What frames in a stream's window that nobody has read yet may cost in h2's books, which count a small one as 256 bytes
/// and end the connection beyond: the whole window in frames of one byte. So a caller who reads slowly pauses a driver
/// that yields small items.
const MAX_OVERHEAD: usize = 256 * STREAM_WINDOW as usize;
/// An answer's headers and trailers.
const MAX_HEADERS: u32 = 16 * 1024;
/// Bytes of one call's input that h2 holds before the driver takes them.
const SEND_BUFFER: usize = 64 * 1024;

const SERVICE: &str = "/sublet.plugin.v1.DriverService/";

/// A connection to a driver.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    origin: String,
    outgoing: Arc<Outgoing>,
    /// The session's fence, as it is for this connection.
    pass: Line,
    hold: Hold,
}

/// What keeps the connection going; it is cut when this is dropped.
#[derive(Debug)]
struct Hold {
    line: Line,
    /// The socket once more, to look at and to shut: the task has the other.
    socket: Socket,
    task: JoinHandle<()>,
}

impl Connection {
    pub(super) async fn open(wire: Wire, fence: Arc<Fence>, access: &Access) -> Result<Self, DialError> {
        let socket = SockRef::from(&wire).try_clone().map_err(DialError::transient)?;
        // The session's fence is in the gate, where it is known what a byte belongs to; beneath it is one for the socket,
        // which only ever is cut.
        let mut fenced = FencedIo::dialing(wire, fence);
        let pass = fenced.line();
        let own = Arc::new(Fence::default());
        own.open(1);
        fenced.entrust(own);
        let line = fenced.line();
        let carrier = Carrier::secured(fenced, access.tls(), access.secrets()).await?;
        let outgoing = Arc::new(Outgoing::default());
        let gate = Gate::new(carrier, pass.clone(), Arc::clone(&outgoing));
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .data_frame_budget(MAX_OVERHEAD)
            .max_header_list_size(MAX_HEADERS)
            .max_send_buffer_size(SEND_BUFFER)
            .handshake::<_, Bytes>(gate)
            .await
            .map_err(|error| DialError::transient(Fault::broken(&error)))?;
        let task = tokio::spawn(async move {
            // Whoever waits for an answer is told what happened; nobody else wants to know.
            connection.await.ok();
        });
        let scheme = if access.tls().is_some() { "https" } else { "http" };
        Ok(Self {
            sender,
            origin: format!("{scheme}://{}{SERVICE}", access.authority()),
            outgoing,
            pass,
            hold: Hold { line, socket, task },
        })
    }

    /// From now on what is written counts as handed over.
    pub(super) fn count(&self) {
        self.pass.count();
    }

    /// Has what waited for the fence written. Call it first in every use of the session.
    pub(super) fn wake(&self) {
        self.outgoing.wake();
    }

    /// Whether everything of a stream has been written.
    pub(super) fn has_written(&self, stream: u32) -> bool {
        self.outgoing.has_written(stream)
    }

    /// Returns once everything of a stream has been written, or the connection has broken.
    pub(super) async fn when_written(&self, stream: u32) {
        self.outgoing.when_written(stream).await;
    }

    /// Whether the driver's side has closed it. It sees what the network has delivered by now, even if the task has
    /// not been told yet, so that no call is sent into a connection known to be dead.
    pub(super) async fn is_dead(&self) -> bool {
        match pending(&self.hold.socket) {
            Pending::End => true,
            // Perhaps a ping, perhaps a goodbye before the end: the task reads it.
            Pending::Bytes => {
                tokio::task::yield_now().await;
                pending(&self.hold.socket) == Pending::End || self.hold.task.is_finished()
            }
            Pending::Nothing => self.hold.task.is_finished(),
        }
    }

    /// Begins an RPC. Nothing of it is written before this returns; if the future is dropped, nothing is sent.
    pub(crate) async fn begin(&mut self, method: &str) -> Result<Exchange, Fault> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        let uri = format!("{}{method}", self.origin).parse();
        *request.uri_mut() = uri.map_err(|_| Fault::Protocol(format!("has no address for {method}")))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let mut sender = self
            .sender
            .clone()
            .ready()
            .await
            .map_err(|error| unsent(&error))?;
        let (response, stream) = sender
            .send_request(request, false)
            .map_err(|error| unsent(&error))?;
        Ok(Exchange::new(response, stream))
    }

    /// Carries a unary RPC out. If the future is dropped, the RPC is cancelled.
    pub(crate) async fn ask<Q: Message, A: Message + Default>(
        &mut self,
        method: &str,
        question: &Q,
    ) -> Result<A, Fault> {
        self.begin(method).await?.unary(question).await
    }

    /// Cuts it off at once: when this has returned, not one byte more reaches the socket, and the driver's side is told
    /// of the end.
    pub(crate) fn cut(&self) {
        self.hold.cut();
    }
}

/// A request that h2 did not take: nothing of it is ever sent.
fn unsent(error: &h2::Error) -> Fault {
    Fault::Broken {
        message: Fault::broken(error).to_string(),
        refused: true,
    }
}

const AGENT: &str = concat!("sublet/", env!("CARGO_PKG_VERSION"));

impl Hold {
    fn cut(&self) {
        self.line.cut();
        // It may have ended by itself.
        self.socket.shutdown(Shutdown::Both).ok();
        self.task.abort();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.cut();
    }
}
