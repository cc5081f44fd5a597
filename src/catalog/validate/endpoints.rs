//! Where sessions are opened, and how many at each endpoint. How many endpoints a kind takes, and what an address may
//! look like, is the kind's.

use std::{collections::HashMap, sync::Arc};

use super::range::number;
use crate::{
    backend::{endpoint_name, registry},
    error::Faults,
    pool::{EndpointSettings, Settings},
    proto::{Endpoint, PoolSpec},
};

/// The pool's work at each grant grows with them.
const MOST: usize = 100;
/// A longer name would burden every statistic.
const MAX_NAME_BYTES: usize = 256;
const MOST_SESSIONS: u32 = 10_000;
const ONCE: &str = "no two may be the same";

/// Also sets the pool's own limit to what the endpoints may have together, if each has a limit.
pub(super) fn check(spec: &PoolSpec, settings: &mut Settings, faults: &mut Faults) {
    if spec.endpoints.len() > MOST {
        faults.add("endpoints", format!("must be at most {MOST}"));
        return;
    }
    let (mut names, mut addresses) = (HashMap::new(), HashMap::new());
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let found = EndpointSettings {
            name: endpoint_name(endpoint),
            address: registry::place(spec, endpoint).address,
            max_sessions: None,
        };
        faults.within(&format!("endpoints[{index}]"), |faults| {
            let same_place = addresses.insert(Arc::clone(&found.address), index);
            let same_name = names.insert(Arc::clone(&found.name), index);
            if let Some(known) = same_place {
                faults.add(
                    "address",
                    format!("is the place of endpoints[{known}].address too: {ONCE}"),
                );
            }
            // Without a name of its own it has its address's.
            if let Some(known) = same_name.filter(|_| same_place.is_none() || !endpoint.name.is_empty()) {
                faults.add("name", format!("is that of endpoints[{known}] too: {ONCE}"));
            }
            check_name(endpoint, faults);
            let limit = number(endpoint.max_sessions, "max_sessions", 1..=MOST_SESSIONS, faults);
            settings.endpoints.push(EndpointSettings {
                max_sessions: limit,
                ..found
            });
        });
    }
    if let Some(together) = together(settings) {
        settings.max_sessions = together.min(MOST_SESSIONS);
    }
}

/// What the endpoints may have together, if each has a limit.
pub(super) fn together(settings: &Settings) -> Option<u32> {
    let limits = settings.endpoints.iter().map(|endpoint| endpoint.max_sessions);
    limits.sum::<Option<u32>>().filter(|together| *together > 0)
}

fn check_name(endpoint: &Endpoint, faults: &mut Faults) {
    if endpoint.name.len() > MAX_NAME_BYTES || endpoint.name.chars().any(char::is_control) {
        let message = format!("must be at most {MAX_NAME_BYTES} bytes, without control characters");
        faults.add("name", message);
    }
}
