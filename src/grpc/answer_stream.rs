//! A call's events as messages: `accepted`, the events, then exactly one `end` or an error status.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use tonic::Status;

use super::{encode, status::status};
use crate::{
    broker::CallStream,
    error::{Error, Executed, Failure},
    proto,
};

/// The messages of one streamed call. Dropping it cancels the call.
#[derive(Debug)]
pub struct AnswerStream {
    call: CallStream,
    next: Next,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Accepted,
    Event,
    End,
    Nothing,
}

impl AnswerStream {
    pub(super) const fn new(call: CallStream) -> Self {
        let next = Next::Accepted;
        Self { call, next }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<proto::Event, Status>>> {
        let outcome = ready!(Pin::new(&mut self.call.outcome).poll(cx));
        self.next = Next::Nothing;
        let vanished = || Failure::from(Error::Cancelled).executed(Executed::Unknown);
        Poll::Ready(Some(match outcome {
            Ok(Ok(answer)) => Ok(encode::end(answer)),
            Ok(Err(failure)) => Err(status(&failure.below("request"))),
            Err(_) => Err(status(&vanished())),
        }))
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<proto::Event, Status>>> {
        match self.next {
            Next::Accepted => {
                self.next = Next::Event;
                Poll::Ready(Some(Ok(encode::accepted(&self.call.info))))
            }
            Next::Event => match ready!(self.call.events.poll_recv(cx)) {
                Some(event) => Poll::Ready(Some(Ok(encode::event(event)))),
                None => {
                    self.next = Next::End;
                    self.poll_end(cx)
                }
            },
            Next::End => self.poll_end(cx),
            Next::Nothing => Poll::Ready(None),
        }
    }
}

impl Stream for AnswerStream {
    type Item = Result<proto::ExecuteStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = ready!(self.poll_event(cx));
        Poll::Ready(event.map(|event| event.map(|event| proto::ExecuteStreamResponse { event: Some(event) })))
    }
}
