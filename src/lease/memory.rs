//! Remembers how leases ended, for a while and up to a number.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::End;
use crate::clock::Time;

/// How long an end is remembered, as the contract promises.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Ends remembered at most, about 6 MiB: 200 leases a second for ten minutes. Beyond it the oldest go first.
const CAPACITY: usize = 120_000;

/// How leases ended.
#[derive(Debug, Default)]
pub(super) struct Memory {
    ends: HashMap<u64, End>,
    order: VecDeque<(Time, u64)>,
}

impl Memory {
    pub(super) fn remember(&mut self, now: Time, id: u64, end: End) {
        self.forget(now);
        if self.order.len() >= CAPACITY
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.ends.remove(&oldest);
        }
        self.ends.insert(id, end);
        self.order.push_back((now, id));
    }

    pub(super) fn recall(&self, id: u64) -> End {
        self.ends.get(&id).copied().unwrap_or(End::NotFound)
    }

    pub(super) fn forget(&mut self, now: Time) {
        while let Some((ended, id)) = self.order.front()
            && now.since(*ended) > REMEMBERED
        {
            self.ends.remove(id);
            self.order.pop_front();
        }
    }
}
