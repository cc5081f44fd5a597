//! Several endpoints: who is dialed, and who gets which session.

use std::sync::Arc;

use super::{
    scene::{Stage, closes, dials, grants, probes},
    scripted::{SECOND, sized},
};
use crate::pool::{
    EndpointSettings, HealthSettings, Refusal, Settings,
    core::{Action, Grant, Reply, SessionKey, SessionState},
};

pub(super) fn endpoints(limits: &[(&str, Option<u32>)]) -> Vec<EndpointSettings> {
    let endpoint = |(name, max_sessions): &(&str, Option<u32>)| EndpointSettings {
        name: Arc::from(*name),
        address: Arc::from(format!("{name}:1")),
        max_sessions: *max_sessions,
    };
    limits.iter().map(endpoint).collect()
}

pub(super) fn boxes(max_sessions: u32, limits: &[(&str, Option<u32>)]) -> Settings {
    Settings {
        endpoints: endpoints(limits),
        ..sized(max_sessions)
    }
}

pub(super) fn stage(max_sessions: u32, limits: &[(&str, Option<u32>)]) -> Stage {
    Stage::new(boxes(max_sessions, limits))
}

/// Where the dials go.
pub(super) fn dialed_at(actions: &[Action]) -> Vec<usize> {
    let found = actions.iter().filter_map(|action| match action {
        Action::Dial { place, .. } => Some(*place),
        Action::Grant { .. }
        | Action::Refuse { .. }
        | Action::Probe(_)
        | Action::Restore { .. }
        | Action::Close(_) => None,
    });
    found.collect()
}

pub(super) fn place_of(stage: &Stage, key: SessionKey) -> usize {
    let found = stage.core.sessions().find(|(other, _)| *other == key);
    found.expect("it is there").1.place()
}

/// Asks for one endpoint, and is served at once.
pub(super) fn take_at(stage: &mut Stage, place: usize) -> Grant {
    match stage.ask_at(place) {
        Reply::Granted(grant) => grant,
        other @ (Reply::Waiting(_) | Reply::Refused(_)) => panic!("expected a grant: {other:?}"),
    }
}

#[test]
fn no_endpoint_ever_has_more_than_its_own_limit() {
    let mut stage = stage(10, &[("a", Some(1)), ("b", Some(2))]);
    assert_eq!(stage.core.cap(), 3, "together they have less than the pool may");
    for _ in 0..5 {
        stage.queue();
    }
    let mut places = Vec::new();
    loop {
        let actions = stage.actions();
        let new = dials(&actions);
        if new.is_empty() {
            break;
        }
        places.extend(dialed_at(&actions));
        for key in new {
            stage.core.dialed(stage.now, key);
        }
    }
    places.sort_unstable();
    assert_eq!(places, [0, 1, 1]);
    assert_eq!(stage.core.stats().waiters, 2);
}

#[test]
fn sessions_are_spread_and_the_idlest_endpoint_serves_first() {
    let mut stage = stage(6, &[("a", Some(2)), ("b", Some(2)), ("c", Some(2))]);
    stage.open(6);
    let grants: Vec<_> = (0..6).map(|_| stage.take()).collect();
    let places: Vec<_> = grants
        .iter()
        .map(|grant| place_of(&stage, grant.session))
        .collect();
    for chunk in places.chunks(3) {
        let mut chunk = chunk.to_vec();
        chunk.sort_unstable();
        assert_eq!(chunk, [0, 1, 2], "each once before any twice");
    }
}

#[test]
fn endpoint_that_says_it_has_work_of_others_comes_last() {
    let mut stage = stage(2, &[("a", Some(1)), ("b", Some(1))]);
    stage.open(2);
    for (busy, idle) in [(0, 1), (1, 0)] {
        stage.core.set_load(stage.now, busy, 3);
        stage.core.set_load(stage.now, idle, 0);
        let grant = stage.take();
        assert_eq!(place_of(&stage, grant.session), idle);
        stage.give(grant);
        stage.actions();
    }
}

#[test]
fn who_asks_for_an_endpoint_gets_its_session_and_no_other() {
    let mut stage = stage(2, &[("a", Some(1)), ("b", Some(1))]);
    stage.open(2);
    let first = take_at(&mut stage, 1);
    assert_eq!(place_of(&stage, first.session), 1);
    let Reply::Waiting(_) = stage.ask_at(1) else {
        panic!("b is used up, and a will not do")
    };
    // Who takes any is not held up by one who waits for another endpoint.
    let other = stage.take();
    assert_eq!(place_of(&stage, other.session), 0);
    stage.give(other);
    assert!(
        grants(&stage.actions()).is_empty(),
        "a's session is of no use to who waits for b"
    );
    stage.give(first);
    let given = grants(&stage.actions());
    assert_eq!((given.len(), given[0].1.session), (1, first.session));
}

