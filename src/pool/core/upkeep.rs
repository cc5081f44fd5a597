//! What time alone does to sessions: idle ones close, old ones are replaced, quiet ones are probed. One sweep does it
//! all, and says when the next is due; a session in use only moves its own times further away, so that a sweep may
//! come too early but never too late.

use std::time::Duration;

use super::{Core, SessionKey, SessionState};
use crate::{
    clock::{Time, nanos},
    pool::Settings,
};

/// The state of upkeep.
#[derive(Debug)]
pub(crate) struct Upkeep {
    /// When the next sweep is due.
    pub(crate) at: Time,
    /// Whether something was due that had to stand back: looked at again after each event that could let it through.
    pub(crate) blocked: bool,
    /// Sessions that close because their life has ended.
    pub(crate) retiring: u32,
    /// Whether an old session waits for its replacement.
    pub(crate) replacing: bool,
    /// Idle nanoseconds after which a session is probed before it is granted.
    pub(crate) stale_after: u64,
    /// Nanoseconds before which a session that has just become idle cannot need anything but its retirement.
    quiet: u64,
}

impl Upkeep {
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut upkeep = Self {
            at: Time::NEVER,
            blocked: false,
            retiring: 0,
            replacing: false,
            stale_after: u64::MAX,
            quiet: 0,
        };
        upkeep.follow(settings);
        upkeep
    }

    /// Takes what every grant and return needs from the settings, ready to be compared.
    pub(crate) fn follow(&mut self, settings: &Settings) {
        let health = settings.health.as_ref();
        self.stale_after = health.map_or(u64::MAX, |health| nanos(health.probe_after_idle));
        let soonest_probe = health.map_or(u64::MAX, |health| nanos(health.interval) / 4 * 3);
        self.quiet = nanos(settings.idle).min(soonest_probe);
    }
}

impl Core {
    /// Looks after every idle session.
    pub(super) fn sweep(&mut self, now: Time) {
        (self.upkeep.blocked, self.upkeep.replacing) = (false, false);
        self.upkeep.at = self.close_unused(now);
        for place in 0..self.places.len() {
            let mut next = self.sessions.oldest_idle_at(place).map(|(key, _)| key);
            while let Some(key) = next {
                next = self.sessions.next_newer(key);
                let due = self.look_after(now, key);
                self.upkeep.at = self.upkeep.at.min(due);
            }
        }
    }

    /// Something changed that may let through what had to stand back.
    pub(super) fn look_again(&mut self, now: Time) {
        if self.upkeep.blocked {
            self.sweep(now);
        }
    }

    /// Closes those above the floor that nobody needed for too long; says when the next one will be.
    fn close_unused(&mut self, now: Time) -> Time {
        while let Some((key, record)) = self.sessions.oldest_idle() {
            if self.sessions.counts().live() <= self.floor() {
                break;
            }
            let due = record.idle_since + self.settings.idle;
            if due > now {
                return due;
            }
            self.close(now, key);
        }
        Time::NEVER
    }

    /// Retires or probes one idle session if that is due; says when it is.
    fn look_after(&mut self, now: Time, key: SessionKey) -> Time {
        let Some(record) = self.sessions.in_state(key, SessionState::Idle) else {
            return Time::NEVER;
        };
        let (retire_at, probe_at) = (record.retire_at, self.probe_at(key));
        if retire_at <= now && self.retires_idle(key) {
            self.close(now, key);
            return Time::NEVER;
        }
        if probe_at <= now {
            self.probe_in_background(now, key);
        }
        let later = |due: Time| if due > now { due } else { Time::NEVER };
        later(retire_at).min(later(probe_at))
    }

    /// Whether an old idle session may go now. One at a time, or one in ten; and at the floor its replacement comes
    /// first, unless there is no place for both.
    fn retires_idle(&mut self, key: SessionKey) -> bool {
        let counts = self.sessions.counts();
        let replaced = counts.live() > self.floor();
        if self.may_retire() && (replaced || counts.total() >= self.cap()) {
            return self.note_retirement(key);
        }
        self.upkeep.replacing |= !replaced;
        self.upkeep.blocked = true;
        false
    }

    /// Whether a session that comes free goes because its life has ended.
    pub(super) fn retires_now(&mut self, now: Time, key: SessionKey) -> bool {
        let old = self
            .sessions
            .get(key)
            .is_some_and(|record| record.retire_at <= now);
        old && self.may_retire() && self.note_retirement(key)
    }

    fn may_retire(&self) -> bool {
        self.upkeep.retiring < (self.sessions.counts().total() / 10).max(1)
    }

    fn note_retirement(&mut self, key: SessionKey) -> bool {
        if let Some(record) = self.sessions.get_mut(key) {
            record.retiring = true;
            self.upkeep.retiring += 1;
        }
        true
    }

    fn probe_at(&self, key: SessionKey) -> Time {
        let (Some(health), Some(record)) = (&self.settings.health, self.sessions.get(key)) else {
            return Time::NEVER;
        };
        let stagger = u32::try_from(record.stagger).unwrap_or(1000);
        record.fresh_at() + (health.interval / 1000).saturating_mul(stagger)
    }

    /// Probes a quiet session: one at a time, or one in ten. A paused pool leaves its backend alone.
    fn probe_in_background(&mut self, now: Time, key: SessionKey) {
        let counts = self.sessions.counts();
        if self.paused || counts.probing >= (counts.total() / 10).max(1) {
            self.upkeep.blocked = true;
        } else {
            self.probe(now, key, false);
        }
    }

    /// Notes when a session that has just become idle needs looking after.
    pub(super) fn arm(&mut self, now: Time, key: SessionKey) {
        let Some(record) = self.sessions.in_state(key, SessionState::Idle) else {
            return;
        };
        let (at, quiet) = (self.upkeep.at, self.upkeep.quiet);
        if at <= record.retire_at && at.as_nanos() <= record.idle_since.as_nanos().saturating_add(quiet) {
            // The usual case: a sweep comes soon enough anyway.
            return;
        }
        let mut due = self.probe_at(key);
        if record.retire_at > now || self.may_retire() {
            due = due.min(record.retire_at);
        } else {
            self.upkeep.blocked = true;
        }
        if self.sessions.counts().live() > self.floor()
            && let Some((_, oldest)) = self.sessions.oldest_idle()
        {
            due = due.min(oldest.idle_since + self.settings.idle);
        }
        self.upkeep.at = self.upkeep.at.min(due.max(now + Duration::from_nanos(1)));
    }
}
