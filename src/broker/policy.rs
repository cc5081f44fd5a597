//! What a definition says about calls and leases, with every default filled in.

use std::time::Duration;

use crate::lease::Bounds;

/// A pool's policy for calls and leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Time to wait for a session when the caller does not say.
    pub acquire: Duration,
    /// Time to run an operation when the caller does not say.
    pub execute: Duration,
    /// Time without progress from the backend after which a running operation is cancelled.
    pub stall: Duration,
    /// How long leases live.
    pub lease: Bounds,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            acquire: Duration::from_secs(30),
            execute: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            lease: Bounds::default(),
        }
    }
}
