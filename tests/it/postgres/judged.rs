//! What is said of a call's execution, and of answers that are too large; what one call says and the next must not.

use serde_json::{Value, json};
use sublet::proto::{event::Event, postgres_backend::Reset};
use tonic::Status;

use super::{
    Stage,
    staged::{next, stream},
};
use crate::support::calls::*;

/// The server's error, and what is said of the call's execution.
fn judged(refused: &Status) -> (String, String) {
    (reason(refused), executed(refused))
}

async fn table(reset: Reset) -> Stage {
    let mut stage = Stage::reset_by(1, reset).await;
    stage.run("create table t (id int)").await;
    stage
}

#[tokio::test]
async fn what_a_one_shot_committed_before_its_last_transaction_failed_is_said() {
    let mut stage = table(Reset::Full).await;
    let yes = ("BACKEND_ERROR".to_owned(), "yes".to_owned());
    let statements = ["insert into t values (1)", "commit", "begin", "select 1 / 0"];
    let statements: Vec<Value> = statements.iter().map(|sql| json!({ "sql": sql })).collect();
    let batch = json!({ "statements": statements, "atomic": true });
    let refused = stage.one("batch", batch).await.unwrap_err();
    assert_eq!(judged(&refused), yes, "{refused:?}");
    let sql = "copy t from stdin; commit; begin; select 1 / 0";
    let mut request = one_shot("db", "copy_in", &json!({ "sql": sql }).to_string());
    request.operation.as_mut().unwrap().body = b"2\n".as_slice().into();
    let refused = stage.call(request).await.unwrap_err();
    assert_eq!(judged(&refused), yes, "{refused:?}");
    let kept = stage.rows("select id from t order by id").await;
    assert_eq!(kept, json!([{ "id": 1 }, { "id": 2 }]));
}

#[tokio::test]
async fn second_copy_in_one_text_is_refused_and_does_not_wait_for_data() {
    let mut stage = table(Reset::Full).await;
    for (name, sql) in [
        ("copy_in", "copy t from stdin; copy t from stdin"),
        ("copy_out", "copy (select 1) to stdout; copy t from stdin"),
    ] {
        let mut request = one_shot("db", name, &json!({ "sql": sql }).to_string());
        let operation = request.operation.as_mut().unwrap();
        operation.timeout = Some(span(std::time::Duration::from_secs(3)));
        if name == "copy_in" {
            operation.body = b"1\n".as_slice().into();
        }
        let refused = stage.call(request).await.unwrap_err();
        assert_eq!(reason(&refused), "BACKEND_ERROR", "{sql}: {refused:?}");
    }
    assert_eq!(stats(&stage.app.address, "db").await.sessions_created, 1);
}

#[tokio::test]
async fn notices_of_one_call_are_not_told_to_the_next() {
    for reset in [Reset::Full, Reset::Transaction] {
        let mut stage = table(reset).await;
        stage
            .run(
                "create function tell() returns trigger language plpgsql as \
                 $$ begin raise notice 'secret %', new.id; return new; end $$; \
                 create trigger tell before insert on t for each row execute function tell()",
            )
            .await;
        let batch = json!({ "statements": [{ "sql": "insert into t values (1)" }] });
        let copy = {
            let mut request = one_shot("db", "copy_in", r#"{"sql":"copy t from stdin"}"#);
            request.operation.as_mut().unwrap().body = b"2\n".as_slice().into();
            request
        };
        for request in [one_shot("db", "batch", &batch.to_string()), copy] {
            stage.call(request.clone()).await.unwrap();
            let next = one_shot("db", "query", r#"{"sql":"select 1"}"#);
            let answer = stage.answer(next).await.unwrap();
            assert!(!format!("{answer:?}").contains("secret"), "{reset:?}: {answer:?}");
            // On a lease, too, a notice belongs to the call that caused it.
            let token = lease(&mut stage.broker, "db").await.lease_token;
            let mut leased = on_lease(&token, "", "");
            leased.operation = request.operation;
            stage.call(leased).await.unwrap();
            let answer = stage
                .answer(on_lease(&token, "query", r#"{"sql":"select 1"}"#))
                .await;
            assert!(!format!("{answer:?}").contains("secret"), "{answer:?}");
            release(&mut stage.broker, &token).await;
        }
    }
}

#[tokio::test]
async fn long_notices_are_cut() {
    let mut stage = Stage::with(1).await;
    let sql = "do $$ begin for i in 1..3 loop raise notice '%', repeat('é', 3000000); end loop; end $$";
    let request = one_shot("db", "query", &json!({ "sql": sql }).to_string());
    let mut events = stream(&mut stage.broker, request).await.unwrap();
    let mut told = 0;
    while let Some(event) = next(&mut events).await.unwrap() {
        if let Event::Progress(progress) = event {
            let size = format!("{progress:?}").len();
            assert!(size < 20_000, "{size}");
            told += 1;
        }
    }
    assert_eq!(told, 3);
}

#[tokio::test]
async fn batch_s_whole_answer_is_as_large_as_any_other_s_at_most() {
    let mut stage = Stage::with(1).await;
    let statements = vec![json!({ "sql": "select repeat('x', 900000) as v" }); 6];
    let batch = json!({ "statements": statements });
    let refused = stage.one("batch", batch.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), "RESPONSE_TOO_LARGE", "{refused:?}");
    assert!(refused.message().contains("use ExecuteStream"), "{refused:?}");
    let request = one_shot("db", "batch", &batch.to_string());
    let mut events = stream(&mut stage.broker, request).await.unwrap();
    let mut parts = 0;
    while let Some(event) = next(&mut events).await.unwrap() {
        parts += i32::from(matches!(event, Event::JsonText(_)));
    }
    assert_eq!(parts, 6);
}
