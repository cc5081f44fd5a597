//! Failures that other pools are known for, each with the one-line break that would bring it here: those that need
//! tasks and time. The figures are those of the table that the pool was designed by.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};

use super::scripted::{SECOND, Script, ms, pool, sized, within};
use crate::{
    backend::DialErrorKind,
    pool::{GiveBack, Held, Pool, Refusal, Settings},
};

/// Broken by leaving out `Drop for Acquire`.
#[tokio::test(start_paused = true)]
async fn failure_01_a_cancelled_acquire_leaks_its_place() {
    for polls in 0..12 {
        let script = Script::dialing_in(ms(3));
        let (pool, clock) = pool(&script, sized(1));
        let mut acquire = Box::pin(pool.acquire(within(&clock, SECOND)));
        for _ in 0..polls {
            let mut cx = Context::from_waker(Waker::noop());
            if acquire.poll_unpin(&mut cx).is_ready() {
                break;
            }
            tokio::time::sleep(ms(1)).await;
        }
        drop(acquire);
        let stats = pool.stats();
        assert_eq!(
            stats.total,
            stats.idle + stats.active + stats.dialing + stats.closing
        );
        assert_eq!(stats.waiters, 0);
        let next = pool.acquire(within(&clock, SECOND)).await;
        assert!(next.is_ok(), "dropped after {polls} polls");
    }
}

/// Broken by treating a granted place in `Exchange::cancel` like one that was refused.
#[tokio::test(start_paused = true)]
async fn failure_02_a_grant_to_a_dropped_waiter_is_lost() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(1));
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    let mut first = Box::pin(pool.acquire(within(&clock, SECOND)));
    let mut second = Box::pin(pool.acquire(within(&clock, SECOND)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.poll_unpin(&mut cx).is_pending() && second.poll_unpin(&mut cx).is_pending());
    held.give_back(GiveBack::Used);
    drop(first);
    let Poll::Ready(Ok(held)) = second.poll_unpin(&mut cx) else {
        panic!("the next one has it in the same step")
    };
    assert!(held.reused() && held.fence().is_open());
    assert_eq!((script.dials(), pool.stats().waiters), (1, 0));
}

/// Broken by leaving out the waking in `Pool::finish`, or the storing of the waker in `Exchange::poll`.
#[tokio::test(start_paused = true)]
async fn failure_03_a_wake_up_is_lost() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(3));
    let began = clock.now();
    let tasks = (0..50_u64).map(|task| {
        let (pool, clock) = (Arc::clone(&pool), clock.clone());
        tokio::spawn(async move {
            for round in 0..40 {
                if (task + round) % 7 == 0 {
                    let _given_up = pool.acquire(within(&clock, SECOND)).now_or_never();
                    continue;
                }
                let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
                tokio::task::yield_now().await;
                held.give_back(GiveBack::Used);
            }
        })
    });
    join_all(tasks)
        .await
        .into_iter()
        .for_each(|done| done.expect("no panic"));
    assert_eq!(clock.now(), began, "nobody slept until a timer woke it");
}

