//! A box's queue for all who wait for prompts there: one of them asks, and the others hear it.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    desk::Desk,
    queue::Queue,
    truth::{self, Standing},
};
use crate::{
    backend::CallError,
    clock::{Clock, Time},
};

/// How often a box is asked for its queue on behalf of all who wait for prompts there.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A box's queue as it was a moment ago.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<Look>);

#[derive(Debug, Default)]
struct Look {
    /// When somebody asked last: if no answer comes, it is another's turn after a while.
    asked: Option<Time>,
    told: Option<(Time, Arc<Queue>)>,
}

/// What one who waits has to do.
#[derive(Debug)]
enum Turn {
    /// Nothing: the queue is known.
    Told(Arc<Queue>),
    /// To ask.
    Ask,
    /// To come back: somebody else is asking.
    Wait,
}

impl Looks {
    /// Where a prompt stands that stood as `before` a moment ago.
    pub(super) async fn standing(
        &self,
        (clock, desk): (&Clock, &mut Desk),
        id: &str,
        before: Standing,
    ) -> Result<Standing, CallError> {
        let queue = match self.turn(clock.now()) {
            Turn::Wait => return Ok(before),
            Turn::Told(queue) => queue,
            Turn::Ask => {
                let queue = Arc::new(truth::queue(desk).await?);
                self.0.lock().told = Some((clock.now(), Arc::clone(&queue)));
                queue
            }
        };
        match queue.standing(id) {
            Some(standing) => Ok(standing),
            None => truth::standing(desk, id).await,
        }
    }

    fn turn(&self, now: Time) -> Turn {
        let mut look = self.0.lock();
        let fresh = |at: Time| now.since(at) < LOOK_EVERY;
        if let Some((_, queue)) = look.told.as_ref().filter(|(at, _)| fresh(*at)) {
            return Turn::Told(Arc::clone(queue));
        }
        if look.asked.is_some_and(fresh) {
            return Turn::Wait;
        }
        look.asked = Some(now);
        Turn::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_of_those_who_wait_asks_for_all_of_them() {
        let (looks, clock) = (Looks::default(), Clock::tokio());
        assert!(matches!(looks.turn(clock.now()), Turn::Ask));
        assert!(matches!(looks.turn(clock.now()), Turn::Wait));
        looks.0.lock().told = Some((clock.now(), Arc::default()));
        assert!(matches!(looks.turn(clock.now()), Turn::Told(_)));
        tokio::time::advance(LOOK_EVERY).await;
        assert!(matches!(looks.turn(clock.now()), Turn::Ask));
        assert!(matches!(looks.turn(clock.now()), Turn::Wait), "it is old");
        tokio::time::advance(LOOK_EVERY).await;
        assert!(
            matches!(looks.turn(clock.now()), Turn::Ask),
            "the other got no answer"
        );
    }
}
