//! The socket at the very bottom, beneath the fence and TLS: it notes when writing stops and goes on, and can be
//! looked at without disturbing whoever reads it.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::pace::Pace;

/// A peer that acknowledges nothing for this long is gone. With the keepalive below, a connection whose other end
/// vanished is noticed within 15 s, busy or idle.
const UNACKNOWLEDGED: Duration = Duration::from_secs(12);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(3);
const KEEPALIVE_TRIES: u32 = 3;

/// One TCP connection.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Arc<TcpStream>,
    pace: Arc<Pace>,
}

/// What an idle connection's receive buffer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// Nothing came: it lives, as far as anyone can tell.
    Nothing,
    /// Bytes that nobody asked for.
    Bytes,
    /// The peer has closed, or the connection broke.
    End,
}

impl Wire {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// When the socket refuses its options: it broke already.
    pub(super) fn new(socket: TcpStream, pace: Arc<Pace>) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let options = SockRef::from(&socket);
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY);
        options.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_TRIES))?;
        options.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
        // Whatever drops the socket in the middle also drops what the kernel still holds, and the peer sees a reset
        // instead of an end that looks wanted. A close at a boundary says goodbye first.
        options.set_linger(Some(Duration::ZERO))?;
        let socket = Arc::new(socket);
        Ok(Self { socket, pace })
    }

    /// The socket, to look at.
    pub(super) fn socket(&self) -> Arc<TcpStream> {
        Arc::clone(&self.socket)
    }

    fn poll_out(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.socket.poll_write_ready(cx)?.is_pending() {
                self.block();
                return Poll::Pending;
            }
            match write(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(written) => {
                    self.unblock();
                    return Poll::Ready(Ok(written));
                }
            }
        }
    }

    /// A peer that lives but takes nothing is the write timeout's business, not the kernel's: it would count a
    /// closed window as a missing acknowledgement.
    fn block(&self) {
        if self.pace.blocked() {
            SockRef::from(&*self.socket).set_tcp_user_timeout(None).ok();
        }
    }

    fn unblock(&self) {
        if self.pace.wrote() {
            SockRef::from(&*self.socket)
                .set_tcp_user_timeout(Some(UNACKNOWLEDGED))
                .ok();
        }
    }
}

/// Looks at what an idle connection has received, without taking it.
pub(super) fn pending(socket: &TcpStream) -> Pending {
    let mut one = [MaybeUninit::<u8>::uninit(); 1];
    match SockRef::from(socket).peek(&mut one) {
        Ok(0) => Pending::End,
        Ok(_) => Pending::Bytes,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Pending::Nothing,
        Err(_) => Pending::End,
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_out(cx, |socket| socket.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_out(cx, |socket| socket.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.socket).shutdown(Shutdown::Write))
    }
}
