//! Whether the demo kept what the broker promises.

use super::{
    stage::POOLS,
    tally::{Act, Tally},
};
use crate::proto::PoolStats;

/// Looks for anything that went wrong.
///
/// # Errors
/// What went wrong, for people.
pub(super) fn all_is_well(pools: &[PoolStats], tally: &Tally, connections: u32) -> Result<(), String> {
    if let Some(failure) = tally.failure() {
        return Err(format!("a client failed: {failure}"));
    }
    for act in [Act::Lease, Act::OneShot, Act::Stream, Act::Session] {
        if tally.count(act) == 0 {
            return Err(format!("no client got through with {act:?}"));
        }
    }
    for (stats, pool) in pools.iter().zip(&POOLS) {
        let name = pool.name;
        if stats.peak_sessions > pool.sessions {
            return Err(format!(
                "{name} had {} sessions at once, {} are allowed",
                stats.peak_sessions, pool.sessions
            ));
        }
        let seen = stats.granted + stats.refused + stats.cancelled + u64::from(stats.waiters);
        if seen != stats.acquires {
            return Err(format!(
                "{name}'s statistics do not add up: {seen} of {} requests",
                stats.acquires
            ));
        }
    }
    let [_, web] = &POOLS;
    if connections > web.sessions {
        return Err(format!(
            "the HTTP service saw {connections} connections, {} are allowed",
            web.sessions
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done() -> Tally {
        let tally = Tally::default();
        for act in [Act::Lease, Act::OneShot, Act::Stream, Act::Session] {
            tally.note(act, Ok(()));
        }
        tally
    }

    #[test]
    fn a_demo_in_which_all_went_well_is_well() {
        assert_eq!(
            all_is_well(&[PoolStats::default(), PoolStats::default()], &done(), 2),
            Ok(())
        );
    }

    #[test]
    fn whatever_goes_wrong_is_found() {
        let too_many = PoolStats {
            peak_sessions: 5,
            ..PoolStats::default()
        };
        let lost = PoolStats {
            acquires: 1,
            ..PoolStats::default()
        };
        let failed = done();
        failed.note(Act::Stream, Err(tonic::Status::unavailable("gone")));
        assert!(
            all_is_well(&[too_many], &done(), 0)
                .unwrap_err()
                .contains("5 sessions")
        );
        assert!(all_is_well(&[lost], &done(), 0).unwrap_err().contains("add up"));
        assert!(
            all_is_well(&[], &done(), 3)
                .unwrap_err()
                .contains("3 connections")
        );
        assert!(all_is_well(&[], &failed, 0).unwrap_err().contains("gone"));
        assert!(
            all_is_well(&[], &Tally::default(), 0)
                .unwrap_err()
                .contains("Lease")
        );
    }
}
