//! Connections: how they log in, what is kept on them, and how many of them there ever are.

mod logins;
mod storm;

use serde_json::{Value as Json, json};

use super::{Stage, staged::own};
use crate::support::{calls::*, postgres::Database};

/// Statements of this broker's that a server keeps for the lease's session, and their texts.
async fn kept(stage: &mut Stage, token: &str) -> Vec<String> {
    let sql = "select statement from pg_prepared_statements where not from_sql and statement !~ 'pg_prepared' order by 1";
    // Not prepared itself, as it would be by `query`.
    let rows = stage
        .on(token, "simple", json!({ "sql": sql, "rows": "json" }))
        .await
        .unwrap();
    let rows = rows.as_array().cloned().unwrap_or_default();
    rows.iter()
        .map(|row| row["statement"].as_str().unwrap().to_owned())
        .collect()
}

async fn caching(statements: u32) -> Stage {
    let database = Database::fresh().await;
    Stage::over(database, 1, |spec| own(spec).statement_cache = Some(statements)).await
}

#[tokio::test]
async fn session_keeps_as_many_statements_as_it_may() {
    let mut stage = caching(2).await;
    let token = lease(&mut stage.broker, "db").await.lease_token;
    for round in 0..3 {
        for number in 0..5 {
            let query = json!({ "sql": format!("select {number} as n"), "rows": "json" });
            let rows = stage.on(&token, "query", query).await.unwrap();
            assert_eq!(rows, json!([{ "n": number }]), "round {round}");
        }
        // The one that has to go is closed with the next statement.
        let kept = kept(&mut stage, &token).await;
        assert!(
            kept.len() <= 3 && kept.contains(&"select 4 as n".to_owned()),
            "{kept:?}"
        );
    }
    let mut stage = caching(0).await;
    let token = lease(&mut stage.broker, "db").await.lease_token;
    for number in 0..5 {
        let query = json!({ "sql": "select $1::int as n", "args": [number], "rows": "json" });
        assert_eq!(
            stage.on(&token, "query", query).await.unwrap(),
            json!([{ "n": number }])
        );
    }
    let kept = kept(&mut stage, &token).await;
    assert!(kept.is_empty(), "{kept:?}");
}

#[tokio::test]
async fn cancelled_calls_leave_no_statements_behind() {
    let mut stage = caching(2).await;
    let token = lease(&mut stage.broker, "db").await.lease_token;
    for number in 0..8 {
        let sql = format!("select {number} from pg_sleep(3600)");
        let mut request = on_lease(&token, "query", &json!({ "sql": sql }).to_string());
        let timeout = span(std::time::Duration::from_millis(20));
        request.operation.as_mut().unwrap().timeout = Some(timeout);
        stage.call(request).await.unwrap_err();
    }
    for _ in 0..2 {
        stage
            .on(&token, "query", json!({ "sql": "select 1" }))
            .await
            .unwrap();
    }
    let kept = kept(&mut stage, &token).await;
    assert!(kept.len() <= 3, "{kept:?}");
    assert_eq!(stats(&stage.app.address, "db").await.sessions_created, 1);
}

