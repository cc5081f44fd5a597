//! Between HTTP/2 and the fence. HTTP/2 writes of itself: it answers pings and grants windows while nobody holds the
//! session. Such a write must wait until the fence is open again, instead of breaking the connection; and between
//! holders it has to be known whether all of a call has been written, or some of it is still in HTTP/2's own buffer.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::Wire;
use crate::backend::{Fence, carrier::Carrier};

/// What a connection's task has written, as its owner sees it.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    waiting: AtomicWaker,
    /// The last stream of which everything is written.
    written: AtomicU32,
}

impl Outgoing {
    /// Has a write that waited for the fence tried again. Call it when the fence is open.
    pub(super) fn wake(&self) {
        self.waiting.wake();
    }

    /// Whether everything of a stream has been written. Streams are written one after the other, and one that is
    /// given up is taken out of HTTP/2's queue at once: so a later one's end also is the earlier one's.
    pub(super) fn has_written(&self, stream: u32) -> bool {
        self.written.load(Ordering::Acquire) >= stream
    }
}

/// The carrier of HTTP/2.
#[derive(Debug)]
pub(super) struct Gate {
    carrier: Carrier<Wire>,
    fence: Arc<Fence>,
    outgoing: Arc<Outgoing>,
    frames: Frames,
}

impl Gate {
    pub(super) fn new(carrier: Carrier<Wire>, fence: Arc<Fence>, outgoing: Arc<Outgoing>) -> Self {
        Self {
            carrier,
            fence,
            outgoing,
            frames: Frames::new(),
        }
    }

    /// Waits while the fence is shut.
    fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        if self.fence.is_open() {
            return Poll::Ready(());
        }
        self.outgoing.waiting.register(cx.waker());
        // It may have been opened, and its new holder have called wake, before the waker was there.
        if self.fence.is_open() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.carrier).poll_read(cx, buf)
    }
}

impl AsyncWrite for Gate {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx));
        let written = ready!(Pin::new(&mut self.carrier).poll_write(cx, buf))?;
        self.frames.pass(buf.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx));
        ready!(Pin::new(&mut self.carrier).poll_flush(cx))?;
        self.outgoing.written.store(self.frames.ended, Ordering::Release);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.carrier).poll_shutdown(cx)
    }
}

/// A frame's header: RFC 9113, section 4.1.
const HEADER: usize = 9;
/// What a client writes before its first frame: RFC 9113, section 3.4.
const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// Follows the frames in what is written, just far enough to see streams end.
#[derive(Debug)]
struct Frames {
    header: [u8; HEADER],
    /// Bytes of the header that have passed.
    known: usize,
    /// Bytes of the payload that are to come.
    left: usize,
    /// The stream that ends with the present frame.
    ending: Option<u32>,
    /// The last stream whose end has passed.
    ended: u32,
}

impl Frames {
    const fn new() -> Self {
        Self {
            header: [0; HEADER],
            // The preface counts as a frame's payload.
            known: HEADER,
            left: PREFACE,
            ending: None,
            ended: 0,
        }
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.known < HEADER {
                let (part, rest) = bytes.split_at(bytes.len().min(HEADER - self.known));
                if let Some(place) = self.header.get_mut(self.known..self.known + part.len()) {
                    place.copy_from_slice(part);
                }
                self.known += part.len();
                bytes = rest;
                if self.known == HEADER {
                    self.begin();
                }
            } else {
                let (part, rest) = bytes.split_at(bytes.len().min(self.left));
                self.left -= part.len();
                bytes = rest;
            }
            if self.known == HEADER && self.left == 0 {
                self.known = 0;
                self.ended = self
                    .ending
                    .take()
                    .map_or(self.ended, |stream| stream.max(self.ended));
            }
        }
    }

    fn begin(&mut self) {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        self.ending = ends.then(|| u32::from_be_bytes(stream) & 0x7fff_ffff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(std::iter::repeat_n(0xff, usize::from(length)));
        bytes
    }

    #[test]
    fn a_stream_has_ended_when_the_last_byte_of_its_last_frame_has_passed() {
        let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        all.extend(frame(4, 1, 0, 12));
        all.extend(frame(HEADERS, 4, 1, 7));
        all.extend(frame(DATA, 0, 1, 200));
        all.extend(frame(DATA, END_STREAM, 1, 3));
        let mut frames = Frames::new();
        for (at, byte) in all.iter().enumerate() {
            assert_eq!(frames.ended, 0, "after {at} of {} bytes", all.len());
            frames.pass(&[*byte]);
        }
        assert_eq!(frames.ended, 1);
        frames.pass(&frame(8, 1, 9, 4));
        assert_eq!(frames.ended, 1, "a window's frame ends nothing");
        frames.pass(&[frame(DATA, END_STREAM, 5, 0), frame(DATA, 0, 7, 4)].concat());
        assert_eq!(frames.ended, 5, "an empty frame ends its stream too");
    }
}