#[test]
fn those_who_take_any_and_those_who_ask_for_one_are_served_in_the_order_they_came() {
    let mut stage = stage(1, &[("a", Some(1)), ("b", Some(1))]);
    let held = {
        stage.open(1);
        stage.take()
    };
    let place = place_of(&stage, held.session);
    let (any, one) = (stage.queue(), stage.ask_at(place));
    assert!(matches!(one, Reply::Waiting(_)) && any != stage.queue());
    let mut order = Vec::new();
    stage.give(held);
    for _ in 0..3 {
        let (tag, grant) = grants(&stage.actions())[0];
        order.push(tag);
        stage.give(grant);
    }
    order.dedup();
    assert!(order.is_sorted() && order.len() == 3, "{order:?}");
}

#[test]
fn room_that_was_made_goes_to_who_asked_for_it() {
    for min_sessions in [0, 3] {
        let mut stage = Stage::new(Settings {
            min_sessions,
            ..boxes(3, &[("a", Some(3)), ("b", Some(3))])
        });
        stage.open(3);
        let held = [take_at(&mut stage, 0), take_at(&mut stage, 1)];
        let idle = stage
            .core
            .sessions()
            .find(|(_, record)| record.state() == SessionState::Idle);
        let (idle, place) = idle
            .map(|(key, record)| (key, record.place()))
            .expect("one is left");
        let Reply::Waiting(_) = stage.ask_at(1 - place) else {
            panic!("the one there is held")
        };
        stage.later(SECOND);
        stage.core.tick(stage.now);
        assert_eq!(closes(&stage.actions()), [idle]);
        stage.core.closed(stage.now, idle);
        let actions = stage.actions();
        assert_eq!(dialed_at(&actions), [1 - place]);
        stage.core.dialed(stage.now, dials(&actions)[0]);
        let actions = stage.actions();
        assert_eq!((grants(&actions).len(), closes(&actions).len()), (1, 0));
        assert_eq!(held.len(), 2);
    }
}

#[test]
fn session_that_comes_free_goes_to_make_room_for_who_is_first_in_line() {
    let mut stage = stage(1, &[("a", Some(1)), ("b", Some(1))]);
    stage.open(1);
    let held = stage.take();
    let place = place_of(&stage, held.session);
    let Reply::Waiting(_) = stage.ask_at(1 - place) else {
        panic!("it is not open")
    };
    stage.queue();
    stage.give(held);
    let actions = stage.actions();
    assert_eq!(closes(&actions), [held.session], "nobody passes who came first");
    stage.core.closed(stage.now, held.session);
    assert_eq!(dialed_at(&stage.actions()), [1 - place]);
}

#[test]
fn lowered_limit_of_one_endpoint_leaves_the_others_theirs() {
    let mut stage = stage(4, &[("a", Some(2)), ("b", Some(2))]);
    stage.open(4);
    let held: Vec<_> = [0, 0, 1, 1].map(|place| take_at(&mut stage, place)).into();
    stage
        .core
        .reconfigure(stage.now, boxes(4, &[("a", Some(1)), ("b", Some(2))]), false);
    stage.give(held[2]);
    assert!(closes(&stage.actions()).is_empty());
    stage.give(held[0]);
    assert_eq!(closes(&stage.actions()), [held[0].session]);
}

#[test]
fn probe_of_one_endpoint_holds_up_nobody_who_asks_for_another() {
    let mut stage = Stage::new(Settings {
        health: Some(HealthSettings::default()),
        ..boxes(2, &[("a", Some(1)), ("b", Some(1))])
    });
    stage.open(2);
    stage.later(SECOND * 2);
    let first = stage.queue();
    let probed = probes(&stage.actions());
    let place = place_of(&stage, probed[0]);
    stage.core.cancel(first);
    let Reply::Waiting(_) = stage.ask_at(1 - place) else {
        panic!("it is stale")
    };
    let probed = probes(&stage.actions());
    assert_eq!(probed.len(), 1);
    assert_eq!(place_of(&stage, probed[0]), 1 - place);
}

