//! Answers, and rows, that are larger than a message.

use serde_json::json;
use sublet::proto::event::Event;

use crate::{
    postgres::{
        Stage,
        staged::{events, next, stream},
    },
    support::calls::*,
};

#[tokio::test]
async fn unary_answer_that_is_too_large_is_refused_and_its_session_used_again() {
    let mut stage = Stage::with(1).await;
    let sql = "select repeat('x', 1000) from generate_series(1, 1000000)";
    for shape in ["typed", "json"] {
        let refused = stage
            .one("query", json!({ "sql": sql, "rows": shape }))
            .await
            .unwrap_err();
        assert_eq!(reason(&refused), "RESPONSE_TOO_LARGE", "{refused:?}");
        assert_eq!(stage.rows("select 1 as one").await, json!([{ "one": 1 }]));
    }
    let sql = format!("copy ({sql}) to stdout");
    let refused = stage.one("copy_out", json!({ "sql": sql })).await.unwrap_err();
    assert_eq!(reason(&refused), "RESPONSE_TOO_LARGE", "{refused:?}");
    assert_eq!(stage.rows("select 1 as one").await, json!([{ "one": 1 }]));
    assert_eq!(stats(&stage.app.address, "db").await.sessions_created, 1);
}

#[tokio::test]
async fn row_larger_than_a_message_is_told_as_that_and_not_to_be_streamed() {
    let mut stage = Stage::with(1).await;
    let row = |mib: u32, shape: &str| {
        let sql = format!("select repeat('x', {mib} * 1024 * 1024) as v");
        json!({ "sql": sql, "rows": shape })
    };
    let batch = json!({ "statements": [row(2, "json")] });
    for (name, params, wanted) in [
        (
            "query",
            row(5, "typed"),
            "one row of the answer is larger than 4128768 bytes",
        ),
        (
            "query",
            row(5, "json"),
            "one row of the answer is larger than 4128768 bytes",
        ),
        (
            "query",
            row(65, "typed"),
            "one row of the answer is larger than 67108864 bytes",
        ),
        (
            "batch",
            batch,
            "one statement's rows in a batch are larger than 1048576 bytes",
        ),
    ] {
        let unary = stage.one(name, params.clone()).await.unwrap_err();
        let request = one_shot("db", name, &params.to_string());
        let streamed = events(&mut stage.broker, request).await.unwrap_err();
        for refused in [unary, streamed] {
            assert_eq!(reason(&refused), "RESPONSE_TOO_LARGE", "{refused:?}");
            assert_eq!(refused.message(), wanted);
        }
        assert_eq!(stage.rows("select 1 as one").await, json!([{ "one": 1 }]));
    }
}

#[tokio::test]
async fn row_of_a_copy_that_is_larger_than_a_message_comes_in_parts() {
    let mut stage = Stage::with(1).await;
    let sql = "copy (select repeat('x', 9 * 1024 * 1024)) to stdout";
    let request = one_shot("db", "copy_out", &json!({ "sql": sql }).to_string());
    let mut events = stream(&mut stage.broker, request).await.unwrap();
    let mut came = 0;
    while let Some(event) = next(&mut events).await.unwrap() {
        if let Event::Data(bytes) = event {
            assert!(bytes.len() <= 64 << 10, "{}", bytes.len());
            came += bytes.len();
        }
    }
    assert_eq!(came, (9 << 20) + 1);
}
