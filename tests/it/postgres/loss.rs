//! Servers and connections that go away, and errors of every kind: what is said of a call's execution is what the
//! server saw.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use sublet::proto::{
    AcquireOptions, ExecuteRequest, LeaseEnd, PoolSpec, RenewLeaseRequest, pool_spec::Backend,
};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use super::{Stage, definition};
use crate::support::{
    app::App,
    calls::*,
    postgres::{Database, Server},
    proxy::{Proxy, Rule},
};

/// A stage whose pool reaches the server by way of something, and a connection beside it.
async fn stage(database: Database, change: impl FnOnce(&mut PoolSpec)) -> (Stage, PgConnection) {
    let mut beside = database.connect().await;
    let table = "create table t (id int8, constraint once primary key (id) deferrable initially deferred)";
    sqlx::raw_sql(table).execute(&mut beside).await.unwrap();
    let app = App::start().await;
    let mut spec = definition(&database, 1);
    change(&mut spec);
    create(&app.address, "db", spec).await;
    let broker = broker(&app.address);
    let stage = Stage {
        app,
        broker,
        database,
    };
    (stage, beside)
}

async fn proxied() -> (Stage, PgConnection, Proxy) {
    let database = Database::fresh().await;
    let proxy = Proxy::before(database.address()).await;
    let address = proxy.address().to_string();
    let (stage, beside) = stage(database, |spec| spec.endpoints[0].address = address).await;
    (stage, beside, proxy)
}

