//! Those who wait: a slab whose entries are linked into three classes for each endpoint that was asked for, and three
//! for those who take any; first come first served inside each. Leaving from anywhere is one unlinking, so a million
//! cancelled waiters leave nothing behind.

use std::time::Duration;

use super::deadlines::Deadlines;
use crate::{
    clock::{Time, nanos},
    pool::Priority,
};

const NONE: usize = usize::MAX;

/// One waiter for as long as it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaiterKey {
    index: usize,
    generation: u64,
}

/// What the core knows of a waiter.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    /// Its place in line: rises with every arrival, and tells two tenants of the same slot apart.
    arrival_number: u64,
    before: usize,
    after: usize,
    pub(crate) priority: Priority,
    pub(crate) arrived: Time,
    pub(crate) deadline: Time,
    /// False for one that waits only for a probe that runs already.
    pub(crate) patient: bool,
    /// The shell's own name for it.
    pub(crate) tag: usize,
    /// Where it runs.
    pub(crate) near: u32,
    /// The only endpoint whose sessions it takes; absent, it takes any.
    pub(crate) place: Option<usize>,
}

impl Waiter {
    pub(crate) const fn new(now: Time, deadline: Time, priority: Priority, tag: usize) -> Self {
        Self {
            arrival_number: 0,
            before: NONE,
            after: NONE,
            priority,
            arrived: now,
            deadline,
            patient: true,
            tag,
            near: 0,
            place: None,
        }
    }

    /// The class it has by now: each `ageing` waited lifts it by one.
    pub(crate) fn effective(&self, now: Time, ageing: Duration) -> Priority {
        let lifts = now.nanos_since(self.arrived) / nanos(ageing).max(1);
        match (self.priority, lifts) {
            (Priority::High, _) | (Priority::Normal, 1..) | (Priority::Low, 2..) => Priority::High,
            (Priority::Normal, 0) | (Priority::Low, 1) => Priority::Normal,
            (Priority::Low, 0) => Priority::Low,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Line {
    first: usize,
    last: usize,
}

impl Line {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };
}

/// The classes of those who ask for the same.
#[derive(Clone, Debug)]
struct Lines {
    low: Line,
    normal: Line,
    high: Line,
    count: u32,
    patient: u32,
}

impl Lines {
    const EMPTY: Self = Self {
        low: Line::EMPTY,
        normal: Line::EMPTY,
        high: Line::EMPTY,
        count: 0,
        patient: 0,
    };

    const fn of(&mut self, class: Priority) -> &mut Line {
        match class {
            Priority::Low => &mut self.low,
            Priority::Normal => &mut self.normal,
            Priority::High => &mut self.high,
        }
    }

    const fn firsts(&self) -> [usize; 3] {
        [self.high.first, self.normal.first, self.low.first]
    }
}

/// Everybody who waits.
#[derive(Debug)]
pub(crate) struct Waiters {
    slots: Vec<Option<Waiter>>,
    free: Vec<usize>,
    /// Those who take any session.
    anywhere: Lines,
    /// Those who take one endpoint's, by endpoint; grows as endpoints are asked for.
    places: Vec<Lines>,
    deadlines: Deadlines,
    arrivals: u64,
    count: u32,
    patient: u32,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            anywhere: Lines::EMPTY,
            places: Vec::new(),
            deadlines: Deadlines::default(),
            arrivals: 0,
            count: 0,
            patient: 0,
        }
    }