#[test]
fn full_pool_gives_up_an_idle_session_for_who_asks_for_another_endpoint() {
    let mut stage = stage(1, &[("a", Some(1)), ("b", Some(1))]);
    stage.open(1);
    let there = stage.core.sessions().next().expect("one is open").1.place();
    let Reply::Waiting(_) = stage.ask_at(1 - there) else {
        panic!("it is not open")
    };
    let closing = closes(&stage.actions());
    assert_eq!(closing.len(), 1);
    stage.core.closed(stage.now, closing[0]);
    let actions = stage.actions();
    assert_eq!(dialed_at(&actions), [1 - there]);
    stage.core.dialed(stage.now, dials(&actions)[0]);
    assert_eq!(grants(&stage.actions()).len(), 1);
}

#[test]
fn endpoint_taken_out_of_the_definition_closes_as_its_sessions_come_free() {
    let mut stage = stage(2, &[("a", Some(1)), ("b", Some(1))]);
    stage.open(2);
    let (at_a, at_b) = (take_at(&mut stage, 0), take_at(&mut stage, 1));
    let Reply::Waiting(_) = stage.ask_at(0) else {
        panic!("a is used up")
    };
    stage
        .core
        .reconfigure(stage.now, boxes(2, &[("b", Some(1)), ("c", Some(1))]), false);
    let actions = stage.actions();
    assert!(
        actions.iter().any(|action| matches!(
            action,
            Action::Refuse {
                refusal: Refusal::NoSuchEndpoint,
                ..
            }
        )),
        "{actions:?}"
    );
    assert!(stage.core.place_named("a").is_none() && stage.core.place_named("b") == Some(1));
    stage.give(at_a);
    let closing = closes(&stage.actions());
    assert_eq!(closing, [at_a.session]);
    stage.core.closed(stage.now, at_a.session);
    stage.give(at_b);
    assert!(closes(&stage.actions()).is_empty(), "b is as before");
}

#[test]
fn new_backend_at_the_same_address_counts_the_old_sessions_against_its_limit() {
    let boxes = || boxes(4, &[("a", Some(1)), ("b", Some(1))]);
    let mut stage = Stage::new(boxes());
    stage.open(2);
    let held = take_at(&mut stage, 0);
    stage.core.reconfigure(stage.now, boxes(), true);
    stage.actions();
    let Reply::Waiting(_) = stage.ask_at(0) else {
        panic!("it is held")
    };
    assert!(
        dials(&stage.actions()).is_empty(),
        "the box has one place, and it is taken"
    );
    stage.give(held);
    let closing = closes(&stage.actions());
    assert!(dials(&stage.actions()).is_empty(), "closing counts");
    stage.core.closed(stage.now, closing[0]);
    assert_eq!(dialed_at(&stage.actions()), [0]);
}

#[test]
fn stale_sessions_are_probed_where_there_is_the_least_to_do() {
    let mut stage = Stage::new(Settings {
        health: Some(HealthSettings::default()),
        ..boxes(2, &[("a", Some(1)), ("b", Some(1))])
    });
    stage.open(2);
    stage.tick(SECOND * 2);
    stage.core.set_load(stage.now, 0, 2);
    let Reply::Waiting(_) = stage.ask() else {
        panic!("both are stale")
    };
    let probed = probes(&stage.actions());
    assert_eq!(probed.len(), 1);
    assert_eq!(place_of(&stage, probed[0]), 1);
}

#[test]
fn dials_at_all_endpoints_together_are_as_many_as_the_pool_allows() {
    for (max_dialing, most) in [(1, 1), (2, 2), (4, 3)] {
        let mut stage = Stage::new(Settings {
            max_dialing,
            ..boxes(9, &[("a", Some(3)), ("b", Some(3)), ("c", Some(3))])
        });
        for _ in 0..9 {
            stage.queue();
        }
        // Each that is untried gets one dial, to see whether it can be reached.
        let mut dialing = dials(&stage.actions());
        assert_eq!(dialing.len(), most, "{max_dialing} at once");
        while let Some(key) = dialing.pop() {
            stage.core.dialed(stage.now, key);
            dialing.extend(dials(&stage.actions()));
            let limit = usize::try_from(max_dialing).expect("it is small");
            assert!(dialing.len() <= limit, "{} for {max_dialing}", dialing.len());
        }
        assert_eq!(stage.core.stats().total, 9);
    }
}
