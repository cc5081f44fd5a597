//! Several at once.

use futures_util::future::join_all;

use super::{Bench, Call, deletion, echo};
use crate::error::Error;

#[tokio::test(start_paused = true)]
async fn of_many_creators_of_one_name_one_wins() {
    let bench = Bench::new();
    let creators = (1..=20).map(|sessions| bench.catalog.create(echo("orders", sessions), false));
    let results = join_all(creators).await;
    let won: Vec<_> = results.iter().flatten().collect();
    assert_eq!(won.len(), 1);
    for refused in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(matches!(refused.error, Error::PoolExists { .. }), "{refused:?}");
    }
    assert_eq!(bench.pools.take().len(), 1);
    assert_eq!(bench.catalog.get("orders").unwrap(), *won[0]);
}

#[tokio::test(start_paused = true)]
async fn changes_of_one_pool_wait_for_each_other_and_those_of_others_do_not() {
    let bench = Bench::new();
    bench.store.hold_writes();
    let mut begun = bench.store.begun();
    let catalog = &bench.catalog;
    let work = async {
        tokio::join!(
            catalog.create(echo("orders", 1), false),
            catalog.create(echo("orders", 2), false),
            catalog.create(echo("carts", 3), false),
        )
    };
    let watch = async {
        begun.wait_for(|begun| *begun == 2).await.unwrap();
        // Everything that can run has run when paused time moves on.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(*begun.borrow(), 2, "the second change of `orders` waits");
        bench.store.let_writes_go();
    };
    let ((first, second, other), ()) = tokio::join!(work, watch);
    assert!(first.is_ok() && other.is_ok());
    assert!(matches!(second.unwrap_err().error, Error::PoolExists { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_in_the_middle_leaves_no_half_change() {
    let bench = Bench::new();
    bench.store.hold_writes();
    let mut begun = bench.store.begun();
    let caller = tokio::spawn({
        let catalog = bench.catalog.clone();
        async move { catalog.create(echo("orders", 3), false).await }
    });
    begun.wait_for(|begun| *begun == 1).await.unwrap();
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    bench.store.let_writes_go();
    assert_eq!(bench.pools.next().await, [Call::Add("orders".into(), 3)]);
    assert_eq!(bench.store.rows(), [("orders".into(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn of_two_updates_from_one_etag_one_wins() {
    let bench = Bench::new();
    let read = bench.catalog.create(echo("orders", 3), false).await.unwrap();
    let with = |sessions| crate::proto::Pool {
        etag: read.etag.clone(),
        ..echo("orders", sessions)
    };
    let (one, two) = tokio::join!(
        bench.catalog.update(with(4), None, false),
        bench.catalog.update(with(5), None, false)
    );
    let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
    assert_eq!(bench.catalog.get("orders").unwrap(), won.unwrap());
    assert!(matches!(lost.unwrap_err().error, Error::EtagMismatch));
    assert_eq!(bench.store.rows(), [("orders".into(), 2)]);
}

#[tokio::test(start_paused = true)]
async fn an_update_and_a_delete_come_one_after_the_other() {
    let bench = Bench::new();
    bench.catalog.create(echo("orders", 3), false).await.unwrap();
    bench.pools.empty_one();
    let (updated, deleted) = tokio::join!(
        bench.catalog.update(echo("orders", 4), None, false),
        bench.catalog.delete(deletion("orders"))
    );
    deleted.unwrap();
    assert!(updated.is_ok());
    assert!(bench.store.rows().is_empty());
    assert!(bench.catalog.get("orders").is_err());
}

#[tokio::test(start_paused = true)]
async fn names_that_nobody_changes_are_not_kept() {
    let bench = Bench::new();
    for _ in 0..3 {
        drop(join_all((1..=20).map(|n| bench.catalog.create(echo("orders", n), false))).await);
        bench.pools.empty_one();
        bench.catalog.delete(deletion("orders")).await.unwrap();
    }
    assert!(bench.catalog.0.turns.is_empty());
}
