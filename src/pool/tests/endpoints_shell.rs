//! Several endpoints, with tasks and a backend: what endpoints say of their work, and what a changed definition leaves
//! as it is.

use std::sync::Arc;

use super::{
    endpoints::boxes,
    scripted::{SECOND, Script, Scripted, pool, pool_of, settle_down, within},
};
use crate::{
    backend::Load,
    clock::Clock,
    pool::{GiveBack, Pool},
};

/// Where a caller who takes any session gets one.
async fn next_at(pool: &Arc<Pool>, clock: &Clock) -> Arc<str> {
    let held = pool.acquire(within(clock, SECOND)).await.expect("granted");
    let endpoint = Arc::clone(held.endpoint());
    held.give_back(GiveBack::Used);
    endpoint
}

#[tokio::test(start_paused = true)]
async fn what_an_endpoint_says_of_its_work_is_heard_at_the_next_request() {
    let (a, b) = (Load::default(), Load::default());
    let backend = Scripted {
        loads: vec![("a", a.clone()), ("b", b.clone())],
        ..Scripted::of(&Script::new())
    };
    let (pool, clock) = pool_of(backend, boxes(2, &[("a", Some(1)), ("b", Some(1))]));
    pool.warm(2, clock.now() + SECOND).await;
    for (at_a, at_b, idlest) in [(2, 0, "b"), (0, 2, "a"), (1, 3, "a"), (3, 1, "b")] {
        a.set(at_a);
        b.set(at_b);
        assert_eq!(&*next_at(&pool, &clock).await, idlest, "{at_a} {at_b}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_endpoints_say_is_theirs_after_a_change_of_the_definition_too() {
    let script = Script::new();
    let loads = [("a", 0), ("b", 0), ("c", 0)].map(|(name, _)| (name, Load::default()));
    let backend = || Scripted {
        loads: loads.to_vec(),
        ..Scripted::of(&script)
    };
    let (pool, clock) = pool_of(backend(), boxes(2, &[("a", Some(1)), ("b", Some(1))]));
    pool.warm(2, clock.now() + SECOND).await;
    // `c` comes in the place of `a`, at another index than in the definition.
    let changed = boxes(2, &[("b", Some(1)), ("c", Some(1))]);
    pool.reconfigure(changed, Some(Arc::new(backend())));
    settle_down().await;
    pool.warm(2, clock.now() + SECOND).await;
    for (busy, idlest) in [(1, "c"), (2, "b")] {
        for (index, (_, load)) in loads.iter().enumerate() {
            // What is in the definition no more says that it has nothing to do: nobody may hear that.
            load.set(match index {
                0 => 0,
                index if index == busy => 5,
                _ => 1,
            });
        }
        assert_eq!(&*next_at(&pool, &clock).await, idlest);
    }
}

#[tokio::test(start_paused = true)]
async fn another_limit_of_an_endpoint_leaves_its_sessions_as_they_are() {
    let script = Script::new();
    let (pool, clock) = pool(&script, boxes(4, &[("a", Some(2)), ("b", Some(2))]));
    pool.warm(4, clock.now() + SECOND).await;
    let ids = || {
        let mut ids: Vec<_> = pool.sessions().into_iter().map(|session| session.id).collect();
        ids.sort_unstable();
        ids
    };
    let before = ids();
    pool.reconfigure(boxes(4, &[("a", Some(3)), ("b", Some(2))]), None);
    settle_down().await;
    assert_eq!((ids(), script.dials()), (before.clone(), 4), "raised");
    pool.reconfigure(boxes(4, &[("a", Some(1)), ("b", Some(2))]), None);
    settle_down().await;
    let left = ids();
    assert_eq!(
        (left.len(), script.dials()),
        (3, 4),
        "one too many at `a` has closed"
    );
    assert!(left.iter().all(|id| before.contains(id)));
}
