//! The fence: after a holder's end is recorded, nothing more of it reaches a socket. It sits at the I/O, beneath
//! hyper and every protocol library, so that no buffer above it can matter.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// One session's fence, shared by the pool, the holder and the session's I/O.
///
/// Lock discipline: `writing` is held while bytes are handed over, never while waiting, and nothing else is locked
/// under it, but for a socket that sessions share its own fence and what it notes of the stream. So when `shut` has
/// returned, no write is under way any more either. The number changes from open to shut under the lock only; it is an
/// atomic so that it can be read without.
#[derive(Debug, Default)]
pub struct Fence {
    /// The grant that may write; 0 is nobody.
    number: AtomicU64,
    writing: Mutex<Watchers>,
    /// Bytes handed over so far, by anyone.
    sent: AtomicU64,
    /// Bytes that came back so far, and looks at a fence at rest.
    received: AtomicU64,
    /// Silence is as it should be.
    at_rest: AtomicBool,
    shut: Notify,
}

/// How many wait in [`Fence::when_shut`]: mostly nobody does, and then shutting has nobody to wake.
type Watchers = u32;

impl Fence {
    /// Lets grant `number` write. The pool itself uses its own numbers for dials, probes and resets.
    pub fn open(&self, number: u64) {
        self.number.store(number, Ordering::Release);
    }

    /// Lets nobody write, and wakes who waits in [`Fence::when_shut`].
    pub fn shut(&self) {
        self.shut_if(|_| true);
    }

    /// Shuts the fence if grant `number` still has it. A late end must not harm the next holder.
    pub fn shut_for(&self, number: u64) {
        self.shut_if(|holder| holder == number);
    }

    fn shut_if(&self, ends: impl FnOnce(u64) -> bool) {
        let watchers = self.writing.lock();
        if !ends(self.number()) {
            return;
        }
        self.number.store(0, Ordering::Release);
        let watched = *watchers > 0;
        drop(watchers);
        if watched {
            self.shut.notify_waiters();
        }
    }

    /// Whether somebody may write.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.number.load(Ordering::Acquire) != 0
    }

    /// The grant that may write; 0 is nobody.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Returns once the fence is shut. May be dropped at any time.
    pub async fn when_shut(&self) {
        let _watching = self.watch();
        loop {
            let notified = self.shut.notified();
            if !self.is_open() {
                return;
            }
            notified.await;
        }
    }

    /// Counted under the lock: a shutting that comes after it sees the watcher, one that came before is seen by it.
    fn watch(&self) -> Watching<'_> {
        *self.writing.lock() += 1;
        Watching(self)
    }

    /// For kinds without a socket: notes that `bytes` are handed over now.
    ///
    /// # Errors
    /// When the fence is shut: nothing may be handed over.
    pub fn hand_over(&self, bytes: u64) -> io::Result<()> {
        let _writing = self.enter()?;
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps the fence open until the guard is dropped, if it is open now.
    fn enter(&self) -> io::Result<MutexGuard<'_, Watchers>> {
        let writing = self.writing.lock();
        if self.is_open() {
            Ok(writing)
        } else {
            Err(fenced())
        }
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

    /// Says whether silence is as it should be from now on: nothing is owed in either direction, so that however long
    /// it lasts, it is no stall.
    pub fn set_at_rest(&self, at_rest: bool) {
        self.at_rest.store(at_rest, Ordering::Relaxed);
    }

    /// Changes whenever bytes move either way, and at each look while the fence is at rest: no change for long is a
    /// stall.
    #[must_use]
    pub fn progress(&self) -> u64 {
        if self.at_rest.load(Ordering::Relaxed) {
            self.note_received(1);
        }
        self.sent().wrapping_add(self.received.load(Ordering::Relaxed))
    }
}

/// Somebody waits in [`Fence::when_shut`].
struct Watching<'a>(&'a Fence);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        *self.0.writing.lock() -= 1;
    }
}

/// One connection's own gate, beneath the session's fence: it can be cut off for good, whoever opens the fence
/// later, and says from when on its bytes count as handed over.
#[derive(Clone, Debug)]
pub struct Line {
    fence: Arc<Fence>,
    state: Arc<LineState>,
}

