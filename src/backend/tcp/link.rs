//! One connection to the peer: bytes out, and messages in. It reads only while somebody asks it to.

use std::{
    fmt, io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};

use super::{
    definition::Expect,
    framing::{Framing, Misframed},
};
use crate::{
    backend::{carrier::Carrier, home::Socket, socket::Pending},
    clock::Clock,
};

/// Read at once, at most.
pub(super) const READ: usize = 64 << 10;
/// What a peer may still send after our goodbye before it is cut.
const MAX_FAREWELL: usize = 1 << 20;
/// Of an answer that was not expected, so much is told.
const TOLD: usize = 64;

/// Why a connection cannot go on.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("{0}")]
    Misframed(#[from] Misframed),
    #[error("the peer answered {0}, which is not what the definition expects")]
    Unexpected(Told),
    #[error("the peer sent something that nobody asked for")]
    Unasked,
    #[error("an earlier call was cut in its middle, or was a tunnel, and has used the session up")]
    UsedUp,
    #[error("the session was taken away")]
    TakenAway,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The beginning of an answer, for people.
#[derive(Debug)]
pub(super) struct Told(Bytes);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.0.len() < TOLD { "" } else { "…" };
        write!(f, "`{}{more}`", self.0.escape_ascii())
    }
}

/// One connection.
pub(super) struct Link {
    io: Carrier<Socket>,
    /// Read, and not taken yet.
    received: BytesMut,
    /// The peer's end has been read.
    ended: bool,
}

impl Link {
    pub(super) fn new(io: Carrier<Socket>) -> Self {
        Self {
            io,
            received: BytesMut::new(),
            ended: false,
        }
    }

    /// Moves the socket to the runtime that calls: readiness then wakes this thread, and no other one.
    pub(super) fn come_home(&mut self) -> Result<(), LinkError> {
        self.io.socket().come_home()?;
        Ok(())
    }

    /// What has been read and not taken.
    pub(super) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Takes the first bytes of what has been read.
    pub(super) fn take(&mut self, length: usize) {
        self.received.advance(length.min(self.received.len()));
        // A large message is no reason to keep as much memory for ever.
        if self.received.is_empty() && length > READ {
            self.received = BytesMut::new();
        }
    }

    /// The connection and what has been read of it, for who carries bytes himself.
    pub(super) const fn parts(&mut self) -> (&mut Carrier<Socket>, &mut BytesMut) {
        (&mut self.io, &mut self.received)
    }

    /// What there is to be read, as far as anyone can tell without waiting.
    pub(super) fn pending(&self) -> Pending {
        if !self.received.is_empty() {
            Pending::Bytes
        } else if self.ended {
            Pending::End
        } else {
            self.io.look().pending()
        }
    }

    /// Whether what is pending on the socket may be a message of TLS's own, such as a ticket.
    pub(super) fn may_be_ticket(&self) -> bool {
        matches!(self.io, Carrier::Tls(_)) && self.received.is_empty()
    }

    /// Makes sure that the peer has said nothing and lives, as far as anyone can tell. Sends nothing.
    pub(super) async fn is_silent(&mut self) -> Result<(), LinkError> {
        loop {
            match self.pending() {
                Pending::Nothing => return Ok(()),
                Pending::End => return Err(LinkError::Closed),
                Pending::Bytes if !self.may_be_ticket() => return Err(LinkError::Unasked),
                Pending::Bytes => {}
            }
            // The kernel has it, so that this does not wait.
            self.io.look().readable().await;
            // Not ready: it was TLS's own, or the beginning of a record.
            self.fill().now_or_never().transpose()?;
        }
    }

    /// Reads what there is, at least a byte; 0 at the peer's end. May be dropped and called again.
    async fn fill(&mut self) -> Result<usize, LinkError> {
        Ok(std::future::poll_fn(|cx| self.poll_fill(cx)).await?)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        if self.received.capacity() - self.received.len() < READ / 4 {
            self.received.reserve(READ);
        }
        let read = ready!(pin!(self.io.read_buf(&mut self.received)).poll(cx))?;
        self.ended = read == 0;
        Poll::Ready(Ok(read))
    }

    /// Sends all of it, and takes in up to `limit` bytes meanwhile: a peer that waits to be heard does not read
    /// either. If the future is dropped, a part may have been sent.
    pub(super) async fn send(&mut self, mut bytes: Bytes, limit: usize) -> Result<(), LinkError> {
        std::future::poll_fn(|cx| {
            while !bytes.is_empty() {
                match Pin::new(&mut self.io).poll_write(cx, &bytes) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(LinkError::Closed)),
                    Poll::Ready(Ok(written)) => bytes.advance(written),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending => ready!(self.poll_listen(cx, limit))?,
                }
            }
            // TLS may have taken everything, and the socket not yet.
            while Pin::new(&mut self.io).poll_flush(cx)?.is_pending() {
                ready!(self.poll_listen(cx, limit))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Takes in something while writing waits.
    fn poll_listen(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<()>> {
        if self.ended || self.received.len() >= limit {
            return Poll::Pending;
        }
        self.poll_fill(cx).map_ok(drop)
    }

    /// Waits for a whole message and says how long it is; it stays where it is until it is taken. May be dropped and
    /// called again.
    pub(super) async fn message(
        &mut self,
        framing: &Framing,
        limit: usize,
        clock: &Clock,
    ) -> Result<usize, LinkError> {
        let mut scan = framing.scan(limit);
        loop {
            if let Some(length) = scan.end(&self.received)? {
                return Ok(length);
            }
            let begun = !self.received.is_empty();
            let read = match framing.quiet().filter(|_| begun) {
                None => self.fill().await?,
                Some(quiet) => {
                    let silence = clock.now() + quiet;
                    tokio::select! {
                        biased;
                        read = self.fill() => read?,
                        () = clock.sleep_until(silence) => 0,
                    }
                }
            };
            // A silence ends such a message, and so does the peer's end.
            match (read, framing.quiet(), begun) {
                (0, Some(_), true) => return Ok(self.received.len()),
                (0, _, _) => return Err(LinkError::Closed),
                _ => {}
            }
        }
    }

    /// Takes what has to come, and nothing else.
    pub(super) async fn expect(
        &mut self,
        expected: &Expect,
        limit: usize,
        clock: &Clock,
    ) -> Result<(), LinkError> {
        let (length, begin) = match expected {
            Expect::BeginsWith(framing, begin) => (self.message(framing, limit, clock).await?, begin),
            Expect::Exactly(bytes) => {
                while self.received.len() < bytes.len() && bytes.starts_with(&self.received) {
                    if self.fill().await? == 0 {
                        return Err(LinkError::Closed);
                    }
                }
                (bytes.len(), bytes)
            }
        };
        if !self.received.starts_with(begin) {
            let told = self.received.len().min(TOLD);
            return Err(LinkError::Unexpected(Told(self.received.split_to(told).freeze())));
        }
        self.take(length);
        Ok(())
    }

    /// Says goodbye, and returns when the peer has too. If the future is dropped, so is the socket, and the kernel
    /// delivers what it still holds.
    pub(super) async fn close(mut self) {
        if self.come_home().is_err() || self.io.shutdown().await.is_err() {
            return;
        }
        self.io.look().let_linger();
        let mut farewell = 0;
        while farewell < MAX_FAREWELL {
            self.received.clear();
            match self.fill().await {
                Ok(read) if read > 0 => farewell += read,
                Ok(_) | Err(_) => return,
            }
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("received", &self.received.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
