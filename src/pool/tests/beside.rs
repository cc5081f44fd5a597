//! Sessions beside a pool's own, for operations that must not wait.

use std::sync::Arc;

use super::scripted::{SECOND, Script, Scripted, pool_of, settle_down, sized, within};
use crate::{
    clock::Clock,
    pool::{Ending, GiveBack, Pool, Request},
};

fn pool(own: &Arc<Script>, beside: &Arc<Script>) -> (Arc<Pool>, Clock) {
    let backend = Scripted {
        beside: Some(Arc::clone(beside)),
        ..Scripted::of(own)
    };
    pool_of(backend, sized(1))
}

#[tokio::test(start_paused = true)]
async fn operation_beside_does_not_wait_for_the_session_it_is_about() {
    let (own, beside) = (Script::new(), Script::new());
    let (pool, clock) = pool(&own, &beside);
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    let ask = || Request {
        beside: true,
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
    assert_eq!(pool.stats().total, 1, "they do not count against the pool's own");
}

#[tokio::test(start_paused = true)]
async fn what_is_done_to_a_pool_is_done_to_those_beside() {
    let (own, beside) = (Script::new(), Script::new());
    let (pool, clock) = pool(&own, &beside);
    let ask = || Request {
        beside: true,
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
    let (pool, clock) = pool(&own, &beside);
    let mut numbers = Vec::new();
    for _ in 0..3 {
        for beside in [false, true, true] {
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