/// What the table has.
async fn ids(beside: &mut PgConnection) -> Vec<i64> {
    let rows = sqlx::query("select id from t order by id")
        .fetch_all(beside)
        .await;
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

#[track_caller]
fn says(failed: &Status, expected: (Code, &str, &str)) {
    let said = (failed.code(), reason(failed), executed(failed));
    let (code, reason, executed) = expected;
    assert_eq!(said, (code, reason.to_owned(), executed.to_owned()), "{failed:?}");
}

/// Runs a call beside the test, and waits until its statement, which contains `mark`, sleeps on the server.
async fn asleep(
    stage: &Stage,
    beside: &mut PgConnection,
    request: ExecuteRequest,
    mark: &str,
) -> (JoinHandle<Result<String, Status>>, i32) {
    let mut broker = stage.broker.clone();
    let running = tokio::spawn(async move { execute(&mut broker, request).await });
    let sleeping =
        "select pid from pg_stat_activity where wait_event = 'PgSleep' and query like '%' || $1 || '%'";
    loop {
        let found = sqlx::query(sleeping)
            .bind(mark)
            .fetch_optional(&mut *beside)
            .await;
        if let Some(row) = found.unwrap() {
            return (running, row.get(0));
        }
        tokio::task::yield_now().await;
    }
}

fn sleeping(id: u32) -> Value {
    json!({ "sql": format!("insert into t select {id} from (select pg_sleep(600)) s") })
}

async fn terminate(beside: &mut PgConnection, pid: i64) {
    let sql = format!("select pg_terminate_backend({pid}, 30000)");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(beside).await.unwrap();
}

async fn pid(stage: &mut Stage, token: &str) -> i64 {
    let sql = json!({ "sql": "select pg_backend_pid() as pid", "rows": "json" });
    let rows = stage.on(token, "query", sql).await.unwrap();
    rows[0]["pid"].as_i64().unwrap()
}

fn no_longer_than(span_: Duration, mut request: ExecuteRequest) -> ExecuteRequest {
    let wait_timeout = Some(span(span_));
    request.options = Some(AcquireOptions {
        wait_timeout,
        ..AcquireOptions::default()
    });
    request
}

#[tokio::test]
async fn terminated_backend_is_unknown_in_a_statement_and_no_between_two() {
    let (mut stage, mut beside) = stage(Database::fresh().await, |_| {}).await;
    let mut first = stage.broker.clone();
    let token = lease(&mut first, "db").await.lease_token;
    let request = on_lease(&token, "execute", &sleeping(1).to_string());
    let (running, pid_) = asleep(&stage, &mut beside, request, "select 1 from").await;
    terminate(&mut beside, pid_.into()).await;
    let failed = running.await.unwrap().unwrap_err();
    says(&failed, (Code::Aborted, "SESSION_LOST", "unknown"));
    for name in ["execute", "simple"] {
        let token = lease(&mut first, "db").await.lease_token;
        let pid = pid(&mut stage, &token).await;
        terminate(&mut beside, pid).await;
        let insert = json!({ "sql": "insert into t values (2)" });
        let failed = stage.on(&token, name, insert).await.unwrap_err();
        says(&failed, (Code::Aborted, "SESSION_LOST", "no"));
        let again = stage.on(&token, name, json!({ "sql": "select 1" })).await;
        says(&again.unwrap_err(), (Code::Aborted, "SESSION_LOST", "no"));
        let request = RenewLeaseRequest {
            lease_token: token,
            ttl: None,
        };
        let renewed = stage.broker.renew_lease(request).await.unwrap().into_inner();
        assert_eq!(renewed.status.unwrap().ended(), LeaseEnd::SessionLost);
    }
    assert_eq!(ids(&mut beside).await, [0_i64; 0]);
}

#[tokio::test]
async fn idle_session_that_was_terminated_costs_no_one_shot() {
    let (mut stage, mut beside) = stage(Database::fresh().await, |_| {}).await;
    for id in 0..10 {
        let sql = format!("insert into t values ({id}) returning pg_backend_pid() as pid");
        let rows = stage.one("query", json!({ "sql": sql, "rows": "json" })).await;
        let pid = rows.unwrap_or_else(|failed| panic!("{id}: {failed:?}"))[0]["pid"].as_i64();
        // The wash is over when the session is idle again.
        while stats(&stage.app.address, "db").await.idle_sessions < 1 {
            tokio::task::yield_now().await;
        }
        terminate(&mut beside, pid.unwrap()).await;
        let lost = stage.one("execute", json!({ "sql": "select 1" })).await;
        if let Err(lost) = lost {
            says(&lost, (Code::Aborted, "SESSION_LOST", "no"));
        }
    }
    assert_eq!(ids(&mut beside).await.len(), 10);
}

#[tokio::test]
async fn server_that_crashes_and_comes_back_is_used_again() {
    let server = Server::start();
    let database = Database::fresh_on(&server).await;
    let (mut stage, mut beside) = stage(database, |_| {}).await;
    let request = one_shot("db", "execute", &sleeping(1).to_string());
    let (running, _) = asleep(&stage, &mut beside, request, "select 1 from").await;
    let waiting: Vec<_> = (2..7)
        .map(|id| {
            let mut broker = stage.broker.clone();
            let sql = json!({ "sql": format!("insert into t values ({id})") });
            let request = one_shot("db", "execute", &sql.to_string());
            let patient = no_longer_than(Duration::from_secs(60), request);
            tokio::spawn(async move { execute(&mut broker, patient).await })
        })
        .collect();
    while stats(&stage.app.address, "db").await.waiters < 5 {
        tokio::task::yield_now().await;
    }
    server.stop();
    let failed = running.await.unwrap().unwrap_err();
    says(&failed, (Code::Aborted, "SESSION_LOST", "unknown"));
    let impatient = no_longer_than(
        Duration::from_millis(50),
        one_shot("db", "execute", r#"{"sql":"insert into t values (9)"}"#),
    );
    let refused = stage.call(impatient).await.unwrap_err();
    assert_eq!(executed(&refused), "no", "{refused:?}");
    server.start_again();
    for waiter in waiting {
        waiter.await.unwrap().unwrap();
    }
    let mut beside = stage.database.connect().await;
    assert_eq!(ids(&mut beside).await, [2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn server_that_is_away_is_unreachable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    drop(port);
    let (mut stage, _) = stage(Database::fresh().await, |spec| {
        spec.endpoints[0].address = address
    })
    .await;
    let request = one_shot("db", "execute", r#"{"sql":"select 1"}"#);
    let refused = stage
        .call(no_longer_than(Duration::from_millis(200), request))
        .await;
    says(
        &refused.unwrap_err(),
        (Code::Unavailable, "BACKEND_UNREACHABLE", "no"),
    );
}

#[tokio::test]
async fn what_somebody_must_change_refuses_waiters_at_once() {
    type Change = fn(&mut PoolSpec);
    let wrong: [(Change, &str); 3] = [
        (|spec| own(spec).database = "absent".to_owned(), "3D000"),
        (|spec| own(spec).user = "nobody_at_all".to_owned(), "28000"),
        (|spec| own(spec).init_sql = vec!["selec 1".to_owned()], "init_sql"),
    ];
    for (change, said) in wrong {
        let (mut stage, _) = stage(Database::fresh().await, change).await;
        // The pool's own patience is 30 s, more than a test's that waits for it.
        let refused = stage
            .one("execute", json!({ "sql": "select 1" }))
            .await
            .unwrap_err();
        says(&refused, (Code::Unavailable, "BACKEND_UNREACHABLE", "no"));
        assert!(refused.message().contains(said), "{refused:?}");
    }
}

fn own(spec: &mut PoolSpec) -> &mut sublet::proto::PostgresBackend {
    match &mut spec.backend {
        Some(Backend::Postgres(own)) => own,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn pool_learns_how_many_connections_it_may_have() {
    let database = Database::fresh().await;
    let mut beside = database.connect().await;
    // A superuser is not limited.
    let user = format!("u{}", uuid::Uuid::new_v4().simple());
    let limited = AssertSqlSafe(format!("create role {user} login connection limit 2"));
    sqlx::raw_sql(limited).execute(&mut beside).await.unwrap();
    let (mut stage, _) = stage(database, |spec| {
        own(spec).user.clone_from(&user);
        spec.sizing.as_mut().unwrap().max_sessions = Some(4);
    })
    .await;
    let mut broker = stage.broker.clone();
    let first = lease(&mut broker, "db").await;
    let _second = lease(&mut broker, "db").await;
    let request = no_longer_than(
        Duration::from_millis(300),
        one_shot("db", "execute", r#"{"sql":"select 1"}"#),
    );
    let refused = stage.call(request).await.unwrap_err();
    assert_eq!(executed(&refused), "no");
    let stats = stats(&stage.app.address, "db").await;
    assert_eq!((stats.max_sessions, stats.total_sessions), (2, 2), "{refused:?}");
    release(&mut broker, &first.lease_token).await;
    stage.one("execute", json!({ "sql": "select 1" })).await.unwrap();
}

#[tokio::test]
async fn errors_prove_what_was_done() {
    let (mut stage, mut beside) = stage(Database::fresh().await, |_| {}).await;
    let procedure = "create procedure twice() language plpgsql as $$ begin \
                     insert into t values (100); commit; insert into t values (101); raise 'enough'; end $$";
    sqlx::raw_sql(procedure).execute(&mut beside).await.unwrap();
    let mut broker = stage.broker.clone();
    let token = lease(&mut broker, "db").await.lease_token;
    let mut run = async |name: &str, sql: &str| {
        let params = if sql.is_empty() {
            json!({})
        } else {
            json!({ "sql": sql })
        };
        stage.on(&token, name, params).await
    };
    // A constraint that only the commit checks.
    run("begin", "").await.unwrap();
    run("execute", "insert into t values (1), (1)").await.unwrap();
    let failed = run("commit", "").await.unwrap_err();
    says(&failed, (Code::AlreadyExists, "BACKEND_ERROR", "no"));
    let failed = run("execute", "insert into t values (1), (1)").await.unwrap_err();
    says(&failed, (Code::AlreadyExists, "BACKEND_ERROR", "no"));
    // A commit of what has failed rolls back, and the server calls that a success.
    run("begin", "").await.unwrap();
    run("execute", "insert into t values (2)").await.unwrap();
    let failed = run("execute", "select 1 / 0").await.unwrap_err();
    says(&failed, (Code::InvalidArgument, "BACKEND_ERROR", "no"));
    let failed = run("commit", "").await.unwrap_err();
    says(&failed, (Code::Aborted, "BACKEND_ERROR", "no"));
    // What commits in between has done something.
    let failed = run("execute", "call twice()").await.unwrap_err();
    says(&failed, (Code::FailedPrecondition, "BACKEND_ERROR", "yes"));
    assert_eq!(ids(&mut beside).await, [100]);
    let several = "begin; insert into t values (102); commit; select 1 / 0";
    let failed = run("simple", several).await.unwrap_err();
    says(&failed, (Code::InvalidArgument, "BACKEND_ERROR", "yes"));
    assert_eq!(ids(&mut beside).await, [100, 102]);
}

#[tokio::test]
async fn misplaced_copy_that_ran_is_not_said_to_have_done_nothing() {
    let (mut stage, mut beside) = stage(Database::fresh().await, |_| {}).await;
    sqlx::raw_sql("insert into t values (1), (2), (3)")
        .execute(&mut beside)
        .await
        .unwrap();
    let deletes = [
        (
            "simple",
            "copy (delete from t where id = 1 returning 1) to stdout",
        ),
        (
            "copy_in",
            "copy (delete from t where id = 2 returning 1) to stdout",
        ),
    ];
    for (name, sql) in deletes {
        let failed = stage.one(name, json!({ "sql": sql })).await.unwrap_err();
        says(&failed, (Code::InvalidArgument, "BACKEND_ERROR", "yes"));
    }
    assert_eq!(ids(&mut beside).await, [3]);
    // What `simple` ran before it failed is not known.
    for (name, reason, executed) in [
        ("query", "INVALID_ARGUMENT", "no"),
        ("simple", "BACKEND_ERROR", "yes"),
        ("copy_out", "INVALID_ARGUMENT", "no"),
    ] {
        let failed = stage.one(name, json!({ "sql": "copy t from stdin" })).await;
        says(&failed.unwrap_err(), (Code::InvalidArgument, reason, executed));
        // An answer too many would be taken for the next one's.
        assert_eq!(
            stage.rows("select 7 as seven").await,
            json!([{ "seven": 7 }]),
            "{name}"
        );
        assert_eq!(
            stage.rows("select 8 as eight").await,
            json!([{ "eight": 8 }]),
            "{name}"
        );
    }
}

#[tokio::test]
async fn cut_is_unknown_once_the_request_has_reached_the_server() {
    let (mut stage, mut beside, proxy) = proxied().await;
    let mark = |id: u32| json!({ "sql": format!("insert into t values ({id}) -- mark {id}") });
    for (id, name) in [(1, "execute"), (2, "simple")] {
        proxy.set(Rule::CutAnswer(format!("mark {id}").into_bytes()));
        let failed = stage.one(name, mark(id)).await.unwrap_err();
        says(&failed, (Code::Aborted, "SESSION_LOST", "unknown"));
    }
    proxy.set(Rule::CutRequest(b"mark 3".to_vec()));
    let failed = stage.one("execute", mark(3)).await.unwrap_err();
    says(&failed, (Code::Aborted, "SESSION_LOST", "unknown"));
    let mut broker = stage.broker.clone();
    for (id, name) in [(4, "execute"), (5, "simple"), (6, "commit")] {
        let token = lease(&mut broker, "db").await.lease_token;
        stage
            .on(&token, "simple", json!({ "sql": "begin" }))
            .await
            .unwrap();
        let mut open = proxy.open();
        proxy.cut_all();
        open.wait_for(|open| *open == 0).await.unwrap();
        let params = if name == "commit" { json!({}) } else { mark(id) };
        let failed = stage.on(&token, name, params).await.unwrap_err();
        says(&failed, (Code::Aborted, "SESSION_LOST", "no"));
    }
    assert_eq!(ids(&mut beside).await, [1, 2]);
}

#[tokio::test]
async fn transaction_that_idles_for_too_long_ends_the_session_honestly() {
    let (mut stage, mut beside) = stage(Database::fresh().await, |spec| {
        own(spec).idle_in_transaction_timeout = Some(span(Duration::from_millis(50)));
    })
    .await;
    let mut broker = stage.broker.clone();
    let token = lease(&mut broker, "db").await.lease_token;
    let pid = pid(&mut stage, &token).await;
    stage.on(&token, "begin", json!({})).await.unwrap();
    // The insert may come too late already on a busy machine.
    drop(
        stage
            .on(&token, "execute", json!({ "sql": "insert into t values (1)" }))
            .await,
    );
    let there = "select count(*) from pg_stat_activity where pid::int8 = $1";
    while sqlx::query(there)
        .bind(pid)
        .fetch_one(&mut beside)
        .await
        .unwrap()
        .get::<i64, _>(0)
        > 0
    {
        tokio::task::yield_now().await;
    }
    let failed = stage.on(&token, "commit", json!({})).await.unwrap_err();
    says(&failed, (Code::Aborted, "SESSION_LOST", "no"));
    assert_eq!(ids(&mut beside).await, [0_i64; 0]);
}

#[tokio::test]
async fn repeated_one_shot_is_executed_once_across_a_cut() {
    let (mut stage, mut beside) = stage(Database::fresh().await, |_| {}).await;
    let proxy = Proxy::before(stage.app.address.parse().unwrap()).await;
    for id in 0..20 {
        let sql = format!("insert into t values ({id}) returning id -- request {id};");
        let mut request = one_shot("db", "query", &json!({ "sql": sql, "rows": "json" }).to_string());
        request.request_id = uuid::Uuid::new_v4().to_string();
        let rule = if id % 2 == 0 {
            Rule::CutAnswer
        } else {
            Rule::CutRequest
        };
        proxy.set(rule(format!("request {id};").into_bytes()));
        let mut cut = broker(&proxy.address().to_string());
        execute(&mut cut, request.clone()).await.unwrap_err();
        let answer = stage.call(request).await.unwrap();
        assert_eq!(answer, json!([{ "id": id.to_string() }]));
    }
    assert_eq!(ids(&mut beside).await, (0..20).collect::<Vec<_>>());
}
