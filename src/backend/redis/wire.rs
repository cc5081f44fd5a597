//! One connection to a server: commands out and tokens in.
//!
//! Invariant: the [`Account`] has the number of replies that the server still owes for what was handed over or is
//! queued. At zero, with no reply half read, the connection is at a protocol boundary, and nothing of a call is in
//! either direction.

use std::{
    fmt, io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

use super::{
    account::Account,
    resp::{self, Malformed, Token},
};
use crate::backend::{Fence, Line, carrier::Carrier, fence, home::Socket, socket::Pending};

/// Read at once, at most; a caller's event of bytes holds as many.
const READ: usize = 64 * 1024;
/// Memory that a buffer may keep between calls: most calls need no more, and idle sessions are many.
const KEPT: usize = 4 * READ;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The holder's time has ended: nothing more of it is handed over.
    #[error("the holder's time has ended")]
    Fenced,
    /// The connection broke.
    #[error("{0}")]
    Io(io::Error),
    /// The server closed it.
    #[error("the server closed the connection")]
    Closed,
    /// The server says what it may not.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        if fence::is_refusal(&error) {
            Self::Fenced
        } else {
            Self::Io(error)
        }
    }
}

impl WireError {
    pub(super) fn malformed(message: &str) -> Self {
        Self::Malformed(Malformed(message.to_owned()))
    }
}

/// One connection.
pub(super) struct Wire {
    io: Carrier<Socket>,
    line: Line,
    fence: Arc<Fence>,
    incoming: BytesMut,
    outgoing: BytesMut,
    /// Whether a part of `outgoing` may have been written already, or sits in TLS.
    begun: bool,
    account: Account,
    broken: bool,
    /// A buffer has grown beyond what it may keep.
    grown: bool,
    /// When it moved to another runtime, something had arrived that this one has not been told of.
    arrived: bool,
}

impl Wire {
    pub(super) fn new(io: Carrier<Socket>, line: Line, fence: Arc<Fence>) -> Self {
        Self {
            io,
            line,
            fence,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            begun: false,
            account: Account::default(),
            broken: false,
            grown: false,
            arrived: false,
        }
    }

    /// From now on what is written belongs to calls.
    pub(super) fn count(&self) {
        self.line.count();
    }

    /// Queues a command; it leaves while [`Wire::token`] waits.
    pub(super) fn command<T: AsRef<[u8]>>(&mut self, args: &[T]) {
        resp::encode(args, &mut self.outgoing);
        self.grown |= self.outgoing.capacity() > KEPT;
        self.account.queued(1);
    }

    /// Queues commands that are written already, and will have so many replies.
    pub(super) fn queue(&mut self, commands: &[u8], replies: usize) {
        self.outgoing.extend_from_slice(commands);
        self.grown |= self.outgoing.capacity() > KEPT;
        self.account.queued(replies);
    }

    /// The command whose reply was to come next has been answered by pushes, and has no reply.
    pub(super) fn answered_by_pushes(&mut self) -> Result<(), WireError> {
        let answered = self.account.answered();
        answered.map_err(|error| self.fail(error))
    }

    /// A command of which something was written has not been answered yet.
    pub(super) const fn is_awaiting(&self) -> bool {
        self.account.is_awaiting()
    }

    /// Whose bytes it carries.
    pub(super) const fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    /// Replies still to come.
    pub(super) const fn expected(&self) -> usize {
        self.account.expected()
    }

    /// Gives back the memory that a large answer or command needed. What has arrived stays.
    pub(super) fn give_back(&mut self) {
        if std::mem::take(&mut self.grown) {
            for buffer in [&mut self.incoming, &mut self.outgoing] {
                *buffer = BytesMut::from(&buffer[..]);
            }
        }
    }

    /// Whether it keeps more memory than it needs between calls.
    #[cfg(test)]
    pub(super) fn holds_much(&mut self) -> bool {
        let mut buffers = [&mut self.incoming, &mut self.outgoing].into_iter();
        buffers.any(|buffer| buffer.try_reclaim(KEPT + 1))
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// It must not be used again.
    pub(super) const fn break_off(&mut self) {
        self.broken = true;
    }

    /// Nothing is owed, half read, there unasked, or still to be written.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_settled() && !self.is_within() && self.incoming.is_empty()
    }

    /// Nothing is owed, or still to be written: what is there unasked may be a push.
    pub(super) fn is_settled(&self) -> bool {
        self.expected() == 0 && self.is_written()
    }

    /// Nothing is queued, or may sit in TLS.
    fn is_written(&self) -> bool {
        self.outgoing.is_empty() && !self.begun
    }

    /// Some of the next reply is here: the server has done that command.
    pub(super) fn is_answering(&self) -> bool {
        let begins = self.incoming.first().is_some_and(|mark| *mark != b'>');
        !self.is_pushing() && (self.is_within() || begins)
    }

    /// A group of elements, or a string in parts, has been begun and has more to come.
    pub(super) const fn is_within(&self) -> bool {
        self.account.is_within()
    }

    /// What is being read is no reply.
    pub(super) const fn is_pushing(&self) -> bool {
        self.account.is_pushing()
    }

