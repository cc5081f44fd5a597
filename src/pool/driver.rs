//! One task for each pool: sleeps until the core's next deadline, and lets the core know that time has passed. It
//! ends when the pool is dropped, or has ended and its last session is gone.

use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::Pool;
use crate::clock::Clock;

/// Drives a pool. `alarm` is rung when a deadline became earlier than the one slept for, and when the pool goes.
pub(super) async fn drive(pool: Weak<Pool>, alarm: Arc<Notify>, clock: Clock) {
    loop {
        // The pool is not held while sleeping, or it would never be dropped.
        let Some(until) = pool.upgrade().and_then(|pool| pool.drive()) else {
            return;
        };
        tokio::select! {
            () = alarm.notified() => {}
            () = clock.sleep_until(until) => {}
        }
    }
}
