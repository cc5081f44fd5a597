//! What an operator does to a pool: pause, recycle, change, end; and what one sees of it.

use std::sync::Arc;

use super::{Core, SessionKey, SessionState, Stats, Waiter, counters::Counters, sessions::Record};
use crate::{
    clock::Time,
    pool::{Ending, Refusal, Settings},
};

impl Core {
    /// Stops grants: waiters wait, newcomers queue.
    pub(crate) fn pause(&mut self, now: Time) {
        self.expire(now);
        self.paused = true;
        self.dismiss_impatient(now);
        self.sweep(now);
        self.open_more(now);
    }

    /// Goes on after a pause.
    pub(crate) fn resume(&mut self, now: Time) {
        self.expire(now);
        self.paused = false;
        self.serve(now);
        self.look_again(now);
        self.open_more(now);
    }

    pub(crate) const fn is_paused(&self) -> bool {
        self.paused
    }

    /// Replaces every session: idle ones close now, others when they come free. Says how many there were.
    pub(crate) fn recycle(&mut self, now: Time) -> u32 {
        let counts = self.sessions.counts();
        self.outdate(now);
        self.open_more(now);
        counts.live() + counts.dialing
    }

    /// From now on every session that there is counts as old.
    fn outdate(&mut self, now: Time) {
        self.epoch = self.epoch.wrapping_add(1);
        for index in 0..self.places.len() {
            let dialing = self.sessions.counts_at(index).dialing;
            if let Some(place) = self.places.get_mut(index) {
                place.useless_dials = dialing;
            }
        }
        self.sessions.doom_dialing();
        self.close_idle(now);
    }

    /// New limits. Idle sessions above them close now, others as they come free; waiters keep their places. With
    /// `replace` the backend is another one: nothing learned of the old one holds, and its sessions are replaced.
    pub(crate) fn reconfigure(&mut self, now: Time, settings: Settings, replace: bool) {
        self.upkeep.follow(&settings);
        self.expire(now);
        let (sessions, waiters) = (&self.sessions, &self.waiters);
        self.places.follow(&settings.endpoints, |place| {
            sessions.counts_at(place).total() == 0 && waiters.asking_for(place) == 0
        });
        self.settings = settings;
        if replace {
            self.dialing.forget();
            self.places.forget();
            self.outdate(now);
        }
        self.refuse_closed_places();
        self.limits_changed(now);
    }

    /// Refuses those who ask for an endpoint that is in the definition no more.
    fn refuse_closed_places(&mut self) {
        for place in 0..self.places.len() {
            if self.places.eligible(Some(place)).next().is_none() {
                self.refuse_asking_for(place, &Refusal::NoSuchEndpoint);
            }
        }
    }

    /// What an endpoint says of the work that waits there.
    pub(crate) fn set_load(&mut self, now: Time, place: usize, load: u32) {
        let before = self.places.get_mut(place);
        let before = before.map(|place| std::mem::replace(&mut place.load, load));
        if before.is_some_and(|before| before != load) && !self.waiters.is_empty() {
            // Who waited for one with less to do may have no reason to any more.
            self.expire(now);
            self.serve(now);
        }
    }

    /// The endpoint with this name, if sessions may be opened there.
    pub(crate) fn place_named(&self, name: &str) -> Option<usize> {
        self.places.named(name)
    }

    /// The names of the endpoints where sessions may be opened.
    pub(crate) fn open_places(&self) -> Vec<Arc<str>> {
        let names = self.places.eligible(None).map(|(_, place)| &place.name);
        names.cloned().collect()
    }

    /// What people call an endpoint.
    pub(crate) fn place_name(&self, place: usize) -> Option<&Arc<str>> {
        self.places.get(place).map(|place| &place.name)
    }

    /// A further limit from outside, or none.
    pub(crate) fn set_ceiling(&mut self, now: Time, ceiling: Option<u32>) {
        self.ceiling = ceiling;
        self.limits_changed(now);
    }

    fn limits_changed(&mut self, now: Time) {
        self.expire(now);
        self.trim(now);
        self.serve(now);
        self.sweep(now);
        self.open_more(now);
    }

