//! Where sessions change hands: the core, the sessions themselves, and the waiters' tickets, under one lock.
//!
//! Lock discipline: lock, ask the core, move sessions and outcomes as it says, unlock; only then wake, spawn, and
//! notify ([`Todo`]). Nothing under the lock waits or calls a backend, and the only lock taken under it is a fence's
//! own. An outcome is in its ticket before its waker is called, so a wake-up cannot be lost; a waiter that is dropped
//! after its grant gives the session to the next one within the same locking.

mod handover;
mod inner;

use std::{sync::Arc, task::Waker};

pub(crate) use self::handover::{Answer, Face, Job, NewSession, Seat, Ticket, Todo};
use self::inner::Inner;
use super::{
    core::{Core, Release, Reply, SessionKey, Wanted},
    here::here,
    sync::Mutex,
};
use crate::{
    backend::{DialError, Load},
    clock::Time,
    pool::{Refusal, Request, Settings},
};

/// The lock and what it guards.
#[derive(Debug)]
pub(crate) struct Exchange<S> {
    inner: Mutex<Inner<S>>,
}

impl<S> Exchange<S> {
    /// An exchange without sessions, and its first dials.
    pub(crate) fn new(core: Core, id_prefix: String) -> (Self, Todo<S>) {
        let mut inner = Inner {
            core,
            slots: Vec::new(),
            places: Vec::new(),
            free: Vec::new(),
            id_prefix,
            dialed: 0,
            armed: Time::NEVER,
            was_serving: true,
            loads: Vec::new(),
        };
        let todo = inner.carry_out();
        let inner = Mutex::new(inner);
        (Self { inner }, todo)
    }

    /// Asks for a session; `waker` is called when one that has to wait is answered. What is left to
    /// do comes in `todo`: nothing if a fresh idle session was there, and then this allocates nothing either.
    pub(crate) fn acquire(&self, request: &Request, waker: &Waker, todo: &mut Option<Todo<S>>) -> Answer<S> {
        let mut inner = self.inner.lock();
        let place = match &request.endpoint {
            None => None,
            Some(name) => match inner.core.place_named(name) {
                None => return Answer::Refused(Refusal::NoSuchEndpoint),
                place => place,
            },
        };
        inner.note_loads(request.asked);
        let tag = inner.free.last().copied().unwrap_or(inner.places.len());
        let reply = inner.core.acquire(
            request.asked,
            Wanted {
                deadline: request.deadline,
                priority: request.priority,
                wait: request.wait,
                tag,
                near: here(),
                place,
            },
        );
        let answer = match reply {
            Reply::Granted(grant) => inner.hand_out(grant).map(Answer::Granted),
            Reply::Refused(refusal) => Some(Answer::Refused(refusal)),
            Reply::Waiting(waiter) => Some(Answer::Waiting(inner.seat_waiter(tag, waiter, request, waker))),
        };
        // The core grants idle sessions only, and those are in their slots.
        let waited = std::time::Duration::ZERO;
        let answer = answer.unwrap_or(Answer::Refused(Refusal::Timeout { waited }));
        *todo = inner.carry_out_if_needed();
        answer
    }

