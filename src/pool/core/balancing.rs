//! Several endpoints: who gives its session first, where one more is worth it for balance, and how room is made at one
//! for who asks for no other. With a single endpoint there is nothing to choose.

use std::cmp::Reverse;

use super::{Core, SessionKey, opening::Gate, places::Place, sessions::Record};
use crate::clock::Time;

impl Core {
    /// The endpoint with the least to do of those that have a fresh idle session; of several, the one whose session
    /// came free last.
    pub(super) fn least_busy(&self, now: Time, asked: Option<usize>) -> Option<usize> {
        if self.places.len() == 1 {
            return Some(0);
        }
        let fresh = |(place, _): &(usize, &Place)| {
            let best = self.best_idle_at(now, *place);
            best.is_some_and(|(_, record)| !self.needs_probe(now, record.fresh_at()))
        };
        let places = self.places.eligible(asked).filter(fresh);
        let least = places.min_by_key(|(place, _)| {
            let newest = self.sessions.newest_idle_at(*place);
            let free_since = newest.map(|(_, record)| record.idle_since);
            (self.load(*place), Reverse(free_since))
        });
        least.map(|(place, _)| place)
    }

    /// What an endpoint has to do: the sessions that are held there, or what it says itself if that is more.
    pub(super) fn load(&self, place: usize) -> u32 {
        let said = self.places.get(place).map_or(0, |place| place.load);
        self.sessions.counts_at(place).leased.max(said)
    }

    /// The idle session that somebody who waits should get: a fresh one first, then one of the endpoint that has the
    /// least to do.
    pub(super) fn best_idle(&self, now: Time) -> Option<(SessionKey, &Record)> {
        if self.places.len() == 1 {
            return self.best_idle_at(now, 0);
        }
        let wanted = (0..self.places.len()).filter(|place| self.waiters.eligible(*place) > 0);
        let idle = wanted.filter_map(|place| Some((place, self.best_idle_at(now, place)?)));
        let best = idle.min_by_key(|(place, (_, record))| {
            let stale = self.needs_probe(now, record.fresh_at());
            (stale, self.load(*place), Reverse(record.idle_since))
        });
        best.map(|(_, session)| session)
    }

    /// The idle session of an endpoint that came free last; if it is stale, one that is not.
    fn best_idle_at(&self, now: Time, place: usize) -> Option<(SessionKey, &Record)> {
        let newest = self.sessions.newest_idle_at(place)?;
        if !self.needs_probe(now, newest.1.fresh_at()) {
            return Some(newest);
        }
        Some(self.proven_at(now, place).unwrap_or(newest))
    }

    /// After a grant: opens a session at an endpoint that has too little to do.
    pub(super) fn balance(&mut self, now: Time) {
        if self.places.len() > 1 {
            self.open_more(now);
        }
    }

    /// Whether an endpoint without a session to grant has at least two calls less to do than another: without this,
    /// one that was unreachable for a while would stay unused for as long as the others suffice.
    pub(super) fn would_balance(&self, index: usize) -> bool {
        let counts = self.sessions.counts_at(index);
        if self.places.len() == 1 || self.paused || counts.idle + counts.dialing + counts.probing > 0 {
            return false;
        }
        let busiest = self
            .places
            .eligible(None)
            .map(|(other, _)| self.load(other))
            .max();
        busiest.is_some_and(|most| self.load(index) + 1 < most)
    }

    /// The pool has all the sessions it may have: if somebody asks for an endpoint that could have more, an idle one
    /// elsewhere goes for it.
    pub(super) fn make_room(&mut self, now: Time) -> Gate {
        if self.places.len() == 1 || self.sessions.counts().closing > 0 {
            return Gate::Shut;
        }
        let lacks = |(index, place): &(usize, &Place)| {
            let room = self.sessions.counts_at(*index).total() < place.cap();
            room && self.asking_for(*index) > self.on_their_way(*index)
        };
        let tried_at =
            |(_, place): (usize, &Place)| place.failing.as_ref().map_or(now, |failing| failing.retry_at);
        let soonest = self.places.eligible(None).filter(lacks).map(tried_at).min();
        match (soonest, self.sessions.oldest_idle()) {
            (Some(soonest), Some(_)) if soonest > now => Gate::Until(soonest),
            (Some(_), Some((key, _))) => {
                self.close(now, key);
                Gate::Shut
            }
            _ => Gate::Shut,
        }
    }
}
