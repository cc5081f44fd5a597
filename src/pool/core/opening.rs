//! Opening sessions: the gate that decides whether to dial, and what becomes of a dial. Dials belong to the pool,
//! never to a caller, so a caller that goes away ends none.

use std::time::Duration;

use super::{Action, Core, SessionKey, SessionState, Task, places::Place};
use crate::{
    backend::DialErrorKind,
    clock::{Time, nanos},
};

/// What the gate says.
#[derive(Clone, Copy)]
pub(super) enum Gate {
    /// Open, to the endpoint with this index.
    Open(usize),
    /// Shut; time alone opens it then.
    Until(Time),
    Shut,
}

/// Whom another session would be of use to.
#[derive(Clone, Copy)]
struct Need {
    /// The pool itself: it has too few.
    missing: bool,
    /// Those who take any endpoint's session, and have none on its way.
    anybody: bool,
}

impl Gate {
    /// Open if both are; shut until the later time.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Shut, _) | (_, Self::Shut) => Self::Shut,
            (Self::Until(one), Self::Until(two)) => Self::Until(one.max(two)),
            (Self::Until(time), Self::Open(_)) | (Self::Open(_), Self::Until(time)) => Self::Until(time),
            (Self::Open(index), Self::Open(_)) => Self::Open(index),
        }
    }

    /// Open if one is; else shut until the earlier time.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Open(index), _) | (_, Self::Open(index)) => Self::Open(index),
            (Self::Until(one), Self::Until(two)) => Self::Until(one.min(two)),
            (Self::Until(time), Self::Shut) | (Self::Shut, Self::Until(time)) => Self::Until(time),
            (Self::Shut, Self::Shut) => Self::Shut,
        }
    }
}

impl Core {
    /// Dials as long as the gate is open: it is asked again before each dial.
    pub(super) fn open_more(&mut self, now: Time) {
        loop {
            match self.gate(now) {
                Gate::Open(place) => self.dial(now, place),
                Gate::Until(time) => return self.dialing.wake_at = time,
                Gate::Shut => return self.dialing.wake_at = Time::NEVER,
            }
        }
    }

    /// Where one more dial is worth it: at the endpoint that the first in line asks for, then at one that another asks
    /// for, then at the one with the fewest sessions; at one that can be reached before one that could not.
    fn gate(&mut self, now: Time) -> Gate {
        if self.ending.is_some() {
            return Gate::Shut;
        }
        if self.sessions.counts().total() >= self.limit() {
            return self.make_room(now);
        }
        let (need, first) = (self.need(), self.first_asked(now));
        let (mut best, mut gate) = (None, Gate::Shut);
        for (index, place) in self.places.eligible(None) {
            let asked = self.asked_gate(now, index);
            match (asked.or(self.gate_of(now, need, index)), gate) {
                (Gate::Open(_), _) => {
                    let sessions = self.sessions.counts_at(index).total();
                    let asked = matches!(asked, Gate::Open(_));
                    let rank = (
                        first != Some(index),
                        !asked,
                        place.failing.is_some(),
                        sessions.max(place.load),
                    );
                    if best.is_none_or(|best| rank < best) {
                        (best, gate) = (Some(rank), Gate::Open(index));
                    }
                }
                (until, other) => gate = other.or(until),
            }
        }
        gate
    }

    /// Whether one more dial to an endpoint is worth it. Below the floor always; else only for waiters without a
    /// session on its way, and only if waiting for one to be given back would take longer than dialing.
    fn gate_of(&self, now: Time, need: Need, index: usize) -> Gate {
        if !(need.missing || need.anybody) {
            return Gate::Shut;
        }
        let live = self.sessions.counts().live();
        let worth = if need.missing || live == 0 || self.wait_beats_dial(self.waiters.patient_for(None), live)
        {
            Gate::Open(index)
        } else {
            self.patience(now, None, index)
        };
        self.door(now, index).and(worth)
    }

    /// As [`Core::gate_of`], for those who ask for this endpoint and no other.
    pub(super) fn asked_gate(&self, now: Time, index: usize) -> Gate {
        let waiting = self.asking_for(index);
        let Some(place) = self.places.get(index) else {
            return Gate::Shut;
        };
        let counts = self.sessions.counts_at(index);
        if waiting <= counts.dialing - place.useless_dials + counts.probing {
            return Gate::Shut;
        }
        let worth = if counts.live() == 0 || self.wait_beats_dial(waiting, counts.live()) {
            Gate::Open(index)
        } else {
            self.patience(now, Some(index), index)
        };
        self.door(now, index).and(worth)
    }

    /// Whether an endpoint may be dialed at all now. What is dialed at those that fail are tries, which keep nobody else
    /// from dialing.
    pub(super) fn door(&self, now: Time, index: usize) -> Gate {
        let Some(place) = self.places.get(index) else {
            return Gate::Shut;
        };
        let counts = self.sessions.counts_at(index);
        let dialing = counts.dialing - place.useless_dials;
        let max_dialing = self.settings.max_dialing;
        let all = self.dialing_like(place.failing.is_some());
        if counts.total() >= place.cap() || all >= max_dialing {
            return Gate::Shut;
        }
        match &place.failing {
            Some(_) if dialing > 0 => Gate::Shut,
            Some(failing) if now < failing.retry_at => Gate::Until(failing.retry_at),
            Some(_) => Gate::Open(index),
            None if now < place.occupied_until => Gate::Until(place.occupied_until),
            None if dialing >= place.parallel(max_dialing) => Gate::Shut,
            None => Gate::Open(index),
        }
    }

    /// Dials under way at endpoints that fail, or at those that do not.
    fn dialing_like(&self, failing: bool) -> u32 {
        let places = self.places.eligible(None);
        let alike = places.filter(|(_, place)| place.failing.is_some() == failing);
        alike
            .map(|(index, place)| self.sessions.counts_at(index).dialing - place.useless_dials)
            .sum()
    }

