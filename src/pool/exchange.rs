//! Where sessions change hands: the core, the sessions themselves, and the waiters' tickets, under one lock.
//!
//! Lock discipline: lock, ask the core, move sessions and outcomes as it says, unlock; only then wake, spawn, and
//! notify ([`Todo`]). Nothing under the lock waits or calls a backend, and the only lock taken under it is a fence's own. An outcome is in its
//! ticket before its waker is called, so a wake-up cannot be lost; a waiter that is dropped after its grant gives the
//! session to the next one within the same locking.

use std::{sync::Arc, task::Waker};

use super::{
    core::{Action, Core, Grant, Release, Reply, SessionKey, Task, WaiterKey, Wanted},
    sync::Mutex,
};
use crate::{
    backend::{DialError, Fence},
    clock::Time,
    pool::{Refusal, Request},
};

/// What never changes about an open session.
#[derive(Debug)]
pub(crate) struct Face {
    pub(crate) fence: Arc<Fence>,
    pub(crate) id: Arc<str>,
    pub(crate) endpoint: Arc<str>,
}

/// A session outside its slot.
#[derive(Debug)]
pub(crate) struct Seat<S> {
    pub(crate) session: S,
    pub(crate) face: Arc<Face>,
}

/// A granted session on its way to its holder, or with it.
#[derive(Debug)]
pub(crate) struct Granted<S> {
    pub(crate) grant: Grant,
    pub(crate) seat: Seat<S>,
}

/// The pool's name for a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(usize);

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Answer<S> {
    Granted(Granted<S>),
    Refused(Refusal),
    Waiting(Ticket),
}

/// Work on a session that the pool carries out itself, outside the lock.
#[derive(Debug)]
pub(crate) enum Job<S> {
    Dial(NewSession),
    Probe(SessionKey, Seat<S>),
    Restore {
        key: SessionKey,
        seat: Seat<S>,
        settle: bool,
    },
    Close(SessionKey, Seat<S>),
}

/// A session that is to be dialed.
#[derive(Debug)]
pub(crate) struct NewSession {
    pub(crate) key: SessionKey,
    pub(crate) face: Arc<Face>,
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
    const fn nothing() -> Self {
        Self {
            wake: None,
            wake_too: Vec::new(),
            jobs: Vec::new(),
            rearm: false,
            changed: false,
            serving: false,
        }
    }

    fn wake(&mut self, waker: Option<Waker>) {
        match (&self.wake, waker) {
            (_, None) => {}
            (None, first) => self.wake = first,
            (Some(_), Some(next)) => self.wake_too.push(next),
        }
    }
}

/// What the shell keeps for a session of the core, at the same index.
#[derive(Debug)]
pub(super) struct Slot<S> {
    pub(super) face: Arc<Face>,
    /// The session itself while nobody works on it or holds it.
    session: Option<S>,
}

/// What the shell keeps for a waiter. Exits: the outcome is taken, or the waiter goes away.
#[derive(Debug)]
struct Place<S> {
    waiter: WaiterKey,
    client: Option<Arc<str>>,
    waker: Option<Waker>,
    outcome: Option<Result<Granted<S>, Refusal>>,
}

