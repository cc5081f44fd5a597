//! Updates.

use prost_types::{Duration as Span, FieldMask};

use super::{Bench, Call, echo, faults};
use crate::{
    error::Error,
    proto::{EchoBackend, Endpoint, HttpBackend, LlmBackend, Pool, PoolSpec, pool_spec::Backend},
};

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask {
        paths: paths.iter().map(ToString::to_string).collect(),
    })
}

#[tokio::test(start_paused = true)]
async fn changed_limits_replace_no_session_and_a_changed_backend_replaces_them() {
    let bench = Bench::new();
    let first = bench.catalog.create(echo("orders", 3), false).await.unwrap();
    let second = bench
        .catalog
        .update(echo("orders", 4), None, false)
        .await
        .unwrap();
    assert_ne!(first.etag, second.etag);
    let mut slow = echo("orders", 4);
    slow.spec.as_mut().unwrap().backend = Some(Backend::Echo(EchoBackend {
        dial_delay: Some(Span { seconds: 1, nanos: 0 }),
    }));
    bench.catalog.update(slow, None, false).await.unwrap();
    assert_eq!(
        bench.pools.take(),
        [
            Call::Add("orders".into(), 3),
            Call::Change("orders".into(), 4, false),
            Call::Change("orders".into(), 4, true),
        ]
    );
    assert_eq!(bench.store.rows(), [("orders".into(), 3)]);
}

#[tokio::test(start_paused = true)]
async fn an_old_etag_is_refused_and_a_fitting_or_missing_one_is_not() {
    let bench = Bench::new();
    let first = bench.catalog.create(echo("orders", 3), false).await.unwrap();
    let with = |etag: &str| Pool {
        etag: etag.into(),
        ..echo("orders", 5)
    };
    let second = bench
        .catalog
        .update(with(&first.etag), None, false)
        .await
        .unwrap();
    let stale = bench
        .catalog
        .update(with(&first.etag), None, false)
        .await
        .unwrap_err();
    assert!(matches!(stale.error, Error::EtagMismatch));
    bench.catalog.update(with(""), None, false).await.unwrap();
    assert_ne!(bench.catalog.get("orders").unwrap().etag, second.etag);
}

