//! The socket at the very bottom, beneath the fence and TLS.

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
};

use crate::backend::socket::{self, Pending};

/// One TCP connection.
#[derive(Debug)]
pub(super) struct Wire(TcpStream);

impl Wire {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// When the socket refuses its options: it broke already.
    pub(super) fn new(socket: TcpStream) -> io::Result<Self> {
        let options = socket::tune(&socket)?;
        // A peer may take its time to read: the kernel would count a closed window as a missing acknowledgement. An
        // idle connection's keepalive stays.
        options.set_tcp_user_timeout(None)?;
        // Whatever drops the socket in the middle also drops what the kernel still holds, and the peer sees a reset
        // instead of an end that looks wanted. A close at a boundary says goodbye first.
        options.set_linger(Some(Duration::ZERO))?;
        Ok(Self(socket))
    }

    /// What has arrived while nobody read.
    pub(super) fn pending(&self) -> Pending {
        socket::pending(&self.0)
    }

    /// Returns when there may be something to read.
    pub(super) async fn readable(&self) {
        // An error will be met by whoever reads.
        self.0.readable().await.ok();
    }

    /// Leaves to the kernel to deliver what it still holds, when the socket is dropped.
    pub(super) fn let_linger(&self) {
        // A socket that refuses has broken already, and holds nothing.
        SockRef::from(&self.0).set_linger(None).ok();
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.0).shutdown(Shutdown::Write))
    }
}
