//! How many may wait.

use std::time::Duration;

use super::range::{HOUR, duration, number};
use crate::{error::Faults, pool::Settings, proto::Queue};

const MOST_WAITERS: u32 = 100_000;
const SHORTEST_AGEING: Duration = Duration::from_millis(100);

pub(super) fn check(given: Queue, settings: &mut Settings, faults: &mut Faults) {
    faults.within("queue", |faults| {
        if let Some(waiters) = number(given.max_waiters, "max_waiters", 0..=MOST_WAITERS, faults) {
            settings.max_waiters = waiters;
        }
        if let Some(ageing) = duration(given.ageing, "ageing", SHORTEST_AGEING..=HOUR, faults) {
            settings.ageing = ageing;
        }
    });
}
