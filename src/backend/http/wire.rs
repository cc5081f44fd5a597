//! The socket at the very bottom, beneath the fence and TLS: it notes when writing stops and goes on, and can be
//! looked at without disturbing whoever reads it.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::pace::Pace;
use crate::backend::socket::{self, UNACKNOWLEDGED};

/// One TCP connection.
#[derive(Debug)]
pub(in crate::backend) struct Wire {
    socket: Arc<TcpStream>,
    pace: Arc<Pace>,
}

impl Wire {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// When the socket refuses its options: it broke already.
    pub(super) fn new(socket: TcpStream, pace: Arc<Pace>) -> io::Result<Self> {
        let options = socket::tune(&socket)?;
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
