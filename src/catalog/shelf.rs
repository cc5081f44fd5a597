//! The definitions in force, by name.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
    sync::Arc,
};

use parking_lot::Mutex;
use prost_types::Timestamp;
use tokio::sync::watch;

use crate::{
    proto::{Pool, PoolSpec, PoolState},
    store::PoolRow,
};

/// One definition.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) spec: PoolSpec,
    pub(super) revision: i64,
    pub(super) create_time_us: i64,
    pub(super) update_time_us: i64,
    pub(super) phase: Phase,
}

/// What became of a definition.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Its pool runs. Exits: `Draining`.
    Serving,
    /// It is stored, but not valid for this version, and has no pool. Exits: `Serving` by an update, `Draining`.
    Invalid,
    /// It is no longer stored; its pool ends. The receiver hears when it is gone, and the entry with it.
    Draining(watch::Receiver<()>),
}

impl Entry {
    pub(super) fn new(row: &PoolRow, spec: PoolSpec, phase: Phase) -> Self {
        Self {
            spec,
            revision: row.revision,
            create_time_us: row.create_time_us,
            update_time_us: row.update_time_us,
            phase,
        }
    }

    /// Other than that of any other revision, and of any other pool that once had the name.
    pub(super) fn etag(&self) -> String {
        format!("{:x}-{:x}", self.create_time_us, self.revision)
    }

    pub(super) fn pool(&self, name: &str, paused: bool) -> Pool {
        let state = match self.phase {
            Phase::Serving if paused => PoolState::Paused,
            Phase::Serving => PoolState::Active,
            Phase::Invalid => PoolState::Invalid,
            Phase::Draining(_) => PoolState::Draining,
        };
        Pool {
            name: name.to_owned(),
            spec: Some(self.spec.clone()),
            etag: self.etag(),
            state: state.into(),
            create_time: Some(timestamp(self.create_time_us)),
            update_time: Some(timestamp(self.update_time_us)),
        }
    }
}

fn timestamp(micros: i64) -> Timestamp {
    let nanos = micros.rem_euclid(1_000_000) * 1000;
    Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // Below a billion, so it always fits.
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

/// Every definition. Its lock is held for look-ups and single changes only.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    entries: BTreeMap<Arc<str>, Entry>,
    unsettled: HashSet<String>,
}

impl Shelf {
    pub(super) fn get(&self, name: &str) -> Option<Entry> {
        self.0.lock().entries.get(name).cloned()
    }

    pub(super) fn put(&self, name: &str, entry: Entry) {
        self.0.lock().entries.insert(name.into(), entry);
    }

    pub(super) fn remove(&self, name: &str) {
        self.0.lock().entries.remove(name);
    }

    /// Entries after a name, in order.
    pub(super) fn after(&self, name: &str, at_most: usize) -> Vec<(Arc<str>, Entry)> {
        let books = self.0.lock();
        let range = (Bound::Excluded(name), Bound::Unbounded);
        let after = books.entries.range::<str, _>(range);
        after
            .take(at_most)
            .map(|(name, entry)| (Arc::clone(name), entry.clone()))
            .collect()
    }

    /// Reserves a name until [`Shelf::settle`]: the store has not said what became of a change.
    pub(super) fn unsettle(&self, name: &str) {
        self.0.lock().unsettled.insert(name.to_owned());
    }

    pub(super) fn settle(&self, name: &str) {
        self.0.lock().unsettled.remove(name);
    }

    pub(super) fn is_unsettled(&self, name: &str) -> bool {
        self.0.lock().unsettled.contains(name)
    }
}