#[tokio::test]
async fn kept_statement_follows_the_search_path_and_the_schema() {
    let mut stage = Stage::with(1).await;
    stage
        .run(
            "create schema one; create schema two; create table one.t (a int4); create table two.t (a text, b bool); \
             insert into one.t values (1); insert into two.t values ('x', true)",
        )
        .await;
    let token = lease(&mut stage.broker, "db").await.lease_token;
    let query = json!({ "sql": "select * from t", "rows": "json" });
    for _ in 0..2 {
        for (path, wanted) in [
            ("one", json!([{ "a": 1 }])),
            ("two", json!([{ "a": "x", "b": true }])),
        ] {
            let set = json!({ "sql": format!("set search_path = {path}") });
            stage.on(&token, "execute", set).await.unwrap();
            assert_eq!(stage.on(&token, "query", query.clone()).await.unwrap(), wanted);
        }
    }
    // The table changes under the statement, and the statement under its name.
    for ddl in [
        "alter table two.t drop column b",
        "alter table two.t alter a type varchar(9)",
    ] {
        stage.on(&token, "execute", json!({ "sql": ddl })).await.unwrap();
        assert_eq!(
            stage.on(&token, "query", query.clone()).await.unwrap(),
            json!([{ "a": "x" }])
        );
    }
    for sql in [
        "deallocate all",
        "discard all",
        "discard plans; set search_path = two",
    ] {
        stage.on(&token, "simple", json!({ "sql": sql })).await.unwrap();
        stage
            .on(&token, "execute", json!({ "sql": "set search_path = two" }))
            .await
            .unwrap();
        assert_eq!(
            stage.on(&token, "query", query.clone()).await.unwrap(),
            json!([{ "a": "x" }]),
            "{sql}"
        );
    }
    let by_name = "do $$ begin execute (select string_agg('deallocate ' || quote_ident(name), '; ') \
                   from pg_prepared_statements); end $$";
    stage
        .on(&token, "execute", json!({ "sql": by_name }))
        .await
        .unwrap();
    assert_eq!(
        stage.on(&token, "query", query.clone()).await.unwrap(),
        json!([{ "a": "x" }])
    );
    let drop = "drop table two.t; create table two.t (c int4)";
    stage.on(&token, "simple", json!({ "sql": drop })).await.unwrap();
    assert_eq!(stage.on(&token, "query", query).await.unwrap(), json!([]));
}

#[tokio::test]
async fn statement_of_one_text_takes_arguments_of_any_type() {
    let mut stage = Stage::with(1).await;
    for (arg, wanted) in [
        (json!(1), "1"),
        (json!("a"), "a"),
        (json!(1.5), "1.5"),
        (Json::Null, "null"),
        (json!("b"), "b"),
    ] {
        let params =
            json!({ "sql": "select coalesce($1, 'null')::text as v", "args": [arg], "rows": "json" });
        assert_eq!(
            stage.one("query", params).await.unwrap(),
            json!([{ "v": wanted }])
        );
    }
}

#[tokio::test]
async fn init_sql_that_fails_fails_the_dial_with_its_message() {
    let database = Database::fresh().await;
    let mut stage = Stage::over(database, 1, |spec| {
        own(spec).init_sql = vec![
            "set lock_timeout = '5s'".to_owned(),
            "select no_such_column".to_owned(),
        ];
    })
    .await;
    let refused = stage
        .one("query", json!({ "sql": "select 1" }))
        .await
        .unwrap_err();
    assert_eq!(
        (reason(&refused).as_str(), executed(&refused).as_str()),
        ("BACKEND_UNREACHABLE", "no")
    );
    assert!(refused.message().contains("postgres.init_sql"), "{refused:?}");
    assert!(refused.message().contains("no_such_column"), "{refused:?}");
    let mut admin = stage.database.connect().await;
    let left = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'sublet'";
    super::staged::until(&mut admin, left, 0).await;
}

#[tokio::test]
async fn every_session_begins_with_the_definition_s_settings() {
    let database = Database::fresh().await;
    let mut stage = Stage::over(database, 1, |spec| {
        let own = own(spec);
        own.parameters.insert("work_mem".to_owned(), "123kB".to_owned());
        own.parameters
            .insert("Application_Name".to_owned(), "orders".to_owned());
        own.init_sql = vec!["set lock_timeout = '5s'; create temp table begun (n int)".to_owned()];
    })
    .await;
    let sql = "select current_setting('work_mem') as a, current_setting('application_name') as b, \
               current_setting('lock_timeout') as c, to_regclass('begun')::text as d";
    let wanted = json!([{ "a": "123kB", "b": "orders", "c": "5s", "d": "begun" }]);
    for _ in 0..3 {
        assert_eq!(stage.rows(sql).await, wanted);
        stage
            .run("set work_mem = '77kB'; set lock_timeout = 0; drop table begun")
            .await;
    }
    assert_eq!(stats(&stage.app.address, "db").await.sessions_created, 1);
}
