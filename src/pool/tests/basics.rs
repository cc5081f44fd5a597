//! What a pool does for one or two callers.

use std::sync::Arc;

use super::scripted::{SECOND, Script, pool, sized, within};
use crate::pool::{GiveBack, Refusal};

#[tokio::test(start_paused = true)]
async fn a_session_is_dialed_granted_and_used_again() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(2));
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    assert_eq!(
        (held.reused(), held.number() >> 40, &**held.session_id()),
        (false, 7, "p-7-1")
    );
    assert!(held.fence().is_open());
    let (fence, number) = (Arc::clone(held.fence()), held.number());
    held.give_back(GiveBack::Used);
    assert!(!fence.is_open());
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted again");
    assert!(held.reused() && held.number() > number);
    assert_eq!(script.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_used_up_pool_refuses_at_the_deadline() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(1));
    let _held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    let refused = pool
        .acquire(within(&clock, SECOND))
        .await
        .expect_err("nothing is free");
    assert_eq!(refused, Refusal::Timeout { waited: SECOND });
}

#[tokio::test(start_paused = true)]
async fn a_returned_session_goes_to_the_waiter() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(1));
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    let waiter = tokio::spawn(pool.acquire(within(&clock, SECOND)));
    tokio::task::yield_now().await;
    assert_eq!(pool.stats().waiters, 1);
    held.give_back(GiveBack::Used);
    let stats = pool.stats();
    assert_eq!((stats.waiters, stats.idle, stats.active), (0, 0, 1));
    assert!(waiter.await.expect("runs").expect("granted").reused());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_holder_closes_its_session() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(1));
    drop(pool.acquire(within(&clock, SECOND)).await.expect("granted"));
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    assert_eq!((held.reused(), script.dials(), script.open()), (false, 2, 1));
}
