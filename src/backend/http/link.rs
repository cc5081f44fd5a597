//! What a slot speaks over: a connection of its own, or a place on a shared one.

use std::{
    convert::Infallible,
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use hyper::{body::Incoming, client::conn::http1::SendRequest};

use super::{
    connection::Connection,
    h2::{Inflow, Slot},
    pace::Pace,
    payload::Payload,
};
use crate::{backend::Fence, clock::Clock};

/// A slot's way to the service.
#[derive(Debug)]
pub(super) enum Link {
    /// HTTP/1.1.
    Own(Connection),
    /// HTTP/2.
    Shared(Slot),
}

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    /// The body, if nothing was taken of it.
    pub(super) payload: Option<Payload>,
    /// The service proved that it did nothing of the request.
    pub(super) refused: bool,
    /// The request itself is at fault, and nothing of it was sent.
    pub(super) senseless: bool,
}

impl Fault {
    /// One that came before anything was done.
    pub(super) fn unsent(message: &str, payload: Option<Payload>) -> Self {
        Self {
            message: message.to_owned(),
            payload,
            refused: false,
            senseless: false,
        }
    }

    /// One of a request that can be sent to nobody.
    pub(super) fn senseless(message: &str) -> Self {
        Self {
            senseless: true,
            ..Self::unsent(message, None)
        }
    }
}

impl Link {
    /// Whether a request that comes to nothing before any of it was handed over may be sent anew: not on a connection
    /// of its own that was dialed for it.
    pub(super) const fn was_kept(&self) -> bool {
        match self {
            Self::Own(connection) => connection.used,
            Self::Shared(_) => true,
        }
    }

    /// Where the next exchange's pace is noted.
    pub(super) fn pace(&self, clock: &Clock) -> Arc<Pace> {
        match self {
            Self::Own(connection) => Arc::clone(&connection.pace),
            Self::Shared(_) => Arc::new(Pace::new(clock.clone())),
        }
    }

    pub(super) fn secret_headers(&self) -> &HeaderMap {
        match self {
            Self::Own(connection) => &connection.secret_headers,
            Self::Shared(slot) => slot.secret_headers(),
        }
    }

    /// Sends a request and waits for the answer's head.
    pub(super) async fn send(
        &mut self,
        request: Request<Payload>,
        fence: &Arc<Fence>,
        pace: &Arc<Pace>,
    ) -> Result<Response<Inbound>, Fault> {
        match self {
            Self::Own(connection) => {
                connection.used = true;
                let answer = send(&mut connection.sender, request).await?;
                Ok(answer.map(Inbound::Own))
            }
            Self::Shared(slot) => {
                let answer = slot.send(request, fence, pace).await?;
                Ok(answer.map(Inbound::Shared))
            }
        }
    }

    /// Sends the request's body on beside whatever else is done; never returns. hyper's task does it for HTTP/1.1.
    pub(super) async fn sending(&mut self) -> Infallible {
        match self {
            Self::Own(_) => std::future::pending().await,
            Self::Shared(slot) => slot.sending().await,
        }
    }

    /// Whether it can carry the next exchange, now that one has ended; `last` if the service said that it was.
    pub(super) fn keep(&mut self, last: bool) {
        match self {
            Self::Own(connection) => connection.last = last,
            Self::Shared(slot) => slot.done(),
        }
    }

    /// A call is over; false if the link is of no more use.
    pub(super) fn rest(&self) -> bool {
        match self {
            Self::Own(_) => true,
            Self::Shared(slot) => slot.rest(),
        }
    }

    /// Cuts off what is under way: when this has returned, nothing more of it is handed over.
    pub(super) fn cut(&mut self) {
        match self {
            Self::Own(connection) => connection.cut(),
            Self::Shared(slot) => slot.cut(),
        }
    }

    /// Cuts off what is under way, and returns when it is over; false if the link went with it. May be dropped and
    /// called again.
    pub(super) async fn hang_up(&mut self) -> bool {
        match self {
            Self::Own(connection) => {
                connection.hang_up().await;
                false
            }
            Self::Shared(slot) => slot.hang_up().await,
        }
    }

    /// Whether it ended as the service had announced, which is no loss.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Own(connection) => connection.last,
            Self::Shared(slot) => slot.is_over(),
        }
    }

    /// Whether it broke. Call it between exchanges.
    pub(super) async fn is_dead(&mut self, tls: bool) -> bool {
        match self {
            Self::Own(connection) => connection.is_dead(tls).await,
            Self::Shared(slot) => slot.is_dead().await,
        }
    }

    /// Whether an idle session is over with it. One of its own is dialed anew at the next call; a place on a shared
    /// socket that was taken away is one session less to that socket, so the pool hears of it.
    pub(super) async fn is_lost(&mut self, tls: bool) -> bool {
        match self {
            Self::Own(connection) => !connection.last && connection.is_dead(tls).await,
            Self::Shared(slot) => slot.is_over() || slot.is_dead().await,
        }
    }

    /// Says goodbye, and returns when the peer has too.
    pub(super) async fn close(self) {
        match self {
            Self::Own(connection) => connection.close().await,
            Self::Shared(slot) => slot.close().await,
        }
    }
}

async fn send(
    sender: &mut SendRequest<Payload>,
    request: Request<Payload>,
) -> Result<Response<Incoming>, Fault> {
    if let Err(error) = sender.ready().await {
        return Err(Fault::unsent(&causes(&error), Some(request.into_body())));
    }
    sender.try_send_request(request).await.map_err(|mut fault| Fault {
        payload: fault.take_message().map(Request::into_body),
        message: causes(fault.error()),
        refused: false,
        senseless: false,
    })
}

/// An answer's body.
#[derive(Debug)]
pub(super) enum Inbound {
    Own(Incoming),
    Shared(Inflow),
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Shared(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }
}

/// An error with what lies beneath it, for people.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
