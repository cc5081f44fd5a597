//! A session's place on a shared socket, and the request that it has under way.

use std::{
    convert::Infallible,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body as _;

use super::{
    head::{self, for_http2},
    inflow::Inflow,
    lane::Lane,
    table::Seat,
    upload::Upload,
};
use crate::backend::{
    Fence,
    http::{
        link::{Fault, causes},
        pace::Pace,
        payload::Payload,
    },
};

type Sender = h2::client::SendRequest<Bytes>;

/// A place, with at most one stream.
#[derive(Debug)]
pub(in crate::backend::http) struct Slot {
    seat: Seat,
    stream: Option<Stream>,
}

/// A request under way. Dropped, it is cut.
#[derive(Debug)]
struct Stream {
    lane: Arc<Lane>,
    /// None when all of it was handed to h2.
    upload: Option<Upload>,
}

impl Slot {
    pub(super) const fn new(seat: Seat) -> Self {
        Self { seat, stream: None }
    }

    /// The secret headers of its socket.
    pub(in crate::backend::http) fn secret_headers(&self) -> &HeaderMap {
        &self.seat.socket.secret_headers
    }

    /// Sends a request and waits for the answer's head. If the future is dropped, [`Slot::cut`] stops the request.
    pub(in crate::backend::http) async fn send(
        &mut self,
        request: Request<Payload>,
        fence: &Arc<Fence>,
        pace: &Arc<Pace>,
    ) -> Result<Response<Inflow>, Fault> {
        let (request, payload) = for_http2(request, self.seat.target());
        let size = head::size(&request);
        if size > head::LONGEST {
            return Err(Fault::senseless(&format!(
                "make a head of up to {size} bytes with the pool's own headers: a request over HTTP/2 has 15 KiB at most",
            )));
        }
        let end = payload.is_end_stream();
        let sender = if self.seat.begin() {
            self.seat.socket.sender()
        } else {
            None
        };
        let Some(mut sender) = sender else {
            return Err(Fault::unsent(
                "the connection takes no more requests",
                Some(payload),
            ));
        };
        let lane = Arc::new(Lane::new(fence, pace));
        if end {
            lane.queued(1);
        }
        let (answer, sending) = match sender.send_request(request, end) {
            Ok(begun) => begun,
            Err(error) => return Err(self.not_begun(&mut sender, &error, payload).await),
        };
        self.seat.socket.lanes.add(sending.stream_id().as_u32(), &lane);
        let upload = (!end).then(|| Upload::new(payload, sending, Arc::clone(&lane)));
        self.stream = Some(Stream { lane, upload });
        let answer = tokio::select! {
            answer = answer => answer,
            never = self.sending() => match never {},
        };
        answer
            .map(|answer| answer.map(Inflow::new))
            .map_err(|error| self.fault(&error))
    }

    /// Why h2 takes a request not at all: its streams are used up, or it has given the socket up and could not say so
    /// yet; then nobody is to sit there any more. If it is neither, it is for the request itself.
    async fn not_begun(&self, sender: &mut Sender, error: &h2::Error, payload: Payload) -> Fault {
        let message = causes(error);
        let ready = poll_fn(|cx| Poll::Ready(sender.poll_ready(cx))).await;
        if matches!(ready, Poll::Ready(Ok(()))) {
            return Fault::senseless(&format!("make no request: {message}"));
        }
        self.seat.retire();
        Fault::unsent(&message, Some(payload))
    }

    /// What became of a request without an answer. It is cut first: what is said of it now must stay true, and h2 may
    /// still hold frames of it.
    fn fault(&mut self, error: &h2::Error) -> Fault {
        if let Some(stream) = &self.stream {
            stream.lane.cut();
        }
        let upload = self.stream.as_mut().and_then(|stream| stream.upload.take());
        Fault {
            message: causes(error),
            senseless: false,
            payload: upload.and_then(Upload::into_untouched),
            refused: self
                .stream
                .as_ref()
                .is_some_and(|stream| stream.lane.is_refused()),
        }
    }

    /// Sends the request's body on, for ever. May be dropped at any time.
    pub(in crate::backend::http) async fn sending(&mut self) -> Infallible {
        poll_fn(|cx| {
            if let Some(stream) = &mut self.stream {
                stream.poll_on(cx);
            }
            Poll::Pending
        })
        .await
    }

    /// Stops the request under way: when this has returned, no frame of it begins any more. The service hears of it
    /// with a reset.
    pub(in crate::backend::http) fn cut(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.cut();
        }
    }

    /// Stops the request under way, and returns when nothing of it goes or comes any more. May be dropped and called
    /// again. False if the place is gone.
    pub(in crate::backend::http) async fn hang_up(&mut self) -> bool {
        self.cut();
        if let Some(stream) = &self.stream {
            stream.lane.over().await;
        }
        self.stream = None;
        self.is_held()
    }

    /// An exchange is over, and nothing of it is left.
    pub(in crate::backend::http) fn done(&mut self) {
        self.stream = None;
    }

    /// A call is over; false if its place went with it.
    pub(in crate::backend::http) fn rest(&self) -> bool {
        self.seat.rest()
    }

    fn is_held(&self) -> bool {
        self.seat.is_held() && !self.seat.socket.standing.is_gone()
    }

    /// Whether its place was taken away as HTTP/2 allows, which is no loss.
    pub(in crate::backend::http) fn is_over(&self) -> bool {
        let standing = &self.seat.socket.standing;
        !self.seat.is_held() && (!standing.is_gone() || standing.is_leaving())
    }

    /// Whether the socket broke.
    pub(in crate::backend::http) async fn is_dead(&self) -> bool {
        let dead = self.seat.socket.is_dead().await;
        if dead {
            self.seat.bury();
        }
        dead
    }

    /// Gives the place up. If it was the socket's last, that says goodbye, and this returns when the peer has too.
    pub(in crate::backend::http) async fn close(mut self) {
        self.hang_up().await;
        let socket = Arc::clone(&self.seat.socket);
        drop(self);
        if socket.standing.unneeded.is_up() {
            socket.standing.ended.raised().await;
        }
    }
}

impl Stream {
    fn poll_on(&mut self, cx: &mut Context<'_>) {
        if let Some(upload) = &mut self.upload
            && upload.poll_on(cx).is_ready()
        {
            self.upload = None;
        }
    }

    fn cut(&mut self) {
        self.lane.cut();
        self.upload = None;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cut();
    }
}
