//! Endpoints that cannot be reached: what they cost the others, and how they come back.

use super::{
    endpoints::{dialed_at, stage},
    scene::{dials, grants},
    scripted::SECOND,
};
use crate::{
    backend::DialErrorKind,
    pool::{
        Refusal,
        core::{Action, Reply},
    },
};

#[test]
fn dead_endpoint_delays_nobody_and_is_tried_again_after_its_pause() {
    let mut stage = stage(4, &[("a", Some(2)), ("b", Some(2))]);
    stage.queue();
    let actions = stage.actions();
    let dead = dialed_at(&actions)[0];
    stage.dial_fails(dials(&actions)[0], DialErrorKind::Transient);
    let actions = stage.actions();
    assert_eq!(dialed_at(&actions), [1 - dead], "at once, at the other one");
    assert!(stage.core.is_serving());
    stage.core.dialed(stage.now, dials(&actions)[0]);
    assert_eq!(grants(&stage.actions()).len(), 1);
    // One more is wanted than the other one serves, so the dead one is tried, but nobody is to wait for that.
    stage.tick(SECOND * 60);
    stage.queue();
    let actions = stage.actions();
    assert_eq!(dialed_at(&actions), [1 - dead]);
    stage.queue();
    let places = dialed_at(&stage.tick(SECOND));
    assert_eq!(places, [dead]);
}

#[test]
fn endpoint_that_came_back_is_used_again_although_the_others_suffice() {
    let mut stage = stage(8, &[("a", Some(4)), ("b", Some(4))]);
    stage.queue();
    let actions = stage.actions();
    let dead = dialed_at(&actions)[0];
    stage.dial_fails(dials(&actions)[0], DialErrorKind::Transient);
    let mut held = Vec::new();
    for _ in 0..3 {
        for key in dials(&stage.actions()) {
            stage.core.dialed(stage.now, key);
        }
        held.extend(grants(&stage.actions()).into_iter().map(|(_, grant)| grant));
        if held.len() < 3 {
            stage.queue();
        }
    }
    assert_eq!(held.len(), 3);
    let Some(last) = held.pop() else {
        panic!("three are held")
    };
    stage.give(last);
    stage.later(SECOND * 31);
    stage.actions();
    // The pause has passed: what the other one does more by two is reason enough.
    stage.take();
    assert_eq!(dialed_at(&stage.actions()), [dead]);
    // While it is tried, nobody waits for that.
    stage.queue();
    let places = dialed_at(&stage.tick(SECOND));
    assert_eq!(places, [1 - dead]);
}

#[test]
fn dead_endpoints_keep_nobody_from_dialing_the_others() {
    let mut stage = stage(8, &[("a", Some(1)), ("b", Some(1)), ("c", Some(2))]);
    for place in [0, 1] {
        let Reply::Waiting(waiter) = stage.ask_at(place) else {
            panic!("nothing is open yet")
        };
        let dial = dials(&stage.actions())[0];
        stage.dial_fails(dial, DialErrorKind::Transient);
        stage.core.cancel(waiter);
    }
    stage.later(SECOND * 31);
    for place in [0, 1] {
        let Reply::Waiting(_) = stage.ask_at(place) else {
            panic!("it is tried")
        };
    }
    assert_eq!(dialed_at(&stage.actions()), [0, 1]);
    stage.queue();
    assert_eq!(dialed_at(&stage.actions()), [2]);
}

#[test]
fn permanent_fault_of_one_endpoint_refuses_only_those_who_ask_for_it() {
    let mut stage = stage(4, &[("a", Some(2)), ("b", Some(2))]);
    let Reply::Waiting(_) = stage.ask_at(0) else {
        panic!("a is not open yet")
    };
    stage.queue();
    let actions = stage.actions();
    let at_a = dialed_at(&actions).iter().position(|place| *place == 0);
    let at_a = dials(&actions)[at_a.expect("a is dialed")];
    stage.dial_fails(at_a, DialErrorKind::Permanent);
    let actions = stage.actions();
    let refused = |tag: usize| {
        let mut refused = actions
            .iter()
            .filter(|action| matches!(action, Action::Refuse { tag: other, .. } if *other == tag));
        refused.next().is_some()
    };
    assert!(refused(0) && !refused(1), "{actions:?}");
    let Reply::Refused(Refusal::Unreachable { .. }) = stage.ask_at(0) else {
        panic!("nothing will help there")
    };
    assert_eq!(stage.core.stats().waiters, 1, "b is still to come");
}