/// Broken by serving the `last` of a class instead of its `first`, in `Lines::firsts`.
#[tokio::test(start_paused = true)]
async fn failure_04_barging_starves() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(8));
    pool.warm(8, clock.now() + SECOND).await;
    let done: Arc<Vec<AtomicU64>> = Arc::new((0..64).map(|_| AtomicU64::new(0)).collect());
    let left = Arc::new(AtomicU32::new(20_000));
    let tasks = (0..64).map(|task| {
        let (pool, clock, done, left) = (
            Arc::clone(&pool),
            clock.clone(),
            Arc::clone(&done),
            Arc::clone(&left),
        );
        tokio::spawn(async move {
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
            {
                let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
                tokio::task::yield_now().await;
                held.give_back(GiveBack::Used);
                done[task].fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    join_all(tasks).await;
    let shares: Vec<f64> = done
        .iter()
        .map(|count| count.load(Ordering::Relaxed) as f64)
        .collect();
    let (sum, squares) = (
        shares.iter().sum::<f64>(),
        shares.iter().map(|share| share * share).sum::<f64>(),
    );
    let jain = sum * sum / (64.0 * squares);
    let (least, most) = shares.iter().fold((f64::MAX, 0.0_f64), |(least, most), share| {
        (least.min(*share), most.max(*share))
    });
    assert!(
        jain >= 0.999 && most / least <= 1.10,
        "Jain {jain}, {least} to {most}"
    );
}

/// Broken by dialing in the caller's own future; or by dropping a dial when its waiter is cancelled.
#[tokio::test(start_paused = true)]
async fn failure_06_dial_outlives_its_caller() {
    let script = Script::dialing_in(ms(80));
    let (pool, clock) = pool(&script, sized(20));
    let mut served = 0;
    for _ in 0..20 {
        if let Ok(Ok(held)) = tokio::time::timeout(ms(50), pool.acquire(within(&clock, SECOND))).await {
            served += 1;
            held.give_back(GiveBack::Used);
        }
    }
    assert!(served >= 19, "{served} of 20 served");
    assert_eq!(script.dials(), 1);
}

/// Broken by leaving out the best waiter in `Core::settle`.
#[tokio::test(start_paused = true)]
async fn failure_07_a_caller_that_dials_ignores_what_is_given_back() {
    let script = Script::new();
    let (pool, clock) = pool(&script, sized(2));
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    *script.dial_takes.lock() = ms(3001);
    let began = clock.now();
    let waiter = tokio::spawn(pool.acquire(within(&clock, SECOND * 5)));
    tokio::time::sleep(ms(100)).await;
    assert_eq!(pool.stats().dialing, 1, "a dial is under way for it");
    held.give_back(GiveBack::Used);
    let held = waiter.await.expect("runs").expect("granted");
    assert!(held.reused() && clock.now().since(began) <= ms(101));
}

/// Broken by letting the gate open for every waiter.
#[tokio::test(start_paused = true)]
async fn failure_08_a_spike_dials_for_everyone() {
    let script = Script::dialing_in(ms(150));
    let (pool, clock) = pool(&script, sized(50));
    pool.warm(5, clock.now() + SECOND * 2).await;
    let (before, began) = (script.dials(), clock.now());
    let callers = (0..50).map(|_| {
        let (pool, clock) = (Arc::clone(&pool), clock.clone());
        tokio::spawn(async move {
            let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
            tokio::time::sleep(ms(2)).await;
            held.give_back(GiveBack::Used);
            clock.now()
        })
    });
    let ends = join_all(callers).await.into_iter().map(|end| end.expect("runs"));
    let last = ends.max().expect("some").since(began);
    assert!(script.dials() - before <= 1, "{} dials", script.dials() - before);
    assert!(last <= ms(35), "the last after {last:?}");
}

/// Broken by leaving out the failing backend in the gate, or `retry_at` in `Dialing::failed`.
#[tokio::test(start_paused = true)]
async fn failure_09_no_back_off_when_the_backend_is_down() {
    let script = Script::dialing_in(ms(1));
    script.refuse(Some(DialErrorKind::Transient));
    let (pool, clock) = pool(&script, sized(10));
    let callers = (0..64).map(|_| {
        let (pool, clock) = (Arc::clone(&pool), clock.clone());
        tokio::spawn(async move {
            let until = clock.now() + SECOND * 2;
            while clock.now() < until {
                let refused = pool.acquire(within(&clock, ms(100))).await.expect_err("it is down");
                let honest = matches!(refused, Refusal::Unreachable { retry_after: Some(after), .. } if after <= SECOND * 30);
                assert!(honest, "{refused:?}");
            }
        })
    });
    join_all(callers)
        .await
        .into_iter()
        .for_each(|done| done.expect("no panic"));
    assert!((2..=10).contains(&script.dials()), "{} dials", script.dials());
    assert_eq!(script.most_dialing.load(Ordering::SeqCst), 1, "one at a time");
}

/// Broken by changing a count outside `set_state`, `insert` or `remove`: for example by lowering `waiters` only when
/// the waiter has woken.
#[tokio::test(start_paused = true)]
async fn failure_13_a_gauge_runs_ahead_of_the_truth() {
    let script = Script::dialing_in(ms(1));
    *script.close_takes.lock() = ms(1);
    let (pool, clock) = pool(&script, sized(4));
    let tasks = (0..12_u64).map(|task| {
        let (pool, clock) = (Arc::clone(&pool), clock.clone());
        tokio::spawn(async move {
            for round in 0..20 {
                let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
                sample(&pool);
                tokio::time::sleep(ms(task % 3)).await;
                held.give_back(if (task + round) % 5 == 0 {
                    GiveBack::Discard
                } else {
                    GiveBack::Used
                });
                sample(&pool);
            }
        })
    });
    join_all(tasks)
        .await
        .into_iter()
        .for_each(|done| done.expect("no panic"));
    tokio::time::sleep(SECOND).await;
    let stats = pool.stats();
    assert_eq!(
        (stats.active, stats.waiters, stats.closing, stats.total),
        (0, 0, 0, stats.idle)
    );
    assert_eq!(
        u64::from(stats.total),
        stats.sessions_created - stats.sessions_closed
    );
}

fn sample(pool: &Pool) {
    let stats = pool.stats();
    let parts = stats.active + stats.idle + stats.dialing + stats.probing + stats.resetting + stats.closing;
    assert!(
        stats.total == parts && stats.total <= stats.max && stats.waiters <= 12,
        "{stats:?}"
    );
    assert_eq!(
        stats.acquires,
        stats.granted + stats.refused + stats.cancelled + u64::from(stats.waiters)
    );
}

/// Broken by removing the session in `Core::close` instead of `Core::closed`.
#[tokio::test(start_paused = true)]
async fn failure_19_a_closing_session_counts_as_gone() {
    let script = Script::new();
    *script.close_takes.lock() = ms(100);
    let (pool, clock) = pool(&script, sized(1));
    let held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    let began = clock.now();
    held.give_back(GiveBack::Discard);
    let held: Held = pool.acquire(within(&clock, SECOND)).await.expect("granted");
    assert!(!held.reused() && clock.now().since(began) >= ms(100));
    assert_eq!(
        script.most_open.load(Ordering::SeqCst),
        1,
        "never two sockets at the backend"
    );
}

/// Broken by leaving out the time limit in `bounded`.
#[tokio::test(start_paused = true)]
async fn a_dial_without_end_ends_at_its_limit() {
    let script = Script::dialing_in(Duration::from_secs(3600));
    let settings = Settings {
        connect: SECOND,
        ..sized(1)
    };
    let (pool, clock) = pool(&script, settings);
    let refused = pool
        .acquire(within(&clock, SECOND * 3))
        .await
        .expect_err("it never answers");
    assert!(matches!(refused, Refusal::Unreachable { message, .. } if message.contains("1s")));
    assert!(script.dials() >= 2, "and is tried again");
}

/// Broken by leaving out `Backend::withdraw` in `Pool::open`.
#[tokio::test(start_paused = true)]
async fn a_dial_that_came_to_nothing_counts_until_what_it_left_is_withdrawn() {
    for slow in [false, true] {
        let script = Script::new();
        if slow {
            *script.dial_takes.lock() = 1000 * SECOND;
        } else {
            script.refuse(Some(DialErrorKind::Transient));
        }
        *script.withdraw_takes.lock() = ms(500);
        let settings = sized(1);
        let began = if slow { settings.connect } else { ms(0) };
        let (pool, clock) = pool(&script, settings);
        let mut acquire = Box::pin(pool.acquire(within(&clock, 1000 * SECOND)));
        assert!(acquire.as_mut().now_or_never().is_none());
        tokio::time::sleep(began + ms(450)).await;
        assert_eq!(
            (script.did("withdraw"), pool.stats().dialing),
            (1, 1),
            "slow: {slow}"
        );
        tokio::time::sleep(ms(90)).await;
        assert_eq!(pool.stats().dialing, 0, "slow: {slow}");
    }
}
