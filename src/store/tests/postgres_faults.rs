//! What can happen between the broker and Postgres.

use std::{path::PathBuf, time::Duration};

use sqlx::PgConnection;

use super::{
    draft,
    postgres::{Database, Server},
    proxy::{Proxy, Rule},
};
use crate::{
    clock::Clock,
    store::{
        Draft, LockState, Settings, Store, StoreError, open,
        postgres::{PostgresStore, Timing},
    },
};

/// Quick enough for tests; nothing is asserted about them.
const QUICK: Timing = Timing {
    work: Duration::from_secs(20),
    keep: Duration::from_millis(20),
    lock: Duration::from_millis(200),
};

/// For what never answers: longer than anything that does answer takes on a busy machine.
const SHORT: Duration = Duration::from_secs(2);

/// The keeper comes once an hour: whatever happens is the work's own doing.
const WITHOUT_KEEPER: Timing = Timing {
    keep: Duration::from_secs(3600),
    ..QUICK
};

async fn store_at(url: &str, timing: Timing) -> PostgresStore {
    PostgresStore::open(url, timing, &Clock::real()).await.unwrap()
}

async fn kill_brokers(connection: &mut PgConnection) -> u64 {
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'sublet-%'";
    sqlx::query(kill)
        .execute(connection)
        .await
        .unwrap()
        .rows_affected()
}

