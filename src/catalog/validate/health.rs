//! How sessions are checked. What is switched off is looked at all the same, so that switching it on brings no
//! surprise.

use std::time::Duration;

use super::range::{DAY, MINUTE, MS, SECOND, duration};
use crate::{
    error::Faults,
    pool::{HealthSettings, Settings},
    proto::Health,
};

pub(super) fn check(given: Health, settings: &mut Settings, faults: &mut Faults) {
    faults.within("health", |faults| {
        let mut health = HealthSettings::default();
        let mut set = |target: &mut _, given, field, range| {
            if let Some(span) = duration(given, field, range, faults) {
                *target = span;
            }
        };
        set(&mut health.interval, given.interval, "interval", SECOND..=DAY);
        set(&mut health.timeout, given.timeout, "timeout", MS..=MINUTE);
        let after = Duration::ZERO..=DAY;
        set(
            &mut health.probe_after_idle,
            given.probe_after_idle,
            "probe_after_idle",
            after,
        );
        settings.health = given.enabled.unwrap_or(true).then_some(health);
    });
}
