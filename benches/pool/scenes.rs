//! What the three are put through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use sublet::clock::Clock;

use crate::contenders::Contender;

const ALONE: u32 = 300_000;
const TASKS: u32 = 64;

/// Opens sessions by holding that many at once.
pub(crate) async fn open<C: Contender>(pool: &Arc<C>, count: u32) {
    let held = join_all((0..count).map(|_| pool.take())).await;
    held.into_iter().flatten().for_each(C::give);
}

/// One task takes and gives; nanoseconds for both.
pub(crate) async fn alone<C: Contender>(pool: &Arc<C>) -> f64 {
    let clock = Clock::real();
    for _ in 0..ALONE {
        let held = pool.take().await.expect("a session");
        C::give(held);
    }
    clock.now().since(clock_start()).as_secs_f64() * 1e9 / f64::from(ALONE)
}

/// A clock's time begins when it is made.
fn clock_start() -> sublet::clock::Time {
    sublet::clock::Time::ZERO
}

/// How a race went.
pub(crate) struct Race {
    /// Nanoseconds for one operation, over all tasks.
    pub(crate) nanos: f64,
    /// Jain's index of the tasks' shares: 1 is perfectly fair.
    pub(crate) jain: f64,
    /// The largest share over the smallest.
    pub(crate) spread: f64,
}

/// 64 tasks take turns for 300 ms, each yielding while it holds a session.
pub(crate) async fn race<C: Contender>(pool: &Arc<C>) -> Race {
    let stop = Arc::new(AtomicBool::new(false));
    let clock = Clock::real();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (pool, stop) = (Arc::clone(pool), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut done = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    let held = pool.take().await.expect("a session");
                    tokio::task::yield_now().await;
                    C::give(held);
                    done += 1;
                }
                done
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    let took = clock.now().since(clock_start()).as_secs_f64() * 1e9;
    let shares: Vec<f64> = join_all(tasks)
        .await
        .into_iter()
        .map(|done| f64::from(done.expect("it ends")))
        .collect();
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    let least = shares.iter().copied().fold(f64::MAX, f64::min);
    let most = shares.iter().copied().fold(0.0, f64::max);
    Race {
        nanos: took / sum,
        jain: sum * sum / (f64::from(TASKS) * squares),
        spread: most / least,
    }
}

/// Everyday work before a spike: 2 ms each, two at a time, fifty times.
pub(crate) async fn work<C: Contender>(pool: &Arc<C>) {
    for _ in 0..50 {
        let held = join_all([pool.take(), pool.take()]).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        held.into_iter().flatten().for_each(C::give);
    }
}

/// 50 requests at once over the idle sessions there are, 2 ms of work each; dials, and when the last was done.
pub(crate) async fn spike<C: Contender>(pool: &Arc<C>) -> (u64, Duration) {
    let before = pool.world().dials.load(Ordering::Relaxed);
    let clock = Clock::real();
    let callers = (0..50).map(|_| {
        let pool = Arc::clone(pool);
        tokio::spawn(async move {
            let held = pool.take().await.expect("a session");
            tokio::time::sleep(Duration::from_millis(2)).await;
            C::give(held);
        })
    });
    join_all(callers).await;
    let last = clock.now().since(clock_start());
    (pool.world().dials.load(Ordering::Relaxed) - before, last)
}

/// 64 callers with 100 ms of patience go on asking for 2 s; dials, and the most at one time.
pub(crate) async fn down<C: Contender>(pool: Arc<C>) -> (u64, u32) {
    let clock = Clock::real();
    let until = clock.now() + Duration::from_secs(2);
    let callers = (0..TASKS).map(|_| {
        let (pool, clock) = (Arc::clone(&pool), clock.clone());
        tokio::spawn(async move {
            while clock.now() < until {
                let refused = pool.take_within(Duration::from_millis(100)).await.is_none();
                assert!(refused, "the backend is down");
            }
        })
    });
    join_all(callers).await;
    let world = pool.world();
    (
        world.dials.load(Ordering::Relaxed),
        world.most_dialing.load(Ordering::Relaxed),
    )
}

/// 20 callers one after another with 50 ms of patience while a dial takes 80 ms; callers served, and dials.
pub(crate) async fn cancelled<C: Contender>(pool: Arc<C>) -> (u32, u64) {
    let mut served = 0;
    for _ in 0..20 {
        if let Some(held) = pool.take_within(Duration::from_millis(50)).await {
            served += 1;
            C::give(held);
        }
    }
    (served, pool.world().dials.load(Ordering::Relaxed))
}
