//! The sessions: a slab whose keys carry a generation, so that an event of a session that has gone meets nobody; the
//! idle ones of each endpoint linked into a stack, the one that became idle last on top; and a count for each state,
//! at each endpoint and in all, changed in the same step as the state.

use crate::clock::Time;

const NONE: usize = usize::MAX;

/// One session for as long as it counts. A later session in the same place has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey {
    index: usize,
    generation: u64,
}

impl SessionKey {
    /// Its place in the slab; the shell keeps what belongs to the session at the same place.
    pub(crate) const fn index(self) -> usize {
        self.index
    }
}

/// What a session is doing. In every state it counts against the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// It is being opened. Exits: Leased or Idle when it is open, Closing when nobody wants it any more, gone when
    /// the dial failed.
    Dialing,
    /// It waits for a holder. Exits: Leased, Probing, Closing.
    Idle,
    /// Someone holds it, or was granted it and has not looked yet. Exits: Leased by the next one or Idle when given
    /// back clean, Resetting when not, Closing when broken or no longer wanted.
    Leased,
    /// It is being checked. Exits: Leased or Idle when it lives, Closing when it does not.
    Probing,
    /// It is being brought to a clean state. Exits: Leased or Idle when it is clean, Closing when it is not.
    Resetting,
    /// It is being closed. Exit: gone, when the peer has confirmed or the time for it has passed.
    Closing,
}

/// Sessions in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) dialing: u32,
    pub(crate) idle: u32,
    pub(crate) leased: u32,
    pub(crate) probing: u32,
    pub(crate) resetting: u32,
    pub(crate) closing: u32,
    /// All of them. Kept, because every return of a session asks for it right after one of the others has changed: a
    /// processor that adds them up then waits for what was just stored.
    total: u32,
}

impl Counts {
    /// All of them.
    pub(crate) const fn total(self) -> u32 {
        self.total
    }

    /// Those that are open and not on their way out.
    pub(crate) const fn live(self) -> u32 {
        self.idle + self.leased + self.probing + self.resetting
    }

    const fn of(&mut self, state: SessionState) -> &mut u32 {
        match state {
            SessionState::Dialing => &mut self.dialing,
            SessionState::Idle => &mut self.idle,
            SessionState::Leased => &mut self.leased,
            SessionState::Probing => &mut self.probing,
            SessionState::Resetting => &mut self.resetting,
            SessionState::Closing => &mut self.closing,
        }
    }
}

/// What the core knows of a session.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    state: SessionState,
    generation: u64,
    newer: usize,
    older: usize,
    /// The endpoint where it is.
    place: usize,
    /// When it entered its state.
    pub(crate) since: Time,
    /// When it came free last; a probe does not change it, or idle sessions would never grow old.
    pub(crate) idle_since: Time,
    /// When it was opened.
    pub(crate) born: Time,
    /// When its life ends, drawn once at its birth.
    pub(crate) retire_at: Time,
    /// When a probe last found it alive.
    pub(crate) checked_at: Time,
    /// Its share of the probe interval in thousandths, drawn once, so that probes do not come all together.
    pub(crate) stagger: u64,
    /// The recycling that it was dialed under.
    pub(crate) epoch: u32,
    /// Grants so far.
    pub(crate) grants: u64,
    /// The number of its last grant.
    pub(crate) number: u64,
    /// Where its last holder ran.
    pub(crate) near: u32,
    /// Whether it is closed as soon as it comes free.
    pub(crate) doomed: bool,
    /// Whether it closes because its life has ended.
    pub(crate) retiring: bool,
    /// Whether a waiter is behind its probe.
    pub(crate) wanted: bool,
    /// Whether it is opened only to see whether that works.
    pub(crate) check: bool,
    /// Whether it was told to close while it was being opened: what becomes of the dial says nothing of the backend.
    pub(crate) cut_off: bool,
}

impl Record {
    pub(crate) const fn state(&self) -> SessionState {
        self.state
    }

    /// The endpoint where it is, or is being dialed.
    pub(crate) const fn place(&self) -> usize {
        self.place
    }

    /// When it was last known to live.
    pub(crate) fn fresh_at(&self) -> Time {
        self.idle_since.max(self.checked_at)
    }
}

