//! Asking for a session, going away, and giving one back: who gets which session, and when.

use super::{Action, Core, Grant, Reply, SessionKey, SessionState, Waiter, WaiterKey, sessions::Record};
use crate::{
    clock::Time,
    pool::{Priority, Refusal},
};

/// How many idle sessions are looked at for one that is near: few, so that the others grow old enough to be closed.
const NEWEST: usize = 8;

/// A request, as the core sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) deadline: Time,
    pub(crate) priority: Priority,
    /// False: an idle session or nothing.
    pub(crate) wait: bool,
    /// The shell's own name for the request, which comes back in its action.
    pub(crate) tag: usize,
    /// Where the caller runs: a session that was held there last comes cheaper.
    pub(crate) near: u32,
    /// The only endpoint whose sessions will do; absent, any will.
    pub(crate) place: Option<usize>,
}

/// How a holder leaves its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// As a new one.
    Clean,
    /// With something to be removed.
    Dirty,
    /// In the middle of a call.
    Interrupted,
    /// Useless.
    Broken,
}

impl Core {
    /// Somebody asks for a session. A newcomer never passes those who wait for the same.
    pub(crate) fn acquire(&mut self, now: Time, wanted: Wanted) -> Reply {
        self.expire(now);
        self.counters.acquires += 1;
        if !self.paused
            && let Some(place) = self.least_busy(now, wanted.place)
            && self.waiters.eligible(place) == 0
            && let Some(key) = self.fresh_idle(now, place, wanted.near)
            && !self.waits_for_quieter(now, &wanted, place)
        {
            let grant = self.grant(now, key, now, wanted.near);
            if self.places.len() > 1 {
                self.balance(now);
            }
            return Reply::Granted(grant);
        }
        self.line_up(now, wanted)
    }

    /// Lets a request wait that could not be granted at once, if it may. Apart, so that a grant at once need not carry
    /// all of this along.
    #[inline(never)]
    fn line_up(&mut self, now: Time, wanted: Wanted) -> Reply {
        match self.objection(now, &wanted) {
            Some(refusal) => {
                self.counters.refused += 1;
                Reply::Refused(refusal)
            }
            None => Reply::Waiting(self.enqueue(now, wanted)),
        }
    }

    /// Whether a request is better served by an endpoint with less to do, and may wait for it.
    fn waits_for_quieter(&self, now: Time, wanted: &Wanted, place: usize) -> bool {
        wanted.wait && self.quieter_elsewhere(wanted.place, place) && self.objection(now, wanted).is_none()
    }

    /// The idle session of an endpoint that came free last, unless one of the last few was held near before.
    fn fresh_idle(&self, now: Time, place: usize, near: u32) -> Option<SessionKey> {
        let fresh = |(_, record): &(SessionKey, &Record)| !self.needs_probe(now, record.fresh_at());
        let Some((newest, _)) = self.sessions.newest_idle_at(place).filter(fresh) else {
            return self.proven_at(now, place).map(|(key, _)| key);
        };
        let newest_few = self
            .sessions
            .idle_from_newest_at(place)
            .take(NEWEST)
            .take_while(fresh);
        let mut nearest = newest_few.filter(|(_, record)| record.near == near);
        Some(nearest.next().map_or(newest, |(key, _)| key))
    }

    /// Why a request may not even wait. An idle session whose probe would come first is worth waiting for.
    fn objection(&self, now: Time, wanted: &Wanted) -> Option<Refusal> {
        if let Some(why) = self.ending {
            return Some(why.into());
        }
        let idle = match wanted.place {
            Some(place) => self.sessions.counts_at(place).idle,
            None => self.sessions.counts().idle,
        };
        let probe_helps = !self.paused && idle > 0;
        if wanted.deadline <= now || !(wanted.wait || probe_helps) {
            return Some(self.refusal_at_deadline(now, now, wanted.place));
        }
        if let Some(failing) = self.places.failing(wanted.place)
            && self.places.hopeless(wanted.place)
            && now < failing.retry_at
            && !probe_helps
        {
            return self.unreachable(now, wanted.place);
        }
        let limit = self.settings.max_waiters;
        if self.waiters.len() < limit || (probe_helps && self.waiters.is_empty()) {
            return None;
        }
        let (coming, ahead) = match wanted.place {
            _ if !wanted.wait => (0, 0),
            None => (self.coming(now, None), self.waiters.len()),
            Some(place) => (self.coming(now, Some(place)), self.waiters.eligible(place)),
        };
        (ahead >= coming).then_some(Refusal::QueueFull { limit })
    }

