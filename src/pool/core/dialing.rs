//! What the pool has learned about dialing: how long it takes, whether it fails, and how many sessions the backend
//! bears.

use std::time::Duration;

use super::random::Random;
use crate::{backend::DialErrorKind, clock::Time};

/// The shortest pause after a failed dial.
const BACK_OFF_MIN: u64 = 100_000_000;
/// The longest pause after a failed dial.
const BACK_OFF_MAX: u64 = 30_000_000_000;
/// How long a learned limit stands before one more session is tried.
const RAISE_AFTER: Duration = Duration::from_secs(30);

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

/// The backend cannot be reached.
#[derive(Clone, Debug)]
pub(crate) struct Failing {
    /// Whether trying again will not help until somebody changes something.
    pub(crate) permanent: bool,
    /// What the last dial met.
    pub(crate) message: String,
    /// When the next dial may start.
    pub(crate) retry_at: Time,
    delay: u64,
}

/// The state of dialing. Failing: entered by a failed dial, left by one that succeeds or a new backend.
#[derive(Debug)]
pub(crate) struct Dialing {
    pub(crate) dial: Average,
    pub(crate) hold: Average,
    pub(crate) failing: Option<Failing>,
    /// Dials at once while the backend has still to prove itself (1, 2, 4 …); none when it has.
    window: Option<u32>,
    learned: Option<u32>,
    raise_at: Time,
    /// When the gate has to be looked at again.
    pub(crate) wake_at: Time,
}

impl Dialing {
    /// An untried backend gets one dial first: if it is down, it is not met by four.
    pub(crate) const fn new() -> Self {
        Self {
            dial: Average(None),
            hold: Average(None),
            failing: None,
            window: Some(1),
            learned: None,
            raise_at: Time::NEVER,
            wake_at: Time::NEVER,
        }
    }

    /// Forgets what was learned: the backend is another one now.
    pub(crate) fn forget(&mut self) {
        *self = Self {
            hold: self.hold,
            ..Self::new()
        };
    }

    /// A dial succeeded: twice as many may run next, up to the pool's own limit.
    pub(crate) fn succeeded(&mut self, max_dialing: u32) {
        self.failing = None;
        self.window = self
            .window
            .map(|window| window.saturating_mul(2))
            .filter(|window| *window < max_dialing);
    }

    /// A dial failed; says whether it is the first to fail. `open` counts sessions there are besides it.
    pub(crate) fn failed(
        &mut self,
        now: Time,
        failure: (DialErrorKind, String),
        open: u32,
        random: &mut Random,
    ) -> bool {
        let (kind, message) = failure;
        if kind == DialErrorKind::TooMany && open > 0 {
            self.learned = Some(open);
            self.raise_at = now + RAISE_AFTER;
            return false;
        }
        let permanent = kind == DialErrorKind::Permanent;
        self.window = Some(1);
        match &mut self.failing {
            // A dial that was under way when another failed adds nothing to the pause.
            Some(failing) if now < failing.retry_at => {
                (failing.permanent, failing.message) = (permanent, message);
                false
            }
            Some(failing) => {
                failing.delay = pause(failing.delay, random);
                failing.retry_at = now + Duration::from_nanos(failing.delay);
                (failing.permanent, failing.message) = (permanent, message);
                false
            }
            none => {
                let delay = pause(BACK_OFF_MIN, random);
                let retry_at = now + Duration::from_nanos(delay);
                *none = Some(Failing {
                    permanent,
                    message,
                    retry_at,
                    delay,
                });
                true
            }
        }
    }

    /// Dials that may run at once.
    pub(crate) fn parallel(&self, max_dialing: u32) -> u32 {
        self.window.unwrap_or(max_dialing).min(max_dialing).max(1)
    }

    /// The limit that the backend taught, if it did.
    pub(crate) const fn learned(&self) -> Option<u32> {
        self.learned
    }

    /// When the learned limit is next put to the test.
    pub(crate) const fn raise_at(&self) -> Time {
        self.raise_at
    }

    /// Tries one session more than the backend took last time; forgets the limit where it reaches the pool's own.
    pub(crate) fn raise(&mut self, now: Time, limit: u32) {
        self.learned = self
            .learned
            .map(|learned| learned + 1)
            .filter(|learned| *learned < limit);
        self.raise_at = if self.learned.is_some() {
            now + RAISE_AFTER
        } else {
            Time::NEVER
        };
    }
}

/// Decorrelated jitter: anywhere between the shortest pause and three times the last one, so that brokers which
/// failed together do not come back together (Brooker, "Exponential Backoff And Jitter", 2015).
fn pause(last: u64, random: &mut Random) -> u64 {
    random
        .between(BACK_OFF_MIN, last.saturating_mul(3))
        .min(BACK_OFF_MAX)
}