    /// Looks whether a waiter was answered; if not, `waker` is called when it is.
    pub(crate) fn poll(&self, ticket: Ticket, waker: &Waker) -> Option<Result<Box<Seat<S>>, Refusal>> {
        let mut inner = self.inner.lock();
        let place = inner.places.get_mut(ticket.0)?.as_mut()?;
        if let Some(outcome) = place.outcome.take() {
            inner.free(ticket);
            return Some(outcome);
        }
        if place.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            place.waker = Some(waker.clone());
        }
        None
    }

    /// A waiter goes away. If it was granted a session meanwhile, the next one gets it now.
    pub(crate) fn cancel(&self, now: Time, ticket: Ticket) -> Todo<S> {
        let mut inner = self.inner.lock();
        let Some(place) = inner.leave(ticket) else {
            return Todo::nothing();
        };
        match place.outcome {
            None => inner.core.cancel(place.waiter),
            Some(Ok(seat)) => {
                seat.face.fence.shut();
                let key = seat.key();
                inner.sit(seat);
                inner.core.release(now, key, Release::Clean);
            }
            Some(Err(_)) => {}
        }
        inner.carry_out()
    }

    /// A holder gives its session back. Its fence must be shut already.
    pub(crate) fn give_back(&self, now: Time, seat: Box<Seat<S>>, how: Release) -> Option<Todo<S>> {
        let key = seat.key();
        let mut inner = self.inner.lock();
        inner.sit(seat);
        inner.core.release(now, key, how);
        inner.carry_out_if_needed()
    }

    /// A session is open.
    pub(crate) fn dialed(&self, now: Time, seat: Box<Seat<S>>) -> Todo<S> {
        let key = seat.key();
        let mut inner = self.inner.lock();
        seat.face.fence.shut();
        if let Some(slot) = inner.slot_mut(key) {
            slot.face = Arc::clone(&seat.face);
        }
        inner.sit(seat);
        inner.core.dialed(now, key);
        inner.carry_out_change()
    }

    /// A session could not be opened; says whether that is news.
    pub(crate) fn dial_failed(&self, now: Time, key: SessionKey, error: DialError) -> (bool, Todo<S>) {
        let mut inner = self.inner.lock();
        inner.vacate(key);
        let news = inner.core.dial_failed(now, key, error.kind, error.message);
        (news, inner.carry_out_change())
    }

    /// A probe has ended.
    pub(crate) fn probed(&self, now: Time, seat: Box<Seat<S>>, alive: bool) -> Todo<S> {
        self.after_work(seat, |core, key| core.probed(now, key, alive))
    }

    /// A session was brought to a clean state, or could not be.
    pub(crate) fn restored(&self, now: Time, seat: Box<Seat<S>>, clean: bool) -> Todo<S> {
        self.after_work(seat, |core, key| core.restored(now, key, clean))
    }

    /// A session is gone.
    pub(crate) fn closed(&self, now: Time, key: SessionKey) -> Todo<S> {
        let mut inner = self.inner.lock();
        inner.vacate(key);
        inner.core.closed(now, key);
        inner.carry_out_change()
    }

    /// The driver's turn: does what is due, and says until when to sleep. `None` when nothing will ever be due.
    pub(crate) fn drive(&self, now: Time) -> (Option<Time>, Todo<S>) {
        let mut inner = self.inner.lock();
        if inner.core.next_deadline() <= now {
            inner.core.tick(now);
        }
        inner.armed = Time::NEVER;
        let mut todo = inner.carry_out();
        todo.rearm = false;
        let until = (!inner.core.is_over()).then_some(inner.armed);
        (until, todo)
    }

    /// Reserves a place for a session that is dialed at this endpoint only to see whether that works.
    pub(crate) fn begin_check(&self, now: Time, endpoint: &str) -> (Option<NewSession>, Todo<S>) {
        let mut inner = self.inner.lock();
        let place = inner.core.place_named(endpoint);
        let new = place.and_then(|place| {
            let task = inner.core.begin_check(now, place)?;
            Some(inner.new_session(task, place))
        });
        (new, inner.carry_out())
    }

    /// Applies a changed definition; from now on `loads` say how much work waits at the endpoints with these names.
    pub(crate) fn redefine(
        &self,
        now: Time,
        settings: Settings,
        replace: bool,
        loads: Vec<(Arc<str>, Load)>,
    ) -> Todo<S> {
        let mut inner = self.inner.lock();
        inner.core.reconfigure(now, settings, replace);
        inner.watch_loads(loads);
        inner.carry_out_change()
    }

    /// As the loads of [`Exchange::redefine`].
    pub(crate) fn watch_loads(&self, loads: Vec<(Arc<str>, Load)>) {
        self.inner.lock().watch_loads(loads);
    }

    /// Shuts a session's fence and has it closed: now if it is idle, else when it comes free.
    pub(crate) fn close_session(&self, now: Time, id: &str) -> (bool, Todo<S>) {
        let mut inner = self.inner.lock();
        let found = inner.core.sessions().map(|(key, _)| key).find(|key| {
            let slot = inner.slot(*key);
            slot.is_some_and(|slot| &*slot.face.id == id)
        });
        let Some(key) = found else {
            return (false, Todo::nothing());
        };
        let closes = inner.close_session(now, key);
        (closes, inner.carry_out())
    }

    /// As [`Exchange::close_session`] for every session.
    pub(crate) fn close_sessions(&self, now: Time) -> Todo<S> {
        let mut inner = self.inner.lock();
        let all: Vec<_> = inner.core.sessions().map(|(key, _)| key).collect();
        for key in all {
            inner.close_session(now, key);
        }
        inner.carry_out()
    }

    /// Gives the core an order, and does what follows from it.
    pub(crate) fn order<R>(&self, order: impl FnOnce(&mut Core) -> R) -> (R, Todo<S>) {
        let mut inner = self.inner.lock();
        let answer = order(&mut inner.core);
        (answer, inner.carry_out_change())
    }

    /// Looks at the core without changing it.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Core) -> R) -> R {
        look(&self.inner.lock().core)
    }

    /// Looks at the core and the slots beside it.
    pub(crate) fn look_inside<R>(&self, look: impl FnOnce(&Inner<S>) -> R) -> R {
        look(&self.inner.lock())
    }

    fn after_work(&self, seat: Box<Seat<S>>, event: impl FnOnce(&mut Core, SessionKey)) -> Todo<S> {
        let key = seat.key();
        let mut inner = self.inner.lock();
        seat.face.fence.shut();
        inner.sit(seat);
        event(&mut inner.core, key);
        inner.carry_out_change()
    }
}
