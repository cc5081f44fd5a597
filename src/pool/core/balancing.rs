//! Several endpoints: who gives its session first, where one more is worth it for balance, and how room is made at one
//! for who asks for no other. With a single endpoint there is nothing to choose.

use std::cmp::Reverse;

use super::{Core, SessionKey, opening::Gate, places::Place, sessions::Record};
use crate::clock::Time;

impl Core {
    /// The endpoint with the least to do of those that have a fresh idle session; of several, the one whose session
    /// came free last.
    #[inline]
    pub(super) fn least_busy(&self, now: Time, asked: Option<usize>) -> Option<usize> {
        if self.places.len() == 1 {
            return Some(0);
        }
        self.least_busy_of_many(now, asked)
    }

    fn least_busy_of_many(&self, now: Time, asked: Option<usize>) -> Option<usize> {
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
        self.sessions.counts_at(place).leased.max(self.said(place))
    }

    /// Whether an endpoint with less to do has a session that only needs to be checked, for who would get one of
    /// `place` at once. Only what the endpoint itself says of others' work is worth the time that a check takes.
    pub(super) fn quieter_elsewhere(&self, asked: Option<usize>, place: usize) -> bool {
        let said = self.said(place);
        let mut others = self.places.eligible(asked).map(|(other, _)| other);
        said > 0 && others.any(|other| self.sessions.counts_at(other).idle > 0 && self.load(other) < said)
    }

    /// The idle session that somebody who waits should get: a fresh one first, of the endpoint that has the least to
    /// do; but one that must be checked before it, if the fresh one's endpoint says that it has more to do.
    pub(super) fn best_idle(&self, now: Time) -> Option<(SessionKey, &Record)> {
        if self.places.len() == 1 {
            return self
                .best_idle_at(now, 0)
                .filter(|session| self.serves(now, session));
        }
        match (self.least_idle(now, false), self.least_idle(now, true)) {
            (Some((_, fresh)), Some(quieter)) if self.load(quieter.1.place()) < self.said(fresh.place()) => {
                Some(quieter)
            }
            (fresh, stale) => fresh.or(stale),
        }
    }

    /// Of the sessions that are fresh, or of those that must be checked, one of the endpoint that has the least to do.
    fn least_idle(&self, now: Time, stale: bool) -> Option<(SessionKey, &Record)> {
        let wanted = |place: &usize| self.waiters.eligible(*place) > 0 && !self.is_spoken_for(*place);
        let idle = (0..self.places.len()).filter(wanted);
        let idle = idle.filter_map(|place| self.best_idle_at(now, place));
        let alike = idle.filter(|session| {
            self.needs_probe(now, session.1.fresh_at()) == stale && self.serves(now, session)
        });
        alike.min_by_key(|(_, record)| (self.load(record.place()), Reverse(record.idle_since)))
    }

    /// Whether everybody who would take a session of this endpoint has one of an endpoint with less to do, which is
    /// being checked.
    pub(crate) fn is_spoken_for(&self, place: usize) -> bool {
        let said = self.said(place);
        if said == 0 || self.waiters.asking_for(place) > 0 {
            return false;
        }
        let places = self.places.eligible(None);
        let quieter = places.filter(|(other, _)| self.load(*other) < said);
        let checked: u32 = quieter.map(|(_, place)| place.wanted_probes).sum();
        checked > 0 && checked >= self.waiters.eligible(place)
    }

    /// What the endpoint itself says that it has to do.
    fn said(&self, place: usize) -> u32 {
        self.places.get(place).map_or(0, |place| place.load)
    }

    /// Whether an idle session can be granted as it is, or somebody could wait for its probe.
    fn serves(&self, now: Time, (_, record): &(SessionKey, &Record)) -> bool {
        !self.needs_probe(now, record.fresh_at()) || self.may_want(record.place())
    }

    /// The idle session of an endpoint that came free last; if it is stale, one that is not.
    fn best_idle_at(&self, now: Time, place: usize) -> Option<(SessionKey, &Record)> {
        let newest = self.sessions.newest_idle_at(place)?;
        if !self.needs_probe(now, newest.1.fresh_at()) {
            return Some(newest);
        }
        Some(self.proven_at(now, place).unwrap_or(newest))
    }

    /// After a grant, where there are several endpoints: opens a session at one without any to grant that has at least
    /// two calls less to do than another. Without this, one that was unreachable for a while would stay unused for as
    /// long as the others suffice. Only a grant is reason enough: a session that nobody needs is closed again sooner or
    /// later.
    pub(super) fn balance(&mut self, now: Time) {
        let counts = self.sessions.counts();
        let spare = counts.idle + counts.dialing - self.places.useless_dials();
        if spare >= self.settings.max_idle || counts.total() >= self.limit() {
            return;
        }
        let busiest = self
            .places
            .eligible(None)
            .map(|(index, _)| self.load(index))
            .max();
        let lonely = |(index, _): &(usize, &Place)| {
            let counts = self.sessions.counts_at(*index);
            counts.total() == counts.leased
                && busiest.is_some_and(|most| self.load(*index) + 1 < most)
                && matches!(self.door(now, *index), Gate::Open(_))
        };
        let lonely = self.places.eligible(None).filter(lonely);
        if let Some((index, _)) = lonely.min_by_key(|(index, _)| self.load(*index)) {
            self.dial(now, index);
        }
    }

    /// The pool has all the sessions it may have: if somebody asks for an endpoint that could have more, an idle one
    /// elsewhere goes for it.
    pub(super) fn make_room(&mut self, now: Time) -> Gate {
        if self.places.len() == 1 || self.sessions.counts().closing > 0 {
            return Gate::Shut;
        }
        let gates = self
            .places
            .eligible(None)
            .map(|(index, _)| self.asked_gate(now, index));
        match (gates.reduce(Gate::or), self.sessions.oldest_idle()) {
            (Some(Gate::Open(_)), Some((key, _))) => {
                self.close(now, key);
                Gate::Shut
            }
            (Some(Gate::Until(time)), Some(_)) => Gate::Until(time),
            _ => Gate::Shut,
        }
    }

    /// The endpoint that the first in line asks for, if it asks for one.
    pub(super) fn first_asked(&self, now: Time) -> Option<usize> {
        let first = self.waiters.best(now, self.settings.ageing)?;
        self.waiters.asks_for(first)
    }

    /// Whether a session that comes free must go to make room: the pool has all it may have, and the one who is to be
    /// served first asks for another endpoint, which could have more. Without this those behind would get every
    /// session, and that one none.
    pub(super) fn goes_for_another(&self, now: Time, key: SessionKey) -> bool {
        let counts = self.sessions.counts();
        if self.places.len() == 1 || counts.closing > 0 || counts.total() < self.limit() {
            return false;
        }
        let here = self.sessions.get(key).map(Record::place);
        self.first_asked(now)
            .is_some_and(|asked| here != Some(asked) && matches!(self.asked_gate(now, asked), Gate::Open(_)))
    }
}
