//! What changes hands, and what is left to do once the lock is open again.

use std::{sync::Arc, task::Waker};

use super::super::core::{Grant, SessionKey};
use crate::{backend::Fence, pool::Refusal};

/// What never changes about an open session.
#[derive(Debug)]
pub(crate) struct Face {
    pub(crate) fence: Arc<Fence>,
    pub(crate) id: Arc<str>,
    pub(crate) endpoint: Arc<str>,
}

/// An open session and who has it. Made once and boxed, so that it changes hands as one pointer.
#[derive(Debug)]
pub(crate) struct Seat<S> {
    pub(crate) session: S,
    /// A share of its own, so that changing hands counts no references.
    pub(crate) face: Arc<Face>,
    /// The last grant of it.
    pub(crate) grant: Grant,
}

impl<S> Seat<S> {
    /// One that was never granted.
    pub(crate) fn new(key: SessionKey, session: S, face: Arc<Face>) -> Box<Self> {
        let grant = Grant::none(key);
        Box::new(Self { session, face, grant })
    }

    pub(crate) const fn key(&self) -> SessionKey {
        self.grant.session
    }
}

/// The pool's name for a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(pub(super) usize);

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Answer<S> {
    Granted(Box<Seat<S>>),
    Refused(Refusal),
    Waiting(Ticket),
}

/// Work on a session that the pool carries out itself, outside the lock.
#[derive(Debug)]
pub(crate) enum Job<S> {
    Dial(NewSession),
    Probe(Box<Seat<S>>),
    Restore { seat: Box<Seat<S>>, settle: bool },
    Close(Box<Seat<S>>),
}

/// A session that is to be dialed.
#[derive(Debug)]
pub(crate) struct NewSession {
    pub(crate) key: SessionKey,
    pub(crate) face: Arc<Face>,
    /// The name of the endpoint.
    pub(crate) endpoint: Arc<str>,
}

/// What is left to do after unlocking.
#[derive(Debug)]
#[must_use = "waiters sleep on until they are woken"]
pub(crate) struct Todo<S> {
    /// The first to wake, apart from the others because there is seldom another one.
    pub(crate) wake: Option<Waker>,
    pub(crate) wake_too: Vec<Waker>,
    pub(crate) jobs: Vec<Job<S>>,
    /// The next deadline is earlier than the one the driver sleeps for.
    pub(crate) rearm: bool,
    /// A session opened or closed, or the pool ended.
    pub(crate) changed: bool,
    /// Whether the pool serves is another answer now than before.
    pub(crate) serving: bool,
}

impl<S> Todo<S> {
    pub(super) const fn nothing() -> Self {
        Self {
            wake: None,
            wake_too: Vec::new(),
            jobs: Vec::new(),
            rearm: false,
            changed: false,
            serving: false,
        }
    }

    pub(super) fn wake(&mut self, waker: Option<Waker>) {
        match (&self.wake, waker) {
            (_, None) => {}
            (None, first) => self.wake = first,
            (Some(_), Some(next)) => self.wake_too.push(next),
        }
    }
}
