//! Pauses between questions to a box.

use std::time::Duration;

use super::place::ASK_EVERY;
use crate::clock::Clock;

/// The longest pause: the box's queue, which is asked for, holds the whole workflow of all that wait.
const ASK_AT_LEAST: Duration = Duration::from_secs(2);

/// Pauses that grow, for what is soon over or takes long.
#[derive(Debug)]
pub(super) struct Pace(Duration);

impl Pace {
    pub(super) const fn new() -> Self {
        Self(ASK_EVERY)
    }

    /// Waits for the next question's time. Dropped, the next pause is the longer one all the same.
    pub(super) async fn pause(&mut self, clock: &Clock) {
        let until = clock.now() + self.0;
        self.0 = (self.0 * 2).min(ASK_AT_LEAST);
        clock.sleep_until(until).await;
    }
}
