//! From a definition to a plan: every default filled in, every fault found. A file per group of settings; a backend's
//! own message and the endpoints' addresses are checked by its kind.

mod endpoints;
mod health;
mod lease;
mod names;
mod queue;
mod range;
mod shape;
mod sizing;
#[cfg(test)]
mod tests;
mod timeouts;

use crate::{
    backend::registry::{self, Surroundings},
    broker::{Plan, Policy},
    error::Faults,
    pool::Settings,
    proto::{Pool, PoolSpec},
};

pub(super) use self::{names::is_name, range::duration};

/// What `pool` asks for, ready to run. Faults have paths below `pool`.
pub(super) fn validate(pool: &Pool, surroundings: &Surroundings) -> Result<Plan, Faults> {
    let mut faults = Faults::below("pool");
    names::check(&pool.name, &mut faults);
    let mut plan = None;
    match &pool.spec {
        Some(spec) => faults.within("spec", |faults| plan = definition(spec, surroundings, faults)),
        None => faults.add("spec", "is missing: a pool needs a definition with a backend"),
    }
    match plan {
        Some(plan) if faults.is_empty() => Ok(plan),
        _ => Err(faults),
    }
}

fn definition(spec: &PoolSpec, surroundings: &Surroundings, faults: &mut Faults) -> Option<Plan> {
    shape::check(spec, faults);
    let kind = registry::defaults(spec);
    let mut settings = Settings {
        reset: kind.reset,
        ..Settings::default()
    };
    let mut policy = Policy {
        execute: kind.execute,
        stall: kind.stall,
        ..Policy::default()
    };
    endpoints::check(spec, &mut settings, faults);
    sizing::check(spec.sizing.unwrap_or_default(), &mut settings, faults);
    timeouts::check(
        spec.timeouts.unwrap_or_default(),
        &mut settings,
        &mut policy,
        faults,
    );
    lease::check(spec.lease.unwrap_or_default(), &mut policy.lease, faults);
    queue::check(spec.queue.unwrap_or_default(), &mut settings, faults);
    health::check(spec.health.unwrap_or_default(), &mut settings, faults);
    match registry::build(spec, surroundings) {
        Ok(backend) => Some(Plan {
            settings,
            policy,
            backend,
        }),
        Err(found) => {
            for fault in found.list() {
                faults.add(&fault.field, fault.message.clone());
            }
            None
        }
    }
}
