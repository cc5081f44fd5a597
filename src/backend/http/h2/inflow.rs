//! An answer's body: the service may send on as fast as it is read.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame};

/// A body on its way in.
#[derive(Debug)]
pub(in crate::backend::http) struct Inflow {
    stream: RecvStream,
    /// Given out last; its window is given back when more is asked for.
    taken: usize,
}

impl Inflow {
    pub(super) const fn new(stream: RecvStream) -> Self {
        Self { stream, taken: 0 }
    }
}

impl Body for Inflow {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let taken = std::mem::take(&mut self.taken);
        self.stream.flow_control().release_capacity(taken)?;
        if let Some(part) = ready!(self.stream.poll_data(cx)) {
            let part = part?;
            self.taken = part.len();
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        // Nobody wants trailers, but the stream has not ended before them.
        ready!(self.stream.poll_trailers(cx))?;
        Poll::Ready(None)
    }
}
