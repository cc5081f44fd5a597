//! Failures that other pools are known for, each with the one-line break that would bring it here: those that the
//! core alone can show. The numbers are those of docs/ARCHITECTURE.md's list.

use std::collections::BTreeSet;

use super::{
    scene::{Stage, closes, dials, grants, probes, refusals},
    scripted::{SECOND, ms, sized},
};
use crate::{
    backend::DialErrorKind,
    pool::{
        HealthSettings, Priority, Refusal, Settings,
        core::{Action, Release, Reply, SessionState},
    },
};

/// Broken by taking the class's `last` instead of its `first` in `Lines::firsts`.
#[test]
fn failure_05_waiters_are_served_in_random_order() {
    let mut stage = Stage::new(sized(1));
    stage.open(1);
    let mut held = stage.take();
    for _ in 0..10 {
        stage.queue();
    }
    let mut served = Vec::new();
    for _ in 0..10 {
        stage.give(held);
        let granted = grants(&stage.actions());
        assert_eq!(granted.len(), 1, "one return, one grant");
        served.push(granted[0].0);
        held = granted[0].1;
    }
    assert_eq!(served, (1..=10).collect::<Vec<_>>());
}

/// Broken by drawing `retire_at` anew in `settle`, or by adding the whole lifetime in `give_birth`.
#[test]
fn failure_10_lifetimes_end_together_or_collapse() {
    let mut stage = Stage::new(sized(50));
    let born = stage.now;
    stage.open(50);
    let ends = |stage: &Stage| -> Vec<_> {
        stage
            .core
            .sessions()
            .map(|(_, record)| record.retire_at)
            .collect()
    };
    let drawn = ends(&stage);
    let lives: BTreeSet<_> = drawn.iter().map(|end| end.since(born)).collect();
    let (shortest, longest) = (lives.first().expect("some"), lives.last().expect("some"));
    assert!(lives.len() > 45, "they are spread");
    assert!(*shortest >= SECOND * 1350 && *longest <= SECOND * 1800);
    assert!(*longest - *shortest > SECOND * 300, "over most of a quarter");
    for _ in 0..100 {
        stage.tick(ms(10));
        let held = stage.take();
        stage.give(held);
    }
    assert_eq!(ends(&stage), drawn, "drawn once");
}

/// Broken by leaving out the floor in `close_unused`.
#[test]
fn failure_11_the_reaper_breaks_the_minimum() {
    let settings = Settings {
        min_sessions: 2,
        ..sized(5)
    };
    let mut stage = Stage::new(settings);
    for key in dials(&stage.actions()) {
        stage.core.dialed(stage.now, key);
    }
    stage.open(5);
    let mut least = u32::MAX;
    for _ in 0..20 {
        for key in closes(&stage.tick(SECOND * 60)) {
            stage.core.closed(stage.now, key);
        }
        least = least.min(stage.core.stats().idle);
    }
    assert_eq!((least, stage.core.stats().total), (2, 2));
}

/// Broken by taking `oldest_idle` in `acquire`.
#[test]
fn failure_12_reuse_in_turn_keeps_every_session_young() {
    let mut stage = Stage::new(sized(5));
    stage.open(5);
    for _ in 0..40 {
        stage.later(SECOND * 10);
        stage.core.tick(stage.now);
        let held = stage.take();
        stage.give(held);
        for key in closes(&stage.actions()) {
            stage.core.closed(stage.now, key);
        }
    }
    assert_eq!(stage.core.stats().total, 1, "a low load needs one");
}

/// Broken by subtracting `closing` twice in `over_cap`, or by ignoring it.
#[test]
fn failure_14_a_resize_underflows() {
    let mut stage = Stage::new(sized(8));
    stage.open(8);
    let held: Vec<_> = (0..6).map(|_| stage.take()).collect();
    stage.core.reconfigure(stage.now, sized(1), false);
    let idle = closes(&stage.actions());
    assert_eq!(idle.len(), 2, "idle ones close now");
    stage.core.reconfigure(stage.now, sized(3), false);
    for grant in held {
        stage.give(grant);
    }
    let late = closes(&stage.actions());
    assert_eq!(late.len(), 3, "others as they come free, down to the limit");
    for key in idle.into_iter().chain(late) {
        stage.core.closed(stage.now, key);
    }
    let stats = stage.core.stats();
    assert_eq!((stats.total, stats.idle, stats.closing), (3, 3, 0));
}

/// Broken by leaving out `open_more` in `closed`.
#[test]
fn failure_15_a_broken_return_wakes_nobody() {
    let mut stage = Stage::new(sized(1));
    stage.open(1);
    let held = stage.take();
    stage.queue();
    stage.release(held, Release::Broken);
    let actions = stage.actions();
    assert!(dials(&actions).is_empty(), "the broken one still counts");
    stage.core.closed(stage.now, closes(&actions)[0]);
    let dialed = dials(&stage.actions());
    assert_eq!(dialed.len(), 1, "somebody waits for its place");
    stage.core.dialed(stage.now, dialed[0]);
    assert_eq!(grants(&stage.actions()).len(), 1);
}

