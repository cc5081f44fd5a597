//! What operators do to a pool, and how sessions are brought back to a clean state.

use std::sync::{Arc, atomic::Ordering};

use super::scripted::{SECOND, Script, Scripted, ms, pool, run, settle_down, sized, within};
use crate::{
    backend::DialErrorKind,
    pool::{Ending, GiveBack, HealthSettings, Priority, Refusal, Request, SessionState, Settings},
};

#[tokio::test(start_paused = true)]
async fn a_paused_pool_lets_wait_and_goes_on_when_resumed() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(1));
    pool.warm(1, clock.now() + SECOND).await;
    let serving = pool.serving();
    pool.pause();
    assert!(pool.is_paused() && !*serving.borrow());
    assert_eq!(
        pool.acquire(within(&clock, SECOND)).await.expect_err("paused"),
        Refusal::Paused
    );
    let waiter = tokio::spawn(pool.acquire(within(&clock, SECOND)));
    settle_down().await;
    pool.resume();
    assert!(waiter.await.expect("runs").is_ok() && *serving.borrow());
}

#[tokio::test(start_paused = true)]
async fn recycling_replaces_idle_sessions_now_and_held_ones_when_they_come_back() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(2));
    pool.warm(2, clock.now() + SECOND).await;
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    assert_eq!(pool.recycle(), 2);
    settle_down().await;
    assert_eq!(
        (script.open(), held.fence().is_open()),
        (1, true),
        "the holder notices nothing"
    );
    held.give_back(GiveBack::Used);
    settle_down().await;
    assert_eq!(script.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_backend_is_dialed_and_the_old_one_forgotten() {
    let (old, new) = (Script::new(), Script::new());
    *new.endpoint.lock() = Arc::from("scripted:2");
    old.refuse(Some(DialErrorKind::Permanent));
    let (pool, clock) = pool(&old, sized(2));
    let refused = pool
        .acquire(within(&clock, SECOND))
        .await
        .expect_err("refused for good");
    assert!(matches!(refused, Refusal::Unreachable { .. }));
    pool.reconfigure(sized(2), Some(Arc::new(Scripted::of(&new))));
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    assert_eq!((&**held.endpoint(), old.dials()), ("scripted:2", 1));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_dial_of_the_old_backend() {
    let (old, new) = (Script::dialing_in(SECOND * 4), Script::new());
    let (pool, clock) = pool(&old, sized(2));
    let waiter = tokio::spawn(pool.acquire(within(&clock, SECOND * 9)));
    settle_down().await;
    let began = clock.now();
    pool.reconfigure(sized(2), Some(Arc::new(Scripted::of(&new))));
    assert!(waiter.await.expect("runs").is_ok() && clock.now() == began);
    tokio::time::sleep(SECOND * 5).await;
    assert_eq!((old.open(), new.dials()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn permanent_faults_refuse_everybody_at_once_until_the_next_dial() {
    let script = Script::dialing_in(ms(10));
    script.refuse(Some(DialErrorKind::Permanent));
    let (pool, clock) = pool(&script, sized(2));
    let began = clock.now();
    let waiters = (0..5).map(|_| pool.acquire(within(&clock, SECOND * 9)));
    for refused in futures_util::future::join_all(waiters).await {
        assert!(matches!(refused, Err(Refusal::Unreachable { .. })));
    }
    assert_eq!(clock.now().since(began), ms(10));
    let Err(Refusal::Unreachable {
        retry_after: Some(after),
        ..
    }) = pool.acquire(within(&clock, SECOND * 9)).await
    else {
        panic!("newcomers too")
    };
    assert!(script.dials() == 1 && !*pool.serving().borrow());
    script.refuse(None);
    tokio::time::sleep(after).await;
    assert!(pool.acquire(within(&clock, SECOND * 9)).await.is_ok() && *pool.serving().borrow());
}

#[tokio::test(start_paused = true)]
async fn a_pool_learns_how_many_sessions_the_backend_bears() {
    let script = Script::new();
    script.bears.store(2, Ordering::SeqCst);
    let (pool, clock) = pool(&script, sized(5));
    pool.warm(5, clock.now() + SECOND).await;
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.max), (2, 2));
    assert!(*pool.serving().borrow(), "this is not a failure");
    script.bears.store(3, Ordering::SeqCst);
    tokio::time::sleep(SECOND * 31).await;
    assert_eq!(pool.stats().max, 3, "one more is tried from time to time");
}

#[tokio::test(start_paused = true)]
async fn an_ended_pool_refuses_closes_and_becomes_empty() {
    let script = Script::new();
    *script.close_takes.lock() = ms(20);
    let (pool, clock) = pool(&script, sized(1));
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    let waiter = tokio::spawn(pool.acquire(within(&clock, SECOND)));
    settle_down().await;
    pool.refuse_new(Ending::BrokerStopping);
    assert_eq!(
        waiter.await.expect("runs").expect_err("refused"),
        Refusal::BrokerStopping
    );
    assert_eq!(
        pool.acquire(within(&clock, SECOND)).await.expect_err("refused"),
        Refusal::BrokerStopping
    );
    assert!(!*pool.serving().borrow() && held.fence().is_open());
    let empty = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.when_empty().await }
    });
    settle_down().await;
    assert!(!empty.is_finished());
    held.give_back(GiveBack::Used);
    empty.await.expect("empty");
    assert_eq!(script.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn warming_opens_sessions_ahead_of_need_and_says_how_many() {
    let script = Script::dialing_in(ms(10));
    let (pool, clock) = pool(&script, sized(6));
    assert_eq!(pool.warm(6, clock.now() + SECOND).await, 6);
    assert!(script.most_dialing.load(Ordering::SeqCst) <= 4);
    pool.recycle();
    settle_down().await;
    assert_eq!(
        pool.warm(6, clock.now() + ms(15)).await,
        4,
        "10 ms each, four at a time"
    );
}

#[tokio::test(start_paused = true)]
async fn a_closed_session_is_fenced_now_and_gone_when_given_back() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(2));
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    assert!(!pool.close_session("p-7-99"));
    assert!(pool.close_session(held.session_id()));
    assert!(!held.fence().is_open());
    held.fence().when_shut().await;
    assert_eq!(pool.sessions()[0].state, SessionState::Leased);
    held.give_back(GiveBack::Used);
    settle_down().await;
    assert_eq!((script.open(), pool.sessions().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn cutting_a_pool_fences_all_its_sessions_now_and_closes_them() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(4));
    pool.warm(4, clock.now() + SECOND).await;
    let (first, second) = (
        pool.acquire(within(&clock, SECOND)).await.expect("granted"),
        pool.acquire(within(&clock, SECOND)).await.expect("granted"),
    );
    pool.close_sessions();
    assert!(!first.fence().is_open() && !second.fence().is_open());
    settle_down().await;
    assert_eq!(script.open(), 2, "idle ones are gone");
    first.give_back(GiveBack::Used);
    second.give_back(GiveBack::Used);
    settle_down().await;
    assert_eq!(script.open(), 0, "the others close when they come back");
}

#[tokio::test(start_paused = true)]
async fn a_lowered_cap_closes_idle_sessions_now_and_others_as_they_come_free() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(4));
    pool.warm(4, clock.now() + SECOND).await;
    let one = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    let two = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    pool.set_cap(Some(1));
    settle_down().await;
    assert_eq!((script.open(), pool.stats().max), (2, 1));
    one.give_back(GiveBack::Used);
    settle_down().await;
    assert_eq!(script.open(), 1);
    two.give_back(GiveBack::Used);
    settle_down().await;
    assert_eq!((script.open(), pool.stats().idle), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_dirty_session_is_reset_under_the_pools_own_number_before_the_next_holder() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(1));
    let mut held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    run(&mut held, "dirty").await;
    held.give_back(GiveBack::Used);
    assert_eq!(pool.stats().resetting, 1);
    let mut held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    assert!(held.reused());
    let abandoned = tokio::time::timeout(ms(5), run(&mut held, "wait")).await;
    assert!(abandoned.is_err());
    held.give_back(GiveBack::Interrupted);
    settle_down().await;
    assert_eq!(*script.log.lock(), ["execute", "reset", "execute", "settle"]);
    assert_eq!(pool.stats().idle, 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_reset_closes_the_session() {
    let script = Script::new();
    script.resets_fail.store(true, Ordering::SeqCst);
    let (pool, clock) = pool(&script, sized(1));
    let mut held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    run(&mut held, "dirty").await;
    held.give_back(GiveBack::Used);
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    assert_eq!((held.reused(), script.did("close")), (false, 1));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_idle_for_long_is_probed_before_it_is_granted() {
    let script = Script::new();
    let settings = Settings {
        health: Some(HealthSettings::default()),
        ..sized(1)
    };
    let (pool, clock) = pool(&script, settings);
    pool.warm(1, clock.now() + SECOND).await;
    pool.acquire(within(&clock, SECOND))
        .await
        .expect("granted")
        .give_back(GiveBack::Used);
    assert_eq!(script.did("probe"), 0, "fresh ones are not");
    tokio::time::sleep(SECOND * 2).await;
    pool.acquire(within(&clock, SECOND))
        .await
        .expect("granted")
        .give_back(GiveBack::Used);
    assert_eq!((script.did("probe"), script.dials()), (1, 1));
    tokio::time::sleep(SECOND * 2).await;
    script.probes_fail.store(true, Ordering::SeqCst);
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    assert_eq!(
        (held.reused(), script.did("probe"), script.did("close")),
        (false, 2, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_check_dials_probes_and_closes_one_session() {
    let script = Script::dialing_in(ms(7));
    *script.probe_takes.lock() = ms(2);
    let (pool, clock) = pool(&script, sized(1));
    let report = pool.check().await.remove(0);
    assert!(report.healthy && report.message.is_empty());
    assert_eq!(
        (&*report.endpoint, report.dial_time, report.probe_time),
        ("scripted:1", ms(7), ms(2))
    );
    settle_down().await;
    assert_eq!((script.open(), pool.stats().total), (0, 0));
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    let report = pool.check().await.remove(0);
    assert!(!report.healthy && report.message.contains("in use"), "{report:?}");
    held.give_back(GiveBack::Used);
    let report = pool.check().await.remove(0);
    assert!(
        report.healthy && report.dial_time == ms(0) && script.dials() == 2,
        "the idle one was probed"
    );
    script.refuse(Some(DialErrorKind::Transient));
    pool.recycle();
    settle_down().await;
    let report = pool.check().await.remove(0);
    assert_eq!((report.healthy, &*report.message), (false, "scripted"));
}

#[tokio::test(start_paused = true)]
async fn waiters_and_sessions_are_listed_in_their_order() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(1));
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    let ask = |priority, name: &str| {
        let request = Request {
            priority,
            client: Some(Arc::from(name)),
            ..within(&clock, SECOND * 30)
        };
        tokio::spawn(pool.acquire(request))
    };
    let tasks = [
        ask(Priority::Low, "low"),
        ask(Priority::Normal, "one"),
        ask(Priority::Normal, "two"),
    ];
    tokio::time::sleep(SECOND * 6).await;
    let (waiters, total) = pool.waiters(2);
    let names: Vec<_> = waiters
        .iter()
        .map(|waiter| waiter.client.as_deref().unwrap_or(""))
        .collect();
    assert_eq!((names, total), (vec!["one", "two"], 3));
    assert_eq!(
        (waiters[0].effective_priority, waiters[0].waited),
        (Priority::High, SECOND * 6)
    );
    let sessions = pool.sessions();
    assert_eq!(
        (sessions[0].fence, sessions[0].grants, sessions[0].age),
        (held.number(), 1, SECOND * 6)
    );
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_the_statistics_returns_the_last_and_keeps_the_gauges() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(1));
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    pool.record_call(true, ms(4));
    pool.record_call(false, ms(2));
    let last = pool.reset_stats();
    assert_eq!(
        (last.acquires, last.granted, last.requests, last.requests_failed),
        (1, 1, 2, 1)
    );
    assert_eq!((last.execute.max(), last.sessions_created), (ms(4), 1));
    let stats = pool.stats();
    assert_eq!(
        (stats.acquires, stats.requests, stats.active, stats.peak),
        (0, 0, 1, 1)
    );
    assert!(stats.last_reset.is_some());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_dropped_pool_stays_behind() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(2));
    pool.warm(2, clock.now() + SECOND).await;
    let gone = Arc::downgrade(&pool);
    drop(pool);
    settle_down().await;
    assert!(gone.upgrade().is_none());
    assert_eq!(script.open(), 0);
    assert_eq!(
        tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        0,
        "its driver has ended"
    );
}
