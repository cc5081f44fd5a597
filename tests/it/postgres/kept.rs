//! Statements that are kept prepared: what they must not carry from one use, or one holder, to the next.

use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::Stage;
use crate::support::calls::*;

/// What a statement is answered on a lease.
async fn asked(stage: &mut Stage, token: &str, name: &str, sql: &str) -> Value {
    let params = json!({ "sql": sql, "rows": "json" });
    let answer = stage.on(token, name, params).await;
    answer.unwrap_or_else(|failed| panic!("{sql}: {failed:?}"))
}

#[tokio::test]
async fn what_fetches_or_calls_says_what_it_returns_each_time() {
    let mut stage = Stage::with(1).await;
    for (sql, wanted) in [
        ("select 1 as a", json!([{ "a": 1 }])),
        (
            "select 'x'::text as b, true as c",
            json!([{ "b": "x", "c": true }]),
        ),
    ] {
        let token = lease(&mut stage.broker, "db").await.lease_token;
        // Nothing is left prepared by SQL, or the broker's own would be prepared anew for that reason.
        let removed = "do $$ begin execute 'deallocate p'; end $$";
        for sql in [
            "begin".to_owned(),
            format!("declare c scroll cursor for {sql}"),
            format!("prepare p as {sql}"),
        ] {
            stage.on(&token, "execute", json!({ "sql": sql })).await.unwrap();
        }
        for sql in ["fetch first from c", " /* x */ execute p", "execute p"] {
            assert_eq!(asked(&mut stage, &token, "query", sql).await, wanted, "{sql}");
            let batch = json!({ "statements": [{ "sql": sql }] });
            let rows = stage.on(&token, "batch", batch).await.unwrap();
            assert_eq!(rows[0]["rows"], wanted);
        }
        stage
            .on(&token, "execute", json!({ "sql": removed }))
            .await
            .unwrap();
        stage.on(&token, "rollback", json!({})).await.unwrap();
        release(&mut stage.broker, &token).await;
    }
    for (kind, wanted) in [("a int", json!([{ "a": 1 }])), ("b text", json!([{ "b": "1" }]))] {
        let procedure = format!(
            "drop procedure if exists p; create procedure p(out {kind}) language sql as $$ select 1::{} $$",
            kind.split_once(' ').unwrap().1
        );
        stage.one("simple", json!({ "sql": procedure })).await.unwrap();
        for _ in 0..2 {
            assert_eq!(stage.rows("call p(null)").await, wanted);
        }
    }
}

/// Settings by which a statement's literals are read, and a statement with literals that depend on them.
const READ_BY: [(&str, &str); 5] = [
    (
        "timezone = 'Asia/Tokyo'",
        "select '2026-01-02 00:00'::timestamptz at time zone 'UTC' as v",
    ),
    (
        "datestyle = 'ISO, DMY'",
        "select '01/02/2026'::date - '2026-01-02'::date as v",
    ),
    (
        "intervalstyle = 'sql_standard'",
        "select extract(epoch from interval '-1 2:03') as v",
    ),
    ("standard_conforming_strings = off", r"select length('a\\b') as v"),
    (
        "transform_null_equals = on",
        "select count(*) as v from (values (null::int)) t (n) where n = null",
    ),
];

#[tokio::test]
async fn literals_are_read_by_the_settings_of_the_moment_and_by_no_other_holder_s() {
    for (setting, sql) in READ_BY {
        let mut stage = Stage::with(1).await;
        let ways = [
            json!([{ "sql": format!("set {setting}") }, { "sql": sql }]),
            json!([{ "sql": format!("set local {setting}") }, { "sql": sql }]),
            json!([{ "sql": format!("select set_config('{}', '{}', false)",
                setting.split_once(" = ").unwrap().0,
                setting.split_once(" = ").unwrap().1.replace('\'', "")) }, { "sql": sql }]),
        ];
        for (way, statements) in ways.into_iter().enumerate() {
            // Its own holder's setting changes what it reads.
            let token = lease(&mut stage.broker, "db").await.lease_token;
            for set in ["select 1", &format!("set {setting}"), "reset all"] {
                stage.on(&token, "execute", json!({ "sql": set })).await.unwrap();
                let kept = asked(&mut stage, &token, "query", sql).await;
                assert_eq!(
                    kept,
                    asked(&mut stage, &token, "simple", sql).await,
                    "{way}: {set}"
                );
            }
            release(&mut stage.broker, &token).await;
            // A batch has its end as the only place where the server says what was set.
            for atomic in [true, false] {
                let batch = json!({ "statements": statements, "atomic": atomic });
                stage.one("batch", batch).await.unwrap();
                let plain = stage
                    .one("simple", json!({ "sql": sql, "rows": "json" }))
                    .await
                    .unwrap();
                assert_eq!(stage.rows(sql).await, plain, "{way}: {setting}");
            }
        }
    }
}