    /// Moves the socket to the runtime that calls: readiness then wakes this thread, and no other one.
    pub(super) fn come_home(&mut self) -> Result<(), WireError> {
        match self.io.socket().come_home() {
            Ok(false) => Ok(()),
            Ok(true) => {
                self.arrived = self.io.socket().pending() != Pending::Nothing;
                Ok(())
            }
            Err(error) => Err(self.fail(error.into())),
        }
    }

    /// Takes in what the server has said while nobody used the connection, so that a call is not sent to a server
    /// that is known to have ended it. It costs no system call while the runtime knows of nothing to read.
    pub(super) async fn catch_up(&mut self) -> Result<(), WireError> {
        if self.broken {
            return Err(WireError::Closed);
        }
        if self.expected() > 0 || self.is_within() {
            return Err(self.fail(WireError::malformed("an earlier answer that was not read")));
        }
        if !self.is_written() {
            return Err(self.fail(WireError::malformed("an earlier command that was not written")));
        }
        let wait = std::mem::take(&mut self.arrived);
        // The runtime that it has moved to hears of what arrived in a moment.
        let caught = std::future::poll_fn(|cx| match self.poll_fill(cx) {
            Poll::Pending if !wait => Poll::Ready(Ok(1)),
            polled => polled,
        });
        match caught.await {
            Ok(0) => Err(self.fail(WireError::Closed)),
            // Only a push may come between calls.
            Ok(_) if !matches!(self.incoming.first(), None | Some(b'>')) => {
                Err(self.fail(WireError::malformed("an answer to nothing")))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(self.fail(error.into())),
        }
    }

    /// Takes back what was queued and never written. False if a part of it was.
    pub(super) fn unqueue(&mut self) -> bool {
        if self.begun {
            return false;
        }
        self.outgoing.clear();
        self.account.taken_back();
        true
    }

    /// The next token. What is queued is written meanwhile. May be dropped and called again. After [`Token::Large`],
    /// [`Wire::part`] comes first.
    pub(super) async fn token(&mut self) -> Result<Token, WireError> {
        let token = std::future::poll_fn(|cx| self.poll_token(cx)).await;
        token.map_err(|error| self.fail(error))
    }

    /// The next part of a string that comes in parts, at most 64 KiB; `None` at its end. May be dropped between parts.
    pub(super) async fn part(&mut self) -> Result<Option<Bytes>, WireError> {
        let part = std::future::poll_fn(|cx| self.poll_part(cx)).await;
        part.map_err(|error| self.fail(error))
    }

    /// Ends the connection, and returns when the server has too. May be dropped, which closes the socket.
    pub(super) async fn close(mut self) {
        if self.come_home().is_ok() && self.io.socket().shutdown().is_ok() {
            loop {
                self.incoming.clear();
                self.incoming.reserve(READ);
                if !self
                    .io
                    .read_buf(&mut self.incoming)
                    .await
                    .is_ok_and(|read| read > 0)
                {
                    return;
                }
            }
        }
    }

    /// A write that the fence refused breaks nothing by itself: what was not begun can be taken back, unless TLS has
    /// taken it.
    fn fail(&mut self, error: WireError) -> WireError {
        let refused = matches!(error, WireError::Fenced);
        self.broken |= !refused || self.begun || self.line.is_cut();
        error
    }

    fn poll_token(&mut self, cx: &mut Context<'_>) -> Poll<Result<Token, WireError>> {
        loop {
            if let Some(token) = resp::next(&mut self.incoming)? {
                self.account.note(&token)?;
                return Poll::Ready(Ok(token));
            }
            ready!(self.poll_more(cx))?;
        }
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, WireError>> {
        loop {
            match self.account.part_left() {
                0 => return Poll::Ready(Ok(None)),
                end @ (1 | 2) if self.incoming.len() >= 2 => {
                    self.incoming.advance(2);
                    self.account.took(end)?;
                    continue;
                }
                left if left > 2 && !self.incoming.is_empty() => {
                    let left = usize::try_from(left - 2).unwrap_or(usize::MAX);
                    let part = self.incoming.split_to(left.min(self.incoming.len()).min(READ));
                    self.account.took(part.len() as u64)?;
                    return Poll::Ready(Ok(Some(part.freeze())));
                }
                _ => {}
            }
            ready!(self.poll_more(cx))?;
        }
    }

    /// Writes what is queued, and returns when something more was read.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        let sent = self.poll_send(cx);
        // The server may have said why it closes, before it did.
        match (sent, self.poll_fill(cx)) {
            (_, Poll::Ready(Ok(read))) if read > 0 => Poll::Ready(Ok(())),
            (Poll::Ready(Err(error)), _) => Poll::Ready(Err(error)),
            (_, Poll::Ready(Ok(_))) => Poll::Ready(Err(WireError::Closed)),
            (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error.into())),
            (_, Poll::Pending) => Poll::Pending,
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        // TLS may have taken everything, and the socket not yet.
        if self.is_written() {
            return Poll::Ready(Ok(()));
        }
        while !self.outgoing.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.outgoing))?;
            if written == 0 {
                return Poll::Ready(Err(WireError::Closed));
            }
            self.outgoing.advance(written);
            self.begun = true;
            self.account.sent();
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.begun = false;
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.incoming.capacity() - self.incoming.len() < READ / 4 {
            self.incoming.reserve(READ);
        }
        self.grown |= self.incoming.capacity() > KEPT;
        let Self { io, incoming, .. } = self;
        pin!(io.read_buf(incoming)).poll(cx)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("account", &self.account)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