    /// Sessions that are being opened or could be. Nobody has to give one back for those who wait for them, so they
    /// are no queue. While the backend fails that is one, once its pause has passed: without a caller no pool would
    /// ever find out that its backend is back.
    fn coming(&self, now: Time, asked: Option<usize>) -> u32 {
        if self.paused {
            return 0;
        }
        let left = self.limit().saturating_sub(self.sessions.counts().total());
        let (mut dialing, mut free, mut tries) = (0, 0, 0);
        for (index, place) in self.places.eligible(asked) {
            let counts = self.sessions.counts_at(index);
            dialing += counts.dialing - place.useless_dials;
            let room = place.cap().saturating_sub(counts.total()).min(left);
            match &place.failing {
                None => free = room.saturating_add(free).min(left),
                Some(failing) if now < failing.retry_at => {}
                Some(_) => tries = tries.max(room.min(1)),
            }
        }
        (dialing + free).max(tries)
    }

    fn enqueue(&mut self, now: Time, wanted: Wanted) -> WaiterKey {
        let mut waiter = Waiter::new(now, wanted.deadline, wanted.priority, wanted.tag);
        (waiter.patient, waiter.near, waiter.place) = (wanted.wait, wanted.near, wanted.place);
        let key = self.waiters.push(waiter);
        self.counters.peak_waiters = self.counters.peak_waiters.max(self.waiters.len());
        self.serve(now);
        self.open_more(now);
        key
    }

    /// A waiter goes away. No-op for one that was answered already.
    pub(crate) fn cancel(&mut self, waiter: WaiterKey) {
        if self.waiters.remove(waiter).is_some() {
            self.counters.cancelled += 1;
        }
    }

    /// A holder gives its session back. No-op if it holds it no more.
    pub(crate) fn release(&mut self, now: Time, key: SessionKey, how: Release) {
        let Some(record) = self.sessions.in_state(key, SessionState::Leased) else {
            return;
        };
        let held = now.nanos_since(record.since);
        self.counters.hold.record_nanos(held);
        self.dialing.hold.note(held);
        if how == Release::Broken || self.unfit(key) || self.retires_now(now, key) {
            self.close(now, key);
            self.open_more(now);
            return;
        }
        if how == Release::Clean {
            self.settle(now, key, now);
            return;
        }
        self.sessions.set_state(key, SessionState::Resetting, now);
        let task = self.task(key);
        let settle = how == Release::Interrupted;
        self.actions.push_back(Action::Restore { task, settle });
    }

    /// A session was brought to a clean state, or could not be.
    pub(crate) fn restored(&mut self, now: Time, key: SessionKey, clean: bool) {
        if self.sessions.in_state(key, SessionState::Resetting).is_none() {
            return;
        }
        if clean && !self.unfit(key) {
            self.settle(now, key, now);
        } else {
            self.close(now, key);
            self.open_more(now);
        }
    }

    /// A clean session is free: the best waiter gets it in this very step; without one it becomes idle.
    pub(super) fn settle(&mut self, now: Time, key: SessionKey, free_since: Time) {
        self.expire(now);
        if !self.paused && self.goes_for_another(now, key) {
            return self.close(now, key);
        }
        if !self.paused && self.grant_to_best(now, key) {
            return;
        }
        if let Some(record) = self.sessions.get_mut(key) {
            record.idle_since = free_since;
        }
        self.sessions.set_state(key, SessionState::Idle, now);
        self.trim(now);
        self.arm(now, key);
        if self.places.len() > 1 && !self.waiters.is_empty() {
            // They ask for another endpoint, which may need the room.
            self.open_more(now);
        }
    }

