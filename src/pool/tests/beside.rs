//! Sessions beside a pool's own, for operations that must not wait.

use std::sync::Arc;

use super::scripted::{SECOND, Script, Scripted, pool_of, settle_down, sized, within};
use crate::{
    clock::Clock,
    pool::{Ending, GiveBack, Pool, Priority, Request},
};

fn pool(own: &Arc<Script>, beside: &[&Arc<Script>]) -> (Arc<Pool>, Clock) {
    let backend = Scripted {
        beside: beside.iter().map(|script| Arc::clone(script)).collect(),
        ..Scripted::of(own)
    };
    pool_of(backend, sized(1))
}

#[tokio::test(start_paused = true)]
async fn operation_beside_does_not_wait_for_the_session_it_is_about() {
    let (own, beside) = (Script::new(), Script::new());
    let (pool, clock) = pool(&own, &[&beside]);
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    let ask = || Request {
        beside: 1,
        ..within(&clock, SECOND)
    };
    let mut few = Vec::new();
    for _ in 0..4 {
        few.push(pool.acquire(ask()).await.expect("it does not wait"));
    }
    assert!(pool.acquire(ask()).await.is_err(), "there are only a few");
    assert_eq!((own.open(), beside.open()), (1, 4));
    assert_eq!(pool.sessions().len(), 5, "all are listed");
    let id = Arc::clone(few[0].session_id());
    assert_ne!(&id, held.session_id());
    assert!(pool.close_session(&id) && !few[0].fence().is_open() && held.fence().is_open());
    let stats = pool.stats();
    assert_eq!(stats.total, 1, "they do not count against the pool's own");
    assert_eq!(
        (stats.sessions_beside, stats.waiters_beside),
        (4, 0),
        "but for themselves"
    );
    let listed = pool.sessions();
    assert_eq!(listed.iter().filter(|session| session.beside).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn those_beside_have_others_beside_them_that_do_not_wait_for_them() {
    let (own, near, far) = (Script::new(), Script::new(), Script::new());
    let (pool, clock) = pool(&own, &[&near, &far]);
    let ask = |beside| Request {
        beside,
        ..within(&clock, SECOND)
    };
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(pool.acquire(ask(1)).await.expect("granted"));
    }
    assert!(pool.acquire(ask(1)).await.is_err(), "they are all held");
    held.push(pool.acquire(ask(2)).await.expect("it does not wait"));
    // As far as there are any.
    held.push(pool.acquire(ask(9)).await.expect("it does not wait"));
    assert_eq!((own.open(), near.open(), far.open()), (0, 4, 2));
    assert_eq!(pool.sessions().len(), 6, "all are listed");
    pool.close_sessions();
    assert!(held.iter().all(|held| !held.fence().is_open()));
}

#[tokio::test(start_paused = true)]
async fn what_is_done_to_a_pool_is_done_to_those_beside() {
    let (own, beside) = (Script::new(), Script::new());
    let (pool, clock) = pool(&own, &[&beside]);
    let ask = || Request {
        beside: 1,
        ..within(&clock, SECOND)
    };
    let held = pool.acquire(ask()).await.expect("granted");
    held.give_back(GiveBack::Used);
    assert_eq!(pool.recycle(), 1);
    settle_down().await;
    assert_eq!(beside.open(), 0);
    pool.pause();
    assert!(pool.acquire(ask()).await.is_err(), "paused");
    pool.resume();
    let held = pool.acquire(ask()).await.expect("granted again");
    pool.refuse_new(Ending::Deleted);
    assert!(pool.acquire(ask()).await.is_err(), "deleted");
    let empty = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.when_empty().await }
    });
    settle_down().await;
    assert!(!empty.is_finished(), "one is held yet");
    pool.close_sessions();
    assert!(!held.fence().is_open());
    held.give_back(GiveBack::Used);
    empty.await.expect("none is left");
}

#[tokio::test(start_paused = true)]
async fn fences_rise_over_a_pool_and_its_sessions_beside() {
    let (own, beside) = (Script::new(), Script::new());
    let (pool, clock) = pool(&own, &[&beside]);
    let mut numbers = Vec::new();
    for _ in 0..3 {
        for beside in [0, 1, 1] {
            let request = Request {
                beside,
                ..within(&clock, SECOND)
            };
            let held = pool.acquire(request).await.expect("granted");
            numbers.push(held.number());
            held.give_back(GiveBack::Used);
            settle_down().await;
        }
    }
    assert!(
        numbers.is_sorted_by(|left, right| left < right),
        "none twice, each above the last: {numbers:?}"
    );
    assert!(numbers.iter().all(|number| number >> 40 == 7), "of this boot");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_session_beside_is_listed_in_the_order_of_all() {
    let (own, beside) = (Script::new(), Script::new());
    let (pool, clock) = pool(&own, &[&beside]);
    let ask = |beside: u8, priority, name: &str| Request {
        beside,
        priority,
        client: Some(Arc::from(name)),
        ..within(&clock, SECOND * 30)
    };
    let mut held = Vec::new();
    for beside in [0, 1, 1, 1, 1] {
        let request = ask(beside, Priority::Normal, "holder");
        held.push(pool.acquire(request).await.expect("granted"));
    }
    let mut waiting = Vec::new();
    for request in [
        ask(0, Priority::Normal, "second"),
        ask(1, Priority::Normal, "third"),
        ask(1, Priority::High, "first"),
        ask(0, Priority::Low, "fourth"),
    ] {
        waiting.push(tokio::spawn(pool.acquire(request)));
        tokio::time::sleep(SECOND).await;
    }
    let names = |limit| {
        let (waiters, total) = pool.waiters(limit);
        let names = waiters
            .iter()
            .map(|waiter| waiter.client.as_deref().unwrap_or("").to_owned());
        (names.collect::<Vec<_>>().join(" "), total)
    };
    assert_eq!(names(10), ("first second third fourth".to_owned(), 4));
    assert_eq!(names(3), ("first second third".to_owned(), 4));
    let beside: Vec<_> = pool.waiters(10).0.iter().map(|waiter| waiter.beside).collect();
    assert_eq!(beside, [true, false, true, false]);
    let last = pool.reset_stats();
    assert_eq!((last.waiters, last.waiters_beside), (2, 2));
    let stats = pool.stats();
    assert_eq!(
        (stats.sessions_beside, stats.waiters_beside),
        (4, 2),
        "gauges stay"
    );
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}
