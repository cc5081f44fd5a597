//! Probes: which idle sessions are fresh enough to be granted as they are, and what becomes of those that are checked.

use super::{Action, Core, SessionKey, SessionState, sessions::Record};
use crate::clock::Time;

impl Core {
    /// A probe has ended.
    pub(crate) fn probed(&mut self, now: Time, key: SessionKey, alive: bool) {
        let Some(record) = self.sessions.in_state(key, SessionState::Probing) else {
            return;
        };
        let (free_since, wanted) = (record.idle_since, record.wanted);
        if wanted {
            self.note_wanted(key, false);
        }
        if let Some(record) = self.sessions.get_mut(key) {
            record.wanted = false;
        }
        if !alive || self.unfit(key) {
            self.close(now, key);
        } else {
            if let Some(record) = self.sessions.get_mut(key) {
                record.checked_at = now;
            }
            self.settle(now, key, free_since);
            self.note_proven(now, key);
        }
        self.serve(now);
        self.dismiss_impatient(now);
        self.look_again(now);
        self.open_more(now);
    }

    /// Remembers an idle session that was found alive, and forgets those that are fresh no more.
    fn note_proven(&mut self, now: Time, key: SessionKey) {
        while let Some(first) = self.proven.front()
            && self.still_proven(now, *first).is_none()
        {
            self.proven.pop_front();
        }
        let most = 2 * self.sessions.counts().total() as usize;
        if self.proven.len() > most {
            let mut proven = std::mem::take(&mut self.proven);
            proven.retain(|other| *other != key && self.still_proven(now, *other).is_some());
            self.proven = proven;
        }
        if self.still_proven(now, key).is_some() {
            self.proven.push_back(key);
        }
    }

    fn still_proven(&self, now: Time, key: SessionKey) -> Option<&Record> {
        let record = self.sessions.in_state(key, SessionState::Idle)?;
        (!self.needs_probe(now, record.fresh_at())).then_some(record)
    }

    /// An idle session of an endpoint that is fresh because a probe has just found it alive.
    pub(super) fn proven_at(&self, now: Time, place: usize) -> Option<(SessionKey, &Record)> {
        let idle = |key: &SessionKey| Some((*key, self.still_proven(now, *key)?));
        let mut proven = self.proven.iter().rev().filter_map(idle);
        proven.find(|(_, record)| record.place() == place)
    }

    /// Whether somebody would take a session of this endpoint and has none being probed: one for each waiter at most.
    pub(super) fn may_want(&self, place: usize) -> bool {
        let probed = self.places.get(place).map_or(0, |place| place.wanted_probes);
        let anybody = self.wanted_probes < self.waiters.len() && probed < self.waiters.eligible(place);
        anybody || probed < self.waiters.asking_for(place)
    }

    pub(super) fn note_wanted(&mut self, key: SessionKey, wanted: bool) {
        let index = self.sessions.get(key).map_or(0, Record::place);
        if let Some(place) = self.places.get_mut(index) {
            if wanted {
                (place.wanted_probes, self.wanted_probes) = (place.wanted_probes + 1, self.wanted_probes + 1);
            } else {
                (place.wanted_probes, self.wanted_probes) = (place.wanted_probes - 1, self.wanted_probes - 1);
            }
        }
    }

    pub(super) fn probe(&mut self, now: Time, key: SessionKey, wanted: bool) {
        self.sessions.set_state(key, SessionState::Probing, now);
        if let Some(record) = self.sessions.get_mut(key) {
            record.wanted = wanted;
        }
        let task = self.task(key);
        self.actions.push_back(Action::Probe(task));
    }

    pub(super) fn needs_probe(&self, now: Time, fresh_at: Time) -> bool {
        now.nanos_since(fresh_at) >= self.upkeep.stale_after
    }
}
