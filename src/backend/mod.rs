//! What a backend is to the broker: something that dials sessions, which run operations one at a time. Nothing here
//! assumes that a session owns its socket.
//!
//! A new kind is one file or folder here, one arm in the registry, and one proto message.

mod carrier;
mod comfyui;
mod echo;
mod endpoint;
mod fence;
pub(crate) mod hex;
mod home;
mod http;
mod llm;
pub(crate) mod object;
mod operation;
pub(crate) mod plugin;
mod postgres;
mod redis;
pub mod registry;
pub mod secrets;
mod sink;
mod site;
mod socket;
mod span;
mod tcp;
mod tls;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use thiserror::Error;

pub(crate) use self::endpoint::name as endpoint_name;
pub use self::{
    endpoint::Place,
    fence::{Fence, FencedIo, Line},
    operation::{Body, BodyChunk, BodyReader, Completion, Inspected, Operation, Output, Params},
    sink::{Event, Sink, SinkClosed},
};
use crate::error::{BackendError, Executed, Faults};

/// One pool's backend: knows the definition, and dials.
pub trait Backend: Send + Sync + fmt::Debug {
    /// The kind's name, as in the definition: `echo`, `http`.
    fn kind(&self) -> &'static str;

    /// Looks at an operation before any session is taken: its name, its params, whether its kind of body fits.
    ///
    /// # Errors
    /// Every fault, with paths relative to the operation (`name`, `params.path`).
    fn inspect(&self, operation: &Operation) -> Result<Needs, Faults>;

    /// Opens a session at the endpoint with this name; a kind without endpoints is given an empty one. The pool bounds
    /// the time, and drops the future when it has passed. Everything the session ever writes must go through `fence`
    /// ([`FencedIo`], or [`Fence::hand_over`] where there is no socket); while dialing it is open.
    fn dial(
        &self,
        fence: Arc<Fence>,
        endpoint: &str,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, DialError>>;

    /// Ends what a dial that failed, or was dropped, may have left open at the peer: most kinds leave nothing but a
    /// socket, which is closed by then. Called after each such dial. Its fence is open, unless the session was closed
    /// before or is meanwhile. The slot counts until this returns. The pool bounds the time by `timeouts.close`, and drops the future when it has passed.
    fn withdraw(&self, _fence: Arc<Fence>) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }

    /// The connections that several sessions share, for statistics. A kind whose sessions have their own leaves it out.
    fn shared(&self) -> Shared {
        Shared::default()
    }

    /// The same backend for operations that must not wait for a session ([`Needs::beside`]): the pool keeps a few
    /// sessions of it at each endpoint, beside and apart from its own. It may have others beside it in its turn. Asked
    /// for at the start and at each change of the definition.
    fn beside(&self) -> Option<Beside> {
        None
    }

    /// What says how much work waits at the endpoint with this name, if the backend tells that; asked for once.
    fn load(&self, _endpoint: &str) -> Option<Load> {
        None
    }
}

/// What has the sessions beside a backend's own.
#[derive(Clone, Debug)]
pub struct Beside {
    /// Dials them.
    pub backend: Arc<dyn Backend>,
    /// So many at each endpoint, at most.
    pub at_each: u32,
}

/// How much work waits at an endpoint by its own account, whoever sent it: kept up to date by the backend, read by the
/// pool, which prefers the endpoint that has the least to do.
#[derive(Clone, Debug, Default)]
pub struct Load(Arc<AtomicU32>);

impl Load {
    /// Notes what the endpoint says now.
    pub fn set(&self, waiting: u32) {
        self.0.store(waiting, Ordering::Relaxed);
    }

    /// What it said last; 0 before that.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Connections that carry several sessions each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// Open, and taking calls.
    pub open: usize,
    /// The limit of those; none is as many as the sessions need.
    pub most: Option<usize>,
}

/// What an operation needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// It leaves state behind that only a lease's next call could use, so that it makes no sense as a one-shot.
    pub lease: bool,
    /// How far beside the pool's own sessions it runs, because it must not wait for one of those: it may be about the
    /// work that has them all. 0 is on the pool's own, 1 on those of [`Backend::beside`], 2 on those beside these, and
    /// so on, for operations that must not wait for each other. On a lease everything runs on its session.
    pub beside: u8,
}

/// One slot on a live connection. Owned by whoever may use it: the pool, then a holder, then the pool.
pub trait Session: Send + fmt::Debug {
    /// The endpoint's name, for leases and statistics.
    fn endpoint(&self) -> &Arc<str>;

