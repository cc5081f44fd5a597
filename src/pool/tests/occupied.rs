//! Endpoints whose place is not free yet.

use super::{
    endpoints::{dialed_at, stage},
    scene::{dials, grants},
    scripted::SECOND,
};
use crate::backend::DialErrorKind;

#[test]
fn occupied_place_is_tried_again_soon_however_often_and_its_endpoint_is_well() {
    let mut stage = stage(1, &[("a", Some(1))]);
    stage.queue();
    let mut actions = stage.actions();
    for _ in 0..40 {
        stage.dial_fails(dials(&actions)[0], DialErrorKind::Occupied);
        assert!(stage.core.is_serving() && !stage.core.is_failing());
        assert!(stage.actions().is_empty(), "not at once");
        actions = stage.tick(SECOND);
        assert_eq!(dials(&actions).len(), 1);
    }
    stage.core.dialed(stage.now, dials(&actions)[0]);
    assert_eq!(grants(&stage.actions()).len(), 1);
    assert_eq!(stage.core.stats().sessions_failed, 0);
}

#[test]
fn occupied_place_keeps_nobody_from_another_endpoint() {
    let mut stage = stage(4, &[("a", Some(1)), ("b", Some(1))]);
    stage.queue();
    let actions = stage.actions();
    let first = dialed_at(&actions)[0];
    stage.dial_fails(dials(&actions)[0], DialErrorKind::Occupied);
    let actions = stage.actions();
    assert_eq!(dialed_at(&actions), [1 - first], "at once");
    stage.core.dialed(stage.now, dials(&actions)[0]);
    assert_eq!(grants(&stage.actions()).len(), 1);
}