    /// The pool ends: everybody is refused, idle sessions close now, others when given back. The first reason stays.
    pub(crate) fn refuse_new(&mut self, now: Time, why: Ending) {
        let why = *self.ending.get_or_insert(why);
        self.expire(now);
        self.refuse_all(now, &why.into());
        self.close_idle(now);
        self.warm = None;
        self.upkeep.at = Time::NEVER;
        self.open_more(now);
    }

    /// Whether the pool has ended and its last session is gone.
    pub(crate) const fn is_over(&self) -> bool {
        self.ending.is_some() && self.is_empty()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.sessions.counts().total() == 0
    }

    /// Wants this many sessions open until they are or the time has passed.
    pub(crate) fn warm(&mut self, now: Time, target: u32, until: Time) {
        if self.ending.is_some() || until <= now {
            return;
        }
        let (other, other_until) = self.warm.unwrap_or((0, Time::ZERO));
        self.warm = Some((target.max(other), until.max(other_until)));
        self.cool_down(now);
        self.open_more(now);
    }

    /// Sessions open, and whether waiting for `target` of them is of no use.
    pub(crate) fn warmth(&self, target: u32) -> (u32, bool) {
        let live = self.sessions.counts().live();
        let enough = live >= target.min(self.cap());
        (
            live,
            enough || self.places.hopeless(None) || self.ending.is_some(),
        )
    }

    /// Marks a session to be closed as soon as it comes free; an idle one closes now. False if it has gone.
    pub(crate) fn doom(&mut self, now: Time, key: SessionKey) -> bool {
        let Some(record) = self.sessions.get_mut(key) else {
            return false;
        };
        let again = std::mem::replace(&mut record.doomed, true);
        record.cut_off |= record.state() == SessionState::Dialing;
        let place = record.place();
        match record.state() {
            SessionState::Idle => self.close(now, key),
            SessionState::Dialing => self.note_useless(place, !again),
            SessionState::Leased
            | SessionState::Probing
            | SessionState::Resetting
            | SessionState::Closing => {}
        }
        self.open_more(now);
        true
    }

    /// Untried counts as serving; so does a failing backend while old sessions live.
    pub(crate) fn is_serving(&self) -> bool {
        let failing = self.places.failing(None).is_some() && self.sessions.counts().live() == 0;
        !self.paused && self.ending.is_none() && !failing
    }

    #[cfg(test)]
    pub(crate) fn is_failing(&self) -> bool {
        self.places.failing(None).is_some()
    }

    /// Whether an endpoint is left alone for a moment, because its place was not free.
    #[cfg(test)]
    pub(crate) fn is_occupied(&self, now: Time) -> bool {
        let mut places = self.places.eligible(None);
        places.any(|(_, place)| now < place.occupied_until)
    }

    /// Sessions at most at an endpoint, as it taught.
    #[cfg(test)]
    pub(crate) fn cap_at(&self, place: usize) -> u32 {
        self.places.get(place).map_or(0, super::places::Place::cap)
    }

    #[cfg(test)]
    pub(crate) fn is_failing_at(&self, place: usize) -> bool {
        self.places.failing(Some(place)).is_some()
    }

    /// Those who wait, in the order in which they would be served now.
    pub(crate) fn waiters(&self, now: Time) -> impl Iterator<Item = &Waiter> {
        self.waiters.in_order(now, self.settings.ageing)
    }

    pub(crate) const fn waiter_count(&self) -> u32 {
        self.waiters.len()
    }

    /// Places that waiters ever needed at once: the bound of the queue's memory.
    #[cfg(test)]
    pub(crate) const fn waiter_places(&self) -> usize {
        self.waiters.places()
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = (SessionKey, &Record)> {
        self.sessions.iter()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            max: self.cap(),
            waiters: self.waiters.len(),
            ..Stats::of(self.sessions.counts(), &self.counters)
        }
    }

    /// Sets counters, peaks and timings to zero; gauges stay.
    pub(crate) fn reset_counters(&mut self) {
        self.counters = Counters::starting_from(self.sessions.counts().total(), self.waiters.len());
    }
}
