//! Cancelling what runs on a session: a short connection of its own, to the same address and with the same TLS.
//!
//! PostgreSQL's protocol addresses a cancel request to a server process, not to a statement: one that is late hits
//! whatever runs then. So nothing new is sent on the session until the server has closed the cancelling connection,
//! which it does after it has signalled the process, and until an empty query has come back behind it: a process
//! that reads its next message has met the signal before. See [`super::settle`].

use std::{fmt, net::SocketAddr, sync::Arc};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{connect, definition::Server};
use crate::backend::{Fence, SessionLost};

/// What it takes to cancel a session's statement.
pub(super) struct Canceller {
    server: Arc<Server>,
    fence: Arc<Fence>,
    peer: SocketAddr,
    /// Process and secret; a server, or a pooler before it, may give none.
    key: Option<(i32, i32)>,
}

impl Canceller {
    pub(super) fn new(
        server: &Arc<Server>,
        fence: &Arc<Fence>,
        peer: SocketAddr,
        key: Option<(i32, i32)>,
    ) -> Self {
        Self {
            server: Arc::clone(server),
            fence: Arc::clone(fence),
            peer,
            key,
        }
    }

    /// Asks the server to cancel, and returns when it has signalled the session's process.
    pub(super) async fn cancel(&self) -> Result<(), SessionLost> {
        self.cancel_past(&self.fence).await
    }

    /// The same for a session that is being closed, whose own fence lets nothing pass any more: the request says
    /// nothing of the holder's, and without it the server would not look up from its statement for seconds, and keep
    /// its locks.
    pub(super) async fn cancel_for_good(&self) {
        let fence = Arc::new(Fence::default());
        fence.open(1);
        // The connection closes next, whatever became of this.
        self.cancel_past(&fence).await.ok();
    }

    async fn cancel_past(&self, fence: &Arc<Fence>) -> Result<(), SessionLost> {
        let Some((process_id, secret)) = self.key else {
            return Err(SessionLost::because("the server gave no key for cancelling"));
        };
        let failed = |error: &dyn fmt::Display| SessionLost::because(format!("cancelling: {error}"));
        let stream = TcpStream::connect(self.peer).await;
        let stream = stream.map_err(|error| failed(&error))?;
        let opened = connect::open(&self.server, stream, fence).await;
        let (mut io, _) = opened.map_err(|error| failed(&error))?;
        let mut request = BytesMut::new();
        frontend::cancel_request(process_id, secret, &mut request);
        io.write_all(&request).await.map_err(|error| failed(&error))?;
        io.flush().await.map_err(|error| failed(&error))?;
        // It answers nothing and closes. A reset, or TLS without a farewell, is an end as well.
        io.read_u8().await.ok();
        Ok(())
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
