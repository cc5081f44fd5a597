//! Who asks, waits and cancels does not wait for others who do.

use serde_json::json;
use tokio::task::JoinHandle;

use super::*;

fn gate() -> Value {
    json!({ "workflow": only("Gate", json!({})), "detach": true })
}

/// A detached prompt; its id.
async fn detached(stage: &mut Stage, params: &Value) -> Value {
    let answer = stage.run("queue_prompt", params).await.unwrap();
    json!({ "prompt_id": answer["prompt_id"] })
}

fn start(stage: &Stage, request: ExecuteRequest) -> JoinHandle<Result<String, Status>> {
    let mut broker = stage.broker.clone();
    tokio::spawn(async move { execute(&mut broker, request).await })
}

/// So many wait for a prompt's end; returns when all of them have asked how it stands.
async fn waiting(stage: &Stage, about: &Value, count: usize) -> Vec<JoinHandle<Result<String, Status>>> {
    let begin = |_| start(stage, one_shot("art", "wait", &about.to_string()));
    let waits: Vec<_> = (0..count).map(begin).collect();
    let line = format!("GET /history/{}", about["prompt_id"].as_str().unwrap());
    let asked = |state: &crate::support::comfy_peer::State| {
        state.requests.iter().filter(|other| **other == line).count() >= count
    };
    stage.peer().until(asked).await;
    waits
}

#[tokio::test]
async fn a_cancel_goes_through_while_four_or_forty_wait() {
    for count in [4, 40] {
        let mut stage = Stage::changed(1, |spec| spec.endpoints[0].max_sessions = Some(2)).await;
        let awaited = detached(&mut stage, &gate()).await;
        let other = detached(&mut stage, &gate()).await;
        let waits = waiting(&stage, &awaited, count).await;
        let answer = stage.run("cancel", &other).await.unwrap();
        assert_eq!(
            (&answer["state"], &answer["gone"]),
            (&json!("pending"), &json!(true))
        );
        stage.run("status", &awaited).await.unwrap();
        assert!(
            waits.iter().all(|wait| !wait.is_finished()),
            "it waited for one of {count} to end"
        );
        stage.peer().open();
        for wait in waits {
            let answer: Value = serde_json::from_str(&wait.await.unwrap().unwrap()).unwrap();
            assert_eq!(answer["status"], "success");
        }
    }
}

#[tokio::test]
async fn a_cancel_does_not_wait_for_others_whose_prompts_stay() {
    let mut stage = Stage::changed(1, |spec| spec.endpoints[0].max_sessions = Some(2)).await;
    let deaf = json!({ "workflow": only("Deaf", json!({})), "detach": true });
    let deaf = detached(&mut stage, &deaf).await;
    let other = detached(&mut stage, &gate()).await;
    stage.peer().runs().await;
    let cancel = || start(&stage, one_shot("art", "cancel", &deaf.to_string()));
    let first = cancel();
    stage.peer().until(|state| state.interrupted).await;
    let more: Vec<_> = (0..5).map(|_| cancel()).collect();
    // Two wait for it to be gone, and the others are told at once that it is not.
    let asked = |state: &crate::support::comfy_peer::State| {
        let interrupts = state
            .cancels
            .iter()
            .filter(|cancel| cancel.starts_with("interrupt"));
        interrupts.count() >= 4
    };
    stage.peer().until(asked).await;
    let answer = at("box-0", "cancel", &other);
    let answer = execute(&mut stage.broker.clone(), answer).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["gone"], true);
    assert!(!first.is_finished(), "it waited for the first");
    stage.peer().open();
    for cancel in more.into_iter().chain([first]) {
        cancel.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_cancel_does_not_wait_for_downloads() {
    let mut stage = Stage::with(1).await;
    let about = detached(&mut stage, &gate()).await;
    stage.peer().runs().await;
    let large = vec![7; 24 << 20];
    let key = ("output".to_owned(), String::new(), "large.bin".to_owned());
    stage
        .peer()
        .change(|state| drop(state.files.insert(key, large.into())));
    let mut slow = Vec::new();
    for _ in 0..4 {
        let view = one_shot("art", "view", r#"{"filename":"large.bin"}"#);
        // What is not read on a connection holds up its other streams.
        let mut stream = stream(&mut broker(&stage.app.address), view).await;
        // It has begun, and nobody reads on.
        stream.next().await.unwrap();
        slow.push(stream);
    }
    let answer = stage.run("cancel", &about).await.unwrap();
    assert_eq!(answer["gone"], true);
    drop(slow);
}