async fn lock_holders(connection: &mut PgConnection) -> i64 {
    let count = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    sqlx::query_scalar(count).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_definition_is_readable_in_psql() {
    let database = Database::fresh().await;
    let store = store_at(&database.url(), QUICK).await;
    store.insert_pool(draft("orders")).await.unwrap();
    let mut beside = database.connect().await;
    let read = "SELECT (spec->'sizing'->>'maxSessions')::int, extract(year FROM create_time)::int FROM pools";
    let (sessions, year): (i32, i32) = sqlx::query_as(read).fetch_one(&mut beside).await.unwrap();
    assert_eq!((sessions, year), (3, 2023));
}

#[tokio::test]
async fn a_lock_lost_with_its_connection_is_taken_again() {
    let database = Database::fresh().await;
    let store = store_at(&database.url(), QUICK).await;
    let mut lock = store.lock();
    let mut beside = database.connect().await;
    for _ in 0..3 {
        lock.mark_unchanged();
        assert_eq!(kill_brokers(&mut beside).await, 1);
        lock.wait_for(|state| *state == LockState::Lost).await.unwrap();
        lock.wait_for(|state| *state == LockState::Held).await.unwrap();
        assert_eq!(lock_holders(&mut beside).await, 1);
    }
    store.insert_pool(draft("orders")).await.unwrap();
}

#[tokio::test]
async fn a_broken_idle_connection_costs_the_next_work_nothing() {
    let database = Database::fresh().await;
    let store = store_at(&database.url(), WITHOUT_KEEPER).await;
    kill_brokers(&mut database.connect().await).await;
    store.insert_pool(draft("orders")).await.unwrap();
    assert_eq!(*store.lock().borrow(), LockState::Held);
}

#[tokio::test]
async fn a_lock_taken_over_by_another_broker_is_told_and_stops_every_write() {
    let database = Database::fresh().await;
    let proxy = Proxy::before(database.address()).await;
    let store = store_at(&database.url_via(proxy.address()), QUICK).await;
    let mut lock = store.lock();
    proxy.set(Rule::Refuse);
    proxy.cut_all();
    lock.wait_for(|state| *state == LockState::Lost).await.unwrap();
    let other = store_at(&database.url(), QUICK).await;
    proxy.set(Rule::Pass);
    let taken = lock
        .wait_for(|state| matches!(state, LockState::Taken { .. }))
        .await;
    assert!(format!("{:?}", *taken.unwrap()).contains("stop it"));
    drop(other);
    let refused = store.insert_pool(draft("orders")).await;
    assert!(matches!(refused, Err(StoreError::Locked { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_connection_that_only_the_server_still_sees_does_not_keep_its_own_broker_out() {
    let database = Database::fresh().await;
    let proxy = Proxy::before(database.address()).await;
    let timing = Timing {
        work: SHORT,
        keep: Duration::from_secs(3600),
        lock: Duration::from_secs(3600),
    };
    let store = store_at(&database.url_via(proxy.address()), timing).await;
    // The proxy keeps the old socket open to the server while nothing passes: a half-open connection.
    proxy.set(Rule::Swallow);
    let lost = store.insert_pool(draft("orders")).await;
    assert!(matches!(lost, Err(StoreError::Unavailable { .. })), "{lost:?}");
    proxy.set(Rule::Pass);
    let store = eventually(&store).await;
    assert_eq!(*store.lock().borrow(), LockState::Held);
}

/// The first work after an outage may come too early for its own time limit.
async fn eventually(store: &PostgresStore) -> &PostgresStore {
    for _ in 0..20 {
        if store.pools().await.is_ok() {
            return store;
        }
    }
    panic!("the store did not come back");
}

#[tokio::test]
async fn a_stopped_server_costs_writes_and_a_restart_brings_everything_back() {
    let server = Server::start();
    let database = Database::fresh_on(&server).await;
    let store = store_at(&database.url(), WITHOUT_KEEPER).await;
    let orders = store.insert_pool(draft("orders")).await.unwrap();
    server.stop();
    for _ in 0..3 {
        let refused = store.insert_pool(draft("late")).await;
        assert!(
            matches!(refused, Err(StoreError::Unavailable { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(*store.lock().borrow(), LockState::Lost);
    server.start_again();
    assert_eq!(store.pools().await.unwrap(), [orders]);
    assert_eq!(*store.lock().borrow(), LockState::Held);
    store.insert_pool(draft("late")).await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_no_more_than_the_time_limit() {
    let database = Database::fresh().await;
    let proxy = Proxy::before(database.address()).await;
    let timing = Timing {
        work: SHORT,
        ..WITHOUT_KEEPER
    };
    let store = store_at(&database.url_via(proxy.address()), timing).await;
    proxy.set(Rule::Swallow);
    let refused = store.insert_pool(draft("orders")).await.unwrap_err();
    assert!(refused.to_string().contains("no answer within"), "{refused}");
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused:?}");
    drop(store);
    proxy.cut_all();
    let settings = Settings {
        url: Some(database.url()),
        data_dir: PathBuf::new(),
    };
    assert_eq!(
        open(&settings, &Clock::real())
            .await
            .unwrap()
            .pools()
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_unknown_and_then_found() {
    let database = Database::fresh().await;
    let proxy = Proxy::before(database.address()).await;
    let store = store_at(&database.url_via(proxy.address()), WITHOUT_KEEPER).await;
    proxy.set(Rule::CutAnswer(b"COMMIT".to_vec()));
    let unknown = store.insert_pool(draft("orders")).await;
    assert!(
        matches!(unknown, Err(StoreError::OutcomeUnknown { .. })),
        "{unknown:?}"
    );
    assert_eq!(
        store.pool("orders").await.unwrap().map(|row| row.revision),
        Some(1)
    );

    proxy.set(Rule::CutAnswer(b"COMMIT".to_vec()));
    let unknown = store.update_pool(draft("orders"), 1).await;
    assert!(
        matches!(unknown, Err(StoreError::OutcomeUnknown { .. })),
        "{unknown:?}"
    );
    assert_eq!(
        store.pool("orders").await.unwrap().map(|row| row.revision),
        Some(2)
    );

    proxy.set(Rule::CutAnswer(b"COMMIT".to_vec()));
    let unknown = store.delete_pool("orders", 2).await;
    assert!(
        matches!(unknown, Err(StoreError::OutcomeUnknown { .. })),
        "{unknown:?}"
    );
    assert_eq!(store.pool("orders").await.unwrap(), None);
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_unknown_and_then_not_found() {
    let database = Database::fresh().await;
    let proxy = Proxy::before(database.address()).await;
    let store = store_at(&database.url_via(proxy.address()), WITHOUT_KEEPER).await;
    proxy.set(Rule::CutRequest(b"COMMIT".to_vec()));
    let unknown = store.insert_pool(draft("orders")).await;
    assert!(
        matches!(unknown, Err(StoreError::OutcomeUnknown { .. })),
        "{unknown:?}"
    );
    assert_eq!(store.pool("orders").await.unwrap(), None);
}

#[tokio::test]
async fn a_commit_that_takes_too_long_is_unknown_and_read_only_after_its_end() {
    let database = Database::fresh().await;
    let timing = Timing {
        work: SHORT,
        ..WITHOUT_KEEPER
    };
    let store = store_at(&database.url(), timing).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN SET LOCAL statement_timeout = 0; PERFORM pg_sleep(3600); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON pools DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION slow()";
    sqlx::raw_sql(slow)
        .execute(&mut database.connect().await)
        .await
        .unwrap();
    let unknown = store.insert_pool(draft("orders")).await;
    assert!(
        matches!(unknown, Err(StoreError::OutcomeUnknown { .. })),
        "{unknown:?}"
    );
    eventually(&store).await;
    assert_eq!(store.pool("orders").await.unwrap(), None);
    assert_eq!(lock_holders(&mut database.connect().await).await, 1);
}

#[tokio::test]
async fn what_is_lost_before_the_commit_is_known_not_to_be_done() {
    let database = Database::fresh().await;
    let proxy = Proxy::before(database.address()).await;
    let store = store_at(&database.url_via(proxy.address()), WITHOUT_KEEPER).await;
    proxy.set(Rule::CutAnswer(b"INSERT".to_vec()));
    let refused = store.insert_pool(draft("orders")).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    assert_eq!(store.pools().await.unwrap(), []);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_a_wrong_login_is_not() {
    let database = Database::fresh().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    for (url, waits) in [
        (format!("postgres://sublet:hunter2@{address}/sublet"), true),
        (database.url().replace(database.name(), "no_such_database"), false),
        ("postgres://sublet:hunter2@".into(), false),
        ("mysql://sublet:hunter2@localhost/sublet".into(), false),
    ] {
        let settings = Settings {
            url: Some(url),
            data_dir: PathBuf::new(),
        };
        let error = open(&settings, &Clock::real()).await.unwrap_err();
        assert_eq!(
            matches!(error, StoreError::Unavailable { .. }),
            waits,
            "{error:?}"
        );
        assert_eq!(matches!(error, StoreError::Unusable { .. }), !waits, "{error:?}");
        let shown = format!("{error} {error:?} {settings:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn two_schemas_of_one_database_are_two_stores() {
    let database = Database::fresh().await;
    let mut beside = database.connect().await;
    sqlx::raw_sql("CREATE SCHEMA one; CREATE SCHEMA two")
        .execute(&mut beside)
        .await
        .unwrap();
    let url = |schema: &str| format!("{}?options[search_path]={schema}", database.url());
    let one = store_at(&url("one"), QUICK).await;
    let two = store_at(&url("two"), QUICK).await;
    one.insert_pool(draft("orders")).await.unwrap();
    assert_eq!(two.pools().await.unwrap(), []);
    let refused = PostgresStore::open(&url("one"), QUICK, &Clock::real()).await;
    assert!(matches!(refused, Err(StoreError::Locked { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_nul_character_is_refused_and_the_store_goes_on() {
    let database = Database::fresh().await;
    let store = store_at(&database.url(), WITHOUT_KEEPER).await;
    let refused = store
        .insert_pool(Draft {
            spec: r#"{"note":"\u0000"}"#.into(),
            ..draft("orders")
        })
        .await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    store.insert_pool(draft("orders")).await.unwrap();
    assert_eq!(*store.lock().borrow(), LockState::Held);
}
