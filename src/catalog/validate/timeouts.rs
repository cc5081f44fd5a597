//! How long things may take.

use super::range::{DAY, HOUR, MS, SECOND, duration};
use crate::{broker::Policy, error::Faults, pool::Settings, proto::Timeouts};

pub(super) fn check(given: Timeouts, settings: &mut Settings, policy: &mut Policy, faults: &mut Faults) {
    faults.within("timeouts", |faults| {
        let mut set = |target: &mut _, given, field, range| {
            if let Some(span) = duration(given, field, range, faults) {
                *target = span;
            }
        };
        set(&mut settings.connect, given.connect, "connect", MS..=DAY);
        set(&mut policy.acquire, given.acquire, "acquire", MS..=HOUR);
        set(&mut policy.execute, given.execute, "execute", MS..=DAY);
        set(&mut policy.stall, given.stall, "stall", MS..=DAY);
        set(&mut settings.idle, given.idle, "idle", MS..=DAY);
        set(
            &mut settings.max_lifetime,
            given.max_lifetime,
            "max_lifetime",
            SECOND..=DAY,
        );
        set(&mut settings.reset, given.reset, "reset", MS..=DAY);
        set(&mut settings.close, given.close, "close", MS..=DAY);
    });
}