    pub(crate) const fn len(&self) -> u32 {
        self.count
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Those for whom a new session would be of use, of those who ask for one endpoint, or of those who take any.
    pub(crate) fn patient_for(&self, place: Option<usize>) -> u32 {
        self.lines(place).map_or(0, |lines| lines.patient)
    }

    /// Those who would take a session of this endpoint.
    pub(crate) fn eligible(&self, place: usize) -> u32 {
        self.anywhere.count + self.lines(Some(place)).map_or(0, |lines| lines.count)
    }

    /// Those who take none but this endpoint's.
    pub(crate) fn asking_for(&self, place: usize) -> u32 {
        self.lines(Some(place)).map_or(0, |lines| lines.count)
    }

    /// Places ever needed at once: the bound of this queue's memory.
    #[cfg(test)]
    pub(crate) const fn places(&self) -> usize {
        self.slots.len()
    }

    /// The earliest deadline of all.
    pub(crate) fn earliest_deadline(&self) -> Time {
        self.deadlines
            .first()
            .map_or(Time::NEVER, |(deadline, _)| deadline)
    }

    /// Lets a waiter join the end of its class.
    pub(crate) fn push(&mut self, mut waiter: Waiter) -> WaiterKey {
        self.arrivals += 1;
        let generation = self.arrivals;
        let index = self.free.pop().unwrap_or(self.slots.len());
        let patient = u32::from(waiter.patient);
        let lines = self.lines_mut(waiter.place);
        (lines.count, lines.patient) = (lines.count + 1, lines.patient + patient);
        let line = lines.of(waiter.priority);
        (waiter.arrival_number, waiter.before) = (generation, line.last);
        let last = std::mem::replace(&mut line.last, index);
        if last == NONE {
            line.first = index;
        }
        (self.count, self.patient) = (self.count + 1, self.patient + patient);
        self.deadlines.insert(index, waiter.deadline);
        match self.slots.get_mut(index) {
            Some(slot) => *slot = Some(waiter),
            None => self.slots.push(Some(waiter)),
        }
        if let Some(last) = self.at_mut(last) {
            last.after = index;
        }
        WaiterKey { index, generation }
    }

    /// Takes a waiter out, wherever it stands. `None` if it has gone already.
    pub(crate) fn remove(&mut self, key: WaiterKey) -> Option<Waiter> {
        let waiter = self
            .at(key.index)
            .filter(|waiter| waiter.arrival_number == key.generation)?;
        let (before, after, class, place) = (waiter.before, waiter.after, waiter.priority, waiter.place);
        match self.at_mut(before) {
            Some(other) => other.after = after,
            None => self.lines_mut(place).of(class).first = after,
        }
        match self.at_mut(after) {
            Some(other) => other.before = before,
            None => self.lines_mut(place).of(class).last = before,
        }
        let waiter = self.slots.get_mut(key.index)?.take()?;
        self.free.push(key.index);
        self.deadlines.remove(key.index);
        let patient = u32::from(waiter.patient);
        let lines = self.lines_mut(place);
        (lines.count, lines.patient) = (lines.count - 1, lines.patient - patient);
        (self.count, self.patient) = (self.count - 1, self.patient - patient);
        Some(waiter)
    }

    /// Who is served next by a session of this endpoint. It suffices to look at the first of each class: nobody
    /// behind has waited longer.
    pub(crate) fn best_for(&self, place: usize, now: Time, ageing: Duration) -> Option<WaiterKey> {
        let firsts = self.anywhere.firsts().into_iter();
        match self.lines(Some(place)).filter(|lines| lines.count > 0) {
            // The usual case: nobody asks for one endpoint.
            None => self.best_among(firsts, now, ageing),
            Some(those) => self.best_among(firsts.chain(those.firsts()), now, ageing),
        }
    }

    /// Anybody, those first who would be served first if any session would do for them.
    pub(crate) fn best(&self, now: Time, ageing: Duration) -> Option<WaiterKey> {
        self.best_among(self.all_lines().flat_map(Lines::firsts), now, ageing)
    }

    /// Anybody who takes none but this endpoint's sessions.
    pub(crate) fn any_asking_for(&self, place: usize) -> Option<WaiterKey> {
        let firsts = self.lines(Some(place))?.firsts();
        let first = firsts.into_iter().find(|first| *first != NONE);
        first.map(|index| self.key(index))
    }

    fn best_among(
        &self,
        firsts: impl Iterator<Item = usize> + Clone,
        now: Time,
        ageing: Duration,
    ) -> Option<WaiterKey> {
        let firsts = firsts.filter(|first| *first != NONE);
        let mut few = firsts.clone();
        let best = match (few.next(), few.next()) {
            // The usual case: everybody is in one class, and nobody's age matters.
            (only, None) => only,
            (_, Some(_)) => self.best_of(firsts, now, ageing),
        };
        best.map(|index| self.key(index))
    }

    /// One whose deadline has passed.
    #[inline]
    pub(crate) fn overdue(&self, now: Time) -> Option<WaiterKey> {
        let (deadline, index) = self.deadlines.first()?;
        (deadline <= now).then(|| self.key(index))
    }

    /// When the one came who has waited longest of those who ask for this endpoint, or of those who take any.
    pub(crate) fn oldest_arrival(&self, place: Option<usize>) -> Option<Time> {
        let firsts = self.lines(place)?.firsts();
        let arrived = firsts.iter().filter_map(|first| Some(self.at(*first)?.arrived));
        arrived.min()
    }

    /// The only endpoint that somebody takes a session of.
    pub(crate) fn asks_for(&self, key: WaiterKey) -> Option<usize> {
        self.at(key.index)?.place
    }

    /// Everybody, in the order in which they would be served at `now`, if any session would do for them.
    pub(crate) fn in_order(&self, now: Time, ageing: Duration) -> impl Iterator<Item = &Waiter> {
        let mut cursors: Vec<_> = self.all_lines().flat_map(Lines::firsts).collect();
        std::iter::from_fn(move || {
            let index = self.best_of(cursors.iter().copied(), now, ageing)?;
            let waiter = self.at(index)?;
            for cursor in &mut cursors {
                if *cursor == index {
                    *cursor = waiter.after;
                }
            }
            Some(waiter)
        })
    }

    /// One who will not wait for a session to come free.
    pub(crate) fn impatient(&self) -> Option<WaiterKey> {
        if self.patient == self.count {
            return None;
        }
        let found = self
            .slots
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|waiter| !waiter.patient));
        found.map(|index| self.key(index))
    }

    fn best_of(&self, candidates: impl Iterator<Item = usize>, now: Time, ageing: Duration) -> Option<usize> {
        let mut best: Option<(usize, Priority, u64)> = None;
        for index in candidates {
            let Some(waiter) = self.at(index) else { continue };
            let (class, number) = (waiter.effective(now, ageing), waiter.arrival_number);
            let better = best.is_none_or(|(_, other, other_number)| {
                class > other || (class == other && number < other_number)
            });
            if better {
                best = Some((index, class, number));
            }
        }
        best.map(|(index, _, _)| index)
    }

    fn lines(&self, place: Option<usize>) -> Option<&Lines> {
        match place {
            None => Some(&self.anywhere),
            Some(place) => self.places.get(place),
        }
    }

    fn lines_mut(&mut self, place: Option<usize>) -> &mut Lines {
        let Some(place) = place else {
            return &mut self.anywhere;
        };
        if self.places.len() <= place {
            self.places.resize(place + 1, Lines::EMPTY);
        }
        // It was just made sure that it is there.
        self.places.get_mut(place).unwrap_or(&mut self.anywhere)
    }

    fn all_lines(&self) -> impl Iterator<Item = &Lines> + Clone {
        std::iter::once(&self.anywhere).chain(&self.places)
    }

    fn key(&self, index: usize) -> WaiterKey {
        let generation = self.at(index).map_or(0, |waiter| waiter.arrival_number);
        WaiterKey { index, generation }
    }

    fn at(&self, index: usize) -> Option<&Waiter> {
        self.slots.get(index)?.as_ref()
    }

    fn at_mut(&mut self, index: usize) -> Option<&mut Waiter> {
        self.slots.get_mut(index)?.as_mut()
    }
}
