//! Outputs of some nodes only, ids that are given, and ends that newer boxes may tell of.

use serde_json::json;

use super::*;

const OURS: &str = "00000000-0000-4000-8000-00000000000a";

#[tokio::test]
async fn what_other_nodes_put_out_is_not_told() {
    let mut stage = Stage::with(1).await;
    let mut workflow = saves();
    workflow["3"] = json!({ "class_type": "Say", "inputs": { "text": "much" } });
    workflow["4"] = json!({ "class_type": "SaveImageWebsocket", "inputs": { "images": ["1", 0] } });
    let params = json!({ "workflow": workflow, "output_nodes": ["2"] });
    let answer = stage.run("queue_prompt", &params).await.unwrap();
    let nodes: Vec<_> = answer["outputs"].as_object().unwrap().keys().collect();
    assert_eq!(nodes, ["2"]);
    assert_eq!(answer["warnings"], json!([]));
    let told = stage.stream(&params).await.all().await.unwrap();
    let others = told.iter().filter(|(event, _)| {
        event["event"] == "output" && event["node"] != "2" || event["text"] == json!(["much"])
    });
    assert_eq!(others.count(), 0, "{told:?}");
}

#[tokio::test]
async fn of_two_calls_with_the_same_id_one_is_refused() {
    let mut stage = Stage::changed(1, |spec| spec.endpoints[0].max_sessions = Some(2)).await;
    // Both have a session at once.
    let first = lease(&mut stage.broker, "art").await.lease_token;
    let second = lease(&mut stage.broker, "art").await.lease_token;
    for token in [first, second] {
        release(&mut stage.broker, &token).await;
    }
    let params = json!({
        "workflow": only("Say", json!({ "text": "attachment:a" })), "prompt_id": OURS, "detach": true,
        "files": [{ "name": "a", "base64": "iVBORw0KGgo=" }],
    });
    let call = || {
        let mut broker = stage.broker.clone();
        let request = one_shot("art", "queue_prompt", &params.to_string());
        async move { execute(&mut broker, request).await }
    };
    let (one, other) = tokio::join!(call(), call());
    let refused = one.and(other).unwrap_err();
    assert_eq!(
        (refused.code(), fact(&refused, "kind").as_str()),
        (tonic::Code::AlreadyExists, "prompt_exists")
    );
    assert_eq!(stage.peer().look(|state| state.submissions.len()), 1);
}

#[tokio::test]
async fn an_id_is_free_again_when_its_prompt_was_not_sent() {
    let mut stage = Stage::with(1).await;
    let params = json!({
        "workflow": only("Say", json!({ "text": "attachment:a" })), "prompt_id": OURS,
        "files": [{ "name": "a", "base64": "iVBORw0KGgo=" }],
    });
    stage.peer().answer_instead("POST /upload/image", 413, false);
    let refused = stage.run("queue_prompt", &params).await.unwrap_err();
    assert_eq!(fact(&refused, "kind"), "too_large");
    stage.peer().change(|state| state.instead.clear());
    stage.run("queue_prompt", &params).await.unwrap();
}

#[tokio::test]
async fn only_success_is_success() {
    let mut stage = Stage::with(1).await;
    for (told, state) in [
        ("success", "completed"),
        ("error", "failed"),
        ("interrupted", "cancelled"),
        ("something new", "failed"),
    ] {
        let status = json!({ "status_str": told, "completed": told == "success", "messages": [] });
        let entry = json!({ "outputs": {}, "status": status });
        stage
            .peer()
            .change(|box_state| drop(box_state.history.insert(OURS.to_owned(), entry)));
        let answer = stage.run("status", &json!({ "prompt_id": OURS })).await.unwrap();
        assert_eq!(answer["state"], state, "{told}");
    }
}
