//! A store that is down, and one that does not say what it has done.

use super::{Bench, Call, deletion, doubles::Mood, echo, is_unavailable, is_unknown};
use crate::{error::Error, proto::PoolState};

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_costs_writes_and_applies_nothing() {
    let bench = Bench::new();
    let before = bench.catalog.create(echo("orders", 3), false).await.unwrap();
    bench.pools.take();
    bench.store.mood(Mood::Down);
    let refused = bench.catalog.create(echo("carts", 3), false).await.unwrap_err();
    assert!(is_unavailable(&refused), "{refused:?}");
    let refused = bench
        .catalog
        .update(echo("orders", 4), None, false)
        .await
        .unwrap_err();
    assert!(is_unavailable(&refused), "{refused:?}");
    let refused = bench.catalog.delete(deletion("orders")).await.unwrap_err();
    assert!(is_unavailable(&refused), "{refused:?}");
    assert_eq!(bench.pools.take(), []);
    assert_eq!(bench.catalog.list(0, "").unwrap().0, [before]);

    bench.store.mood(Mood::Well);
    bench.catalog.create(echo("carts", 3), false).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn definitions_load_when_the_store_comes_up() {
    let bench = Bench::new();
    bench.store.plant("orders", 1, r#"{"echo": {}}"#);
    bench.store.mood(Mood::Down);
    let catalog = bench.catalog.clone();
    let loading = tokio::spawn(async move { catalog.load().await });
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(!loading.is_finished() && bench.pools.take().is_empty());
    bench.store.mood(Mood::Well);
    loading.await.unwrap().unwrap();
    assert_eq!(bench.pools.take(), [Call::Add("orders".into(), 10)]);
}

#[tokio::test(start_paused = true)]
async fn a_creation_whose_answer_was_lost_is_applied_when_the_store_is_back() {
    let bench = Bench::new();
    bench.store.mood(Mood::LosesAnswer);
    let unknown = bench.catalog.create(echo("orders", 3), false).await.unwrap_err();
    assert!(is_unknown(&unknown), "{unknown:?}");
    assert!(bench.catalog.get("orders").is_err() && bench.pools.take().is_empty());
    let reserved = bench.catalog.create(echo("orders", 5), false).await.unwrap_err();
    assert!(is_unavailable(&reserved), "{reserved:?}");
    assert!(reserved.error.to_string().contains("store"), "{reserved}");

    bench.store.mood(Mood::Well);
    assert_eq!(bench.pools.next().await, [Call::Add("orders".into(), 3)]);
    let exists = bench.catalog.create(echo("orders", 5), false).await.unwrap_err();
    assert!(matches!(exists.error, Error::PoolExists { .. }), "{exists:?}");
    assert_eq!(bench.catalog.get("orders").unwrap().state(), PoolState::Active);
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_did_not_reach_the_store_is_forgotten_when_it_is_back() {
    let bench = Bench::new();
    bench.store.mood(Mood::LosesWrite);
    let unknown = bench.catalog.create(echo("orders", 3), false).await.unwrap_err();
    assert!(is_unknown(&unknown), "{unknown:?}");
    // Shorter than any pause before the store is asked again: it is well, and the catalog does not know that yet.
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    bench.store.mood(Mood::Well);
    let reserved = bench.catalog.create(echo("orders", 5), false).await.unwrap_err();
    assert!(is_unavailable(&reserved), "{reserved:?}");
    // Longer than any pause before the store is asked again.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    assert_eq!(bench.pools.take(), []);
    bench.catalog.create(echo("orders", 5), false).await.unwrap();
    assert_eq!(bench.pools.take(), [Call::Add("orders".into(), 5)]);
}

#[tokio::test(start_paused = true)]
async fn an_update_whose_answer_was_lost_is_applied_when_the_store_is_back() {
    let bench = Bench::new();
    bench.catalog.create(echo("orders", 3), false).await.unwrap();
    bench.pools.take();
    bench.store.mood(Mood::LosesAnswer);
    let unknown = bench
        .catalog
        .update(echo("orders", 4), None, false)
        .await
        .unwrap_err();
    assert!(is_unknown(&unknown), "{unknown:?}");
    assert_eq!(bench.catalog.get("orders").unwrap().spec, echo("orders", 3).spec);
    for refused in [
        bench
            .catalog
            .update(echo("orders", 5), None, false)
            .await
            .unwrap_err(),
        bench.catalog.delete(deletion("orders")).await.unwrap_err(),
    ] {
        assert!(is_unavailable(&refused), "{refused:?}");
    }
    bench.store.mood(Mood::Well);
    assert_eq!(
        bench.pools.next().await,
        [Call::Change("orders".into(), 4, false)]
    );
    bench
        .catalog
        .update(echo("orders", 5), None, false)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deletion_whose_answer_was_lost_goes_on_when_the_store_is_back() {
    let bench = Bench::new();
    bench.catalog.create(echo("orders", 3), false).await.unwrap();
    bench.pools.take();
    bench.store.mood(Mood::LosesAnswer);
    let unknown = bench.catalog.delete(deletion("orders")).await.unwrap_err();
    assert!(is_unknown(&unknown), "{unknown:?}");
    assert_eq!(bench.catalog.get("orders").unwrap().state(), PoolState::Active);
    bench.store.mood(Mood::Well);
    let drain = std::time::Duration::from_secs(7);
    assert_eq!(
        bench.pools.next().await,
        [Call::Remove("orders".into(), drain, false)]
    );
    assert_eq!(bench.catalog.get("orders").unwrap().state(), PoolState::Draining);
    bench.pools.empty_one();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(bench.catalog.get("orders").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_did_not_reach_the_store_leaves_the_pool_as_it_was() {
    let bench = Bench::new();
    bench.catalog.create(echo("orders", 3), false).await.unwrap();
    bench.pools.take();
    bench.store.mood(Mood::LosesWrite);
    assert!(is_unknown(
        &bench.catalog.delete(deletion("orders")).await.unwrap_err()
    ));
    bench.store.mood(Mood::Well);
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    assert_eq!(bench.pools.take(), []);
    bench
        .catalog
        .update(echo("orders", 4), None, false)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_another_broker_has_taken_is_told_as_draining() {
    let bench = Bench::new();
    bench.store.mood(Mood::Taken);
    let refused = bench.catalog.create(echo("orders", 3), false).await.unwrap_err();
    assert!(matches!(refused.error, Error::BrokerDraining), "{refused:?}");
}