/// Broken by leaving out `counts.dialing` in the gate's `queued`.
#[test]
fn failure_16_a_stale_permit_dials_once_too_often() {
    let mut stage = Stage::new(sized(5));
    stage.open(1);
    let held = stage.take();
    stage.queue();
    let first = dials(&stage.actions());
    stage.tick(ms(1));
    stage.tick(SECOND);
    assert_eq!(
        first.len() + dials(&stage.actions()).len(),
        1,
        "one waiter, one dial"
    );
    stage.give(held);
    assert_eq!(
        grants(&stage.actions()).len(),
        1,
        "what came back meanwhile is used"
    );
    stage.core.dialed(stage.now, first[0]);
    stage.tick(SECOND);
    let stats = stage.core.stats();
    assert_eq!((stats.total, stats.idle, stats.dialing), (2, 1, 0));
}

/// Broken by leaving out `missing` in the gate.
#[test]
fn failure_17_the_pool_drains_to_zero_and_never_refills() {
    let settings = Settings {
        min_sessions: 2,
        health: Some(HealthSettings::default()),
        ..sized(4)
    };
    let mut stage = Stage::new(settings);
    let mut actions = stage.actions();
    for round in 0..400 {
        let down = (100..200).contains(&round);
        while !actions.is_empty() {
            for key in probes(&actions) {
                stage.core.probed(stage.now, key, false);
            }
            for key in dials(&actions) {
                if down {
                    stage.dial_fails(key, DialErrorKind::Transient);
                } else {
                    stage.core.dialed(stage.now, key);
                }
            }
            for key in closes(&actions) {
                stage.core.closed(stage.now, key);
            }
            actions = stage.actions();
        }
        actions = stage.tick(SECOND);
        let total = stage.core.stats().total;
        assert!(
            down || (200..235).contains(&round) || total >= 1,
            "round {round}: {total}"
        );
    }
    assert!(
        stage.core.stats().sessions_created > 6,
        "sessions died and were replaced"
    );
}

/// Broken by leaving out the state's test in `Sessions::in_state`.
#[test]
fn failure_18_a_timer_meets_a_close() {
    let settings = Settings {
        health: Some(HealthSettings::default()),
        ..sized(2)
    };
    let mut stage = Stage::new(settings);
    stage.open(1);
    let held = stage.take();
    let key = held.session;
    let armed = stage.core.next_deadline();
    stage.release(held, Release::Broken);
    stage.actions();
    stage.core.probed(stage.now, key, true);
    stage.core.restored(stage.now, key, true);
    assert!(stage.actions().is_empty(), "late news of a closing session");
    assert!(
        stage
            .core
            .sessions()
            .any(|(_, record)| record.state() == SessionState::Closing)
    );
    stage.tick(armed.since(stage.now) + SECOND);
    stage.core.closed(stage.now, key);
    stage.tick(SECOND * 4000);
    stage.core.closed(stage.now, key);
    stage.core.probed(stage.now, key, false);
    stage.core.tick(armed);
    assert!(stage.actions().is_empty());
    assert_eq!(stage.core.stats().sessions_closed, 1);
}

/// Broken by leaving out `cancelled` or the counts in `Waiters::remove`.
#[test]
fn failure_20_statistics_leak() {
    let mut stage = Stage::new(sized(1));
    stage.open(1);
    let held = stage.take();
    for _ in 0..5 {
        let waiter = stage.queue();
        stage.core.cancel(waiter);
    }
    stage.give(held);
    let stats = stage.core.stats();
    assert_eq!(
        (stats.waiters, stats.active, stats.cancelled, stats.granted),
        (0, 0, 5, 1)
    );
    assert_eq!(stats.acquires, 6);
}

/// Broken by mapping any two of the refusals to one, for example by leaving out `unreachable` in
/// `refusal_at_deadline`.
#[test]
fn failure_21_refusals_look_all_the_same() {
    let settings = Settings {
        max_waiters: 1,
        ..sized(1)
    };
    let mut stage = Stage::new(settings);
    stage.queue();
    assert_eq!(stage.refused(), Refusal::QueueFull { limit: 1 });
    let dialed = dials(&stage.actions());
    let waited = SECOND * 60;
    assert_eq!(refusals(&stage.tick(waited)), [Refusal::Timeout { waited }]);
    stage.queue();
    stage.dial_fails(dialed[0], DialErrorKind::Transient);
    let refused = refusals(&stage.tick(waited));
    assert!(matches!(&refused[..], [Refusal::Unreachable { message, .. }] if message == "scripted"));
    stage.core.pause(stage.now);
    stage.queue();
    assert_eq!(refusals(&stage.tick(waited)), [Refusal::Paused]);
}

/// Broken by leaving out `free.push` in `Waiters::remove`, or by keeping cancelled waiters in the deadlines.
#[test]
fn failure_22_cancelled_waiters_fill_the_memory() {
    let mut stage = Stage::new(sized(1));
    stage.open(1);
    let _held = stage.take();
    let mut waiting: Vec<_> = (0..100).map(|_| stage.queue()).collect();
    for round in 0..1_000_000 {
        let place = round * 31 % 100;
        stage.core.cancel(waiting[place]);
        waiting[place] = stage.queue();
    }
    assert!(stage.core.waiter_places() <= 101, "no tombstones");
    assert_eq!(stage.core.stats().cancelled, 1_000_000);
}

