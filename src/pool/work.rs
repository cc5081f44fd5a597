//! The pool's own work on sessions: a task for each dial, probe, reset and close, each bounded in time. A backend
//! that panics counts as one that failed, so no place is ever lost to it.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tracing::{debug, warn};

use super::{
    Pool,
    core::SessionKey,
    exchange::{Face, Job, NewSession, Seat},
};
use crate::backend::{Cleanliness, DialError, DialErrorKind, Session, SessionLost};

type Boxed = Box<dyn Session>;

impl Pool {
    /// Carries out one job.
    pub(super) async fn carry_out(self: Arc<Self>, job: Job<Boxed>) {
        match job {
            Job::Dial(new) => self.dial(new).await,
            Job::Probe(seat) => self.probe(seat).await,
            Job::Restore { seat, settle } => self.restore(seat, settle).await,
            Job::Close(seat) => self.close(seat).await,
        }
    }

    async fn dial(self: Arc<Self>, new: NewSession) {
        let todo = match self.open(&new).await {
            Ok(seat) => {
                debug!(pool = %self.name, session = %seat.face.id, endpoint = %seat.face.endpoint, "session opened");
                self.exchange.dialed(self.clock.now(), seat)
            }
            Err(error) => {
                let todo = self.report_failure(new.key, error);
                // A dial that ended late must not write any more either.
                new.face.fence.shut();
                todo
            }
        };
        self.finish(todo);
    }

    /// Opens a session within the time for that.
    pub(super) async fn open(&self, new: &NewSession) -> Result<Box<Seat<Boxed>>, DialError> {
        let limit = self.exchange.look(|core| core.settings().connect);
        debug!(pool = %self.name, session = %new.face.id, "dialing");
        let backend = self.backend();
        let dialing = bounded(limit, backend.dial(Arc::clone(&new.face.fence), &new.endpoint)).await;
        let session = match dialing.unwrap_or_else(|why| Err(transient(format!("opening a session {why}")))) {
            Ok(session) => session,
            Err(error) => {
                // What it may have left at the backend is a session too, and counts until it is gone.
                let limit = self.exchange.look(|core| core.settings().close);
                let withdrawn = bounded(limit, backend.withdraw(Arc::clone(&new.face.fence))).await;
                debug!(pool = %self.name, session = %new.face.id, withdrawn = withdrawn.is_ok(), "dial failed");
                return Err(error);
            }
        };
        let face = Face {
            fence: Arc::clone(&new.face.fence),
            id: Arc::clone(&new.face.id),
            endpoint: Arc::clone(session.endpoint()),
        };
        Ok(Seat::new(new.key, session, Arc::new(face)))
    }

    /// Tells the core of a failed dial, and the log once for each time that the backend begins to fail.
    pub(super) fn report_failure(&self, key: SessionKey, error: DialError) -> super::exchange::Todo<Boxed> {
        let message = error.message.clone();
        let (news, todo) = self.exchange.dial_failed(self.clock.now(), key, error);
        if news {
            warn!(pool = %self.name, error = %message, "the backend cannot be reached");
        } else {
            debug!(pool = %self.name, error = %message, "dial failed");
        }
        todo
    }

    async fn probe(self: Arc<Self>, mut seat: Box<Seat<Boxed>>) {
        let outcome = within(self.probe_limit(), seat.session.probe()).await;
        self.note_loss(&seat.face, "probe", &outcome);
        let todo = self.exchange.probed(self.clock.now(), seat, outcome.is_ok());
        self.finish(todo);
    }

    async fn restore(self: Arc<Self>, mut seat: Box<Seat<Boxed>>, settle: bool) {
        let limit = self.exchange.look(|core| core.settings().reset);
        let outcome = within(limit, restore(&mut *seat.session, settle)).await;
        self.note_loss(&seat.face, "reset", &outcome);
        let todo = self.exchange.restored(self.clock.now(), seat, outcome.is_ok());
        self.finish(todo);
    }

    fn note_loss(&self, face: &Face, work: &'static str, outcome: &Result<(), SessionLost>) {
        if let Err(lost) = outcome {
            debug!(pool = %self.name, session = %face.id, work, error = %lost, "session lost");
        }
    }

    pub(super) async fn close(self: Arc<Self>, seat: Box<Seat<Boxed>>) {
        let limit = self.exchange.look(|core| core.settings().close);
        let (key, face) = (seat.key(), seat.face);
        let confirmed = bounded(limit, seat.session.close()).await.is_ok();
        debug!(pool = %self.name, session = %face.id, confirmed, "session closed");
        let todo = self.exchange.closed(self.clock.now(), key);
        self.finish(todo);
    }
}

/// Settles a session if a call on it was interrupted, then resets it if it is not clean.
async fn restore(session: &mut dyn Session, settle: bool) -> Result<(), SessionLost> {
    if settle {
        session.settle().await?;
    }
    if session.cleanliness() == Cleanliness::Dirty {
        session.reset().await?;
    }
    match session.cleanliness() {
        Cleanliness::Clean => Ok(()),
        Cleanliness::Dirty | Cleanliness::Broken => {
            Err(SessionLost::because("it is not clean after its reset"))
        }
    }
}

/// As [`bounded`], for work that can lose the session.
pub(super) async fn within(
    limit: Duration,
    work: impl Future<Output = Result<(), SessionLost>>,
) -> Result<(), SessionLost> {
    bounded(limit, work)
        .await
        .unwrap_or_else(|why| Err(SessionLost::because(why)))
}

/// Runs a backend's work for so long at most, and survives its panics.
async fn bounded<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, String> {
    match tokio::time::timeout(limit, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err("ended in a panic of the backend".to_owned()),
        Err(_) => Err(format!("took longer than {limit:?}")),
    }
}

fn transient(message: String) -> DialError {
    let kind = DialErrorKind::Transient;
    DialError { kind, message }
}
