//! What an open session's stream carries, each way.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::super::{Answer, CallRequest, Info, LeasedSession};
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

/// Where the session's messages go.
pub type Outbox = mpsc::Sender<(u64, SessionOutput)>;