/// Broken by leaving out the generation's test in `Sessions::get`, or the arrival's in `Waiters::remove`.
#[test]
fn failure_23_a_late_cancel_hits_the_next_user() {
    let mut stage = Stage::new(sized(1));
    stage.open(1);
    let old = stage.take();
    stage.release(old, Release::Broken);
    stage.core.closed(stage.now, old.session);
    stage.open(1);
    let new = stage.take();
    assert_eq!(new.session.index(), old.session.index(), "in the same place");
    stage.give(old);
    assert_eq!(stage.core.stats().active, 1, "the new holder keeps it");
    let gone = stage.queue();
    stage.core.cancel(gone);
    stage.queue();
    stage.core.cancel(gone);
    assert_eq!(stage.core.stats().waiters, 1, "the new waiter keeps its place");
}

/// Broken by comparing classes without `effective`, or by letting the first of a class hide the others.
#[test]
fn ageing_lifts_a_waiter_over_newcomers_of_a_higher_class() {
    let mut stage = Stage::new(sized(1));
    stage.open(1);
    let mut held = stage.take();
    stage.ask_as(Priority::Low, true);
    stage.later(SECOND * 4);
    stage.ask_as(Priority::Normal, true);
    stage.later(SECOND * 7);
    stage.ask_as(Priority::High, true);
    let mut served = Vec::new();
    for _ in 0..3 {
        stage.give(held);
        let (tag, grant) = grants(&stage.actions())[0];
        served.push(tag);
        held = grant;
    }
    assert_eq!(
        served,
        [1, 2, 3],
        "after 11 s low counts as high, after 7 s normal does, and they came first"
    );
}

#[test]
fn a_request_that_does_not_wait_gets_an_idle_session_or_nothing() {
    let settings = Settings {
        health: Some(HealthSettings::default()),
        ..sized(2)
    };
    let mut stage = Stage::new(settings);
    let refused = Reply::Refused(Refusal::Timeout { waited: ms(0) });
    assert_eq!(stage.ask_as(Priority::High, false), refused);
    assert!(stage.actions().is_empty(), "nothing is dialed for it");
    stage.open(1);
    stage.later(SECOND * 2);
    assert!(
        matches!(stage.ask_as(Priority::Normal, false), Reply::Waiting(_)),
        "until the probe has ended"
    );
    let probed = probes(&stage.actions());
    stage.core.probed(stage.now, probed[0], false);
    let actions = stage.actions();
    assert_eq!(refusals(&actions), [Refusal::Timeout { waited: ms(0) }]);
    assert!(dials(&actions).is_empty());
    assert!(matches!(actions[..], [Action::Close(_), Action::Refuse { .. }]));
}

#[test]
fn a_failed_probe_moves_on_to_the_next_idle_session() {
    let settings = Settings {
        health: Some(HealthSettings::default()),
        ..sized(2)
    };
    let mut stage = Stage::new(settings);
    stage.open(2);
    stage.later(SECOND * 2);
    stage.queue();
    let first = probes(&stage.actions());
    assert_eq!(first.len(), 1, "one waiter, one probe");
    stage.core.probed(stage.now, first[0], false);
    let second = probes(&stage.actions());
    assert_eq!(second.len(), 1);
    stage.core.probed(stage.now, second[0], true);
    assert_eq!(grants(&stage.actions()).len(), 1);
}

#[test]
fn a_dial_that_was_told_to_close_is_no_failure_of_the_backend() {
    let mut stage = Stage::new(sized(2));
    stage.queue();
    let first = dials(&stage.actions());
    assert!(stage.core.doom(stage.now, first[0]));
    let second = dials(&stage.actions());
    assert_eq!(second.len(), 1, "another is dialed for the waiter");
    stage.dial_fails(first[0], DialErrorKind::Permanent);
    assert!(refusals(&stage.actions()).is_empty());
    assert!(stage.core.is_serving());
    stage.core.dialed(stage.now, second[0]);
    assert_eq!(grants(&stage.actions()).len(), 1);
}

#[test]
fn a_check_that_fails_is_a_failure_of_the_backend() {
    let mut stage = Stage::new(sized(2));
    let check = stage.core.begin_check(stage.now, 0).expect("there is a place");
    stage.dial_fails(check.session, DialErrorKind::Transient);
    assert!(!stage.core.is_serving());
}

#[test]
fn a_check_that_was_told_to_close_is_no_failure_of_the_backend() {
    let mut stage = Stage::new(sized(2));
    let check = stage.core.begin_check(stage.now, 0).expect("there is a place");
    assert!(stage.core.doom(stage.now, check.session));
    stage.queue();
    let first = dials(&stage.actions());
    stage.dial_fails(check.session, DialErrorKind::Permanent);
    assert!(refusals(&stage.actions()).is_empty());
    assert!(stage.core.is_serving());
    stage.core.dialed(stage.now, first[0]);
    assert_eq!(grants(&stage.actions()).len(), 1);
}
