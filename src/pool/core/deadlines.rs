//! A binary heap of deadlines that knows where each entry is, so that one can be taken out without leaving a
//! tombstone. Adding the latest deadline, the usual case, costs one comparison.

use crate::clock::Time;

/// Deadlines of numbered entries, each at most once.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: Vec<(Time, usize)>,
    /// Where an entry is in the heap.
    places: Vec<usize>,
}

impl Deadlines {
    /// The earliest deadline and whose it is.
    pub(crate) fn first(&self) -> Option<(Time, usize)> {
        self.heap.first().copied()
    }

    /// Adds an entry that is not there yet.
    pub(crate) fn insert(&mut self, entry: usize, deadline: Time) {
        if self.places.len() <= entry {
            self.places.resize(entry + 1, 0);
        }
        self.heap.push((deadline, entry));
        self.note(self.heap.len() - 1);
        self.rise(self.heap.len() - 1);
    }

    /// Takes an entry out. No-op if it is not there.
    pub(crate) fn remove(&mut self, entry: usize) {
        let Some(&place) = self.places.get(entry) else {
            return;
        };
        if self.heap.get(place).is_none_or(|found| found.1 != entry) {
            return;
        }
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.note(place);
            let place = self.rise(place);
            self.sink(place);
        }
    }

    fn time(&self, place: usize) -> Option<Time> {
        self.heap.get(place).map(|entry| entry.0)
    }

    fn note(&mut self, place: usize) {
        if let Some(entry) = self.heap.get(place)
            && let Some(noted) = self.places.get_mut(entry.1)
        {
            *noted = place;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note(a);
        self.note(b);
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.time(parent) <= self.time(place) {
                break;
            }
            self.swap(parent, place);
            place = parent;
        }
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let Some(mut least) = self.time(left) else { return };
            let mut child = left;
            if let Some(time) = self.time(right).filter(|time| *time < least) {
                (least, child) = (time, right);
            }
            if self.time(place).is_none_or(|time| time <= least) {
                return;
            }
            self.swap(place, child);
            place = child;
        }
    }
}
