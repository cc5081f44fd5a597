//! A heap of deadlines that knows where each entry is, so that one can be taken out without leaving a
//! tombstone. Adding the latest deadline, the usual case, costs one comparison.

use crate::clock::Time;

/// Children of an entry. Four make the heap half as deep as two, and lie side by side in memory.
const WIDTH: usize = 4;

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

    fn note(&mut self, place: usize) {
        if let Some(entry) = self.heap.get(place)
            && let Some(noted) = self.places.get_mut(entry.1)
        {
            *noted = place;
        }
    }

    fn put(&mut self, place: usize, entry: (Time, usize)) {
        if let Some(slot) = self.heap.get_mut(place) {
            *slot = entry;
        }
        if let Some(noted) = self.places.get_mut(entry.1) {
            *noted = place;
        }
    }

    /// Moves an entry towards the root as far as it belongs.
    fn rise(&mut self, mut place: usize) -> usize {
        let Some(&entry) = self.heap.get(place) else {
            return place;
        };
        let start = place;
        while place > 0 {
            let above = (place - 1) / WIDTH;
            match self.heap.get(above) {
                Some(&parent) if parent.0 > entry.0 => self.put(place, parent),
                _ => break,
            }
            place = above;
        }
        if place != start {
            self.put(place, entry);
        }
        place
    }

    /// Moves an entry away from the root as far as it belongs.
    fn sink(&mut self, mut place: usize) {
        let Some(&entry) = self.heap.get(place) else {
            return;
        };
        let start = place;
        loop {
            let first = place * WIDTH + 1;
            let below = self
                .heap
                .get(first..self.heap.len().min(first + WIDTH))
                .unwrap_or_default();
            let least = below.iter().enumerate().min_by_key(|(_, child)| child.0);
            let Some((offset, &child)) = least.filter(|(_, child)| child.0 < entry.0) else {
                break;
            };
            self.put(place, child);
            place = first + offset;
        }
        if place != start {
            self.put(place, entry);
        }
    }
}
