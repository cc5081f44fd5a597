//! One kept connection of HTTP/1.1, driven by a task of its own, and closed or cut.
//!
//! Loops: `drive`, one task for each connection, which ends when hyper is done with it or it is cut.

use std::sync::Arc;

use http::HeaderMap;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

use super::{dial::Dialed, pace::Pace, payload::Payload, stream::Stream};
use crate::backend::{
    DialError, Line,
    socket::{Pending, pending},
};

/// An answer's head, and what of its body is read ahead, at most.
const MAX_BUFFER: usize = 256 * 1024;
/// Header lines of an answer, at most.
const MAX_HEADERS: usize = 256;

/// A connection to the service.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Payload>,
    pub(super) pace: Arc<Pace>,
    /// The secret headers as they were when it was dialed.
    pub(super) secret_headers: HeaderMap,
    /// It has carried an exchange before.
    pub(super) used: bool,
    /// The service announced to close it after its last answer.
    pub(super) last: bool,
    hold: Hold,
}

/// What keeps the connection going; it is cut when this is dropped.
#[derive(Debug)]
struct Hold {
    line: Line,
    socket: Arc<TcpStream>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Speaks HTTP/1.1 on a socket.
    pub(super) async fn start(dialed: Dialed) -> Result<Self, DialError> {
        let Dialed {
            carrier,
            socket,
            pace,
            secret_headers,
            ..
        } = dialed;
        let line = carrier.line();
        let stream = Stream::new(carrier, Arc::clone(&pace));
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(DialError::transient)?;
        line.count();
        let driven = Arc::clone(&pace);
        Ok(Self {
            sender,
            pace,
            secret_headers,
            used: false,
            last: false,
            hold: Hold {
                line,
                socket,
                driver: tokio::spawn(drive(connection, driven)),
            },
        })
    }

    /// Whether the peer has closed it, or made it useless by sending what nobody asked for. Call it between
    /// exchanges. It sees what the network has delivered by now, even if the driver has not been told yet, so that a
    /// request is not sent into a connection known to be dead.
    pub(super) async fn is_dead(&mut self, tls: bool) -> bool {
        match pending(&self.hold.socket) {
            Pending::End => true,
            Pending::Bytes if !tls => true,
            // TLS has messages of its own, such as tickets, or the goodbye before the end: the driver reads them.
            Pending::Bytes => {
                tokio::task::yield_now().await;
                pending(&self.hold.socket) == Pending::End || self.sender.is_closed()
            }
            Pending::Nothing => self.sender.is_closed(),
        }
    }

    /// Cuts it off at once: when this has returned, not one byte more reaches the socket.
    pub(super) fn cut(&self) {
        self.hold.cut();
    }

    /// Cuts it off, and returns when its task is gone; then the socket goes with this. May be dropped and called
    /// again.
    pub(super) async fn hang_up(&mut self) {
        self.cut();
        if !self.hold.driver.is_finished() {
            // An aborted task is the expected outcome, and one that ended by itself is as good.
            (&mut self.hold.driver).await.ok();
        }
    }

    /// Says goodbye, and returns when the peer has too. If the future is dropped, the connection is cut.
    pub(super) async fn close(self) {
        let Self { sender, mut hold, .. } = self;
        drop(sender);
        (&mut hold.driver).await.ok();
    }
}

impl Hold {
    fn cut(&self) {
        self.line.cut();
        self.driver.abort();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Runs a connection until hyper is done with it. At a boundary it then says goodbye and waits for the peer's; in the
/// middle of an exchange the socket is dropped, which resets the connection: an end that looks wanted would be a lie.
async fn drive(connection: http1::Connection<TokioIo<Stream>, Payload>, pace: Arc<Pace>) {
    let ended = connection.without_shutdown().await;
    let (Ok(parts), true) = (ended, pace.is_at_boundary()) else {
        return;
    };
    let mut stream = parts.io.into_inner();
    if stream.shutdown().await.is_ok() {
        tokio::io::copy(&mut stream.take(MAX_FAREWELL), &mut tokio::io::sink())
            .await
            .ok();
    }
}

/// What a peer may still send after our goodbye before it is cut.
const MAX_FAREWELL: u64 = 1024 * 1024;