#[derive(Debug, Default)]
struct LineState {
    cut: AtomicBool,
    counted: AtomicBool,
}

impl Line {
    /// Cuts the connection off: when this has returned, nothing more is ever written to it, whatever is buffered
    /// above, and no write is under way. It does not close the connection.
    pub fn cut(&self) {
        let _writing = self.fence.writing.lock();
        self.state.cut.store(true, Ordering::SeqCst);
    }

    /// Whether it was cut off.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.state.cut.load(Ordering::SeqCst)
    }

    /// From now on what is written counts as handed over: the handshakes are done, calls begin.
    pub fn count(&self) {
        self.state.counted.store(true, Ordering::SeqCst);
    }

    /// A gate of `fence` for what is no connection of its own, such as one stream of a shared socket. Whatever passes
    /// counts as handed over.
    pub(crate) fn new(fence: Arc<Fence>) -> Self {
        let line = Self {
            fence,
            state: Arc::default(),
        };
        line.count();
        line
    }

    /// The fence that it is a gate of.
    pub(crate) const fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    /// Keeps the gate open until the guard is dropped, if it is open now. Bytes are handed over under the guard, which
    /// is never held while waiting.
    pub(crate) fn enter(&self) -> Option<Passing<'_>> {
        let writing = self.fence.enter().ok()?;
        (!self.is_cut()).then_some(Passing {
            line: self,
            _writing: writing,
        })
    }

    fn wrote(&self, bytes: usize) {
        if self.state.counted.load(Ordering::SeqCst) {
            self.fence.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        } else {
            // Progress, but nothing of a call.
            self.fence.note_received(bytes as u64);
        }
    }
}

/// Bytes may be handed over: no end of the holder is recorded while this is there.
pub(crate) struct Passing<'a> {
    line: &'a Line,
    _writing: MutexGuard<'a, Watchers>,
}

impl Passing<'_> {
    /// Notes bytes that were handed over.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.line.wrote(bytes);
    }
}

/// A connection whose writes pass the fence.
#[derive(Debug)]
pub struct FencedIo<T> {
    inner: T,
    line: Line,
}

impl<T> FencedIo<T> {
    /// Puts the fence before `inner`. Every byte counts as handed over.
    #[must_use]
    pub fn new(inner: T, fence: Arc<Fence>) -> Self {
        let io = Self::dialing(inner, fence);
        io.line.count();
        io
    }

    /// Puts the fence before `inner`, whose bytes count as handed over only after [`Line::count`]: a handshake of the
    /// connection is nothing of a call.
    #[must_use]
    pub fn dialing(inner: T, fence: Arc<Fence>) -> Self {
        let state = Arc::default();
        Self {
            inner,
            line: Line { fence, state },
        }
    }

    /// What is beneath the fence, to look at.
    pub(crate) const fn look(&self) -> &T {
        &self.inner
    }

    /// What is beneath the fence: to be looked at or moved, not to be written to.
    pub(crate) const fn beneath(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Puts another fence before it: the connection turned out to be one that several sessions share.
    pub(crate) fn entrust(&mut self, fence: Arc<Fence>) {
        self.line = Line {
            fence,
            state: Arc::default(),
        };
    }

    /// The connection's own gate.
    #[must_use]
    pub fn line(&self) -> Line {
        self.line.clone()
    }
}

impl<T: AsyncWrite + Unpin> FencedIo<T> {
    fn poll_pass(
        &mut self,
        write: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Some(passing) = self.line.enter() else {
            return Poll::Ready(Err(fenced()));
        };
        let written = ready!(write(Pin::new(&mut self.inner)))?;
        passing.wrote(written);
        Poll::Ready(Ok(written))
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
        self.line.fence.note_received(read as u64);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for FencedIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_pass(|inner| inner.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_pass(|inner| inner.poll_write_vectored(cx, bufs))
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

/// What a shut fence answers to a write.
#[derive(Debug, thiserror::Error)]
#[error("the holder's time has ended")]
struct Refusal;

fn fenced() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, Refusal)
}

/// Whether a write failed because the fence is shut, and not because its connection broke.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|source| source.is::<Refusal>())
}

#[cfg(test)]
mod tests;
