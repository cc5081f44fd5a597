//! How long a pool lets its leases live.

use std::time::Duration;

/// The bounds of a lease's life. Defaults are those that `proto/sublet/v1/pool.proto` documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The ttl when the caller does not say.
    pub default_ttl: Duration,
    /// The shortest ttl.
    pub min_ttl: Duration,
    /// The longest ttl.
    pub max_ttl: Duration,
    /// The hard limit, whatever is renewed or runs.
    pub max_duration: Duration,
}

impl Bounds {
    /// The ttl to grant: what was asked for, clamped into the bounds, never refused.
    #[must_use]
    pub fn ttl(&self, asked: Option<Duration>) -> Duration {
        asked
            .unwrap_or(self.default_ttl)
            .max(self.min_ttl)
            .min(self.max_ttl)
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            default_ttl: Duration::from_secs(30),
            min_ttl: Duration::from_secs(5),
            max_ttl: Duration::from_secs(600),
            max_duration: Duration::from_secs(3600),
        }
    }
}
