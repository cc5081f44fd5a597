//! Which idle session a caller gets.

use std::time::Duration;

use super::scene::{Stage, probes};
use crate::pool::Settings;

fn stage(sessions: u32) -> Stage {
    let mut stage = Stage::new(Settings {
        max_sessions: sessions,
        ..Settings::default()
    });
    stage.open(sessions);
    stage
}

#[test]
fn a_session_that_was_held_nearby_goes_first_among_the_last_few() {
    let mut stage = stage(3);
    let [here, there, elsewhere] = [1, 2, 3].map(|near| stage.take_near(near));
    for grant in [here, there, elsewhere] {
        stage.give(grant);
        stage.later(Duration::from_millis(1));
    }
    let again = stage.take_near(1);
    assert_eq!(again.session, here.session, "it is registered there");
    assert_eq!(
        stage.take_near(9).session,
        elsewhere.session,
        "else the one that came free last"
    );
}

#[test]
fn a_session_nearby_that_has_lain_idle_long_is_left_to_grow_old() {
    let mut stage = stage(9);
    let held: Vec<_> = (1..=9).map(|near| stage.take_near(near)).collect();
    for grant in &held {
        stage.give(*grant);
    }
    assert_eq!(stage.take_near(1).session, held[8].session, "eight are looked at");
}

#[test]
fn a_session_nearby_that_would_need_a_probe_does_not_make_its_caller_wait() {
    let mut stage = stage(2);
    let (near, far) = (stage.take_near(1), stage.take_near(2));
    stage.give(near);
    stage.later(Duration::from_millis(1500));
    stage.give(far);
    assert_eq!(stage.take_near(1).session, far.session);
}

#[test]
fn a_session_that_was_just_probed_is_granted_although_others_came_free_later() {
    let mut stage = stage(3);
    let held: Vec<_> = (0..3).map(|_| stage.take()).collect();
    for grant in &held {
        stage.give(*grant);
        stage.later(Duration::from_millis(100));
    }
    let mut probed = Vec::new();
    while probed.is_empty() {
        probed = probes(&stage.tick(Duration::from_secs(1)));
    }
    stage.core.probed(stage.now, probed[0], true);
    stage.actions();
    assert_eq!(
        stage.take().session,
        probed[0],
        "the one that came free last is stale"
    );
}
