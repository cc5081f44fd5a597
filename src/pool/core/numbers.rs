//! Fence numbers: none is given twice, and each is above those given before.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bits of a number that count grants; the boot number is above them, so that fences rise over restarts.
const GRANT_BITS: u32 = 40;

/// The last number given.
#[derive(Debug)]
pub(crate) enum Numbers {
    /// Of a pool alone: its lock suffices, and a grant costs nothing more.
    Own(u64),
    /// Of a pool and those beside it, which have a lock each. Only the number itself counts, so no other memory has to
    /// be ordered by it.
    Shared(Arc<AtomicU64>),
}

impl Numbers {
    /// For a pool alone.
    pub(crate) fn of_boot(boot: u32) -> Self {
        Self::Own(first(boot))
    }

    /// Another for the same numbers: neither is ever given one of the other's.
    pub(crate) fn share(&mut self) -> Self {
        let last = match self {
            Self::Own(last) => Arc::new(AtomicU64::new(*last)),
            Self::Shared(last) => Arc::clone(last),
        };
        *self = Self::Shared(Arc::clone(&last));
        Self::Shared(last)
    }

    pub(crate) fn next(&mut self) -> u64 {
        match self {
            Self::Own(last) => {
                *last += 1;
                *last
            }
            Self::Shared(last) => last.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }
}

fn first(boot: u32) -> u64 {
    u64::from(boot) << GRANT_BITS
}
