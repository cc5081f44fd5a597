//! What reached an echo pool's backend, and what it carried out: the truth that `executed` is compared with.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use serde::Serialize;

use super::call::Call;

/// Names kept in each list; the oldest go.
const MAX_NAMES: usize = 10_000;

const NAMES: [&str; 8] = ["echo", "sleep", "fail", "stream", "set", "get", "count", "drop"];

/// The record of a pool's backend. Numbers only go up; the lists are bounded.
#[derive(Debug, Default)]
pub(super) struct Record {
    calls: [AtomicU64; NAMES.len()],
    bytes: AtomicU64,
    /// Never held while waiting; only calls with an id take it.
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    received: VecDeque<String>,
    executed: VecDeque<String>,
}

/// A record as `count` answers it.
#[derive(Debug, Serialize)]
pub(super) struct Totals {
    calls: u64,
    bytes: u64,
    operations: BTreeMap<&'static str, u64>,
    received: Vec<String>,
    executed: Vec<String>,
}

impl Record {
    /// A call has reached the backend.
    pub(super) fn received(&self, call: &Call, bytes: u64) {
        if let Some(count) = self.calls.get(index(call)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(id) = call.id() {
            note(&mut self.names.lock().received, id);
        }
    }

    /// More of a call's body has reached the backend.
    pub(super) fn more(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The backend has carried a call out.
    pub(super) fn executed(&self, id: Option<&str>) {
        if let Some(id) = id {
            note(&mut self.names.lock().executed, id);
        }
    }

    /// Everything so far.
    pub(super) fn totals(&self) -> Totals {
        let counts = self.calls.iter().map(|count| count.load(Ordering::Relaxed));
        let operations: BTreeMap<_, _> = NAMES
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .collect();
        let names = self.names.lock();
        Totals {
            calls: operations.values().sum(),
            bytes: self.bytes.load(Ordering::Relaxed),
            operations,
            received: names.received.iter().cloned().collect(),
            executed: names.executed.iter().cloned().collect(),
        }
    }
}

const fn index(call: &Call) -> usize {
    match call {
        Call::Echo => 0,
        Call::Sleep(_) => 1,
        Call::Fail(_) => 2,
        Call::Stream(_) => 3,
        Call::Set(_) => 4,
        Call::Get => 5,
        Call::Count(_) => 6,
        Call::Drop(_) => 7,
    }
}

fn note(names: &mut VecDeque<String>, id: &str) {
    if names.len() == MAX_NAMES {
        names.pop_front();
    }
    names.push_back(id.to_owned());
}
