//! The fence of a shared socket, beneath h2 and above TLS: each frame of a request passes its own slot's fence in the
//! moment in which it begins to be handed over, and those of a holder whose time has ended do not.
//!
//! What is left out must not be missed by the connection. Heads keep no state between them (see [`super::tap`]), so a
//! whole request can be left out, but for the first, with which its socket ends; in the place of a body's frame goes a
//! reset of its stream, and the window that the frame had taken is given back to h2. A frame of which a part was handed
//! over is finished: HTTP/2 cannot break one off without breaking the connection. It is 16 KiB at most, and counts as
//! handed over whole when it begins.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    desk::Desk,
    frame::{self, Head, Kind, LARGEST, PREFACE},
    lane::Lane,
    lanes::Lanes,
    tap::Tap,
};

/// Parts that one write gathers. h2 has a head and a payload.
const PARTS: usize = 4;

/// A shared socket as h2 sees it.
#[derive(Debug)]
pub(super) struct Gate<T> {
    io: T,
    tap: Tap,
    lanes: Arc<Lanes>,
    desk: Desk,
    frame: Frame,
    /// A request's head has passed, and said that there is no table of headers.
    spoken: bool,
    /// Frames of our own that wait to be written.
    aside: BytesMut,
}

/// What is being written.
#[derive(Debug)]
enum Frame {
    /// A frame that passes: so many bytes of it are left, and whose it is.
    Passing(usize, Option<(Arc<Lane>, Head)>),
    /// A frame that is left out.
    LeftOut(usize),
}

impl<T: AsyncRead + AsyncWrite + Unpin> Gate<T> {
    pub(super) fn new(io: T, lanes: Arc<Lanes>, desk: Desk) -> Self {
        Self {
            io,
            tap: Tap::new(Arc::clone(&lanes), desk.clone()),
            lanes,
            desk,
            frame: Frame::Passing(PREFACE, None),
            spoken: false,
            aside: BytesMut::new(),
        }
    }

