//! Monotonic time as plain numbers, so that cores can be given any time, and the one place that reads real clocks.

use std::{
    fmt,
    ops::Add,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// A moment: nanoseconds since the clock was made. Never wall time, so that a clock set back or forth moves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The moment the clock was made.
    pub const ZERO: Self = Self(0);
    /// A moment that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `nanos` nanoseconds after the clock was made.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock was made.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`, or zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// As [`Time::since`], in nanoseconds.
    #[must_use]
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Saturates at [`Time::NEVER`].
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

/// A span in nanoseconds, saturating after 584 years.
#[must_use]
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Where time comes from. Cheap to clone; every clone shows the same time.
#[derive(Clone)]
pub struct Clock(Arc<Source>);

struct Source {
    reading: Reading,
    started: tokio::time::Instant,
    started_wall: SystemTime,
}

enum Reading {
    /// The processor's time stamp counter: about 10 ns a reading, and there are several in every call.
    Counter(quanta::Clock, u64),
    /// Tokio's clock, which a test can pause.
    Tokio,
}

impl Clock {
    /// The clock of a running broker.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the module that reads clocks")]
    pub fn real() -> Self {
        let counter = quanta::Clock::new();
        let origin = counter.raw();
        Self::new(Reading::Counter(counter, origin))
    }

    /// A clock that follows tokio's, paused or not: for tests.
    #[must_use]
    pub fn tokio() -> Self {
        Self::new(Reading::Tokio)
    }

    #[allow(clippy::disallowed_methods, reason = "this is the module that reads clocks")]
    fn new(reading: Reading) -> Self {
        Self(Arc::new(Source {
            reading,
            started: tokio::time::Instant::now(),
            started_wall: SystemTime::now(),
        }))
    }

    /// The present moment.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the module that reads clocks")]
    pub fn now(&self) -> Time {
        match &self.0.reading {
            Reading::Counter(counter, origin) => Time(counter.delta_as_nanos(*origin, counter.raw())),
            Reading::Tokio => Time(nanos(tokio::time::Instant::now().duration_since(self.0.started))),
        }
    }

    /// A moment as wall time, for people: the wall time at start plus what has passed since.
    #[must_use]
    pub fn wall(&self, moment: Time) -> SystemTime {
        self.0.started_wall + Duration::from_nanos(moment.0)
    }

    /// Sleeps until a moment, for ever if it is [`Time::NEVER`]. May be dropped at any time.
    pub async fn sleep_until(&self, moment: Time) {
        if moment == Time::NEVER {
            return std::future::pending().await;
        }
        let left = moment.since(self.now());
        tokio::time::sleep(left).await;
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
