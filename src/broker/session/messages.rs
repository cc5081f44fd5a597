//! What an open session's stream carries, each way.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::super::{Answer, CallRequest, Info, LeasedSession, answers::payload};
use crate::{backend::Event, error::Failure, lease::Status};

/// A message to an open session.
#[derive(Debug)]
pub enum SessionInput {
    /// Run this after those before it.
    Call(SessionCall),
    /// A part of a call's body.
    Input {
        /// The call.
        call_id: u64,
        /// The bytes.
        data: Bytes,
        /// Whether it is the last part.
        last: bool,
    },
    /// Cancel a call.
    Cancel {
        /// The call.
        call_id: u64,
    },
    /// The message breaks the protocol: the session ends with this error.
    Broken(Failure),
}

/// A call on an open session.
#[derive(Debug)]
pub struct SessionCall {
    /// Its id.
    pub id: u64,
    /// What to run, or what is wrong with it.
    pub request: Result<CallRequest, Failure>,
    /// Whether to answer with events.
    pub stream: bool,
    /// Whether the body goes on in input messages.
    pub more_input: bool,
    /// Bytes of its message.
    pub bytes: usize,
}

/// A message from an open session; each goes with a call's id, or 0.
#[derive(Debug)]
pub enum SessionOutput {
    /// A streamed call is about to run.
    Accepted(Info),
    /// An event of a streamed call.
    Event(Event),
    /// The end of a streamed call.
    End(Arc<Answer>),
    /// A whole answer.
    Result(Arc<Answer>),
    /// A call failed; with id 0, the session has ended.
    Error(Failure),
    /// The call may send this many bytes more.
    InputCredit(u32),
}

impl SessionOutput {
    /// The same once more if it is what a call came to: that must not be lost while it waits for room.
    pub(super) fn answer(&self) -> Option<Self> {
        match self {
            Self::End(answer) => Some(Self::End(Arc::clone(answer))),
            Self::Result(answer) => Some(Self::Result(Arc::clone(answer))),
            Self::Error(failure) => Some(Self::Error(failure.clone())),
            Self::Accepted(_) | Self::Event(_) | Self::InputCredit(_) => None,
        }
    }
}

/// What a stream's caller is told first.
#[derive(Debug)]
pub struct Opened {
    /// The lease.
    pub leased: Arc<LeasedSession>,
    /// Its life.
    pub status: Status,
    /// Bytes of input that a call may send when it starts.
    pub input_credit: u32,
}

/// Messages in flight to a caller at most: events, and answers no larger than one, are 64 KiB each and so make 1 MiB.
const MESSAGES: usize = 16;

/// Bytes of an answer that is bounded by its number alone.
const SMALL: usize = 64 << 10;

/// Bytes of larger answers in flight at most: as much as the largest one. Beside them there is the one that waits for
/// room, and the next call begins only after it.
const ROOM: u32 = 4 << 20;

/// A way for messages to a caller, and its two ends.
#[must_use]
pub fn outbox() -> (Outbox, Outbound) {
    let (messages, received) = mpsc::channel(MESSAGES);
    let room = Arc::new(Semaphore::new(ROOM as usize));
    (Outbox { messages, room }, Outbound(received))
}

/// Where the session's messages go.
#[derive(Clone, Debug)]
pub struct Outbox {
    messages: mpsc::Sender<Parcel>,
    room: Arc<Semaphore>,
}

/// Where they come out: the caller's end.
#[derive(Debug)]
pub struct Outbound(mpsc::Receiver<Parcel>);

/// A message and the room it takes until it is taken out.
#[derive(Debug)]
struct Parcel {
    id: u64,
    output: SessionOutput,
    _room: Option<OwnedSemaphorePermit>,
}

/// A message that was not sent.
#[derive(Debug)]
pub(super) enum Unsent {
    /// There is no room now.
    Full(SessionOutput),
    /// Nobody receives any more.
    Closed,
}

impl Outbox {
    /// Sends a message if there is room.
    pub(super) fn try_send(&self, id: u64, output: SessionOutput) -> Result<(), Unsent> {
        let room = match cost(&output) {
            0 => None,
            cost => match Arc::clone(&self.room).try_acquire_many_owned(cost) {
                Ok(room) => Some(room),
                Err(_) => return Err(Unsent::Full(output)),
            },
        };
        let parcel = Parcel {
            id,
            output,
            _room: room,
        };
        match self.messages.try_send(parcel) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(parcel)) => Err(Unsent::Full(parcel.output)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Unsent::Closed),
        }
    }

    /// Sends a message once there is room; if the caller goes, what it has not read goes too, and there is room. Only
    /// the running call sends what takes room, so that nothing else can wait behind it.
    pub(super) async fn send(&self, id: u64, output: SessionOutput) -> Result<(), Unsent> {
        let room = match cost(&output) {
            0 => None,
            cost => Arc::clone(&self.room).acquire_many_owned(cost).await.ok(),
        };
        let parcel = Parcel {
            id,
            output,
            _room: room,
        };
        self.messages.send(parcel).await.map_err(|_| Unsent::Closed)
    }

    /// Returns once nobody receives any more.
    pub(super) async fn closed(&self) {
        self.messages.closed().await;
    }
}

/// The room that a message takes.
fn cost(output: &SessionOutput) -> u32 {
    let (SessionOutput::Result(answer) | SessionOutput::End(answer)) = output else {
        return 0;
    };
    let bytes = payload(answer);
    if bytes <= SMALL {
        return 0;
    }
    u32::try_from(bytes).unwrap_or(ROOM).min(ROOM)
}

impl Outbound {
    /// The next message and the call it belongs to; `None` when the session is over.
    pub async fn recv(&mut self) -> Option<(u64, SessionOutput)> {
        self.next().await
    }
}

impl Stream for Outbound {
    type Item = (u64, SessionOutput);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let parcel = self.0.poll_recv(cx);
        parcel.map(|parcel| parcel.map(|parcel| (parcel.id, parcel.output)))
    }
}
