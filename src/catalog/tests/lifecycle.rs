//! From creation to deletion, and over a restart.

use std::time::Duration;

use super::{Bench, Call, deletion, doubles::Mood, echo, faults};
use crate::{
    error::Error,
    proto::{DeletePoolRequest, Pool, PoolState},
};

const DRAIN: Duration = Duration::from_secs(7);

#[tokio::test(start_paused = true)]
async fn a_created_pool_is_stored_then_started_then_shown() {
    let bench = Bench::new();
    let created = bench.catalog.create(echo("orders", 3), false).await.unwrap();
    assert_eq!(bench.store.rows(), [("orders".into(), 1)]);
    assert_eq!(bench.pools.take(), [Call::Add("orders".into(), 3)]);
    assert_eq!(created.state(), PoolState::Active);
    assert_eq!(created.spec, echo("orders", 3).spec);
    assert!(!created.etag.is_empty() && created.create_time.is_some());
    assert_eq!(bench.catalog.get("orders").unwrap(), created);
    assert_eq!(
        bench.store.spec("orders"),
        r#"{"echo":{},"sizing":{"maxSessions":3}}"#
    );
}

#[tokio::test(start_paused = true)]
async fn validation_alone_stores_and_starts_nothing() {
    let bench = Bench::new();
    bench.catalog.create(echo("orders", 3), true).await.unwrap();
    assert_eq!(
        faults(bench.catalog.create(echo("Orders", 0), true).await),
        ["pool.name", "pool.spec.sizing.max_sessions"]
    );
    assert!(bench.store.rows().is_empty() && bench.pools.take().is_empty());
    assert!(bench.catalog.get("orders").is_err());

    bench.catalog.create(echo("orders", 3), false).await.unwrap();
    let exists = bench.catalog.create(echo("orders", 3), true).await.unwrap_err();
    assert!(matches!(exists.error, Error::PoolExists { .. }), "{exists:?}");
    let would = bench.catalog.update(echo("orders", 4), None, true).await.unwrap();
    assert_eq!(would.spec, echo("orders", 4).spec);
    assert_eq!(bench.catalog.get("orders").unwrap().spec, echo("orders", 3).spec);
    assert_eq!(bench.store.rows(), [("orders".into(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_bad_definition_changes_nothing() {
    let bench = Bench::new();
    let bad = Pool {
        name: "orders".into(),
        ..Pool::default()
    };
    assert_eq!(faults(bench.catalog.create(bad, false).await), ["pool.spec"]);
    assert!(bench.store.rows().is_empty() && bench.pools.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restart_brings_every_pool_back() {
    let bench = Bench::new();
    for name in ["orders", "carts"] {
        bench.catalog.create(echo(name, 3), false).await.unwrap();
    }
    bench.catalog.update(echo("carts", 5), None, false).await.unwrap();
    let before = bench.catalog.list(0, "").unwrap();
    let again = Bench::over(bench.store);
    again.catalog.load().await.unwrap();
    assert_eq!(again.catalog.list(0, "").unwrap(), before);
    assert_eq!(
        again.pools.take(),
        [Call::Add("carts".into(), 5), Call::Add("orders".into(), 3)]
    );
    again.catalog.load().await.unwrap();
    assert_eq!(again.pools.take(), [], "what is loaded is loaded");
}

#[tokio::test(start_paused = true)]
async fn a_stored_definition_of_a_newer_version_is_served_without_what_is_unknown() {
    let bench = Bench::new();
    let spec = r#"{"echo": {"colour": "red"}, "sizing": {"max_sessions": 4}, "breaker": {"after": 5}}"#;
    bench.store.plant("orders", 3, spec);
    bench.catalog.load().await.unwrap();
    assert_eq!(bench.pools.take(), [Call::Add("orders".into(), 4)]);
    assert_eq!(bench.catalog.get("orders").unwrap().spec, echo("orders", 4).spec);
}

#[tokio::test(start_paused = true)]
async fn a_stored_definition_that_is_no_longer_valid_is_listed_and_can_be_mended_or_deleted() {
    let bench = Bench::new();
    bench
        .store
        .plant("orders", 3, r#"{"echo": {}, "sizing": {"maxSessions": 0}}"#);
    bench.store.plant("carts", 1, "what is this");
    bench.store.plant("users", 1, r#"{"echo": {}}"#);
    bench.catalog.load().await.unwrap();
    assert_eq!(
        bench.pools.take(),
        [Call::Add("users".into(), 10)],
        "the others are served"
    );
    for name in ["orders", "carts"] {
        assert_eq!(bench.catalog.get(name).unwrap().state(), PoolState::Invalid);
    }
    bench
        .catalog
        .update(echo("orders", 2), None, false)
        .await
        .unwrap();
    assert_eq!(bench.pools.take(), [Call::Add("orders".into(), 2)]);
    assert_eq!(bench.catalog.get("orders").unwrap().state(), PoolState::Active);
    bench.catalog.delete(deletion("carts")).await.unwrap();
    assert_eq!(bench.pools.take(), [], "it had no pool");
    assert!(bench.catalog.get("carts").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_row_goes_first_and_the_name_stays_reserved_until_the_pool_is_gone() {
    let bench = Bench::new();
    bench.catalog.create(echo("orders", 3), false).await.unwrap();
    bench.pools.take();
    let catalog = bench.catalog.clone();
    let deleting = tokio::spawn(async move { catalog.delete(deletion("orders")).await });
    assert_eq!(
        bench.pools.next().await,
        [Call::Remove("orders".into(), DRAIN, false)]
    );
    assert!(bench.store.rows().is_empty());
    assert_eq!(bench.catalog.get("orders").unwrap().state(), PoolState::Draining);
    assert_eq!(bench.catalog.list(0, "").unwrap().0.len(), 1);
    for refused in [
        bench.catalog.create(echo("orders", 3), false).await,
        bench.catalog.update(echo("orders", 3), None, false).await,
    ] {
        assert!(matches!(refused.unwrap_err().error, Error::PoolDraining));
    }
    bench.pools.empty_one();
    deleting.await.unwrap().unwrap();
    assert!(matches!(
        bench.catalog.get("orders").unwrap_err().error,
        Error::PoolNotFound { .. }
    ));
    bench.catalog.create(echo("orders", 3), false).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_times_out_does_not_undo_its_delete_and_another_joins_or_forces_it() {
    let bench = Bench::new();
    bench.catalog.create(echo("orders", 3), false).await.unwrap();
    bench.pools.take();
    let gone = tokio::time::timeout(Duration::from_secs(1), bench.catalog.delete(deletion("orders")));
    assert!(gone.await.is_err());
    assert_eq!(bench.catalog.get("orders").unwrap().state(), PoolState::Draining);
    let joins = tokio::time::timeout(Duration::from_secs(1), bench.catalog.delete(deletion("orders")));
    assert!(joins.await.is_err());
    assert_eq!(bench.pools.take(), [Call::Remove("orders".into(), DRAIN, false)]);
    let forced = DeletePoolRequest {
        force: true,
        ..deletion("orders")
    };
    bench.catalog.delete(forced).await.unwrap();
    assert_eq!(
        bench.pools.take(),
        [Call::Remove("orders".into(), Duration::ZERO, true)]
    );
    assert!(bench.catalog.get("orders").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_delete_checks_name_etag_and_drain_timeout() {
    let bench = Bench::new();
    let missing = bench.catalog.delete(deletion("orders")).await.unwrap_err();
    assert!(matches!(missing.error, Error::PoolNotFound { .. }));
    let old = bench.catalog.create(echo("orders", 3), false).await.unwrap();
    bench
        .catalog
        .update(echo("orders", 4), None, false)
        .await
        .unwrap();
    let stale = DeletePoolRequest {
        etag: old.etag,
        ..deletion("orders")
    };
    let stale = bench.catalog.delete(stale).await.unwrap_err();
    assert!(matches!(stale.error, Error::EtagMismatch));
    let long = DeletePoolRequest {
        drain_timeout: Some(prost_types::Duration {
            seconds: 3601,
            nanos: 0,
        }),
        ..deletion("orders")
    };
    assert_eq!(faults(bench.catalog.delete(long).await), ["drain_timeout"]);
    assert_eq!(bench.store.rows().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_paused_pool_is_shown_as_paused() {
    let bench = Bench::new();
    bench.catalog.create(echo("orders", 3), false).await.unwrap();
    bench.pools.pause("orders");
    assert_eq!(bench.catalog.get("orders").unwrap().state(), PoolState::Paused);
    assert_eq!(bench.catalog.list(0, "").unwrap().0[0].state(), PoolState::Paused);
}

#[tokio::test(start_paused = true)]
async fn pools_are_listed_by_name_a_page_at_a_time() {
    let bench = Bench::new();
    for number in [3, 1, 5, 2, 4] {
        bench
            .catalog
            .create(echo(&format!("p{number}"), 1), false)
            .await
            .unwrap();
    }
    let mut token = String::new();
    let mut pages = Vec::new();
    loop {
        let (pools, next) = bench.catalog.list(2, &token).unwrap();
        pages.push(
            pools
                .into_iter()
                .map(|pool| pool.name)
                .collect::<Vec<_>>()
                .join(" "),
        );
        token = next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, ["p1 p2", "p3 p4", "p5"]);
    assert_eq!(
        bench.catalog.list(5, "").unwrap().1,
        "",
        "a full last page is the last"
    );
    assert_eq!(bench.catalog.list(5000, "").unwrap().0.len(), 5);
    assert_eq!(
        faults(bench.catalog.list(-1, "No Name")),
        ["page_size", "page_token"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_page_never_grows_beyond_what_a_client_takes() {
    let bench = Bench::new();
    let spec = serde_json::json!({ "echo": {}, "endpoints": [{ "name": "x".repeat(900 * 1024) }] });
    for number in 0..5 {
        bench.store.plant(&format!("p{number}"), 1, &spec.to_string());
    }
    bench.catalog.load().await.unwrap();
    let (first, token) = bench.catalog.list(0, "").unwrap();
    assert_eq!((first.len(), token.as_str()), (3, "p2"));
    let (second, token) = bench.catalog.list(0, &token).unwrap();
    assert_eq!((second.len(), token.as_str()), (2, ""));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_another_broker_has_taken_ends_the_load() {
    let bench = Bench::new();
    bench.store.mood(Mood::Taken);
    assert!(matches!(
        bench.catalog.load().await.unwrap_err().error,
        Error::BrokerDraining
    ));
}
