//! Who may wait: some for sessions that others hold, and beside them those whose session is on its way or has a place.

use super::scene::{Stage, dials, grants};
use super::scripted::{SECOND, sized};
use crate::{
    backend::DialErrorKind,
    pool::{Refusal, Settings},
};

const FULL: Refusal = Refusal::QueueFull { limit: 0 };

/// A pool in which nobody waits for a session that somebody has.
fn queueless(sessions: u32) -> Stage {
    Stage::new(Settings {
        max_waiters: 0,
        ..sized(sessions)
    })
}

#[test]
fn a_pool_without_a_queue_opens_every_session_it_may_and_refuses_the_next_caller() {
    let mut stage = queueless(3);
    for _ in 0..3 {
        stage.queue();
    }
    assert_eq!(stage.refused(), FULL);
    let mut granted = Vec::new();
    loop {
        let actions = stage.actions();
        granted.extend(grants(&actions));
        let dials = dials(&actions);
        if dials.is_empty() {
            break;
        }
        for key in dials {
            stage.core.dialed(stage.now, key);
        }
    }
    assert_eq!(granted.len(), 3);
    assert_eq!(stage.refused(), FULL, "every session is held");
    stage.give(granted[0].1);
    stage.take();
}

#[test]
fn a_pool_without_a_queue_tries_a_failing_backend_again_for_one_caller_at_a_time() {
    let mut stage = queueless(3);
    stage.queue();
    let first = dials(&stage.actions());
    stage.dial_fails(first[0], DialErrorKind::Transient);
    assert_eq!(
        stage.refused(),
        FULL,
        "the one before still waits for the next dial"
    );
    assert_eq!(dials(&stage.tick(SECOND * 61)).len(), 0, "it has gone");
    stage.queue();
    assert_eq!(dials(&stage.actions()).len(), 1);
    assert_eq!(stage.refused(), FULL);
}

#[test]
fn a_paused_pool_without_a_queue_lets_nobody_wait() {
    let mut stage = queueless(3);
    stage.core.pause(stage.now);
    assert_eq!(stage.refused(), FULL);
}