#[tokio::test(start_paused = true)]
async fn the_etag_of_an_earlier_pool_of_the_name_does_not_fit() {
    let bench = Bench::new();
    let first = bench.catalog.create(echo("orders", 3), false).await.unwrap();
    bench.pools.empty_one();
    bench.catalog.delete(super::deletion("orders")).await.unwrap();
    tokio::time::advance(std::time::Duration::from_micros(1)).await;
    let second = bench.catalog.create(echo("orders", 3), false).await.unwrap();
    assert_ne!(first.etag, second.etag);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_not_there_cannot_be_updated() {
    let bench = Bench::new();
    let missing = bench
        .catalog
        .update(echo("orders", 3), None, false)
        .await
        .unwrap_err();
    assert!(matches!(missing.error, Error::PoolNotFound { .. }));
    assert_eq!(missing.place.pool.as_deref(), Some("orders"));
}

#[tokio::test(start_paused = true)]
async fn the_kind_never_changes_and_every_other_fault_is_told_with_it() {
    let bench = Bench::new();
    bench.catalog.create(echo("orders", 3), false).await.unwrap();
    let http = Pool {
        spec: Some(PoolSpec {
            endpoints: vec![Endpoint {
                address: "localhost:80".into(),
                ..Endpoint::default()
            }],
            backend: Some(Backend::Http(HttpBackend::default())),
            ..PoolSpec::default()
        }),
        ..echo("orders", 0)
    };
    let found = faults(bench.catalog.update(http.clone(), None, false).await);
    assert!(found.contains(&"pool.spec.http".into()), "{found:?}");
    let mut worse = http;
    worse.spec.as_mut().unwrap().sizing = echo("orders", 0).spec.unwrap().sizing;
    let found = faults(bench.catalog.update(worse, None, false).await);
    assert!(
        found.contains(&"pool.spec.sizing.max_sessions".into()),
        "{found:?}"
    );
    assert!(found.contains(&"pool.spec.http".into()), "{found:?}");
    assert_eq!(bench.store.rows(), [("orders".into(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_masked_field_without_a_value_goes_back_to_its_default() {
    let bench = Bench::new();
    bench.catalog.create(echo("orders", 3), false).await.unwrap();
    let named = Pool {
        name: "orders".into(),
        ..Pool::default()
    };
    let paths = mask(&["spec.sizing.max_sessions"]);
    bench.catalog.update(named, paths, false).await.unwrap();
    assert_eq!(bench.pools.take()[1], Call::Change("orders".into(), 10, false));
}

#[tokio::test(start_paused = true)]
async fn every_bad_path_of_a_mask_is_told() {
    let bench = Bench::new();
    bench.catalog.create(echo("orders", 3), false).await.unwrap();
    let paths = mask(&["spec.sizing.max_sesions", "state", "spec.sizing.min_sessions"]);
    let refused = bench.catalog.update(echo("orders", 4), paths, false).await;
    assert_eq!(faults(refused), ["update_mask", "update_mask"]);
    assert_eq!(bench.store.rows(), [("orders".into(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_somebody_else_changed_is_a_conflict_and_then_read_again() {
    let bench = Bench::new();
    bench.catalog.create(echo("orders", 3), false).await.unwrap();
    bench.pools.take();
    bench
        .store
        .plant("orders", 9, r#"{"echo": {}, "sizing": {"maxSessions": 8}}"#);
    let conflict = bench
        .catalog
        .update(echo("orders", 4), None, false)
        .await
        .unwrap_err();
    assert!(matches!(conflict.error, Error::EtagMismatch));
    assert_eq!(
        bench.pools.next().await,
        [Call::Change("orders".into(), 8, false)]
    );
}

/// An `llm` pool with these endpoints: name, address and limit.
fn at(endpoints: &[(&str, &str, u32)]) -> Pool {
    let endpoint = |(name, address, limit): &(&str, &str, u32)| Endpoint {
        name: (*name).into(),
        address: (*address).into(),
        max_sessions: Some(*limit),
    };
    Pool {
        spec: Some(PoolSpec {
            endpoints: endpoints.iter().map(endpoint).collect(),
            backend: Some(Backend::Llm(LlmBackend::default())),
            ..PoolSpec::default()
        }),
        ..echo("chat", 0)
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_are_replaced_only_where_endpoints_are_others_than_before() {
    let bench = Bench::new();
    let first = at(&[("a", "http://box:80", 1), ("", "two:80", 1)]);
    bench.catalog.create(first, false).await.unwrap();
    bench.pools.take();
    for (endpoints, replaced) in [
        // Another limit.
        ([("a", "http://box:80", 3), ("", "two:80", 1)], false),
        // The same place, written otherwise; what it is called stays.
        ([("a", "BOX:80", 3), ("", "two:80", 1)], false),
        ([("a", "http://box/", 3), ("two:80", "two:80", 1)], false),
        // Its name is its address, so it has another name now.
        ([("a", "http://box/", 3), ("", "TWO:80", 1)], true),
        ([("b", "http://box/", 3), ("", "TWO:80", 1)], true),
        ([("b", "http://box/v2", 3), ("", "TWO:80", 1)], true),
        ([("b", "https://box:80/v2", 3), ("", "TWO:80", 1)], true),
        ([("b", "https://box:80/v2", 3), ("", "two:81", 1)], true),
    ] {
        bench.catalog.update(at(&endpoints), None, false).await.unwrap();
        let limit = endpoints.iter().map(|endpoint| endpoint.2).sum();
        assert_eq!(
            bench.pools.take(),
            [Call::Change("chat".into(), limit, replaced)],
            "{endpoints:?}"
        );
    }
}
