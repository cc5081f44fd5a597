//! What an operator does to a pool: pause, recycle, change, end; and what one sees of it.

use super::{Core, SessionKey, SessionState, Stats, Waiter, counters::Counters, sessions::Record};
use crate::{
    clock::Time,
    pool::{Ending, Settings},
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
        self.epoch = self.epoch.wrapping_add(1);
        let counts = self.sessions.counts();
        self.useless_dials = counts.dialing;
        self.sessions.doom_dialing();
        self.close_idle(now);
        self.open_more(now);
        counts.live() + counts.dialing
    }

    /// The backend is another one: nothing learned of the old one holds, and its sessions are replaced.
    pub(crate) fn replace_backend(&mut self, now: Time) -> u32 {
        self.dialing.forget();
        self.recycle(now)
    }

    /// New limits. Idle sessions above them close now, others as they come free; waiters keep their places.
    pub(crate) fn reconfigure(&mut self, now: Time, settings: Settings) {
        self.upkeep.follow(&settings);
        self.settings = settings;
        self.limits_changed(now);
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
        let hopeless = self
            .dialing
            .failing
            .as_ref()
            .is_some_and(|failing| failing.permanent);
        (
            live,
            live >= target.min(self.cap()) || hopeless || self.ending.is_some(),
        )
    }

    /// Marks a session to be closed as soon as it comes free; an idle one closes now. False if it has gone.
    pub(crate) fn doom(&mut self, now: Time, key: SessionKey) -> bool {
        let Some(record) = self.sessions.get_mut(key) else {
            return false;
        };
        let again = std::mem::replace(&mut record.doomed, true);
        record.cut_off |= record.state() == SessionState::Dialing;
        match record.state() {
            SessionState::Idle => self.close(now, key),
            SessionState::Dialing => self.useless_dials += u32::from(!again),
            SessionState::Leased
            | SessionState::Probing
            | SessionState::Resetting
            | SessionState::Closing => {}
        }
        self.open_more(now);
        true
    }

    /// Untried counts as serving; so does a failing backend while old sessions live.
    pub(crate) const fn is_serving(&self) -> bool {
        let failing = self.dialing.failing.is_some() && self.sessions.counts().live() == 0;
        !self.paused && self.ending.is_none() && !failing
    }

    #[cfg(test)]
    pub(crate) const fn is_failing(&self) -> bool {
        self.dialing.failing.is_some()
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
