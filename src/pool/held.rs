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
    core::Release,
    exchange::{Answer, Face, Seat, Ticket},
    request::{Refusal, Request},
};
use crate::backend::{CallError, Cleanliness, Completion, Fence, Operation, Session, SessionLost, Sink};

/// A session that was granted.
type Taken = Seat<Box<dyn Session>>;

/// Waits for a session. Nothing happens before the first poll; dropping it gives up the place in the queue, and a
/// session that was granted but not yet received goes to the next waiter in the same step.
#[must_use = "it asks for nothing until it is polled"]
pub struct Acquire {
    /// `None` once it was answered.
    pool: Option<Arc<Pool>>,
    request: Request,
    /// Its place, once it has asked and has to wait.
    ticket: Option<Ticket>,
}

impl Acquire {
    pub(super) const fn new(pool: Arc<Pool>, request: Request) -> Self {
        Self {
            pool: Some(pool),
            request,
            ticket: None,
        }
    }

    /// Asks at the first poll, looks for the answer at later ones.
    fn answer(&mut self, cx: &Context<'_>) -> Option<Result<Box<Taken>, Refusal>> {
        let pool = self.pool.as_ref()?;
        if let Some(ticket) = self.ticket {
            return pool.exchange.poll(ticket, cx.waker());
        }
        match pool.ask(&self.request, cx.waker()) {
            Answer::Granted(seat) => Some(Ok(seat)),
            Answer::Refused(refusal) => Some(Err(refusal)),
            Answer::Waiting(ticket) => {
                self.ticket = Some(ticket);
                None
            }
        }
    }
}

impl Future for Acquire {
    type Output = Result<Held, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(answer) = self.answer(cx) else {
            return Poll::Pending;
        };
        let Some(pool) = self.pool.take() else {
            return Poll::Pending;
        };
        Poll::Ready(answer.map(|seat| Held::new(pool, seat)))
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let (Some(pool), Some(ticket)) = (&self.pool, self.ticket) {
            let todo = pool.exchange.cancel(pool.clock.now(), ticket);
            pool.finish(todo);
        }
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match (&self.pool, self.ticket) {
            (None, _) => "over",
            (Some(_), None) => "asking",
            (Some(_), Some(_)) => "waiting",
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
    number: u64,
    /// `None` once it was given back: when nobody can ask any more.
    seat: Option<Box<Taken>>,
    gone: Gone,
}

impl Held {
    const fn new(pool: Arc<Pool>, seat: Box<Taken>) -> Self {
        Self {
            pool,
            number: seat.grant.number,
            seat: Some(seat),
            gone: Gone,
        }
    }

    /// The session.
    pub fn session(&mut self) -> &mut dyn Session {
        match &mut self.seat {
            Some(seat) => &mut *seat.session,
            None => &mut self.gone,
        }
    }

    /// Its fence: open with [`Held::number`] until the session is given back or taken away.
    #[must_use]
    pub fn fence(&self) -> &Arc<Fence> {
        &self.face().fence
    }

    /// This grant's fence number: higher than every earlier one of the pool, over restarts too.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The session's id: `POOL-BOOT-NUMBER`.
    #[must_use]
    pub fn session_id(&self) -> &Arc<str> {
        &self.face().id
    }

    /// The endpoint that the session is connected to.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<str> {
        &self.face().endpoint
    }

    /// Whether the session had served anyone before.
    #[must_use]
    pub fn reused(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.grant.earlier > 0)
    }

    /// How long the request waited.
    #[must_use]
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.seat.as_ref().map_or(0, |seat| seat.grant.waited))
    }

    /// Gives the session back. A clean one is with the next waiter when this returns; settling and resetting go on
    /// in the background.
    pub fn give_back(mut self, how: GiveBack) {
        self.leave(how);
    }

    fn face(&self) -> &Face {
        self.seat.as_ref().map_or(&NOBODY, |seat| &seat.face)
    }

    fn leave(&mut self, how: GiveBack) {
        let Some(seat) = self.seat.take() else { return };
        seat.face.fence.shut();
        let release = match (how, seat.session.cleanliness()) {
            (GiveBack::Discard, _) | (GiveBack::Used, Cleanliness::Broken) => Release::Broken,
            (GiveBack::Interrupted, _) => Release::Interrupted,
            (GiveBack::Used, Cleanliness::Dirty) => Release::Dirty,
            (GiveBack::Used, Cleanliness::Clean) => Release::Clean,
        };
        let now = self.pool.clock.now();
        let todo = self.pool.exchange.give_back(now, seat, release);
        if let Some(todo) = todo {
            self.pool.finish(todo);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leave(GiveBack::Discard);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("session", &self.face().id)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// The face of no session: fenced for good.
static NOBODY: LazyLock<Face> = LazyLock::new(|| Face {
    fence: Arc::default(),
    id: Arc::from(""),
    endpoint: Arc::from(""),
});

/// What is left in the hand after giving back. Nobody ever calls it.
#[derive(Debug)]
struct Gone;

impl Session for Gone {
    fn endpoint(&self) -> &Arc<str> {
        &NOBODY.endpoint
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