    /// Runs one operation. Dropping the future cancels it; then [`Session::settle`] comes before anything else.
    /// Events go to `sink`, which waits while the caller does not read; when it says that it is closed, return
    /// [`CallError::Sink`] soon.
    fn execute<'a>(
        &'a mut self,
        operation: Operation,
        sink: &'a mut Sink,
    ) -> BoxFuture<'a, Result<Completion, CallError>>;

    /// Brings a session whose call was dropped or failed in the middle back to a protocol boundary, keeping the
    /// holder's state. A stateless kind closes its connection here and dials anew at the next call.
    /// The broker bounds the time by the pool's `timeouts.reset`.
    fn settle(&mut self) -> BoxFuture<'_, Result<(), SessionLost>>;

    /// What the next holder would find now. Called between calls only; must be cheap.
    fn cleanliness(&self) -> Cleanliness;

    /// Removes everything that a holder left behind, and proves it. Called when [`Cleanliness::Dirty`].
    fn reset(&mut self) -> BoxFuture<'_, Result<(), SessionLost>>;

    /// Finds out whether the session still lives, at the least cost.
    fn probe(&mut self) -> BoxFuture<'_, Result<(), SessionLost>>;

    /// Closes the session, and returns when the peer's end is confirmed. The pool bounds the time by
    /// `timeouts.close`, and drops the future then, which must close the socket.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// What the next holder of a session would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanliness {
    /// Nothing: it can be handed on at once.
    Clean,
    /// Something: it must be reset first.
    Dirty,
    /// It cannot be used again.
    Broken,
}

/// A session is gone.
#[derive(Clone, Debug, Error)]
#[error("{message}")]
pub struct SessionLost {
    /// What happened, for people.
    pub message: String,
}

impl SessionLost {
    /// A loss with its reason.
    #[must_use]
    pub fn because(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

/// Why a session could not be opened.
#[derive(Clone, Debug, Error)]
#[error("{message}")]
pub struct DialError {
    /// What the pool should make of it.
    pub kind: DialErrorKind,
    /// What happened, for people; no secret in it.
    pub message: String,
}

impl DialError {
    /// One that trying again will not cure.
    pub(crate) fn permanent(message: impl ToString) -> Self {
        Self {
            kind: DialErrorKind::Permanent,
            message: message.to_string(),
        }
    }

    /// What was left at work there of a session that has ended keeps its place.
    pub(crate) fn occupied(message: impl ToString) -> Self {
        Self {
            kind: DialErrorKind::Occupied,
            message: message.to_string(),
        }
    }

    /// One that trying again may cure.
    pub(crate) fn transient(message: impl ToString) -> Self {
        Self {
            kind: DialErrorKind::Transient,
            message: message.to_string(),
        }
    }
}

/// What to make of a failed dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialErrorKind {
    /// Trying again will not help until somebody changes something: login, TLS, unknown name. Waiters are refused.
    Permanent,
    /// Trying again may help: refused, reset, timed out. Waiters wait.
    Transient,
    /// The backend has no room for another session: the pool learns its limit.
    TooMany,
    /// What a session that has ended left at work there is not done: the endpoint is well, and its place is not free
    /// yet. Waiters wait, and it is tried again soon.
    Occupied,
}

/// Why a call failed.
#[derive(Clone, Debug, Error)]
pub enum CallError {
    /// The operation makes no sense; nothing was handed over. Paths are relative to the operation.
    #[error("{0}")]
    Invalid(Faults),
    /// The backend answered with an error of its own: executed is yes, unless it says otherwise.
    #[error("{}", .0.message)]
    Backend(BackendError, Executed),
    /// The session is gone. `executed` where the kind knows better than "no if nothing was handed over, else unknown".
    #[error("{message}")]
    Lost {
        /// What happened, for people.
        message: String,
        /// What the kind knows of the call's execution.
        executed: Option<Executed>,
    },
    /// The call failed in the middle, and the session may go on after [`Session::settle`]; as for `Lost` otherwise.
    #[error("{message}")]
    Broken {
        /// What happened, for people.
        message: String,
        /// What the kind knows of the call's execution.
        executed: Option<Executed>,
    },
    /// One of the kind's own timeouts passed. The session needs [`Session::settle`].
    #[error("{what} timeout")]
    Timeout {
        /// `first byte`, `write`.
        what: &'static str,
        /// The limit that passed.
        limit: Duration,
    },
    /// The connection had to be dialed anew and could not; nothing was handed over.
    #[error("{0}")]
    Dial(DialError),
    /// The caller takes no more. The session needs [`Session::settle`].
    #[error("{0}")]
    Sink(SinkClosed),
    /// The caller had the session for this operation only, and it left a transaction open, which was rolled back. What
    /// came before that transaction may have been committed: whether anything was executed is beside it.
    #[error("the operation left a transaction open, which was rolled back")]
    LeftOpen(Executed),
    /// The body did not come as promised: the caller went away in the middle. The session needs [`Session::settle`].
    #[error("the rest of the body did not come")]
    Input,
}

impl CallError {
    /// The session was found to be gone before anything of the call was handed over.
    pub(crate) fn lost_before(error: impl fmt::Display) -> Self {
        Self::Lost {
            message: error.to_string(),
            executed: Some(Executed::No),
        }
    }
}
