//! Opening sessions: the gate that decides whether to dial, and what becomes of a dial. Dials belong to the pool,
//! never to a caller, so a caller that goes away ends none.

use std::time::Duration;

use super::{Action, Core, SessionKey, SessionState, Task};
use crate::{
    backend::DialErrorKind,
    clock::{Time, nanos},
};

/// What the gate says.
enum Gate {
    Open,
    /// Shut; time alone opens it then.
    Until(Time),
    Shut,
}

impl Core {
    /// Dials as long as the gate is open: it is asked again before each dial.
    pub(super) fn open_more(&mut self, now: Time) {
        loop {
            match self.gate(now) {
                Gate::Open => self.dial(now),
                Gate::Until(time) => return self.dialing.wake_at = time,
                Gate::Shut => return self.dialing.wake_at = Time::NEVER,
            }
        }
    }

    /// Whether one more dial is worth it. Below the floor always; else only for waiters without a session on its way,
    /// and only if waiting for one to be given back would take longer than dialing.
    fn gate(&self, now: Time) -> Gate {
        let counts = self.sessions.counts();
        let dialing = counts.dialing - self.useless_dials;
        let missing = counts.live() + dialing < self.floor() + u32::from(self.upkeep.replacing);
        let patient = if self.paused { 0 } else { self.waiters.patient() };
        let queued = patient > dialing + counts.probing;
        if self.ending.is_some() || counts.total() >= self.cap() || !(missing || queued) {
            return Gate::Shut;
        }
        if let Some(failing) = &self.dialing.failing {
            return match (dialing, now < failing.retry_at) {
                (0, false) => Gate::Open,
                (0, true) => Gate::Until(failing.retry_at),
                _ => Gate::Shut,
            };
        }
        if dialing >= self.dialing.parallel(self.settings.max_dialing) {
            return Gate::Shut;
        }
        if missing || counts.live() == 0 || self.wait_beats_dial(patient, counts.live()) {
            return Gate::Open;
        }
        let patience_ends = self.patience_ends();
        if patience_ends <= now {
            Gate::Open
        } else {
            Gate::Until(patience_ends)
        }
    }

    /// Whether the predicted wait (waiters × hold average / live) is longer than a dial.
    fn wait_beats_dial(&self, waiters: u32, live: u32) -> bool {
        let wait = u128::from(waiters) * u128::from(self.dialing.hold.nanos());
        wait > u128::from(self.dialing.dial.nanos()) * u128::from(live)
    }

    /// When the one who has waited longest will have waited as long as a dial takes.
    fn patience_ends(&self) -> Time {
        let dial = Duration::from_nanos(self.dialing.dial.nanos());
        self.waiters
            .oldest_arrival()
            .map_or(Time::NEVER, |arrived| arrived + dial)
    }

    fn dial(&mut self, now: Time) {
        let task = self.new_session(now);
        self.actions.push_back(Action::Dial(task));
    }

    fn new_session(&mut self, now: Time) -> Task {
        let key = self.sessions.insert(now, self.epoch);
        let total = self.sessions.counts().total();
        self.counters.peak_sessions = self.counters.peak_sessions.max(total);
        self.task(key)
    }

    /// Reserves a place for a session that is opened only to see whether that works: the caller dials it itself and
    /// says [`Core::dialed`] or [`Core::dial_failed`]. `None` if there is no place.
    pub(crate) fn begin_check(&mut self, now: Time) -> Option<Task> {
        if self.ending.is_some() || self.sessions.counts().total() >= self.cap() {
            return None;
        }
        let task = self.new_session(now);
        if let Some(record) = self.sessions.get_mut(task.session) {
            (record.check, record.doomed) = (true, true);
            self.useless_dials += 1;
        }
        Some(task)
    }

    /// A session is open.
    pub(crate) fn dialed(&mut self, now: Time, key: SessionKey) {
        let Some(record) = self.sessions.in_state(key, SessionState::Dialing) else {
            return;
        };
        let took = now.nanos_since(record.since);
        self.useless_dials -= u32::from(record.doomed);
        self.counters.created += 1;
        if !record.check {
            self.counters.dial.record_nanos(took);
            self.dialing.dial.note(took);
        }
        if record.epoch == self.epoch {
            self.dialing.succeeded(self.settings.max_dialing);
        }
        self.give_birth(now, key);
        if self.unfit(key) {
            self.close(now, key);
        } else {
            self.settle(now, key, now);
        }
        self.cool_down(now);
        // One session more may be one too many for another's idle time.
        self.sweep(now);
        self.open_more(now);
    }

    /// Draws once how long the session lives, shortened by up to a quarter so that sessions born together do not end
    /// together. Drawn again at each look, the shares would all end at the shortest.
    fn give_birth(&mut self, now: Time, key: SessionKey) {
        let lifetime = nanos(self.settings.max_lifetime);
        let life = self.random.between(lifetime - lifetime / 4, lifetime);
        let stagger = self.random.between(750, 1250);
        if let Some(record) = self.sessions.get_mut(key) {
            (record.born, record.checked_at, record.stagger) = (now, now, stagger);
            record.retire_at = now + Duration::from_nanos(life);
        }
    }

    /// A session could not be opened; says whether this is news. A failure of a backend that was replaced meanwhile
    /// tells nothing about the present one, and neither does that of a session that was told to close, one dialed for
    /// a check included: its fence was shut in the middle of its handshake.
    pub(crate) fn dial_failed(
        &mut self,
        now: Time,
        key: SessionKey,
        kind: DialErrorKind,
        message: String,
    ) -> bool {
        if self.sessions.in_state(key, SessionState::Dialing).is_none() {
            return false;
        }
        let Some(record) = self.sessions.remove(key) else {
            return false;
        };
        self.counters.failed += 1;
        self.useless_dials -= u32::from(record.doomed);
        let mut news = false;
        if record.epoch == self.epoch && !record.cut_off {
            let counts = self.sessions.counts();
            let open = counts.total() - counts.dialing;
            self.upkeep.blocked |= kind == DialErrorKind::TooMany;
            news = self.dialing.failed(now, (kind, message), open, &mut self.random);
            if kind == DialErrorKind::Permanent
                && let Some(refusal) = self.unreachable(now)
            {
                self.expire(now);
                self.refuse_all(now, &refusal);
            }
        }
        self.look_again(now);
        self.open_more(now);
        news
    }

    /// Ends the warm-up once it has what it wanted. With it the floor sinks, so sessions may be due to close.
    pub(super) fn cool_down(&mut self, now: Time) {
        let (live, cap) = (self.sessions.counts().live(), self.cap());
        if self
            .warm
            .is_some_and(|(target, until)| live >= target.min(cap) || until <= now)
        {
            self.warm = None;
            self.sweep(now);
        }
    }
}
