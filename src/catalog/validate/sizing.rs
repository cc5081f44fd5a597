//! How many sessions.

use super::{endpoints, range::number};
use crate::{error::Faults, pool::Settings, proto::Sizing};

const MOST_SESSIONS: u32 = 10_000;
const MOST_DIALING: u32 = 100;

pub(super) fn check(given: Sizing, settings: &mut Settings, faults: &mut Faults) {
    faults.within("sizing", |faults| {
        let found = number(given.max_sessions, "max_sessions", 1..=MOST_SESSIONS, faults);
        let max = match given.max_sessions {
            None => settings.max_sessions,
            // Next to a limit that makes no sense itself, the others are only held to what is possible at all.
            Some(_) => found.unwrap_or(MOST_SESSIONS),
        };
        settings.max_sessions = max;
        let together = endpoints::together(settings).filter(|together| *together <= max);
        if given.min_sessions <= together.unwrap_or(max) {
            settings.min_sessions = given.min_sessions;
        } else {
            let message = match together {
                Some(together) => format!(
                    "must be at most {together}, which is what the endpoints may have together: lower it, or raise \
                     endpoints[].max_sessions"
                ),
                None => format!("must be at most max_sessions, which is {max}"),
            };
            faults.add("min_sessions", message);
        }
        settings.max_idle = max;
        let idle = settings.min_sessions..=max;
        match given.max_idle {
            Some(given) if idle.contains(&given) => settings.max_idle = given,
            Some(_) => {
                let (min, max) = (idle.start(), idle.end());
                faults.add(
                    "max_idle",
                    format!("must be from min_sessions to max_sessions, which are {min} and {max}"),
                );
            }
            None => {}
        }
        if let Some(dialing) = number(given.max_dialing, "max_dialing", 1..=MOST_DIALING, faults) {
            settings.max_dialing = dialing;
        }
    });
}
