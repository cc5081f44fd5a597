//! The right to one session, and the future that becomes it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;

use super::{
    Pool,
    core::{Grant, Release},
    exchange::{Answer, Face, Granted, Ticket},
    request::{Refusal, Request},
};
use crate::backend::{CallError, Cleanliness, Completion, Fence, Operation, Session, SessionLost, Sink};

/// Waits for a session. Nothing happens before the first poll; dropping it gives up the place in the queue, and a
/// session that was granted but not yet received goes to the next waiter in the same step.
#[must_use = "it asks for nothing until it is polled"]
pub struct Acquire {
    stage: Stage,
}

enum Stage {
    Asking(Arc<Pool>, Request),
    Waiting(Arc<Pool>, Ticket),
    /// Answered.
    Over,
}

impl Acquire {
    pub(super) const fn new(pool: Arc<Pool>, request: Request) -> Self {
        let stage = Stage::Asking(pool, request);
        Self { stage }
    }
}

impl Future for Acquire {
    type Output = Result<Held, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Asking(pool, request) => match pool.ask(&request, cx.waker()) {
                Answer::Granted(granted) => Poll::Ready(Ok(Held::new(pool, granted))),
                Answer::Refused(refusal) => Poll::Ready(Err(refusal)),
                Answer::Waiting(ticket) => {
                    self.stage = Stage::Waiting(pool, ticket);
                    Poll::Pending
                }
            },
            Stage::Waiting(pool, ticket) => self.wait(pool, ticket, cx),
            Stage::Over => Poll::Pending,
        }
    }
}

impl Acquire {
    fn wait(&mut self, pool: Arc<Pool>, ticket: Ticket, cx: &Context<'_>) -> Poll<Result<Held, Refusal>> {
        match pool.exchange.poll(ticket, cx.waker()) {
            Some(outcome) => Poll::Ready(outcome.map(|granted| Held::new(pool, granted))),
            None => {
                self.stage = Stage::Waiting(pool, ticket);
                Poll::Pending
            }
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let Stage::Waiting(pool, ticket) = &self.stage {
            let todo = pool.exchange.cancel(pool.clock.now(), *ticket);
            pool.finish(todo);
        }
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Asking(..) => "asking",
            Stage::Waiting(..) => "waiting",
            Stage::Over => "over",
        };
        f.debug_tuple("Acquire").field(&stage).finish()
    }
}

/// How a session is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveBack {
    /// Between calls. If it is not clean, it is reset before anybody else gets it.
    Used,
    /// A call was dropped or failed in the middle: it is settled first, then reset if it is not clean.
    Interrupted,
    /// It is to be closed.
    Discard,
}

/// The exclusive right to one session, for one holder. Dropped without [`Held::give_back`], the session is closed.
pub struct Held {
    pool: Arc<Pool>,
    grant: Grant,
    face: Arc<Face>,
    /// [`Gone`] once it was given back.
    session: Box<dyn Session>,
    back: bool,
}

impl Held {
    fn new(pool: Arc<Pool>, granted: Granted<Box<dyn Session>>) -> Self {
        let Granted { grant, seat } = granted;
        Self {
            pool,
            grant,
            face: seat.face,
            session: seat.session,
            back: false,
        }
    }

    /// The session.
    pub fn session(&mut self) -> &mut dyn Session {
        &mut *self.session
    }

    /// Its fence: open with [`Held::number`] until the session is given back or taken away.
    #[must_use]
    pub fn fence(&self) -> &Arc<Fence> {
        &self.face.fence
    }

    /// This grant's fence number: higher than every earlier one of the pool, over restarts too.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.grant.number
    }

    /// The session's id: `POOL-BOOT-NUMBER`.
    #[must_use]
    pub fn session_id(&self) -> &Arc<str> {
        &self.face.id
    }

    /// The endpoint that the session is connected to.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<str> {
        &self.face.endpoint
    }

    /// Whether the session had served anyone before.
    #[must_use]
    pub const fn reused(&self) -> bool {
        self.grant.reused
    }

    /// How long the request waited.
    #[must_use]
    pub const fn waited(&self) -> Duration {
        self.grant.waited
    }

    /// Gives the session back. A clean one is with the next waiter when this returns; settling and resetting go on
    /// in the background.
    pub fn give_back(mut self, how: GiveBack) {
        self.leave(how);
    }

    fn leave(&mut self, how: GiveBack) {
        self.back = true;
        self.face.fence.shut();
        let session = std::mem::replace(&mut self.session, Box::new(Gone));
        let release = match (how, session.cleanliness()) {
            (GiveBack::Discard, _) | (GiveBack::Used, Cleanliness::Broken) => Release::Broken,
            (GiveBack::Interrupted, _) => Release::Interrupted,
            (GiveBack::Used, Cleanliness::Dirty) => Release::Dirty,
            (GiveBack::Used, Cleanliness::Clean) => Release::Clean,
        };
        let now = self.pool.clock.now();
        let todo = self
            .pool
            .exchange
            .give_back(now, self.grant.session, session, release);
        if let Some(todo) = todo {
            self.pool.finish(todo);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.back {
            self.leave(GiveBack::Discard);
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("session", &self.face.id)
            .field("number", &self.grant.number)
            .finish_non_exhaustive()
    }
}

/// What is left in the hand after giving back. It takes no space, so boxing it allocates nothing, and nobody ever
/// calls it.
#[derive(Debug)]
struct Gone;

impl Session for Gone {
    fn endpoint(&self) -> &Arc<str> {
        static NOWHERE: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));
        &NOWHERE
    }

    fn execute<'a>(
        &'a mut self,
        _: Operation,
        _: &'a mut Sink,
    ) -> BoxFuture<'a, Result<Completion, CallError>> {
        Box::pin(std::future::ready(Err(CallError::Lost {
            message: given_back().message,
            executed: None,
        })))
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        Box::pin(std::future::ready(Err(given_back())))
    }

    fn cleanliness(&self) -> Cleanliness {
        Cleanliness::Broken
    }

    fn reset(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.settle()
    }

    fn probe(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.settle()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn given_back() -> SessionLost {
    SessionLost::because("the session was given back")
}
