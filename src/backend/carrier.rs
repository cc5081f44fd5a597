//! What carries a session's bytes beneath its protocol: a socket behind the fence, with TLS above it or without.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::{DialError, FencedIo, secrets::Secrets, tls::TlsPlan};

/// A connection's bytes. The fence is beneath TLS, so that nothing buffered above can pass it.
#[derive(Debug)]
pub(super) enum Carrier<T> {
    /// The socket.
    Plain(FencedIo<T>),
    /// TLS on the socket.
    Tls(Box<TlsStream<FencedIo<T>>>),
}

impl<T: AsyncRead + AsyncWrite + Unpin> Carrier<T> {
    /// Does the handshake if there is a plan for TLS.
    pub(super) async fn secured(
        fenced: FencedIo<T>,
        plan: Option<&TlsPlan>,
        secrets: &Secrets,
    ) -> Result<Self, DialError> {
        let Some(plan) = plan else {
            return Ok(Self::Plain(fenced));
        };
        let stream = plan.connect(fenced, secrets).await?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// The socket beneath it all.
    pub(super) fn socket(&mut self) -> &mut T {
        match self {
            Self::Plain(io) => io.beneath(),
            Self::Tls(io) => io.get_mut().0.beneath(),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Carrier<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Carrier<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            // TLS says goodbye with a message, which a shut fence holds back; the socket's own end needs none.
            Self::Tls(io) => {
                if let Ok(()) = ready!(Pin::new(&mut *io).poll_shutdown(cx)) {
                    return Poll::Ready(Ok(()));
                }
                Pin::new(io.get_mut().0).poll_shutdown(cx)
            }
        }
    }
}
