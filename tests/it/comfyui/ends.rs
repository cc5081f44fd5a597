//! How a prompt ended is not guessed, whatever the box has forgotten of it.

use serde_json::json;
use tonic::Code;

use super::*;

#[tokio::test]
async fn a_prompt_that_failed_or_was_interrupted_is_no_success_without_its_history() {
    let mut stage = Stage::with(1).await;
    stage.peer().change(|state| state.forgets = true);
    let explodes = only("Explode", json!({ "exception": "ValueError", "message": "no" }));
    let status = stage.prompt(explodes).await.unwrap_err();
    assert_eq!(
        (status.code(), executed(&status), fact(&status, "kind")),
        (Code::Internal, "yes".to_owned(), "node_failed".to_owned())
    );
    assert_eq!(fact(&status, "exception"), "ValueError");
    let mut stream = stage
        .stream(&json!({ "workflow": only("Gate", json!({})) }))
        .await;
    stream.until("started").await;
    stage.peer().runs().await;
    stage.peer().change(|state| state.interrupted = true);
    stream.until("cancelled").await;
    let status = stream.failure().await;
    assert_eq!(
        (status.code(), fact(&status, "kind")),
        (Code::Cancelled, "interrupted".to_owned())
    );
    let answer = stage
        .prompt(only("Say", json!({ "text": "a cat" })))
        .await
        .unwrap();
    assert_eq!(
        (&answer["status"], &answer["outputs"]["1"]["text"]),
        (&json!("success"), &json!(["a cat"]))
    );
}

#[tokio::test]
async fn a_failure_is_told_though_the_box_restarts_behind_it() {
    let mut stage = Stage::with(1).await;
    stage.peer().change(|state| state.forgets = true);
    let explodes = only("Explode", json!({ "exception": "ValueError", "message": "no" }));
    let mut stream = stage.stream(&json!({ "workflow": explodes })).await;
    stream.until("started").await;
    stage.peer().until(|state| state.ended.len() == 1).await;
    stage.peer().restart();
    let status = stream.failure().await;
    assert_eq!(
        (status.code(), fact(&status, "kind")),
        (Code::Internal, "node_failed".to_owned()),
        "{status:?}"
    );
}
