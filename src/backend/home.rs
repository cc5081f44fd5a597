//! A socket that moves to the thread that uses it.
//!
//! A runtime's sockets wake its own thread. A session is dialed on one thread and used on any; left where it was, each
//! answer would wake two threads instead of one, which costs more than the two system calls of a move.

use std::{
    io,
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::{Handle, Id},
};

use super::socket::{self, Pending};

/// A TCP connection, and the runtime that it is registered with.
#[derive(Debug)]
pub(super) struct Socket {
    /// `None` only after a move has failed.
    stream: Option<TcpStream>,
    home: Id,
}

impl Socket {
    /// Takes a connection that the present runtime has made.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream: Some(stream),
            home: Handle::current().id(),
        }
    }

    /// Registers it with the present runtime; false if it is already.
    pub(super) fn come_home(&mut self) -> io::Result<bool> {
        let here = Handle::current().id();
        let away = here != self.home;
        if away {
            let stream = self.stream.take().ok_or_else(gone)?;
            self.stream = Some(TcpStream::from_std(stream.into_std()?)?);
            self.home = here;
        }
        Ok(away)
    }

    /// What has arrived while nobody read.
    pub(super) fn pending(&self) -> Pending {
        self.stream.as_ref().map_or(Pending::End, socket::pending)
    }

    /// How long the peer may leave bytes unacknowledged, or take none, before the kernel ends the connection; without
    /// a limit, what waits for the peer has to have one.
    pub(super) fn set_unacknowledged(&self, limit: Option<Duration>) -> io::Result<()> {
        let stream = self.stream.as_ref().ok_or_else(gone)?;
        SockRef::from(stream).set_tcp_user_timeout(limit)
    }

    /// The limit of [`Socket::set_unacknowledged`].
    #[cfg(test)]
    pub(super) fn unacknowledged(&self) -> Option<Duration> {
        let stream = self.stream.as_ref()?;
        SockRef::from(stream).tcp_user_timeout().ok()?
    }

    /// Returns when there may be something to read.
    pub(super) async fn readable(&self) {
        if let Some(stream) = &self.stream {
            // An error will be met by whoever reads.
            stream.readable().await.ok();
        }
    }

    /// Leaves to the kernel to deliver what it still holds, when the socket is dropped.
    pub(super) fn let_linger(&self) {
        if let Some(stream) = &self.stream {
            // A socket that refuses has broken already, and holds nothing.
            SockRef::from(stream).set_linger(None).ok();
        }
    }

    /// Says that nothing more will be written.
    pub(super) fn shutdown(&self) -> io::Result<()> {
        let stream = self.stream.as_ref().ok_or_else(gone)?;
        SockRef::from(stream).shutdown(Shutdown::Write)
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(gone)
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket could not be moved")
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
