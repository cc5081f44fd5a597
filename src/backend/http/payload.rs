//! A request's body on its way to the service.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

use super::pace::{Pace, Upload};
use crate::backend::BodyReader;

/// What a request carries.
#[derive(Debug)]
pub(super) struct Payload {
    source: Source,
    pace: Option<Arc<Pace>>,
}

#[derive(Debug)]
enum Source {
    Whole(Bytes),
    Stream {
        reader: BodyReader,
        /// What is still to come, if the caller said how much it is.
        left: Option<u64>,
    },
    Done,
}

/// A streamed body did not come as promised.
#[derive(Clone, Copy, Debug, Error)]
#[error("the body did not come as promised")]
pub(super) struct NotAsPromised;

impl Payload {
    /// All of it, often empty.
    pub(super) const fn whole(bytes: Bytes) -> Self {
        Self {
            source: Source::Whole(bytes),
            pace: None,
        }
    }

    /// It comes in parts, `length` bytes in all if the caller said so.
    pub(super) const fn stream(reader: BodyReader, length: Option<u64>) -> Self {
        Self {
            source: Source::Stream { reader, left: length },
            pace: None,
        }
    }

    /// Says whose exchange this is part of.
    pub(super) fn attach(&mut self, pace: &Arc<Pace>) {
        self.pace = Some(Arc::clone(pace));
        if self.is_end_stream() || matches!(self.source, Source::Stream { left: Some(0), .. }) {
            self.note(Upload::Complete);
        }
    }

    /// The reader of a body that was not begun.
    pub(super) fn into_reader(self) -> Option<BodyReader> {
        match self.source {
            Source::Stream { reader, .. } => Some(reader),
            Source::Whole(_) | Source::Done => None,
        }
    }

    fn note(&self, fate: Upload) {
        if let Some(pace) = &self.pace {
            pace.set_upload(fate);
        }
    }

    fn finish(&mut self, fate: Upload) -> Option<Result<Frame<Bytes>, NotAsPromised>> {
        self.source = Source::Done;
        self.note(fate);
        (fate != Upload::Complete).then_some(Err(NotAsPromised))
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, NotAsPromised>>> {
        let Source::Stream { reader, left } = &mut self.source else {
            return Poll::Ready(None);
        };
        let fate = match (ready!(reader.poll_next(cx)), left.as_mut()) {
            (Ok(Some(part)), None) => return Poll::Ready(Some(Ok(Frame::data(part)))),
            (Ok(Some(part)), Some(left)) => match left.checked_sub(part.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    if rest == 0 {
                        // Nobody asks for more once the promised length is there.
                        self.note(Upload::Complete);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(part))));
                }
                None => Upload::WrongLength,
            },
            (Ok(None), None | Some(0)) => Upload::Complete,
            (Ok(None), Some(_)) => Upload::WrongLength,
            (Err(_), _) => Upload::Cut,
        };
        Poll::Ready(self.finish(fate))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = NotAsPromised;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, NotAsPromised>>> {
        match &mut self.source {
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.finish(Upload::Complete);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Source::Stream { .. } => self.poll_part(cx),
            Source::Done => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Stream { .. } => false,
            Source::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Stream { left: Some(left), .. } => SizeHint::with_exact(*left),
            Source::Stream { left: None, .. } => SizeHint::new(),
            Source::Done => SizeHint::with_exact(0),
        }
    }
}