    fn grant_to_best(&mut self, now: Time, key: SessionKey) -> bool {
        if self.waiters.is_empty() {
            return false;
        }
        let place = self.sessions.get(key).map_or(0, Record::place);
        let best = self.waiters.best_for(place, now, self.settings.ageing);
        let Some(waiter) = best.and_then(|best| self.waiters.remove(best)) else {
            return false;
        };
        let grant = self.grant(now, key, waiter.arrived, waiter.near);
        let tag = waiter.tag;
        self.actions.push_back(Action::Grant { tag, grant });
        true
    }

    fn grant(&mut self, now: Time, session: SessionKey, arrived: Time, near: u32) -> Grant {
        let number = self.numbers.next();
        let waited = now.nanos_since(arrived);
        self.counters.granted += 1;
        self.counters.wait.record_nanos(waited);
        self.sessions.set_state(session, SessionState::Leased, now);
        let mut earlier = 0;
        if let Some(record) = self.sessions.get_mut(session) {
            earlier = record.grants;
            record.grants += 1;
            (record.number, record.near) = (number, near);
        }
        self.counters.reused += u64::from(earlier > 0);
        Grant {
            session,
            number,
            earlier,
            waited,
        }
    }

    /// Brings idle sessions and waiters together: fresh ones are granted, others probed, one for each waiter at most.
    pub(super) fn serve(&mut self, now: Time) {
        while !self.paused && !self.waiters.is_empty() {
            let Some((key, record)) = self.best_idle(now) else {
                return;
            };
            if !self.needs_probe(now, record.fresh_at()) {
                self.grant_to_best(now, key);
            } else {
                self.note_wanted(key, true);
                self.probe(now, key, true);
            }
        }
    }

    /// Refuses those whose time is up. Called before every grant, so that nobody is served after its deadline.
    #[inline]
    pub(super) fn expire(&mut self, now: Time) {
        while let Some(key) = self.waiters.overdue(now) {
            let Some(waiter) = self.waiters.remove(key) else {
                return;
            };
            let refusal = self.refusal_at_deadline(now, waiter.arrived, waiter.place);
            self.refuse(waiter.tag, refusal);
        }
    }

    /// Refuses those who came for an idle session only, once no probe runs that could still give them one.
    pub(super) fn dismiss_impatient(&mut self, now: Time) {
        if self.wanted_probes > 0 && !self.paused {
            return;
        }
        while let Some(waiter) = self.waiters.impatient().and_then(|key| self.waiters.remove(key)) {
            let refusal = self.refusal_at_deadline(now, waiter.arrived, waiter.place);
            self.refuse(waiter.tag, refusal);
        }
    }

    /// Refuses everybody who takes none but an endpoint's sessions.
    pub(super) fn refuse_asking_for(&mut self, place: usize, refusal: &Refusal) {
        while let Some(waiter) = self
            .waiters
            .any_asking_for(place)
            .and_then(|key| self.waiters.remove(key))
        {
            self.refuse(waiter.tag, refusal.clone());
        }
    }

    /// Refuses everybody.
    pub(super) fn refuse_all(&mut self, now: Time, refusal: &Refusal) {
        while let Some(waiter) = self
            .waiters
            .best(now, self.settings.ageing)
            .and_then(|best| self.waiters.remove(best))
        {
            self.refuse(waiter.tag, refusal.clone());
        }
    }

    fn refuse(&mut self, tag: usize, refusal: Refusal) {
        self.counters.refused += 1;
        self.actions.push_back(Action::Refuse { tag, refusal });
    }

    /// What kept a request waiting until its deadline.
    fn refusal_at_deadline(&self, now: Time, arrived: Time, asked: Option<usize>) -> Refusal {
        if self.paused {
            return Refusal::Paused;
        }
        let waited = now.since(arrived);
        self.unreachable(now, asked)
            .unwrap_or(Refusal::Timeout { waited })
    }

    /// The refusal of a failing backend, if everything fails that was asked for.
    pub(super) fn unreachable(&self, now: Time, asked: Option<usize>) -> Option<Refusal> {
        self.places.failing(asked).map(|failing| Refusal::Unreachable {
            message: failing.message.clone(),
            retry_after: Some(failing.retry_at.since(now)),
        })
    }
}
