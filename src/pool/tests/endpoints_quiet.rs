//! Endpoints that say how much work of others waits there: one with less to do is worth the check of its session.

use super::{
    endpoints::{boxes, place_of, take_at},
    scene::{Stage, grants, probes},
    scripted::SECOND,
};
use crate::pool::{
    HealthSettings, Priority, Settings,
    core::{Grant, Reply, SessionKey},
};

/// A session at each of two endpoints: `a`'s has just come free, and others' work waits there; `b`'s has to be checked,
/// and nothing waits.
fn stage() -> Stage {
    let mut stage = Stage::new(Settings {
        health: Some(HealthSettings::default()),
        ..boxes(2, &[("a", Some(1)), ("b", Some(1))])
    });
    stage.open(2);
    stage.tick(SECOND / 2);
    let grant = take_at(&mut stage, 0);
    stage.tick(SECOND);
    stage.give(grant);
    stage.actions();
    stage.core.set_load(stage.now, 0, 50);
    stage
}

fn checked(stage: &mut Stage) -> SessionKey {
    let probed = probes(&stage.actions());
    assert_eq!(probed.len(), 1);
    assert_eq!(place_of(stage, probed[0]), 1);
    probed[0]
}

fn served(stage: &mut Stage) -> Grant {
    let granted = grants(&stage.actions());
    assert_eq!(granted.len(), 1);
    granted[0].1
}

#[test]
fn a_session_of_an_endpoint_with_less_to_do_is_checked_first() {
    let mut stage = stage();
    stage.queue();
    let session = checked(&mut stage);
    stage.core.probed(stage.now, session, true);
    assert_eq!(served(&mut stage).session, session);
    assert_eq!(stage.core.stats().idle, 1);
}

#[test]
fn a_check_that_fails_costs_nobody_the_session_that_is_there() {
    let mut stage = stage();
    stage.queue();
    let session = checked(&mut stage);
    stage.core.probed(stage.now, session, false);
    let granted = served(&mut stage);
    assert_eq!(place_of(&stage, granted.session), 0);
}

#[test]
fn who_comes_while_another_is_waited_for_gets_what_is_left() {
    let mut stage = stage();
    stage.queue();
    let session = checked(&mut stage);
    stage.queue();
    // Who came first is served first.
    let first = served(&mut stage);
    assert_eq!(place_of(&stage, first.session), 0);
    stage.core.probed(stage.now, session, true);
    assert_eq!(served(&mut stage).session, session);
}

#[test]
fn who_does_not_wait_or_asks_for_it_gets_a_session_at_once() {
    let mut stage = stage();
    let Reply::Granted(grant) = stage.ask_as(Priority::Normal, false) else {
        panic!("one is free")
    };
    assert_eq!(place_of(&stage, grant.session), 0);
    stage.give(grant);
    stage.actions();
    take_at(&mut stage, 0);
}

#[test]
fn who_asks_for_an_endpoint_is_not_kept_from_it_by_another_check() {
    let mut stage = stage();
    stage.queue();
    checked(&mut stage);
    let Reply::Waiting(_) = stage.ask_at(0) else {
        panic!("somebody is before it")
    };
    let first = served(&mut stage);
    assert_eq!(place_of(&stage, first.session), 0);
    assert_eq!(stage.core.stats().waiters, 1);
}

#[test]
fn as_much_work_elsewhere_is_no_reason_to_wait() {
    let mut stage = stage();
    stage.core.set_load(stage.now, 1, 50);
    let grant = stage.take();
    assert_eq!(place_of(&stage, grant.session), 0);
}
