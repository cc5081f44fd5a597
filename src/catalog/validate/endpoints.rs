//! Where sessions are opened, and how many at each endpoint. How many endpoints a kind takes, and what an address may
//! look like, is the kind's.

use std::{collections::HashMap, sync::Arc};

use super::range::number;
use crate::{
    backend::endpoint_name,
    error::Faults,
    pool::{EndpointSettings, Settings},
    proto::Endpoint,
};

/// The pool's work at each grant grows with them.
const MOST: usize = 100;
/// A longer name would burden every statistic.
const MAX_NAME_BYTES: usize = 256;
const MOST_SESSIONS: u32 = 10_000;

/// Also sets the pool's own limit to what the endpoints may have together, if each has a limit.
pub(super) fn check(given: &[Endpoint], settings: &mut Settings, faults: &mut Faults) {
    if given.len() > MOST {
        faults.add("endpoints", format!("must be at most {MOST}"));
        return;
    }
    let (mut names, mut addresses) = (HashMap::new(), HashMap::new());
    for (index, endpoint) in given.iter().enumerate() {
        faults.within(&format!("endpoints[{index}]"), |faults| {
            let settings_of = one(endpoint, faults);
            let again = |known: usize| format!("is that of endpoints[{known}] too: no two may be the same");
            if let Some(known) = addresses.insert(Arc::clone(&settings_of.address), index) {
                faults.add("address", again(known));
            } else if let Some(known) = names.insert(Arc::clone(&settings_of.name), index) {
                faults.add("name", again(known));
            }
            settings.endpoints.push(settings_of);
        });
    }
    let limits = settings.endpoints.iter().map(|endpoint| endpoint.max_sessions);
    if let Some(together) = limits.sum::<Option<u32>>().filter(|together| *together > 0) {
        settings.max_sessions = together.min(MOST_SESSIONS);
    }
}

fn one(endpoint: &Endpoint, faults: &mut Faults) -> EndpointSettings {
    if endpoint.name.len() > MAX_NAME_BYTES || endpoint.name.chars().any(char::is_control) {
        let message = format!("must be at most {MAX_NAME_BYTES} bytes, without control characters");
        faults.add("name", message);
    }
    let limit = number(endpoint.max_sessions, "max_sessions", 1..=MOST_SESSIONS, faults);
    EndpointSettings {
        name: endpoint_name(endpoint),
        address: Arc::from(&*endpoint.address),
        max_sessions: limit,
    }
}
