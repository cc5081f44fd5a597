//! Statements that the broker keeps prepared, and holders who meddle with them; a COPY that is left in the middle.

use serde_json::{Value, json};
use sublet::proto::postgres_backend::Reset;

use super::{Stage, opened::Opened};
use crate::support::calls::*;

const HONEST: &str = "select 'honest' as said";

/// Ways to put something else in the place of statements that are kept; how many there are is not known to who asks.
fn poisons() -> Vec<String> {
    let each = |verb: &str| {
        let each: Vec<_> = (1..40)
            .map(|number| verb.replace('N', &number.to_string()))
            .collect();
        each.join("; ")
    };
    let prepare = each("prepare sublet_N as select 'poison'::text as said");
    let removed = "do $$ declare n name; begin for n in select name from pg_prepared_statements \
                   loop execute format('deallocate %I', n); end loop; end $$";
    let replaced = "do $$ declare n name; begin for n in select name from pg_prepared_statements loop \
                    execute format('deallocate %I', n); \
                    execute format('prepare %I as select ''poison''::text as said', n); end loop; end $$";
    vec![
        format!("deallocate all; {prepare}"),
        format!("discard all; {prepare}"),
        format!("begin; deallocate all; {prepare}; rollback"),
        removed.to_owned(),
        replaced.to_owned(),
        format!("begin; {replaced}; rollback"),
        "deallocate all".to_owned(),
    ]
}

async fn said(stage: &mut Stage, token: Option<&str>) -> Value {
    let params = json!({ "sql": HONEST, "rows": "json" });
    let answer = match token {
        None => stage.one("query", params).await,
        Some(token) => stage.on(token, "query", params).await,
    };
    answer.unwrap_or_else(|failed| panic!("{failed:?}"))
}

#[tokio::test]
async fn next_holder_s_statement_is_its_own_whatever_the_one_before_put_in_its_place() {
    let mut stage = Stage::with(1).await;
    let honest = json!([{ "said": "honest" }]);
    for poison in poisons() {
        for leased in [false, true] {
            assert_eq!(said(&mut stage, None).await, honest);
            let params = json!({ "sql": poison });
            if leased {
                let token = lease(&mut stage.broker, "db").await.lease_token;
                assert_eq!(said(&mut stage, Some(&token)).await, honest);
                drop(stage.on(&token, "simple", params).await);
                release(&mut stage.broker, &token).await;
            } else {
                drop(stage.one("simple", params).await);
            }
            // In a transaction a statement that is missing could not be prepared again.
            let token = lease(&mut stage.broker, "db").await.lease_token;
            stage.on(&token, "begin", json!({})).await.unwrap();
            assert_eq!(said(&mut stage, Some(&token)).await, honest, "{poison}");
            stage.on(&token, "commit", json!({})).await.unwrap();
            release(&mut stage.broker, &token).await;
            assert_eq!(said(&mut stage, None).await, honest, "{poison}");
        }
    }
    let stats = stats(&stage.app.address, "db").await;
    assert_eq!(stats.sessions_created, 1);
}

#[tokio::test]
async fn failed_batches_and_dropped_calls_leave_no_statements_on_the_server() {
    let mut stage = Stage::reset_by(1, Reset::Transaction).await;
    for turn in 0..300 {
        let statements = json!([{ "sql": format!("select {turn}") }, { "sql": "select 1 / 0" }]);
        let batch = json!({ "statements": statements, "atomic": true });
        stage.one("batch", batch).await.unwrap_err();
        stage
            .one("simple", json!({ "sql": "deallocate absent" }))
            .await
            .unwrap_err();
        let mut request = one_shot(
            "db",
            "query",
            &json!({ "sql": format!("select {turn}, pg_sleep(60)") }).to_string(),
        );
        request.operation.as_mut().unwrap().timeout = Some(span(std::time::Duration::from_millis(5)));
        stage.call(request).await.unwrap_err();
    }
    let rows = stage
        .rows("select count(*)::int as n, pg_backend_pid() from pg_prepared_statements")
        .await;
    let kept = rows[0]["n"].as_i64().unwrap();
    assert!(kept <= 256, "{kept} statements");
}

#[tokio::test]
async fn copy_that_is_left_in_the_middle_leaves_nothing() {
    let mut stage = Stage::with(1).await;
    stage
        .one("execute", json!({ "sql": "create table t (a int, b text)" }))
        .await
        .unwrap();
    for (turn, rows) in [0, 1, 1000, 20_000].into_iter().enumerate() {
        for way in ["cancelled", "dropped"] {
            let mut opened = Opened::on(&mut stage.broker, "db").await;
            let session = opened.lease.session_id.clone();
            opened.begin("copy_in", r#"{"sql":"copy t from stdin"}"#, true);
            opened.credit().await;
            opened.push("7\tleft\n".repeat(rows));
            match way {
                "cancelled" => {
                    opened.cancel_latest();
                    opened.answer().await.unwrap_err();
                    opened.begin("query", r#"{"sql":"select 'mine' as tag","rows":"json"}"#, false);
                    assert!(opened.answer().await.unwrap().contains("mine"));
                    opened.finish().await;
                }
                _ => drop(opened),
            }
            assert_eq!(
                stage.rows("select count(*)::int as n from t").await,
                json!([{ "n": 0 }]),
                "{turn} {way}"
            );
            let next = lease(&mut stage.broker, "db").await;
            let same = next.lease.unwrap().session_id == session;
            assert!(same || way == "dropped", "{turn}: {way} costs the session");
            release(&mut stage.broker, &next.lease_token).await;
        }
    }
}

#[tokio::test]
async fn weaker_reset_keeps_a_one_shot_s_settings_and_rolls_its_transaction_back() {
    let mut stage = Stage::reset_by(1, Reset::Transaction).await;
    stage
        .one("execute", json!({ "sql": "create table t (a int)" }))
        .await
        .unwrap();
    let open = json!({ "sql": "set work_mem = '77kB'; begin; insert into t values (1)" });
    let open = stage.one("simple", open).await.unwrap_err();
    assert_eq!(reason(&open), "TRANSACTION_LEFT_OPEN");
    stage
        .one("simple", json!({ "sql": "set work_mem = '77kB'" }))
        .await
        .unwrap();
    let seen = "select current_setting('work_mem') as memory, (select count(*)::int from t) as rows";
    assert_eq!(stage.rows(seen).await, json!([{ "memory": "77kB", "rows": 0 }]));
    let token = lease(&mut stage.broker, "db").await.lease_token;
    release(&mut stage.broker, &token).await;
    let washed = stage.rows(seen).await;
    // Nobody used the lease: what the one-shot left is washed with a lease that was.
    assert_eq!(washed[0]["rows"], 0);
    let token = lease(&mut stage.broker, "db").await.lease_token;
    stage
        .on(&token, "simple", json!({ "sql": "select 1" }))
        .await
        .unwrap();
    release(&mut stage.broker, &token).await;
    assert_eq!(stage.rows(seen).await, json!([{ "memory": "4MB", "rows": 0 }]));
}
