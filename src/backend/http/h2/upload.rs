//! A request's body on its way out, as fast as the service takes it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use super::{frame::LARGEST, lane::Lane};
use crate::backend::http::payload::Payload;

/// A body being sent. Dropped before its end, it resets its stream.
#[derive(Debug)]
pub(super) struct Upload {
    payload: Payload,
    stream: SendStream<Bytes>,
    lane: Arc<Lane>,
    /// What was taken of the payload and not handed to h2.
    part: Bytes,
    /// Something was taken of the payload.
    begun: bool,
}

impl Upload {
    pub(super) const fn new(payload: Payload, stream: SendStream<Bytes>, lane: Arc<Lane>) -> Self {
        Self {
            payload,
            stream,
            lane,
            part: Bytes::new(),
            begun: false,
        }
    }

    /// The body, if nothing was taken of it.
    pub(super) fn into_untouched(self) -> Option<Payload> {
        (!self.begun).then_some(self.payload)
    }

    /// Sends on. Ready when all was handed to h2, or the service takes no more: the answer tells why.
    pub(super) fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.part.is_empty() {
                match ready!(Pin::new(&mut self.payload).poll_frame(cx)) {
                    Some(Ok(frame)) => self.begin(frame.into_data().unwrap_or_default()),
                    Some(Err(_)) => {
                        self.stream.send_reset(Reason::CANCEL);
                        return Poll::Ready(());
                    }
                    None => return self.send(Bytes::new(), true),
                }
            } else if self.stream.capacity() > 0 || ready!(self.poll_capacity(cx)) {
                let size = self.part.len().min(self.stream.capacity()).min(LARGEST);
                let piece = self.part.split_to(size);
                let last = self.part.is_empty() && self.payload.is_end_stream();
                if self.send(piece, last).is_ready() {
                    return Poll::Ready(());
                }
            } else {
                return Poll::Ready(());
            }
        }
    }

    fn begin(&mut self, part: Bytes) {
        self.begun = true;
        self.lane.queued(part.len());
        self.part = part;
    }

    /// Waits until the service takes more; false if it never will.
    fn poll_capacity(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.stream.reserve_capacity(self.part.len().min(LARGEST));
        loop {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(_)) => return Poll::Ready(true),
                Some(Err(_)) | None => return Poll::Ready(false),
            }
        }
    }

    /// Ready when this was the last of it.
    fn send(&mut self, piece: Bytes, last: bool) -> Poll<()> {
        if last {
            self.lane.queued(1);
        }
        let sent = self.stream.send_data(piece, last);
        if last || sent.is_err() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
