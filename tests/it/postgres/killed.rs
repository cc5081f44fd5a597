//! A client that is killed in a transaction: what it did is rolled back at once if its lease is a stream's, and at the
//! ttl otherwise.

use std::{env, process::Stdio, time::Duration};

use serde_json::json;
use sqlx::PgConnection;
use sublet::proto::{AcquireLeaseRequest, LeasePolicy};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::{Stage, definition, opened::Opened};
use crate::support::{app::App, calls::*, postgres::Database};

/// Where the client's broker is, and what kind of lease it takes.
const BROKER: &str = "SUBLET_TEST_CLIENT_OF";
const KIND: &str = "SUBLET_TEST_CLIENT_KIND";
const READY: &str = "in a transaction";
const INSERT: &str = r#"{"sql":"insert into t values (1)"}"#;

/// This test program again, as a client that holds a transaction until it is killed.
async fn client(address: &str, kind: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "postgres::killed::client_in_a_transaction",
            "--nocapture",
        ])
        .env(BROKER, address)
        .env(KIND, kind)
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains(READY) {
            return child;
        }
    }
    panic!("the client ended");
}

/// The client; without a broker there is nothing to do.
#[tokio::test]
async fn client_in_a_transaction() {
    let Ok(address) = env::var(BROKER) else { return };
    let mut broker = broker(&address);
    if env::var(KIND).unwrap() == "stream" {
        let mut opened = Opened::on(&mut broker, "db").await;
        for (name, params) in [("begin", "{}"), ("execute", INSERT)] {
            opened.begin(name, params, false);
            opened.answer().await.unwrap();
        }
        say_ready();
        std::future::pending::<()>().await;
    }
    let request = AcquireLeaseRequest {
        ttl: Some(span(Duration::from_secs(1))),
        ..acquire("db")
    };
    let token = broker
        .acquire_lease(request)
        .await
        .unwrap()
        .into_inner()
        .lease_token;
    for (name, params) in [("begin", "{}"), ("execute", INSERT)] {
        execute(&mut broker, on_lease(&token, name, params))
            .await
            .unwrap();
    }
    say_ready();
    std::future::pending::<()>().await;
}

fn say_ready() {
    use std::io::Write as _;
    let mut out = std::io::stdout();
    writeln!(out, "\n{READY}").unwrap();
    out.flush().unwrap();
}

/// Transactions that have written something, on this database.
async fn open_transactions(beside: &mut PgConnection) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and backend_xid is not null";
    sqlx::query_scalar(sql).fetch_one(beside).await.unwrap()
}

async fn killed(kind: &str, policy: LeasePolicy) {
    let database = Database::fresh().await;
    let mut beside = database.connect().await;
    sqlx::raw_sql("create table t (id int)")
        .execute(&mut beside)
        .await
        .unwrap();
    let app = App::start().await;
    let mut spec = definition(&database, 1);
    spec.lease = Some(policy);
    create(&app.address, "db", spec).await;
    let broker = broker(&app.address);
    let mut stage = Stage {
        app,
        broker,
        database,
    };
    let mut child = client(&stage.app.address, kind).await;
    assert_eq!(open_transactions(&mut beside).await, 1);
    child.kill().await.unwrap();
    while open_transactions(&mut beside).await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.rows("select * from t").await, json!([]));
    let stats = stats(&stage.app.address, "db").await;
    // A stream that breaks discards its session.
    assert_eq!(stats.sessions_created, if kind == "stream" { 2 } else { 1 });
}

#[tokio::test]
async fn killed_client_s_transaction_on_a_stream_is_rolled_back_at_once() {
    // No ttl nor limit could end it within the test's life.
    let policy = LeasePolicy {
        default_ttl: Some(span(Duration::from_secs(600))),
        ..LeasePolicy::default()
    };
    let step = killed("stream", policy);
    tokio::time::timeout(Duration::from_secs(30), step).await.unwrap();
}

#[tokio::test]
async fn killed_client_s_transaction_on_a_lease_is_rolled_back_at_its_ttl() {
    let policy = LeasePolicy {
        min_ttl: Some(span(Duration::from_millis(100))),
        ..LeasePolicy::default()
    };
    let step = killed("lease", policy);
    tokio::time::timeout(Duration::from_secs(60), step).await.unwrap();
}
