//! What the lock guards: the core, its sessions and its waiters' tickets, and how the core's actions are carried out.

use std::{sync::Arc, task::Waker};

use super::{
    super::core::{Action, Core, Grant, SessionKey, Task, WaiterKey},
    handover::{Face, Job, NewSession, Seat, Ticket, Todo},
};
use crate::{
    backend::{Fence, Load},
    clock::Time,
    pool::{Refusal, Request},
};

/// What the shell keeps for a session of the core, at the same index.
#[derive(Debug)]
pub(crate) struct Slot<S> {
    pub(crate) face: Arc<Face>,
    /// The session itself while nobody works on it or holds it.
    pub(super) seat: Option<Box<Seat<S>>>,
}

/// What the shell keeps for a waiter. Exits: the outcome is taken, or the waiter goes away.
#[derive(Debug)]
pub(super) struct Place<S> {
    pub(super) waiter: WaiterKey,
    pub(super) client: Option<Arc<str>>,
    pub(super) waker: Option<Waker>,
    pub(super) outcome: Option<Result<Box<Seat<S>>, Refusal>>,
}

/// Everything that the lock guards.
#[derive(Debug)]
pub(crate) struct Inner<S> {
    pub(crate) core: Core,
    pub(super) slots: Vec<Option<Slot<S>>>,
    pub(super) places: Vec<Option<Place<S>>>,
    pub(super) free: Vec<usize>,
    /// `POOL-BOOT-`, which a session's number makes an id.
    pub(super) id_prefix: String,
    pub(super) dialed: u64,
    /// The moment the driver sleeps until.
    pub(super) armed: Time,
    pub(super) was_serving: bool,
    /// What says how much work waits at an endpoint, by its index.
    pub(super) loads: Vec<(usize, Load)>,
}

impl<S> Inner<S> {
    /// The slot of a session.
    pub(crate) fn slot(&self, key: SessionKey) -> Option<&Slot<S>> {
        self.slots.get(key.index())?.as_ref()
    }

    /// What the waiter with this tag calls itself.
    pub(crate) fn client(&self, tag: usize) -> Option<Arc<str>> {
        self.places.get(tag)?.as_ref()?.client.clone()
    }

    pub(super) fn slot_mut(&mut self, key: SessionKey) -> Option<&mut Slot<S>> {
        self.slots.get_mut(key.index())?.as_mut()
    }

    pub(super) fn close_session(&mut self, now: Time, key: SessionKey) -> bool {
        if let Some(slot) = self.slot(key) {
            slot.face.fence.shut();
        }
        self.core.doom(now, key)
    }

    pub(super) fn sit(&mut self, seat: Box<Seat<S>>) {
        if let Some(slot) = self.slot_mut(seat.key()) {
            slot.seat = Some(seat);
        }
    }

    pub(super) fn rise(&mut self, key: SessionKey) -> Option<Box<Seat<S>>> {
        self.slot_mut(key)?.seat.take()
    }

    pub(super) fn vacate(&mut self, key: SessionKey) {
        if let Some(slot) = self.slots.get_mut(key.index()) {
            *slot = None;
        }
    }

    /// Takes a session out of its slot for its new holder, who may write from now on.
    pub(super) fn hand_out(&mut self, grant: Grant) -> Option<Box<Seat<S>>> {
        let mut seat = self.rise(grant.session)?;
        seat.face.fence.open(grant.number);
        seat.grant = grant;
        Some(seat)
    }

    pub(super) fn seat_waiter(
        &mut self,
        tag: usize,
        waiter: WaiterKey,
        request: &Request,
        waker: &Waker,
    ) -> Ticket {
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

    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Place<S>> {
        let place = self.places.get_mut(ticket.0)?.take()?;
        self.free.push(ticket.0);
        Some(place)
    }

    /// As [`Inner::leave`], when there is nothing left in the place.
    pub(super) fn free(&mut self, ticket: Ticket) {
        if let Some(place) = self.places.get_mut(ticket.0) {
            *place = None;
            self.free.push(ticket.0);
        }
    }

    pub(super) fn carry_out_change(&mut self) -> Todo<S> {
        let mut todo = self.carry_out();
        todo.changed = true;
        todo
    }

    /// As [`Inner::carry_out`], but nothing if there is nothing to do. Taking an idle session and giving one back
    /// never change whether the pool serves.
    pub(super) fn carry_out_if_needed(&mut self) -> Option<Todo<S>> {
        let needed = self.core.has_actions() || self.core.next_deadline() < self.armed;
        needed.then(|| self.carry_out())
    }

    /// Does what the core says as far as that is possible under the lock.
    #[inline(never)]
    pub(super) fn carry_out(&mut self) -> Todo<S> {
        let mut todo = Todo::nothing();
        while let Some(action) = self.core.next_action() {
            self.act(action, &mut todo);
        }
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

    pub(super) fn act(&mut self, action: Action, todo: &mut Todo<S>) {
        match action {
            Action::Grant { tag, grant } => {
                if let Some(seat) = self.hand_out(grant) {
                    todo.wake(self.answer(tag, Ok(seat)));
                }
            }
            Action::Refuse { tag, refusal } => todo.wake(self.answer(tag, Err(refusal))),
            Action::Dial { task, place } => {
                let new = self.new_session(task, place);
                todo.jobs.push(Job::Dial(new));
            }
            Action::Probe(task) => todo.jobs.extend(self.borrow(task).map(Job::Probe)),
            Action::Restore { task, settle } => {
                let seat = self.borrow(task);
                todo.jobs.extend(seat.map(|seat| Job::Restore { seat, settle }));
            }
            Action::Close(key) => todo.jobs.extend(self.rise(key).map(Job::Close)),
        }
    }

    /// Takes a session out of its slot for the pool's own work.
    pub(super) fn borrow(&mut self, task: Task) -> Option<Box<Seat<S>>> {
        let seat = self.rise(task.session)?;
        seat.face.fence.open(task.number);
        Some(seat)
    }

    pub(super) fn answer(&mut self, tag: usize, outcome: Result<Box<Seat<S>>, Refusal>) -> Option<Waker> {
        let place = self.places.get_mut(tag)?.as_mut()?;
        place.outcome = Some(outcome);
        place.waker.take()
    }

    pub(super) fn new_session(&mut self, task: Task, place: usize) -> NewSession {
        self.dialed += 1;
        let endpoint = self.core.place_name(place).cloned().unwrap_or_default();
        let face = Arc::new(Face {
            fence: Arc::new(Fence::default()),
            id: format!("{}{}", self.id_prefix, self.dialed).into(),
            endpoint: Arc::clone(&endpoint),
        });
        face.fence.open(task.number);
        let key = task.session;
        let slot = Some(Slot {
            face: Arc::clone(&face),
            seat: None,
        });
        match self.slots.get_mut(key.index()) {
            Some(place) => *place = slot,
            None => self.slots.push(slot),
        }
        NewSession { key, face, endpoint }
    }

    pub(super) fn watch_loads(&mut self, loads: Vec<(Arc<str>, Load)>) {
        let named = loads
            .into_iter()
            .filter_map(|(name, load)| Some((self.core.place_named(&name)?, load)));
        self.loads = named.collect();
    }

    /// Tells the core what endpoints say of the work that waits there.
    pub(super) fn note_loads(&mut self, now: Time) {
        for (place, load) in &self.loads {
            self.core.set_load(now, *place, load.get());
        }
    }
}