#[tokio::test]
async fn words_for_the_moment_mean_the_moment_each_time() {
    let mut stage = Stage::with(1).await;
    for sql in [
        "select 'now'::timestamptz as t",
        "select timestamptz ' NOW ' as t",
        "select clock_timestamp() as t",
    ] {
        let first = stage.rows(sql).await;
        assert_ne!(stage.rows(sql).await, first, "{sql}");
    }
}

#[tokio::test]
async fn function_s_own_error_about_a_prepared_statement_does_not_run_it_twice() {
    let mut stage = Stage::with(1).await;
    let function = "create sequence runs; create function f() returns int language plpgsql as \
                    $$ begin perform nextval('runs'); execute 'deallocate absent'; return 1; end $$";
    stage.one("simple", json!({ "sql": function })).await.unwrap();
    for runs in 1..4 {
        let refused = stage.one("query", json!({ "sql": "select f()" })).await;
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
        let seen = stage.rows("select last_value::int as runs from runs").await;
        assert_eq!(seen, json!([{ "runs": runs }]));
    }
}

#[tokio::test]
async fn stale_statement_in_a_transaction_asks_for_the_transaction_again_which_then_succeeds() {
    let mut stage = Stage::with(1).await;
    let query = json!({ "sql": "select * from t", "rows": "json" });
    stage
        .one(
            "simple",
            json!({ "sql": "create table t (a int); insert into t values (1)" }),
        )
        .await
        .unwrap();
    stage.one("query", query.clone()).await.unwrap();
    stage
        .one("execute", json!({ "sql": "alter table t add b text" }))
        .await
        .unwrap();
    // Alone it is prepared anew, which nobody notices.
    let rows = stage.one("query", query.clone()).await.unwrap();
    assert_eq!(rows, json!([{ "a": 1, "b": null }]));
    stage
        .one("execute", json!({ "sql": "alter table t add c text" }))
        .await
        .unwrap();
    let token = lease(&mut stage.broker, "db").await.lease_token;
    stage.on(&token, "begin", json!({})).await.unwrap();
    let stale = stage.on(&token, "query", query.clone()).await.unwrap_err();
    assert_eq!((stale.code(), executed(&stale).as_str()), (Code::Aborted, "no"));
    let facts = stale.get_details_error_info().unwrap().metadata;
    assert_eq!(facts["sqlstate"], "0A000");
    assert!(facts["hint"].contains("retry the transaction"), "{facts:?}");
    assert!(stale.get_details_retry_info().is_some());
    stage.on(&token, "rollback", json!({})).await.unwrap();
    stage.on(&token, "begin", json!({})).await.unwrap();
    let rows = stage.on(&token, "query", query).await.unwrap();
    assert_eq!(rows, json!([{ "a": 1, "b": null, "c": null }]));
    stage.on(&token, "commit", json!({})).await.unwrap();
}

#[tokio::test]
async fn stale_statement_in_a_batch_is_told_so_and_forgotten() {
    let mut stage = Stage::with(1).await;
    stage
        .one("execute", json!({ "sql": "create table t (a int)" }))
        .await
        .unwrap();
    for (atomic, column) in [(true, "b"), (false, "c")] {
        let batch = json!({ "atomic": atomic, "statements": [{ "sql": "select * from t" }] });
        stage.one("batch", batch.clone()).await.unwrap();
        let sql = format!("alter table t add {column} int");
        stage.one("execute", json!({ "sql": sql })).await.unwrap();
        let told = match stage.one("batch", batch.clone()).await {
            Ok(parts) => parts[0]["error"]["hint"].to_string(),
            Err(stale) => stale.get_details_error_info().unwrap().metadata["hint"].clone(),
        };
        assert!(told.contains("retry the transaction"), "{told}");
        let again = stage.one("batch", batch).await.unwrap();
        assert_eq!(again[0]["rows"], json!([]));
    }
}
