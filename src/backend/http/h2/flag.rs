//! Something that happens once, and can be waited for by many.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Raised once, for good.
#[derive(Debug, Default)]
pub(super) struct Flag {
    up: AtomicBool,
    raised: Notify,
}

impl Flag {
    pub(super) fn raise(&self) {
        if !self.up.swap(true, Ordering::SeqCst) {
            self.raised.notify_waiters();
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    /// Returns once it is up. May be dropped at any time.
    pub(super) async fn raised(&self) {
        // Made before the look, so that nothing between look and wait is missed.
        let raised = self.raised.notified();
        if !self.is_up() {
            raised.await;
        }
    }
}
