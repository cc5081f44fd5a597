//! A connection's bytes, with TLS or without, and why it cannot go on.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use postgres_protocol::message::backend::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::{home::Socket, report};
use crate::backend::FencedIo;

/// One message from the server, at most: larger values do not fit an answer either.
pub(super) const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The holder's time has ended: nothing more of it is handed over.
    #[error("the holder's time has ended")]
    Fenced,
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server closed it.
    #[error("the server closed the connection")]
    Closed,
    /// The server ended the session, and said why.
    #[error("the server ended the session: {0}")]
    Ended(String),
    /// The server sends a message that is larger than any answer may be.
    #[error("the server sent a message of more than {MAX_MESSAGE} bytes")]
    TooLarge,
    /// The server says what it may not.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
}

impl WireError {
    /// What came where nothing was asked: between calls the server may say only why it is about to close.
    pub(super) fn unasked(message: &Message) -> Self {
        match message {
            Message::ErrorResponse(body) => Self::Ended(report::read(body).message),
            _ => Self::Protocol("an answer to nothing".to_owned()),
        }
    }
}

/// The connection's bytes, with TLS or without.
#[derive(Debug)]
pub(super) enum Io {
    Plain(FencedIo<Socket>),
    Tls(Box<TlsStream<FencedIo<Socket>>>),
}

impl Io {
    /// The socket beneath.
    pub(super) fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(io) => io.beneath(),
            Self::Tls(io) => io.get_mut().0.beneath(),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
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
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