/// The sessions of one endpoint: how many in each state, and the ends of its idle stack.
#[derive(Clone, Copy, Debug)]
struct Here {
    counts: Counts,
    newest: usize,
    oldest: usize,
}

impl Here {
    const EMPTY: Self = Self {
        counts: Counts {
            dialing: 0,
            idle: 0,
            leased: 0,
            probing: 0,
            resetting: 0,
            closing: 0,
            total: 0,
        },
        newest: NONE,
        oldest: NONE,
    };
}

/// All sessions of a pool.
#[derive(Debug)]
pub(crate) struct Sessions {
    records: Vec<Option<Record>>,
    free: Vec<usize>,
    next_generation: u64,
    counts: Counts,
    /// By endpoint; grows as endpoints are met.
    heres: Vec<Here>,
}

impl Sessions {
    pub(crate) const fn new() -> Self {
        Self {
            records: Vec::new(),
            free: Vec::new(),
            next_generation: 0,
            counts: Here::EMPTY.counts,
            heres: Vec::new(),
        }
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Those at one endpoint.
    pub(crate) fn counts_at(&self, place: usize) -> Counts {
        self.heres.get(place).unwrap_or(&Here::EMPTY).counts
    }

    /// A new session, which is being dialed.
    pub(crate) fn insert(&mut self, now: Time, place: usize, epoch: u32) -> SessionKey {
        self.next_generation += 1;
        let generation = self.next_generation;
        let record = Record {
            place,
            ..Record::dialing(now, epoch, generation)
        };
        if self.heres.len() <= place {
            self.heres.resize(place + 1, Here::EMPTY);
        }
        if let Some(here) = self.heres.get_mut(place) {
            here.counts.dialing += 1;
            here.counts.total += 1;
        }
        let index = self.free.pop().unwrap_or(self.records.len());
        match self.records.get_mut(index) {
            Some(place) => *place = Some(record),
            None => self.records.push(Some(record)),
        }
        self.counts.dialing += 1;
        self.counts.total += 1;
        SessionKey { index, generation }
    }

    /// Takes a session off the books. No-op for one that has gone.
    pub(crate) fn remove(&mut self, key: SessionKey) -> Option<Record> {
        let (state, place) = self.get(key).map(|record| (record.state, record.place))?;
        self.unlink(key.index, state);
        *self.counts.of(state) -= 1;
        self.counts.total -= 1;
        if let Some(here) = self.heres.get_mut(place) {
            *here.counts.of(state) -= 1;
            here.counts.total -= 1;
        }
        self.free.push(key.index);
        self.records.get_mut(key.index)?.take()
    }

    pub(crate) fn get(&self, key: SessionKey) -> Option<&Record> {
        self.at(key.index)
            .filter(|record| record.generation == key.generation)
    }

    pub(crate) fn get_mut(&mut self, key: SessionKey) -> Option<&mut Record> {
        self.at_mut(key.index)
            .filter(|record| record.generation == key.generation)
    }

    /// The session, if it is in this state: an event that comes too late finds it in another.
    pub(crate) fn in_state(&self, key: SessionKey, state: SessionState) -> Option<&Record> {
        self.get(key).filter(|record| record.state == state)
    }

    /// Moves a session into a state, count and stack included.
    pub(crate) fn set_state(&mut self, key: SessionKey, state: SessionState, now: Time) {
        let Some(record) = self.get_mut(key) else { return };
        let (before, place) = (record.state, record.place);
        record.state = state;
        record.since = now;
        if before == state {
            return;
        }
        *self.counts.of(before) -= 1;
        *self.counts.of(state) += 1;
        if let Some(here) = self.heres.get_mut(place) {
            *here.counts.of(before) -= 1;
            *here.counts.of(state) += 1;
        }
        self.unlink(key.index, before);
        if state == SessionState::Idle {
            self.link(key.index);
        }
    }

    /// Marks every session that is being dialed to be closed as soon as it is open.
    pub(crate) fn doom_dialing(&mut self) {
        let dialing = |record: &&mut Record| record.state == SessionState::Dialing;
        self.records
            .iter_mut()
            .flatten()
            .filter(dialing)
            .for_each(|record| record.doomed = true);
    }

    /// The idle session of an endpoint that came free last: reused first, so that the others grow old enough to be
    /// closed.
    pub(crate) fn newest_idle_at(&self, place: usize) -> Option<(SessionKey, &Record)> {
        self.keyed(self.newest(place))
    }

    /// Idle sessions of an endpoint, the one that came free last first.
    pub(crate) fn idle_from_newest_at(&self, place: usize) -> impl Iterator<Item = (SessionKey, &Record)> {
        let older = |(_, record): &(SessionKey, &Record)| self.keyed(record.older);
        std::iter::successors(self.newest_idle_at(place), older)
    }

    /// The idle session of an endpoint that came free first.
    pub(crate) fn oldest_idle_at(&self, place: usize) -> Option<(SessionKey, &Record)> {
        self.keyed(self.heres.get(place)?.oldest)
    }

    /// The idle session that came free first.
    pub(crate) fn oldest_idle(&self) -> Option<(SessionKey, &Record)> {
        let oldest = (0..self.heres.len()).filter_map(|place| self.oldest_idle_at(place));
        oldest.min_by_key(|(_, record)| record.idle_since)
    }

    /// The idle session of the same endpoint that came free right after this one.
    pub(crate) fn next_newer(&self, key: SessionKey) -> Option<SessionKey> {
        let newer = self.get(key)?.newer;
        self.keyed(newer).map(|(key, _)| key)
    }

    /// All sessions, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionKey, &Record)> {
        (0..self.records.len()).filter_map(|index| self.keyed(index))
    }

