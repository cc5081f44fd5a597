//! What carries a session's bytes beneath its protocol: a socket behind the fence, with TLS above it or without.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::{DialError, Fence, FencedIo, Line, secrets::Secrets, tls::TlsPlan};

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

    /// The socket beneath it all, to look at.
    pub(super) fn look(&self) -> &T {
        match self {
            Self::Plain(io) => io.look(),
            Self::Tls(io) => io.get_ref().0.look(),
        }
    }

    /// Puts another fence before the socket.
    pub(super) fn entrust(&mut self, fence: Arc<Fence>) {
        match self {
            Self::Plain(io) => io.entrust(fence),
            Self::Tls(io) => io.get_mut().0.entrust(fence),
        }
    }

    /// The socket's own gate.
    pub(super) fn line(&self) -> Line {
        match self {
            Self::Plain(io) => io.line(),
            Self::Tls(io) => io.get_ref().0.line(),
        }
    }

    /// The protocol that the peer agreed to, if TLS asked it.
    pub(super) fn agreed(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(io) => io.get_ref().1.alpn_protocol(),
        }
    }

    /// The socket beneath it all.
    pub(super) fn socket(&mut self) -> &mut T {
        match self {
            Self::Plain(io) => io.beneath(),
            Self::Tls(io) => io.get_mut().0.beneath(),
        }
    }
}

/// TLS keeps what it has taken and could not write, and would write it before whatever comes next: a fence that was
/// shut then may be open for another holder by that time.
fn cut_if_failed<T, R>(io: &TlsStream<FencedIo<T>>, done: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
    if matches!(done, Poll::Ready(Err(_))) {
        io.get_ref().0.line().cut();
    }
    done
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
            Self::Tls(io) => {
                let written = Pin::new(&mut *io).poll_write(cx, buf);
                cut_if_failed(io, written)
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => {
                let written = Pin::new(&mut *io).poll_write_vectored(cx, bufs);
                cut_if_failed(io, written)
            }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio_rustls::{TlsAcceptor, server};

    use super::*;
    use crate::{
        backend::{Fence, tls::Asked},
        error::Faults,
        proto::Tls,
    };

    fn acceptor() -> TlsAcceptor {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    async fn secured() -> (Arc<Fence>, Carrier<DuplexStream>, server::TlsStream<DuplexStream>) {
        let own = Tls {
            enabled: true,
            skip_verify: true,
            ..Tls::default()
        };
        let asked = Asked {
            own: &own,
            on: true,
            host: "localhost",
            alpn: &[b"postgresql"],
        };
        let plan = TlsPlan::read(&asked, &mut Faults::default()).unwrap();
        let secrets = Secrets::with_variables("/nowhere", [].into());
        let fence = Arc::new(Fence::default());
        fence.open(1);
        let (ours, theirs) = duplex(1 << 16);
        let fenced = FencedIo::new(ours, Arc::clone(&fence));
        let (acceptor, carrier) = (acceptor(), Carrier::secured(fenced, Some(&plan), &secrets));
        let (carrier, peer) = tokio::join!(carrier, acceptor.accept(theirs));
        (fence, carrier.unwrap(), peer.unwrap())
    }

    #[tokio::test]
    async fn what_tls_took_while_the_fence_was_shut_never_leaves() {
        let (fence, mut carrier, mut peer) = secured().await;
        carrier.write_all(b"before").await.unwrap();
        carrier.flush().await.unwrap();
        fence.shut();
        carrier.write_all(b"of an ended holder").await.unwrap_err();
        fence.open(2);
        // Whatever the next holder does, and whether it can.
        carrier.write_all(b"next").await.ok();
        carrier.flush().await.ok();
        drop(carrier);
        let mut seen = Vec::new();
        peer.read_to_end(&mut seen).await.ok();
        assert_eq!(String::from_utf8_lossy(&seen), "before");
    }
}
