//! Between HTTP/2 and the socket: the fence of what HTTP/2 writes. A stream's frames are a holder's, and pass while the
//! session's fence is open, byte by byte; the connection's own (answers to pings, settings, windows) pass always, for a
//! driver takes a peer for dead that does not answer its pings while nobody holds the session. What must not pass waits:
//! an error would break the connection. And between holders it is known whether all of a call has been written, or some
//! of it is still in HTTP/2's own buffer.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};

use super::{frames::Frames, sieve::Sieve, wire::Wire};
use crate::backend::{Line, carrier::Carrier};

/// What a connection's task has written, as its owner sees it.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    waiting: AtomicWaker,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// The last stream of which everything is written that ever will be.
    written: u32,
    /// Nothing is written any more.
    over: bool,
}

impl Outgoing {
    /// Has a write that waited for the fence tried again. Call it when the fence is open.
    pub(super) fn wake(&self) {
        self.waiting.wake();
    }

    /// Whether everything of a stream has been written. Streams are written one after the other, and one that is
    /// given up is taken out of HTTP/2's queue at once: so a later one's end also is the earlier one's.
    pub(super) fn has_written(&self, stream: u32) -> bool {
        self.progress.borrow().written >= stream
    }

    /// Returns once everything of a stream has been written, or nothing is any more. May be dropped at any time.
    pub(super) async fn when_written(&self, stream: u32) {
        let mut progress = self.progress.subscribe();
        let done = progress.wait_for(|progress| progress.written >= stream || progress.over);
        // The other end is here.
        done.await.ok();
    }

    fn note_written(&self, stream: u32) {
        self.progress.send_if_modified(|progress| {
            let news = stream > progress.written;
            progress.written = progress.written.max(stream);
            news
        });
    }
}

/// The carrier of HTTP/2.
#[derive(Debug)]
pub(super) struct Gate {
    /// With a fence of its own, which is never shut.
    carrier: Carrier<Wire>,
    /// The session's fence.
    pass: Line,
    outgoing: Arc<Outgoing>,
    ours: Frames,
    theirs: Frames,
    sieve: Sieve,
    /// TLS may hold back something of a stream.
    held_back: bool,
}

impl Gate {
    /// What passes counts at `pass`, the session's fence.
    pub(super) fn new(carrier: Carrier<Wire>, pass: Line, outgoing: Arc<Outgoing>) -> Self {
        Self {
            carrier,
            pass,
            outgoing,
            ours: Frames::of_client(),
            theirs: Frames::of_server(),
            sieve: Sieve::new(),
            held_back: false,
        }
    }

    /// Waits for the fence to be open.
    fn wait(&self, cx: &mut Context<'_>) {
        self.outgoing.waiting.register(cx.waker());
        // It may have been opened, and its new holder have called wake, before the waker was there.
        if self.pass.fence().is_open() {
            cx.waker().wake_by_ref();
        }
    }

