//! Boxes that say what JSON cannot, or more than fits an answer.

use serde_json::json;
use tonic::Code;

use super::*;

const THEIRS: &str = "00000000-0000-4000-8000-000000000001";

#[tokio::test]
async fn numbers_that_json_does_not_have_are_null_in_what_a_box_tells() {
    let mut stage = Stage::with(1).await;
    let explodes = json!({
        "exception": "OverflowError", "message": "cannot convert float infinity to integer",
        "current": { "x": ["@Infinity", "@-Infinity", "@NaN", "a NaN in a \" text"] },
    });
    let status = stage.prompt(only("Explode", explodes)).await.unwrap_err();
    assert_eq!(
        (status.code(), executed(&status), fact(&status, "kind")),
        (Code::Internal, "yes".to_owned(), "node_failed".to_owned()),
        "{status:?}"
    );
    let says = only("Say", json!({ "text": "Infinity, or NaN?", "more": "@NaN" }));
    let answer = stage.prompt(says).await.unwrap();
    assert_eq!(
        answer["outputs"]["1"],
        json!({ "text": ["Infinity, or NaN?"], "more": [null] })
    );
}

#[tokio::test]
async fn what_others_have_in_the_queue_blinds_nobody() {
    let mut stage = Stage::with(1).await;
    let strange = only(
        "Gate",
        json!({ "x": "@NaN", "text": "[[\"1\", {]", "y": [[1, "2"], {}] }),
    );
    stage.peer().put(THEIRS, strange);
    stage.peer().runs().await;
    let mut stream = stage.stream(&json!({ "workflow": saves() })).await;
    let queued = stream.until("queued").await;
    let queue = stage.run("queue", &json!({})).await.unwrap();
    assert_eq!(
        (&queue["running"], &queue["pending"]),
        (&json!([THEIRS]), &json!([queued["prompt_id"]]))
    );
    let about = json!({ "prompt_id": queued["prompt_id"] });
    assert_eq!(stage.run("cancel", &about).await.unwrap()["gone"], true);
    assert_eq!(stream.failure().await.code(), Code::Cancelled);
}

/// As large as an answer may not be.
fn large() -> Value {
    only(
        "Say",
        json!({ "text": "a cat", "more": "x".repeat(1 << 20), "times": 6 }),
    )
}

/// The limit of what a caller is sent at once is the caller's own.
async fn eager(stage: &Stage) -> Broker {
    stage.broker.clone().max_decoding_message_size(64 << 20)
}

#[tokio::test]
async fn an_answer_that_is_too_large_leaves_out_what_is() {
    let mut stage = Stage::with(1).await;
    stage.broker = eager(&stage).await;
    let mut workflow = saves();
    workflow["3"] = large()["1"].clone();
    let limit = (4 << 20) - (64 << 10);
    for how in ["references", "history"] {
        let params = json!({ "workflow": workflow, "outputs": how }).to_string();
        let call = one_shot("art", "queue_prompt", &params);
        let answer = execute(&mut stage.broker, call).await.unwrap();
        assert!(answer.len() < limit, "{}", answer.len());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            (&answer["status"], answer["files"].as_array().unwrap().len()),
            (&json!("success"), 1)
        );
        let left_out: &[&str] = if how == "history" {
            &["history", "outputs"]
        } else {
            &["outputs"]
        };
        assert_eq!(answer["left_out"], json!(left_out));
    }
    let told = stage
        .stream(&json!({ "workflow": workflow }))
        .await
        .all()
        .await
        .unwrap();
    assert!(told.iter().all(|(event, _)| event.to_string().len() < limit));
    assert_eq!(told.last().unwrap().0["left_out"], json!(["outputs"]));
    assert_eq!(
        stage.run("queue", &json!({})).await.unwrap()["running"],
        json!([])
    );
}

#[tokio::test]
async fn a_failure_with_much_to_say_is_told_in_what_fits() {
    let mut stage = Stage::with(1).await;
    stage.broker = eager(&stage).await;
    let explodes = only(
        "Explode",
        json!({ "exception": "ValueError", "message": "no", "current": "x".repeat(1 << 20), "times": 6 }),
    );
    let mut stream = stage.stream(&json!({ "workflow": explodes })).await;
    let error = stream.until("error").await;
    assert!(error.to_string().len() < 1 << 20);
    assert_eq!(
        (&error["error"]["exception_type"], &error["error"]["traceback"]),
        (&json!("ValueError"), &json!(["frame 1\n"]))
    );
    assert_eq!(stream.failure().await.code(), Code::Internal);
}
