//! What the pool has learned about the time that dialing and holding take.

use crate::clock::Time;

/// A moving average: each new measurement counts for a fifth.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Average(Option<u64>);

impl Average {
    pub(crate) fn note(&mut self, new: u64) {
        self.0 = Some(self.0.map_or(new, |old| old - old / 5 + new / 5));
    }

    /// The average in nanoseconds, zero before the first measurement.
    pub(crate) fn nanos(self) -> u64 {
        self.0.unwrap_or(0)
    }
}

/// The state of dialing.
#[derive(Debug)]
pub(crate) struct Dialing {
    pub(crate) dial: Average,
    pub(crate) hold: Average,
    /// When the gate has to be looked at again.
    pub(crate) wake_at: Time,
}

impl Dialing {
    pub(crate) const fn new() -> Self {
        Self {
            dial: Average(None),
            hold: Average(None),
            wake_at: Time::NEVER,
        }
    }

    /// Forgets how long a dial takes: the backend is another one now.
    pub(crate) const fn forget(&mut self) {
        self.dial = Average(None);
        self.wake_at = Time::NEVER;
    }
}