    /// Writes under the session's fence, which cannot be shut meanwhile; None if it is shut.
    fn poll_under_fence(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Option<Poll<io::Result<usize>>> {
        let passing = self.pass.enter()?;
        let poll = Pin::new(&mut self.carrier).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = poll {
            let of_streams = self.ours.pass(buf.get(..written).unwrap_or_default());
            passing.wrote(of_streams);
            self.held_back |= of_streams > 0 && matches!(self.carrier, Carrier::Tls(_));
        }
        Some(poll)
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        ready!(this.sieve.poll_read(&mut this.carrier, cx, buf))?;
        let of_streams = this.theirs.pass(buf.filled().get(before..).unwrap_or_default());
        // The connection's own frames are no progress: a driver may ping for as long as its call hangs.
        this.pass.fence().note_received(of_streams as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gate {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let Some(poll) = this.poll_under_fence(cx, buf) {
            return poll;
        }
        let own = buf.get(..this.ours.own(buf)).unwrap_or_default();
        if own.is_empty() || this.held_back {
            this.wait(cx);
            return Poll::Pending;
        }
        let written = ready!(Pin::new(&mut this.carrier).poll_write(cx, own))?;
        this.ours.pass(own.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let passing = this.pass.enter();
        if this.held_back && passing.is_none() {
            this.wait(cx);
            return Poll::Pending;
        }
        ready!(Pin::new(&mut this.carrier).poll_flush(cx))?;
        drop(passing);
        this.held_back = false;
        // A stream that the driver's side has reset is taken out of HTTP/2's queue before it flushes; and what of it was
        // in HTTP/2's hands has now been written.
        let written = this.ours.ended().max(this.theirs.reset());
        this.outgoing.note_written(written);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.carrier).poll_shutdown(cx)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.outgoing
            .progress
            .send_modify(|progress| progress.over = true);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixStream,
    };

    use super::{super::frames::frame, *};
    use crate::backend::{Fence, FencedIo};

    const PING: u8 = 6;

    /// A gate behind whose preface nothing is written yet, its fence, and its peer.
    async fn gate() -> (Gate, Arc<Fence>, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let fence = Arc::new(Fence::default());
        fence.open(1);
        let mut fenced = FencedIo::new(Wire::Unix(ours), Arc::clone(&fence));
        let pass = fenced.line();
        let own = Arc::new(Fence::default());
        own.open(1);
        fenced.entrust(own);
        let mut gate = Gate::new(Carrier::Plain(fenced), pass, Arc::default());
        gate.write_all(&[0; 24]).await.unwrap();
        theirs.read_exact(&mut [0; 24]).await.unwrap();
        (gate, fence, theirs)
    }

    #[tokio::test]
    async fn pings_are_answered_while_nobody_holds_the_session_and_streams_wait() {
        let (mut gate, fence, mut peer) = gate().await;
        let (sent, ping, data) = (fence.sent(), frame(PING, 1, 0, 8), frame(0, 1, 1, 30));
        fence.shut();
        let both = [ping.clone(), data.clone()].concat();
        assert_eq!(gate.write(&both).await.unwrap(), ping.len());
        let mut seen = vec![0; ping.len()];
        peer.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, ping);
        assert_eq!(fence.sent(), sent, "it is nothing of a call");
        let outgoing = Arc::clone(&gate.outgoing);
        let mut write = Box::pin(gate.write_all(&data));
        assert!(futures_util::poll!(&mut write).is_pending());
        fence.open(2);
        outgoing.wake();
        write.await.unwrap();
        assert_eq!(fence.sent(), sent + 39);
        gate.flush().await.unwrap();
        assert!(outgoing.has_written(1));
    }

    #[tokio::test]
    async fn stream_that_the_peer_has_reset_is_written_as_far_as_it_ever_will_be() {
        let (mut gate, _fence, mut peer) = gate().await;
        gate.write_all(&frame(0, 0, 1, 30)).await.unwrap();
        gate.flush().await.unwrap();
        let outgoing = Arc::clone(&gate.outgoing);
        assert!(!outgoing.has_written(1));
        peer.write_all(&frame(3, 0, 1, 4)).await.unwrap();
        gate.read_exact(&mut [0; 13]).await.unwrap();
        assert!(!outgoing.has_written(1), "something of it may be under way");
        gate.flush().await.unwrap();
        outgoing.when_written(1).await;
        assert!(outgoing.has_written(1));
    }

    #[tokio::test]
    async fn a_drivers_pings_are_no_progress_and_its_streams_frames_are() {
        let (mut gate, fence, mut peer) = gate().await;
        let (before, ping, data) = (fence.progress(), frame(PING, 0, 0, 8), frame(0, 0, 1, 30));
        peer.write_all(&ping).await.unwrap();
        gate.read_exact(&mut [0; 17]).await.unwrap();
        assert_eq!(fence.progress(), before);
        peer.write_all(&data).await.unwrap();
        gate.read_exact(&mut [0; 39]).await.unwrap();
        assert_eq!(fence.progress(), before + 39);
    }
}
