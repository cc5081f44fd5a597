//! What the operations do.

use serde_json::json;
use tonic::Code;

use super::Stage;
use crate::support::calls::*;

#[tokio::test]
async fn rows_come_typed_or_as_json_and_commands_say_what_they_changed() {
    let mut stage = Stage::with(2).await;
    stage
        .one(
            "execute",
            json!({ "sql": "create table t (id int8 primary key, name text)" }),
        )
        .await
        .unwrap();
    let typed = stage.one(
        "execute",
        json!({ "sql": "insert into t values ($1, $2), ($3, $4)", "args": [1, "a", 2, null] }),
    );
    let typed = typed.await.unwrap();
    assert!(typed.to_string().contains("affected: 2"), "{typed}");
    assert_eq!(
        stage.rows("select * from t order by id").await,
        json!([{ "id": "1", "name": "a" }, { "id": "2", "name": null }])
    );
    assert_eq!(stage.rows("select * from t where false").await, json!([]));
    let typed = stage
        .one("query", json!({ "sql": "select id, name from t order by id" }))
        .await
        .unwrap();
    assert!(typed.to_string().contains("int8"), "{typed}");
}

#[tokio::test]
async fn server_s_errors_come_with_their_facts_and_prove_the_rollback() {
    let mut stage = Stage::with(1).await;
    stage
        .one("execute", json!({ "sql": "create table t (id int primary key)" }))
        .await
        .unwrap();
    stage
        .one("execute", json!({ "sql": "insert into t values (1)" }))
        .await
        .unwrap();
    let refused = stage
        .one("execute", json!({ "sql": "insert into t values (1)" }))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::AlreadyExists, "BACKEND_ERROR")
    );
    assert_eq!(executed(&refused), "no");
    let refused = stage
        .one("execute", json!({ "sql": "selec 1" }))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let stats = stats(&stage.app.address, "db").await;
    assert_eq!(stats.sessions_created, 1, "an error costs no session");
}

#[tokio::test]
async fn transaction_lives_on_a_lease_and_a_one_shot_leaves_none_open() {
    let mut stage = Stage::with(2).await;
    stage
        .one("execute", json!({ "sql": "create table t (id int)" }))
        .await
        .unwrap();
    let token = lease(&mut stage.broker, "db").await.lease_token;
    stage
        .on(&token, "begin", json!({ "isolation": "serializable" }))
        .await
        .unwrap();
    stage
        .on(&token, "execute", json!({ "sql": "insert into t values (1)" }))
        .await
        .unwrap();
    assert_eq!(
        stage.rows("select count(*)::int as n from t").await,
        json!([{ "n": 0 }])
    );
    stage.on(&token, "commit", json!({})).await.unwrap();
    assert_eq!(
        stage.rows("select count(*)::int as n from t").await,
        json!([{ "n": 1 }])
    );
    let refused = stage.one("begin", json!({})).await.unwrap_err();
    assert!(refused.message().contains("needs a lease"), "{refused:?}");
    let open = stage
        .one("simple", json!({ "sql": "begin; insert into t values (2)" }))
        .await
        .unwrap_err();
    assert_eq!(reason(&open), "TRANSACTION_LEFT_OPEN");
    assert_eq!(
        stage.rows("select count(*)::int as n from t").await,
        json!([{ "n": 1 }])
    );
}

#[tokio::test]
async fn batch_stands_together_or_each_for_itself() {
    let mut stage = Stage::with(1).await;
    stage
        .one("execute", json!({ "sql": "create table t (id int primary key)" }))
        .await
        .unwrap();
    let statements = json!([
        { "sql": "insert into t values ($1)", "args": [1] },
        { "sql": "insert into t values ($1)", "args": [1] },
        { "sql": "insert into t values (2) returning id" },
    ]);
    let refused = stage
        .one("batch", json!({ "statements": statements, "atomic": true }))
        .await
        .unwrap_err();
    assert!(refused.message().contains("statements[1]"), "{refused:?}");
    assert_eq!(stage.rows("select * from t").await, json!([]));
    let done = stage
        .one("batch", json!({ "statements": statements }))
        .await
        .unwrap();
    assert_eq!(done[0]["affected"], 1);
    assert_eq!(done[1]["error"]["sqlstate"], "23505");
    assert_eq!(done[2]["rows"], json!([{ "id": 2 }]));
    let together = json!([{ "sql": "delete from t" }, { "sql": "select 1 as one" }]);
    let done = stage
        .one("batch", json!({ "statements": together, "atomic": true }))
        .await
        .unwrap();
    assert_eq!(
        (&done[0]["affected"], &done[1]["rows"]),
        (&json!(2), &json!([{ "one": 1 }]))
    );
}
