//! How many connections there ever are, counted where they pass.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use sublet::proto::{ReleaseLeaseRequest, Timeouts};
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    postgres::{
        Stage,
        opened::Opened,
        staged::{own, settled},
    },
    support::{
        calls::*,
        proxy::{Proxy, Rule},
    },
};

const SESSIONS: u32 = 5;
const CALLERS: usize = 200;
/// What each caller does, over and over.
const ROUNDS: usize = 6;

/// The second word of a first packet: a session's, and a cancel request's.
const SESSION: u32 = 196_608;
const CANCEL: u32 = 80_877_102;

/// One caller's part of the storm. Whether a call succeeds is not asked here.
async fn caller(mut broker: Broker, number: usize, started: Arc<Notify>) {
    for round in 0..ROUNDS {
        match (number + round) % 6 {
            0 => drop(execute(&mut broker, one_shot("db", "query", r#"{"sql":"select 1"}"#)).await),
            1 => {
                // It leaves something behind that has to be reset.
                let set = one_shot(
                    "db",
                    "simple",
                    r#"{"sql":"set work_mem = '64kB'; create temp table t ()"}"#,
                );
                drop(execute(&mut broker, set).await);
            }
            2 => {
                let mut request = one_shot("db", "query", r#"{"sql":"select pg_sleep(3600)"}"#);
                request.operation.as_mut().unwrap().timeout = Some(span(Duration::from_millis(5)));
                drop(execute(&mut broker, request).await);
            }
            3 => {
                if let Ok(granted) = broker.acquire_lease(acquire("db")).await {
                    let lease_token = granted.into_inner().lease_token;
                    drop(execute(&mut broker, on_lease(&lease_token, "begin", "{}")).await);
                    let discard = round % 2 == 0;
                    let request = ReleaseLeaseRequest { lease_token, discard };
                    drop(broker.release_lease(request).await);
                }
            }
            4 => {
                let lost = json!({ "sql": "select pg_terminate_backend(pg_backend_pid())" });
                drop(execute(&mut broker, one_shot("db", "query", &lost.to_string())).await);
            }
            _ => drop(
                execute(
                    &mut broker,
                    one_shot("db", "query", r#"{"sql":"select pg_sleep(0.001)"}"#),
                )
                .await,
            ),
        }
        started.notify_one();
    }
}

/// The proxy goes and comes back, every so many steps of the callers.
async fn weather(proxy: &Proxy, started: &Notify) {
    for turn in 0.. {
        for _ in 0..60 {
            started.notified().await;
        }
        proxy.set(if turn % 2 == 0 { Rule::Refuse } else { Rule::Pass });
        proxy.cut_all();
        tokio::task::yield_now().await;
        proxy.set(Rule::Pass);
    }
}

#[tokio::test]
async fn there_are_never_more_connections_than_sessions_whatever_happens() {
    let (mut stage, proxy) = Stage::behind_a_proxy(SESSIONS, |spec| {
        spec.timeouts = Some(Timeouts {
            max_lifetime: Some(span(Duration::from_secs(1))),
            ..Timeouts::default()
        });
        own(spec).init_sql = vec!["set lock_timeout = '1s'".to_owned()];
    })
    .await;
    let started = Arc::new(Notify::new());
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        callers.spawn(caller(broker(&stage.app.address), number, Arc::clone(&started)));
    }
    tokio::select! {
        () = async { while callers.join_next().await.is_some() {} } => {}
        () = weather(&proxy, &started) => {}
    }
    let (sessions, cancels) = (proxy.kind(SESSION), proxy.kind(CANCEL));
    assert!(sessions.most <= u64::from(SESSIONS), "{sessions:?}");
    assert!(cancels.most <= u64::from(SESSIONS), "{cancels:?}");
    assert!(
        sessions.seen > 20 && cancels.seen > 20,
        "a storm: {sessions:?} {cancels:?}"
    );
    assert_eq!(stage.rows("select 1 as one").await, json!([{ "one": 1 }]));
    let mut admin = stage.database.connect().await;
    settled(&mut admin, || proxy.kind(CANCEL).open).await;
    assert_eq!(proxy.kind(CANCEL).open, 0, "no cancel request is left open");
}

#[tokio::test]
async fn open_sessions_that_are_dropped_free_their_connections() {
    let (mut stage, proxy) = Stage::behind_a_proxy(2, |_| {}).await;
    for _ in 0..20 {
        let mut opened = Opened::on(&mut stage.broker, "db").await;
        opened.call(
            operation("query", r#"{"sql":"select pg_sleep(3600)"}"#),
            false,
            false,
        );
        drop(opened);
    }
    assert_eq!(stage.rows("select 1 as one").await, json!([{ "one": 1 }]));
    let sessions = proxy.kind(SESSION);
    assert!(sessions.most <= 2, "{sessions:?}");
}
