//! Waits for the HTTP/2 preface before anything is spent on a socket, so that one which stays silent is closed.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::timeout,
};

use super::limits::PREFACE_TIMEOUT;

/// What every HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A socket whose preface has come; it is read again by the HTTP/2 library.
#[derive(Debug)]
pub(super) struct Prefaced<IO> {
    /// What of the preface has not been read again.
    rest: &'static [u8],
    io: IO,
}

/// Waits for the preface, at most [`PREFACE_TIMEOUT`]. Dropping the future closes the socket.
///
/// # Errors
/// When it does not come in time, or when something else comes.
pub(super) async fn wait<IO: AsyncRead + Unpin>(mut io: IO) -> io::Result<Prefaced<IO>> {
    timeout(PREFACE_TIMEOUT, read(&mut io))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(Prefaced { rest: &PREFACE, io })
}

/// Reads the preface, and stops at the first byte that is not of it.
async fn read<IO: AsyncRead + Unpin>(io: &mut IO) -> io::Result<()> {
    let mut rest = &PREFACE[..];
    let mut buffer = [0; PREFACE.len()];
    while !rest.is_empty() {
        let room = buffer.get_mut(..rest.len()).unwrap_or_default();
        let count = io.read(room).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        rest = room
            .get(..count)
            .and_then(|came| rest.strip_prefix(came))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is not HTTP/2"))?;
    }
    Ok(())
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefaced<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let (now, later) = self.rest.split_at(self.rest.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefaced<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_socket_is_given_up() {
        let (mut client, server) = duplex(64);
        // All but the last byte: a trickle does not extend the deadline.
        client.write_all(&PREFACE[..23]).await.unwrap();
        let error = wait(server).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "the socket is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn another_protocol_is_refused_at_its_first_byte() {
        let (mut client, server) = duplex(64);
        client.write_all(b"G").await.unwrap();
        assert_eq!(wait(server).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test(start_paused = true)]
    async fn a_preface_in_pieces_is_read_again_whole_with_what_follows() {
        let (mut client, server) = duplex(8);
        let writing = tokio::spawn(async move {
            client.write_all(&PREFACE).await.unwrap();
            client.write_all(b"and more").await.unwrap();
        });
        let mut read = String::new();
        wait(server)
            .await
            .unwrap()
            .read_to_string(&mut read)
            .await
            .unwrap();
        writing.await.unwrap();
        assert_eq!(
            read.strip_prefix("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            Some("and more")
        );
    }
}