    fn newest(&self, place: usize) -> usize {
        self.heres.get(place).map_or(NONE, |here| here.newest)
    }

    fn keyed(&self, index: usize) -> Option<(SessionKey, &Record)> {
        let record = self.at(index)?;
        let generation = record.generation;
        Some((SessionKey { index, generation }, record))
    }

    fn at(&self, index: usize) -> Option<&Record> {
        self.records.get(index)?.as_ref()
    }

    fn at_mut(&mut self, index: usize) -> Option<&mut Record> {
        self.records.get_mut(index)?.as_mut()
    }

    /// Puts an idle session into its stack by the time it came free: on top at once when it has just come free.
    fn link(&mut self, index: usize) {
        let Some((since, place)) = self.at(index).map(|record| (record.idle_since, record.place)) else {
            return;
        };
        let (mut newer, mut older) = (NONE, self.newest(place));
        while let Some(other) = self.at(older).filter(|other| other.idle_since > since) {
            (newer, older) = (older, other.older);
        }
        if let Some(record) = self.at_mut(index) {
            (record.newer, record.older) = (newer, older);
        }
        self.set_older(newer, place, index);
        self.set_newer(older, place, index);
    }

    fn unlink(&mut self, index: usize, state: SessionState) {
        if state != SessionState::Idle {
            return;
        }
        let Some(record) = self.at_mut(index) else { return };
        let (newer, older, place) = (record.newer, record.older, record.place);
        (record.newer, record.older) = (NONE, NONE);
        self.set_older(newer, place, older);
        self.set_newer(older, place, newer);
    }

    /// What is below a session in its stack; below none, it is the top.
    fn set_older(&mut self, index: usize, place: usize, older: usize) {
        if let Some(record) = self.at_mut(index) {
            record.older = older;
        } else if let Some(here) = self.heres.get_mut(place) {
            here.newest = older;
        }
    }

    /// What is above a session in its stack; above none, it is the bottom.
    fn set_newer(&mut self, index: usize, place: usize, newer: usize) {
        if let Some(record) = self.at_mut(index) {
            record.newer = newer;
        } else if let Some(here) = self.heres.get_mut(place) {
            here.oldest = newer;
        }
    }
}

impl Record {
    const fn dialing(now: Time, epoch: u32, generation: u64) -> Self {
        Self {
            state: SessionState::Dialing,
            generation,
            newer: NONE,
            older: NONE,
            place: 0,
            since: now,
            idle_since: now,
            born: now,
            retire_at: Time::NEVER,
            checked_at: now,
            stagger: 1000,
            epoch,
            grants: 0,
            number: 0,
            near: 0,
            doomed: false,
            retiring: false,
            wanted: false,
            check: false,
            cut_off: false,
        }
    }
}
