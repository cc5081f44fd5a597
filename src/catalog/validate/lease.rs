//! How long leases live: `min_ttl <= default_ttl <= max_ttl <= max_duration`. What is left out yields to what is
//! given, so that one changed limit does not make three others necessary.

use std::time::Duration;

use super::range::{DAY, duration, spelt};
use crate::{error::Faults, lease::Bounds, proto::LeasePolicy};

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(7 * DAY.as_secs());

pub(super) fn check(given: LeasePolicy, bounds: &mut Bounds, faults: &mut Faults) {
    faults.within("lease", |faults| {
        let range = SHORTEST..=LONGEST;
        let max_duration = duration(given.max_duration, "max_duration", range.clone(), faults);
        let max_ttl = duration(given.max_ttl, "max_ttl", range.clone(), faults);
        let min_ttl = duration(given.min_ttl, "min_ttl", range.clone(), faults);
        let default_ttl = duration(given.default_ttl, "default_ttl", range, faults);

        bounds.max_duration = max_duration.unwrap_or(bounds.max_duration);
        bounds.max_ttl = max_ttl.unwrap_or(bounds.max_ttl.min(bounds.max_duration));
        bounds.min_ttl = min_ttl.unwrap_or(bounds.min_ttl.min(bounds.max_ttl));
        // Not `clamp`, which panics where the limits cross: a fault below says so.
        let between = bounds.default_ttl.min(bounds.max_ttl).max(bounds.min_ttl);
        bounds.default_ttl = default_ttl.unwrap_or(between);

        let mut at_most = |field, value, name, limit| {
            if value > limit {
                faults.add(
                    field,
                    format!("must be at most {name}, which is {}", spelt(limit)),
                );
            }
        };
        at_most("max_ttl", bounds.max_ttl, "max_duration", bounds.max_duration);
        at_most("min_ttl", bounds.min_ttl, "max_ttl", bounds.max_ttl);
        if default_ttl.is_some() {
            at_most("default_ttl", bounds.default_ttl, "max_ttl", bounds.max_ttl);
            if bounds.default_ttl < bounds.min_ttl {
                let limit = spelt(bounds.min_ttl);
                faults.add(
                    "default_ttl",
                    format!("must be at least min_ttl, which is {limit}"),
                );
            }
        }
    });
}
