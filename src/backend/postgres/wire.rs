//! One connection to a server: messages out and in, and what every answer says beside its contents.
//!
//! Invariant: `expected` is the number of ReadyForQuery that the server still owes for what was handed over or is
//! queued. At zero the connection is at a protocol boundary, and nothing of a call is in either direction.

mod heard;

use std::{
    collections::VecDeque,
    fmt, io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use postgres_protocol::message::{
    backend::{Header, Message},
    frontend,
};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

use super::{
    aside::Aside,
    fault::{MAX_MESSAGE, WireError},
};
use crate::backend::{
    Line,
    carrier::Carrier,
    home::Socket,
    socket::{Pending, UNACKNOWLEDGED},
};

/// Read at once, at most.
const READ: usize = 64 * 1024;
/// What is queued at once and is larger may not fit the server's buffers while it is busy with the beginning.
const LARGE: usize = 16 * 1024;

/// Where the session is between statements, as the last ReadyForQuery said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Outside of a transaction block.
    Idle,
    /// In a transaction block.
    Open,
    /// In a transaction block that has failed: it takes nothing but its end.
    Failed,
}

/// One connection.
pub(super) struct Wire {
    io: Carrier<Socket>,
    line: Line,
    incoming: BytesMut,
    outgoing: BytesMut,
    /// Whether a part of `outgoing`'s oldest message may have been written already.
    begun: bool,
    expected: u32,
    /// Whether the last message was of the extended protocol, which goes on after an error at the next Sync only.
    extended: bool,
    /// Those of `expected` whose messages are queued, and not one byte of them written.
    unsent: u32,
    status: Status,
    /// Something was answered since the last ReadyForQuery.
    answered: bool,
    asides: VecDeque<Aside>,
    broken: bool,
    /// Whether the server may take its time to read: see [`Wire::be_patient`].
    patient: bool,
    /// A setting by which literals are read has changed.
    reads_otherwise: bool,
    /// When it moved to another runtime, something had arrived that this one has not been told of.
    arrived: bool,
}

impl Wire {
    pub(super) fn new(io: Carrier<Socket>, line: Line) -> Self {
        Self {
            io,
            line,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            begun: false,
            expected: 0,
            extended: false,
            unsent: 0,
            status: Status::Idle,
            answered: false,
            asides: VecDeque::new(),
            broken: false,
            patient: false,
            reads_otherwise: false,
            arrived: false,
        }
    }

    /// From now on what is written belongs to calls.
    pub(super) fn count(&self) {
        self.line.count();
    }