/// Everything that the lock guards.
#[derive(Debug)]
pub(super) struct Inner<S> {
    pub(super) core: Core,
    slots: Vec<Option<Slot<S>>>,
    places: Vec<Option<Place<S>>>,
    free: Vec<usize>,
    /// `POOL-BOOT-`, which a session's number makes an id.
    id_prefix: String,
    dialed: u64,
    /// The moment the driver sleeps until.
    armed: Time,
    was_serving: bool,
}

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
        };
        let todo = inner.carry_out();
        let inner = Mutex::new(inner);
        (Self { inner }, todo)
    }

    /// Asks for a session; `waker` is called when one that has to wait is answered. Without a waiter and with a fresh idle session this allocates nothing.
    pub(crate) fn acquire(
        &self,
        now: Time,
        request: &Request,
        waker: &Waker,
    ) -> (Answer<S>, Option<Todo<S>>) {
        let mut inner = self.inner.lock();
        let tag = inner.free.last().copied().unwrap_or(inner.places.len());
        let reply = inner.core.acquire(
            now,
            Wanted {
                deadline: request.deadline,
                priority: request.priority,
                wait: request.wait,
                tag,
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
        (answer, inner.carry_out_if_needed())
    }

    /// Looks whether a waiter was answered; if not, `waker` is called when it is.
    pub(crate) fn poll(&self, ticket: Ticket, waker: &Waker) -> Option<Result<Granted<S>, Refusal>> {
        let mut inner = self.inner.lock();
        let place = inner.places.get_mut(ticket.0)?.as_mut()?;
        if let Some(outcome) = place.outcome.take() {
            inner.leave(ticket);
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
            Some(Ok(granted)) => {
                granted.seat.face.fence.shut();
                let key = granted.grant.session;
                inner.sit(key, granted.seat.session);
                inner.core.release(now, key, Release::Clean);
            }
            Some(Err(_)) => {}
        }
        inner.carry_out()
    }

    /// A holder gives its session back. Its fence must be shut already.
    pub(crate) fn give_back(&self, now: Time, key: SessionKey, session: S, how: Release) -> Option<Todo<S>> {
        let mut inner = self.inner.lock();
        inner.sit(key, session);
        inner.core.release(now, key, how);
        inner.carry_out_if_needed()
    }

    /// A session is open.
    pub(crate) fn dialed(&self, now: Time, key: SessionKey, seat: Seat<S>) -> Todo<S> {
        let mut inner = self.inner.lock();
        seat.face.fence.shut();
        if let Some(slot) = inner.slot_mut(key) {
            slot.face = seat.face;
        }
        inner.sit(key, seat.session);
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
    pub(crate) fn probed(&self, now: Time, key: SessionKey, session: S, alive: bool) -> Todo<S> {
        self.after_work(key, session, |core| core.probed(now, key, alive))
    }

    /// A session was brought to a clean state, or could not be.
    pub(crate) fn restored(&self, now: Time, key: SessionKey, session: S, clean: bool) -> Todo<S> {
        self.after_work(key, session, |core| core.restored(now, key, clean))
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

    /// Reserves a place for a session that is dialed only to see whether that works.
    pub(crate) fn begin_check(&self, now: Time) -> (Option<NewSession>, Todo<S>) {
        let mut inner = self.inner.lock();
        let task = inner.core.begin_check(now);
        let new = task.map(|task| inner.new_session(task));
        (new, inner.carry_out())
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
        if let Some(slot) = inner.slot(key) {
            slot.face.fence.shut();
        }
        let closes = inner.core.doom(now, key);
        (closes, inner.carry_out())
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
    pub(super) fn look_inside<R>(&self, look: impl FnOnce(&Inner<S>) -> R) -> R {
        look(&self.inner.lock())
    }

    fn after_work(&self, key: SessionKey, session: S, event: impl FnOnce(&mut Core)) -> Todo<S> {
        let mut inner = self.inner.lock();
        if let Some(slot) = inner.slot(key) {
            slot.face.fence.shut();
        }
        inner.sit(key, session);
        event(&mut inner.core);
        inner.carry_out_change()
    }
}

impl<S> Inner<S> {
    /// The slot of a session.
    pub(super) fn slot(&self, key: SessionKey) -> Option<&Slot<S>> {
        self.slots.get(key.index())?.as_ref()
    }

    /// What the waiter with this tag calls itself.
    pub(super) fn client(&self, tag: usize) -> Option<Arc<str>> {
        self.places.get(tag)?.as_ref()?.client.clone()
    }

    fn slot_mut(&mut self, key: SessionKey) -> Option<&mut Slot<S>> {
        self.slots.get_mut(key.index())?.as_mut()
    }

    fn sit(&mut self, key: SessionKey, session: S) {
        if let Some(slot) = self.slot_mut(key) {
            slot.session = Some(session);
        }
    }

    fn rise(&mut self, key: SessionKey) -> Option<Seat<S>> {
        let slot = self.slot_mut(key)?;
        let session = slot.session.take()?;
        let face = Arc::clone(&slot.face);
        Some(Seat { session, face })
    }

    fn vacate(&mut self, key: SessionKey) {
        if let Some(slot) = self.slots.get_mut(key.index()) {
            *slot = None;
        }
    }

    /// Takes a session out of its slot for its new holder, who may write from now on.
    fn hand_out(&mut self, grant: Grant) -> Option<Granted<S>> {
        let seat = self.rise(grant.session)?;
        seat.face.fence.open(grant.number);
        Some(Granted { grant, seat })
    }

    fn seat_waiter(&mut self, tag: usize, waiter: WaiterKey, request: &Request, waker: &Waker) -> Ticket {
        let place = Some(Place {
            waiter,
            client: request.client.clone(),
            waker: Some(waker.clone()),
            outcome: None,
        });
        self.free.pop();
        match self.places.get_mut(tag) {
            Some(old) => *old = place,
            None => self.places.push(place),
        }
        Ticket(tag)
    }

    fn leave(&mut self, ticket: Ticket) -> Option<Place<S>> {
        let place = self.places.get_mut(ticket.0)?.take()?;
        self.free.push(ticket.0);
        Some(place)
    }

    fn carry_out_change(&mut self) -> Todo<S> {
        let mut todo = self.carry_out();
        todo.changed = true;
        todo
    }

    /// As [`Inner::carry_out`], but nothing if there is nothing to do. Taking an idle session and giving one back
    /// never change whether the pool serves.
    fn carry_out_if_needed(&mut self) -> Option<Todo<S>> {
        let needed = self.core.has_actions() || self.core.next_deadline() < self.armed;
        needed.then(|| self.carry_out())
    }

    /// Does what the core says as far as that is possible under the lock.
    fn carry_out(&mut self) -> Todo<S> {
        let mut todo = Todo::nothing();
        let mut actions = self.core.take_actions();
        for action in actions.drain(..) {
            self.act(action, &mut todo);
        }
        self.core.recycle_actions(actions);
        let due = self.core.next_deadline();
        if due < self.armed {
            (self.armed, todo.rearm) = (due, true);
        }
        // The driver ends then.
        todo.rearm |= self.core.is_over();
        let serving = self.core.is_serving();
        todo.serving = std::mem::replace(&mut self.was_serving, serving) != serving;
        todo
    }

    fn act(&mut self, action: Action, todo: &mut Todo<S>) {
        match action {
            Action::Grant { tag, grant } => {
                if let Some(granted) = self.hand_out(grant) {
                    todo.wake(self.answer(tag, Ok(granted)));
                }
            }
            Action::Refuse { tag, refusal } => todo.wake(self.answer(tag, Err(refusal))),
            Action::Dial(task) => {
                let new = self.new_session(task);
                todo.jobs.push(Job::Dial(new));
            }
            Action::Probe(task) => todo
                .jobs
                .extend(self.borrow(task).map(|seat| Job::Probe(task.session, seat))),
            Action::Restore { task, settle } => {
                let key = task.session;
                todo.jobs
                    .extend(self.borrow(task).map(|seat| Job::Restore { key, seat, settle }));
            }
            Action::Close(key) => {
                todo.jobs.extend(self.rise(key).map(|seat| Job::Close(key, seat)));
            }
        }
    }

    /// Takes a session out of its slot for the pool's own work.
    fn borrow(&mut self, task: Task) -> Option<Seat<S>> {
        let seat = self.rise(task.session)?;
        seat.face.fence.open(task.number);
        Some(seat)
    }

    fn answer(&mut self, tag: usize, outcome: Result<Granted<S>, Refusal>) -> Option<Waker> {
        let place = self.places.get_mut(tag)?.as_mut()?;
        place.outcome = Some(outcome);
        place.waker.take()
    }

    fn new_session(&mut self, task: Task) -> NewSession {
        self.dialed += 1;
        let face = Arc::new(Face {
            fence: Arc::new(Fence::default()),
            id: format!("{}{}", self.id_prefix, self.dialed).into(),
            endpoint: Arc::from(""),
        });
        face.fence.open(task.number);
        let key = task.session;
        let slot = Some(Slot {
            face: Arc::clone(&face),
            session: None,
        });
        match self.slots.get_mut(key.index()) {
            Some(place) => *place = slot,
            None => self.slots.push(slot),
        }
        NewSession { key, face }
    }
}
