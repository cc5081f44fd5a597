//! The fence: after a holder's end is recorded, nothing more of it reaches a socket. It sits at the I/O, beneath
//! hyper and every protocol library, so that no buffer above it can matter.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// One session's fence, shared by the pool, the holder and the session's I/O.
///
/// Lock discipline: none; the number is an atomic that only the pool and the lease's end write. Ordering is
/// `SeqCst`, so that a write that starts after `shut` has returned sees it.
#[derive(Debug, Default)]
pub struct Fence {
    /// The grant that may write; 0 is nobody.
    number: AtomicU64,
    /// Bytes handed over so far, by anyone.
    sent: AtomicU64,
    /// Bytes that came back so far.
    received: AtomicU64,
    shut: Notify,
}

impl Fence {
    /// Lets grant `number` write. The pool itself uses its own numbers for dials, probes and resets.
    pub fn open(&self, number: u64) {
        self.number.store(number, Ordering::SeqCst);
    }

    /// Lets nobody write, and wakes who waits in [`Fence::when_shut`].
    pub fn shut(&self) {
        self.number.store(0, Ordering::SeqCst);
        self.shut.notify_waiters();
    }

    /// Whether somebody may write.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.number.load(Ordering::SeqCst) != 0
    }

    /// The grant that may write; 0 is nobody.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }

    /// Returns once the fence is shut.
    pub async fn when_shut(&self) {
        loop {
            let notified = self.shut.notified();
            if !self.is_open() {
                return;
            }
            notified.await;
        }
    }

    /// For kinds without a socket: notes that `bytes` are handed over now.
    ///
    /// # Errors
    /// When the fence is shut: nothing may be handed over.
    pub fn hand_over(&self, bytes: u64) -> io::Result<()> {
        if !self.is_open() {
            return Err(fenced());
        }
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Notes bytes that came from the backend: progress.
    pub fn note_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes handed over so far. The difference over a call tells whether anything of it was.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Changes whenever bytes move either way: no change for long is a stall.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.sent().wrapping_add(self.received.load(Ordering::Relaxed))
    }
}

/// A connection whose writes pass the fence.
#[derive(Debug)]
pub struct FencedIo<T> {
    inner: T,
    fence: std::sync::Arc<Fence>,
}

impl<T> FencedIo<T> {
    /// Puts the fence before `inner`.
    pub const fn new(inner: T, fence: std::sync::Arc<Fence>) -> Self {
        Self { inner, fence }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for FencedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        self.fence.note_received(read as u64);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for FencedIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.fence.is_open() {
            return Poll::Ready(Err(fenced()));
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.fence.sent.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.fence.is_open() {
            return Poll::Ready(Err(fenced()));
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
        self.fence.sent.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// Nothing is buffered beneath the fence, so a flush hands nothing over and needs no check.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

fn fenced() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the holder's time has ended")
}