    /// Whether the one who has waited longest of those who ask for the same has waited as long as a dial takes.
    fn patience(&self, now: Time, asked: Option<usize>, index: usize) -> Gate {
        let dial = Duration::from_nanos(self.dialing.dial.nanos());
        match self.waiters.oldest_arrival(asked) {
            Some(arrived) if arrived + dial <= now => Gate::Open(index),
            Some(arrived) => Gate::Until(arrived + dial),
            None => Gate::Shut,
        }
    }

    /// Who could use another session. Those who ask for one endpoint have the first claim on what is on its way
    /// there.
    fn need(&self) -> Need {
        let counts = self.sessions.counts();
        let (mut dialing, mut spare) = (0, 0);
        for index in 0..self.places.len() {
            let coming = self.on_their_way(index);
            spare += coming.saturating_sub(self.asking_for(index));
            dialing += coming - self.sessions.counts_at(index).probing;
        }
        let floor = self.floor() + u32::from(self.upkeep.replacing);
        let anybody = if self.paused {
            0
        } else {
            self.waiters.patient_for(None)
        };
        Need {
            missing: counts.live() + dialing < floor,
            anybody: anybody > spare,
        }
    }

    pub(super) fn asking_for(&self, index: usize) -> u32 {
        if self.paused {
            0
        } else {
            self.waiters.patient_for(Some(index))
        }
    }

    /// Sessions that will soon come free at an endpoint without anybody giving one back. A dial to one that fails is
    /// a try while another endpoint can be reached: nobody is to wait for it.
    pub(super) fn on_their_way(&self, index: usize) -> u32 {
        let counts = self.sessions.counts_at(index);
        let Some(place) = self.places.get(index) else {
            return 0;
        };
        if place.failing.is_some() && self.places.failing(None).is_none() {
            return counts.probing;
        }
        counts.dialing - place.useless_dials + counts.probing
    }

    /// Whether the predicted wait (waiters × hold average / live) is longer than a dial.
    fn wait_beats_dial(&self, waiters: u32, live: u32) -> bool {
        let wait = u128::from(waiters) * u128::from(self.dialing.hold.nanos());
        wait > u128::from(self.dialing.dial.nanos()) * u128::from(live)
    }

    pub(super) fn dial(&mut self, now: Time, place: usize) {
        let task = self.new_session(now, place);
        self.actions.push_back(Action::Dial { task, place });
    }

    fn new_session(&mut self, now: Time, place: usize) -> Task {
        let key = self.sessions.insert(now, place, self.epoch);
        let total = self.sessions.counts().total();
        self.counters.peak_sessions = self.counters.peak_sessions.max(total);
        self.task(key)
    }

    pub(super) fn note_useless(&mut self, place: usize, one_more: bool) {
        if let Some(place) = self.places.get_mut(place) {
            place.useless_dials += u32::from(one_more);
        }
    }

    fn forget_useless(&mut self, place: usize, one_less: bool) {
        if let Some(place) = self.places.get_mut(place) {
            place.useless_dials -= u32::from(one_less);
        }
    }

    /// Reserves a place at an endpoint for a session that is opened only to see whether that works: the caller dials
    /// it itself and says [`Core::dialed`] or [`Core::dial_failed`]. `None` if there is no place.
    pub(crate) fn begin_check(&mut self, now: Time, place: usize) -> Option<Task> {
        let full = self.sessions.counts().total() >= self.limit();
        let cap_there = self.places.get(place).map_or(0, Place::cap);
        if self.ending.is_some() || full || self.sessions.counts_at(place).total() >= cap_there {
            return None;
        }
        let task = self.new_session(now, place);
        if let Some(record) = self.sessions.get_mut(task.session) {
            (record.check, record.doomed) = (true, true);
            self.note_useless(place, true);
        }
        Some(task)
    }

    /// A session is open.
    pub(crate) fn dialed(&mut self, now: Time, key: SessionKey) {
        let Some(record) = self.sessions.in_state(key, SessionState::Dialing) else {
            return;
        };
        let took = now.nanos_since(record.since);
        let (index, doomed) = (record.place(), record.doomed);
        self.counters.created += 1;
        if !record.check {
            self.counters.dial.record_nanos(took);
            self.dialing.dial.note(took);
        }
        if record.epoch == self.epoch
            && let Some(place) = self.places.get_mut(index)
        {
            place.succeeded(self.settings.max_dialing);
        }
        self.forget_useless(index, doomed);
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
        let index = record.place();
        self.counters.failed += u64::from(kind != DialErrorKind::Occupied);
        self.forget_useless(index, record.doomed);
        let mut news = false;
        if record.epoch == self.epoch
            && !record.cut_off
            && let Some(place) = self.places.get_mut(index)
        {
            let counts = self.sessions.counts_at(index);
            let open = counts.total() - counts.dialing;
            self.upkeep.blocked |= kind == DialErrorKind::TooMany;
            news = place.failed(now, (kind, message), open, &mut self.random);
            self.refuse_hopeless(now, index);
        }
        self.look_again(now);
        self.open_more(now);
        news
    }

    /// Refuses those for whom trying again will not help.
    fn refuse_hopeless(&mut self, now: Time, place: usize) {
        if !self.places.hopeless(Some(place)) {
            return;
        }
        self.expire(now);
        if self.places.hopeless(None)
            && let Some(refusal) = self.unreachable(now, None)
        {
            return self.refuse_all(now, &refusal);
        }
        if let Some(refusal) = self.unreachable(now, Some(place)) {
            self.refuse_asking_for(place, &refusal);
        }
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