    fn poll_parts(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            match &mut self.frame {
                Frame::Passing(0, _) | Frame::LeftOut(0) => {
                    // Whoever ends a frame begins the next one, so there is a boundary here.
                    ready!(self.poll_aside(cx))?;
                    let head = Head::first_of(parts).ok_or(io::ErrorKind::InvalidData)?;
                    if let Some(written) = ready!(self.poll_begin(cx, head, parts))? {
                        return Poll::Ready(Ok(written));
                    }
                }
                Frame::Passing(left, _) => {
                    let left = *left;
                    let written = ready!(poll_some(&mut self.io, cx, parts, left))?;
                    self.advance(left - written);
                    return Poll::Ready(Ok(written));
                }
                Frame::LeftOut(left) => {
                    let taken = (*left).min(parts.iter().map(|part| part.len()).sum());
                    *left -= taken;
                    return Poll::Ready(Ok(taken));
                }
            }
        }
    }

    /// Begins a frame: gives what was written of it, or nothing if it is left out.
    fn poll_begin(
        &mut self,
        cx: &mut Context<'_>,
        head: Head,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<Option<usize>>> {
        let lane = match head.kind {
            // Heads are checked to be one frame before h2 gets them, see `head`.
            Kind::Headers | Kind::Continuation if head.goes_on() || head.length > LARGEST => {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            Kind::Headers => ready!(self.lanes.beginning(head.stream, cx)),
            Kind::Data => match self.lanes.find(head.stream) {
                Some(lane) => lane,
                None => return self.leave_out(cx, head, None),
            },
            // It would be an error to speak of a stream that the peer was never told of, and no use if it is over.
            Kind::Reset | Kind::WindowUpdate if head.stream != 0 && !self.lanes.are_using(head.stream) => {
                return self.leave_out(cx, head, None);
            }
            Kind::Reset
            | Kind::WindowUpdate
            | Kind::Continuation
            | Kind::Settings
            | Kind::GoAway
            | Kind::Other => return self.poll_free(cx, head, parts),
        };
        // TLS holds back what the socket does not take. So a frame begins only when that is all out, and no more than
        // one is ever beneath the fence.
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        let Some(written) = ready!(self.poll_fenced(cx, head, &lane, parts))? else {
            return self.leave_out(cx, head, Some(&lane));
        };
        if head.kind == Kind::Headers {
            self.lanes.introduced(head.stream);
            self.spoken = true;
        }
        self.frame = Frame::Passing(head.whole(), Some((lane, head)));
        self.advance(head.whole() - written);
        Poll::Ready(Ok(Some(written)))
    }

    /// Hands over the beginning of a frame, if its slot's fence lets it pass.
    fn poll_fenced(
        &mut self,
        cx: &mut Context<'_>,
        head: Head,
        lane: &Lane,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<Option<usize>>> {
        let Some(passing) = lane.line().enter() else {
            return Poll::Ready(Ok(None));
        };
        if lane.is_over() {
            return Poll::Ready(Ok(None));
        }
        let written = ready!(poll_some(&mut self.io, cx, parts, head.whole()))?;
        passing.wrote(head.whole());
        lane.begins();
        Poll::Ready(Ok(Some(written)))
    }

    /// Begins a frame that is nobody's.
    fn poll_free(
        &mut self,
        cx: &mut Context<'_>,
        head: Head,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<Option<usize>>> {
        let written = ready!(poll_some(&mut self.io, cx, parts, head.whole()))?;
        if head.kind == Kind::Reset {
            self.forget(head.stream);
        }
        if head.is_ack() {
            // h2 goes by the peer's settings from here on.
            self.desk.limit(self.tap.streams());
        }
        self.frame = Frame::Passing(head.whole() - written, None);
        Poll::Ready(Ok(Some(written)))
    }

    /// Leaves a frame out, in a way that neither h2 nor the peer misses it.
    fn leave_out(
        &mut self,
        cx: &Context<'_>,
        head: Head,
        lane: Option<&Lane>,
    ) -> Poll<io::Result<Option<usize>>> {
        match head.kind {
            Kind::Headers if !self.spoken => {
                // It says that there is no table of headers, and h2 says so once. A peer whose settings have none
                // may understand no head before it has heard that.
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            Kind::Headers => {
                if let Some(lane) = lane {
                    lane.cut();
                }
                self.lanes.tidy(head.stream);
            }
            Kind::Data => {
                self.tap.give_back(head.length);
                if lane.is_some_and(|lane| lane.is_introduced() && !lane.is_over()) {
                    self.aside.extend_from_slice(&frame::cancel(head.stream));
                    self.forget(head.stream);
                }
                // So that h2 reads what was given back.
                cx.waker().wake_by_ref();
            }
            Kind::Continuation
            | Kind::Reset
            | Kind::Settings
            | Kind::GoAway
            | Kind::WindowUpdate
            | Kind::Other => {}
        }
        self.frame = Frame::LeftOut(head.whole());
        Poll::Ready(Ok(None))
    }

    /// A stream is reset.
    fn forget(&self, number: u32) {
        if let Some(lane) = self.lanes.find(number) {
            lane.reset(false);
            self.lanes.tidy(number);
        }
    }

    fn advance(&mut self, left: usize) {
        if let Frame::Passing(now, lane) = &mut self.frame {
            *now = left;
            if left == 0
                && let Some((lane, head)) = lane.take()
            {
                lane.passed(head);
                self.lanes.tidy(head.stream);
            }
        }
    }

    fn poll_aside(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.aside.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.aside))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.aside.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Frames of our own go between h2's, never into one.
    fn is_at_boundary(&self) -> bool {
        matches!(self.frame, Frame::Passing(0, _) | Frame::LeftOut(0))
    }
}

/// Writes at most `limit` bytes.
fn poll_some<T: AsyncWrite + Unpin>(
    io: &mut T,
    cx: &mut Context<'_>,
    parts: &[IoSlice<'_>],
    limit: usize,
) -> Poll<io::Result<usize>> {
    let mut left = limit;
    let mut some = [IoSlice::new(&[]); PARTS];
    for (place, part) in some.iter_mut().zip(parts.iter().filter(|part| !part.is_empty())) {
        let part = part.get(..left).unwrap_or(part);
        left -= part.len();
        *place = IoSlice::new(part);
    }
    if io.is_write_vectored() {
        Pin::new(io).poll_write_vectored(cx, &some)
    } else {
        let [first, ..] = &some;
        Pin::new(io).poll_write(cx, first)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gate<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.tap.poll_read(&mut this.io, cx, buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_parts(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_parts(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_at_boundary() {
            ready!(this.poll_aside(cx))?;
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
