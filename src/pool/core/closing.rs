//! Closing sessions: which ones may not be used again, and what happens when one is gone.

use super::{Action, Core, SessionKey, SessionState, places::Place};
use crate::clock::Time;

impl Core {
    /// Whether a session must not be granted again: it was marked, recycled, or is one too many.
    pub(super) fn unfit(&self, key: SessionKey) -> bool {
        let Some(record) = self.sessions.get(key) else {
            return true;
        };
        let one_too_many = self.over_cap() || self.over_cap_at(record.place());
        self.ending.is_some() || record.doomed || record.epoch != self.epoch || one_too_many
    }

    fn over_cap(&self) -> bool {
        let counts = self.sessions.counts();
        counts.total() - counts.closing > self.limit()
    }

    fn over_cap_at(&self, place: usize) -> bool {
        let counts = self.sessions.counts_at(place);
        let cap = self.places.get(place).map_or(0, Place::cap);
        counts.total() - counts.closing > cap
    }

    /// Sends a session away. It counts until [`Core::closed`].
    pub(super) fn close(&mut self, now: Time, key: SessionKey) {
        self.sessions.set_state(key, SessionState::Closing, now);
        self.actions.push_back(Action::Close(key));
    }

    /// A session is gone: the peer has confirmed, or the time for that has passed.
    pub(crate) fn closed(&mut self, now: Time, key: SessionKey) {
        if self.sessions.in_state(key, SessionState::Closing).is_none() {
            return;
        }
        let Some(record) = self.sessions.remove(key) else {
            return;
        };
        self.counters.closed += 1;
        self.upkeep.retiring -= u32::from(record.retiring);
        self.expire(now);
        self.look_again(now);
        self.open_more(now);
    }

    /// Closes idle sessions that are too many, those first that came free first.
    pub(super) fn trim(&mut self, now: Time) {
        for place in 0..self.places.len() {
            while self.over_cap_at(place)
                && let Some((key, _)) = self.sessions.oldest_idle_at(place)
            {
                self.close(now, key);
            }
        }
        while self.over_cap() || self.sessions.counts().idle > self.settings.max_idle {
            let Some((key, _)) = self.sessions.oldest_idle() else {
                return;
            };
            self.close(now, key);
        }
    }

    /// Closes every idle session; says how many that were.
    pub(super) fn close_idle(&mut self, now: Time) -> u32 {
        let before = self.sessions.counts().idle;
        while let Some((key, _)) = self.sessions.oldest_idle() {
            self.close(now, key);
        }
        before
    }
}