    /// The bytes of messages to come; they leave while [`Wire::next`] waits.
    pub(super) const fn queue(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    /// What was queued ends with a simple query, which the server answers with ReadyForQuery.
    pub(super) const fn expect_ready(&mut self) {
        self.expected += 1;
        self.unsent += 1;
        self.extended = false;
    }

    /// Ends what was queued in the extended protocol; the server answers with ReadyForQuery.
    pub(super) fn sync(&mut self) {
        frontend::sync(&mut self.outgoing);
        self.expect_ready();
        self.extended = true;
    }

    /// Refuses the data of a COPY that the server asks for. In the extended protocol the Sync behind the statement was
    /// swallowed by the COPY, and another one has to end it.
    pub(super) fn refuse_copy(&mut self, why: &str) -> Result<(), WireError> {
        frontend::copy_fail(why, &mut self.outgoing)?;
        if self.extended {
            frontend::sync(&mut self.outgoing);
        }
        Ok(())
    }

    /// ReadyForQuery still to come.
    pub(super) const fn expected(&self) -> u32 {
        self.expected
    }

    pub(super) const fn status(&self) -> Status {
        self.status
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// It must not be used again.
    pub(super) const fn break_off(&mut self) {
        self.broken = true;
    }

    /// Whether the next message is here already.
    pub(super) fn has_message(&self) -> bool {
        let header = Header::parse(&self.incoming).ok().flatten();
        header.is_some_and(|header| self.incoming.len() > usize::try_from(header.len()).unwrap_or(usize::MAX))
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

    /// Whether the server may take its time to read: a COPY's rows, or the rest of a batch, wait for locks, as long as
    /// the call's own limits allow, and the kernel counts a full window as a peer that has vanished. Its last answer
    /// ends it.
    pub(super) fn be_patient(&mut self, patient: bool) -> Result<(), WireError> {
        let set = self.set_patient(patient);
        set.map_err(|error| self.fail(error.into()))
    }

    fn set_patient(&mut self, patient: bool) -> io::Result<()> {
        let limit = (!patient).then_some(UNACKNOWLEDGED);
        self.patient = patient;
        self.io.socket().set_unacknowledged(limit)
    }

    #[cfg(test)]
    pub(super) fn unacknowledged(&mut self) -> Option<std::time::Duration> {
        self.io.socket().unacknowledged()
    }

    /// Takes in what the server has said while nobody used the connection, so that a call is not sent to a server
    /// that is known to have ended it. It costs no system call while the runtime knows of nothing to read.
    pub(super) async fn catch_up(&mut self) -> Result<(), WireError> {
        if self.broken {
            return Err(WireError::Closed);
        }
        if std::mem::take(&mut self.arrived) {
            // The runtime that it has moved to hears of it in a moment.
            let filled = std::future::poll_fn(|cx| self.poll_fill(cx)).await;
            match filled {
                Ok(0) => return Err(self.fail(WireError::Closed)),
                Ok(_) => {}
                Err(error) => return Err(self.fail(error.into())),
            }
        }
        let caught = std::future::poll_fn(|cx| match self.poll_next(cx) {
            Poll::Pending => Poll::Ready(Ok(())),
            Poll::Ready(Ok(message)) => Poll::Ready(Err(WireError::unasked(&message))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        });
        let caught = caught.await;
        caught.map_err(|error| self.fail(error))
    }

    /// Takes back what was queued and never written. False if a part of it was: then nobody may use the connection
    /// again, because the rest of that message belongs to a holder whose time has ended.
    pub(super) fn unqueue(&mut self) -> bool {
        if self.begun {
            return false;
        }
        self.outgoing.clear();
        self.expected -= std::mem::take(&mut self.unsent);
        true
    }

    /// The next message of the server, apart from asides. What is queued is written meanwhile. May be dropped and
    /// called again.
    pub(super) async fn next(&mut self) -> Result<Message, WireError> {
        let next = std::future::poll_fn(|cx| self.poll_next(cx)).await;
        next.map_err(|error| self.fail(error))
    }

    /// Writes everything that is queued, and takes in what the server says meanwhile: one that waits to be heard does
    /// not read either. Its next message, if one comes before all is written. May be dropped and called again.
    pub(super) async fn send(&mut self) -> Result<Option<Message>, WireError> {
        let sent = std::future::poll_fn(|cx| match self.poll_next(cx) {
            Poll::Ready(message) => Poll::Ready(message.map(Some)),
            Poll::Pending if self.is_sent() => Poll::Ready(Ok(None)),
            Poll::Pending => Poll::Pending,
        });
        let sent = sent.await;
        sent.map_err(|error| self.fail(error))
    }

    /// Returns when the server has said something beside an answer. May be dropped and called again.
    pub(super) async fn aside(&mut self) -> Result<(), WireError> {
        let came = std::future::poll_fn(|cx| self.poll_aside(cx)).await;
        came.map_err(|error| self.fail(error))
    }

    /// Writes everything that is queued. May be dropped and called again.
    pub(super) async fn flush(&mut self) -> Result<(), WireError> {
        let flushed = std::future::poll_fn(|cx| self.poll_send(cx)).await;
        flushed.map_err(|error| self.fail(error))
    }

    /// Ends the connection, and returns when the server has too. May be dropped, which closes the socket.
    pub(super) async fn close(mut self) {
        // Terminate is not sent: the fence lets nothing pass any more, and the server takes an end for a farewell.
        if self.come_home().is_ok() && self.io.socket().shutdown().is_ok() {
            while self
                .io
                .read_buf(&mut self.incoming)
                .await
                .is_ok_and(|read| read > 0)
            {
                self.incoming.clear();
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

    fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        if self.has_asides() {
            return Poll::Ready(Ok(()));
        }
        match self.poll_next(cx) {
            _ if self.has_asides() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(message)) => Poll::Ready(Err(WireError::unasked(&message))),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, WireError>> {
        loop {
            if let Some(message) = self.parse()? {
                if let Some(message) = self.look_at(message)? {
                    return Poll::Ready(Ok(message));
                }
                continue;
            }
            let sent = self.poll_send(cx);
            // The server may have said why it closes, before it did.
            let read = self.poll_fill(cx);
            match (sent, read) {
                (_, Poll::Ready(Ok(read))) if read > 0 => {}
                (Poll::Ready(Err(error)), _) => return Poll::Ready(Err(error)),
                (_, Poll::Ready(Ok(_))) => return Poll::Ready(Err(WireError::Closed)),
                (_, Poll::Ready(Err(error))) => return Poll::Ready(Err(error.into())),
                (_, Poll::Pending) => return Poll::Pending,
            }
        }
    }

    fn is_sent(&self) -> bool {
        self.outgoing.is_empty() && !self.begun
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        // TLS may have taken everything, and the socket not yet.
        if self.is_sent() {
            return Poll::Ready(Ok(()));
        }
        if self.outgoing.len() > LARGE && !self.patient {
            self.set_patient(true)?;
        }
        while !self.outgoing.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.outgoing))?;
            if written == 0 {
                return Poll::Ready(Err(WireError::Closed));
            }
            self.outgoing.advance(written);
            (self.begun, self.unsent) = (true, 0);
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.begun = false;
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.incoming.capacity() - self.incoming.len() < READ / 4 {
            self.incoming.reserve(READ);
        }
        let Self { io, incoming, .. } = self;
        pin!(io.read_buf(incoming)).poll(cx)
    }

    fn parse(&mut self) -> Result<Option<Message>, WireError> {
        let broken = |error: io::Error| WireError::Protocol(error.to_string());
        let Some(header) = Header::parse(&self.incoming).map_err(broken)? else {
            return Ok(None);
        };
        let length = usize::try_from(header.len()).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            return Err(WireError::TooLarge);
        }
        if self.incoming.len() <= length {
            return Ok(None);
        }
        Message::parse(&mut self.incoming).map_err(broken)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("status", &self.status)
            .field("expected", &self.expected)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
