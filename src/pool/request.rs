//! What is asked of a pool, and why it may say no.

use std::{sync::Arc, time::Duration};

use crate::clock::Time;

/// A request for a session.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it was asked: the reading of the pool's clock that its deadline was made from, just before. From then on
    /// it waits.
    pub asked: Time,
    /// When it gives up. There is always one: an endless wait hides that a pool is used up.
    pub deadline: Time,
    /// Whether to wait at all: false asks for an idle session or nothing.
    pub wait: bool,
    /// Its class in the queue.
    pub priority: Priority,
    /// What the caller calls itself, for those who look at the queue.
    pub client: Option<Arc<str>>,
    /// The name of the only endpoint whose sessions will do; absent, any will.
    pub endpoint: Option<Arc<str>>,
    /// How far beside the pool's own the session is to be ([`crate::backend::Needs::beside`]).
    pub beside: u8,
}

/// A class of waiters. Strict, save that waiting lifts a waiter from class to class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// After everybody else.
    Low,
    /// The usual one.
    #[default]
    Normal,
    /// Before everybody else.
    High,
}

/// Why no session was granted. Each way to fail has its own name, so that a full queue, a long wait and a dead
/// backend are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No session came free before the deadline.
    Timeout {
        /// How long the request waited.
        waited: Duration,
    },
    /// Too many wait already.
    QueueFull {
        /// How many may wait.
        limit: u32,
    },
    /// The pool is paused, and stayed so until the deadline.
    Paused,
    /// The backend cannot be reached.
    Unreachable {
        /// What the last dial met, for people.
        message: String,
        /// When the pool dials again.
        retry_after: Option<Duration>,
    },
    /// The pool has no endpoint of the name that was asked for.
    NoSuchEndpoint,
    /// The pool was deleted.
    Deleted,
    /// The broker is stopping.
    BrokerStopping,
}

/// Why a pool ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was deleted.
    Deleted,
    /// The broker is stopping.
    BrokerStopping,
}

impl From<Ending> for Refusal {
    fn from(why: Ending) -> Self {
        match why {
            Ending::Deleted => Self::Deleted,
            Ending::BrokerStopping => Self::BrokerStopping,
        }
    }
}
