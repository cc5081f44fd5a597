//! Prompts that run on without their caller, and questions about boxes.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_detached_prompt_is_found_again_by_its_box_and_id() {
    let mut stage = Stage::with(2).await;
    let mut workflow = saves();
    workflow["3"] = json!({ "class_type": "Gate", "inputs": {} });
    let params = json!({ "workflow": workflow, "detach": true });
    let answer = execute(&mut stage.broker, at("box-1", "queue_prompt", &params))
        .await
        .unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (&answer["status"], &answer["endpoint"]),
        (&json!("queued"), &json!("box-1"))
    );
    let about = json!({ "prompt_id": answer["prompt_id"] });
    let peer = &stage.boxes[1];
    peer.runs().await;
    let ask = |name: &str| at("box-1", name, &about);
    let mut broker = stage.broker.clone();
    let status = execute(&mut broker, ask("status")).await.unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&status).unwrap()["state"],
        "running"
    );
    let early = execute(&mut broker, ask("fetch")).await.unwrap_err();
    assert_eq!(fact(&early, "kind"), "not_finished");
    peer.open();
    let waited = execute(&mut broker, ask("wait")).await.unwrap();
    let fetched = execute(&mut broker, ask("fetch")).await.unwrap();
    assert_eq!(waited, fetched);
    let fetched: Value = serde_json::from_str(&fetched).unwrap();
    assert_eq!(fetched["files"][0]["filename"], "art_00001_.png");
    assert_eq!(peer.look(|state| state.ended[0].1.clone()), "success");
}

#[tokio::test]
async fn a_detached_prompt_keeps_its_slot_and_is_not_cancelled() {
    let mut stage = Stage::changed(1, impatient).await;
    let params = json!({ "workflow": only("Gate", json!({})), "detach": true });
    stage.run("queue_prompt", &params).await.unwrap();
    stage.peer().runs().await;
    let (mut broker, request) = (stage.broker.clone(), acquire("art"));
    let next = tokio::spawn(async move { broker.acquire_lease(request).await });
    stage.peer().is_asked(5).await;
    assert!(!next.is_finished(), "the box has one slot");
    stage.peer().open();
    next.await.unwrap().unwrap();
    stage.peer().look(|state| {
        assert_eq!(state.ended[0].1, "success");
        assert!(state.cancels.is_empty(), "{:?}", state.cancels);
    });
}

#[tokio::test]
async fn questions_about_a_box_do_not_wait_for_its_slot() {
    let mut stage = Stage::with(1).await;
    let leased = lease(&mut stage.broker, "art").await;
    let params = json!({ "workflow": only("Gate", json!({})) }).to_string();
    let (mut broker, request) = (
        stage.broker.clone(),
        on_lease(&leased.lease_token, "queue_prompt", &params),
    );
    let call = tokio::spawn(async move { execute(&mut broker, request).await });
    let id = stage.peer().runs().await;
    let queue = stage.run("queue", &json!({})).await.unwrap();
    assert_eq!((&queue["running"], &queue["pending"]), (&json!([id]), &json!([])));
    let stats = stage.run("system_stats", &json!({})).await.unwrap();
    assert_eq!(stats["system"]["comfyui_version"], "0.24.0");
    let info = stage
        .run("object_info", &json!({ "class": "SaveImage" }))
        .await
        .unwrap();
    assert_eq!(info["SaveImage"]["output_node"], true);
    let raw = stage.run("raw", &json!({ "path": "/api/prompt" })).await.unwrap();
    assert_eq!(raw["exec_info"]["queue_remaining"], 1);
    stage.run("free", &json!({})).await.unwrap();
    stage.peer().open();
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn history_is_deleted_where_that_is_asked_for() {
    let mut stage = Stage::with(1).await;
    let params = json!({ "workflow": saves(), "delete_history": true, "outputs": "history" });
    let answer = stage.run("queue_prompt", &params).await.unwrap();
    assert_eq!(answer["history"]["status"]["status_str"], "success");
    stage.peer().look(|state| assert!(state.history.is_empty()));
    stage.prompt(saves()).await.unwrap();
    stage.peer().look(|state| assert_eq!(state.history.len(), 1));
}

#[tokio::test]
async fn a_workflow_is_validated_without_being_queued() {
    let mut stage = Stage::with(1).await;
    let answer = stage
        .run("validate", &json!({ "workflow": saves() }))
        .await
        .unwrap();
    assert_eq!(
        answer,
        json!({ "endpoint": "box-0", "valid": true, "faults": [] })
    );
    let mut workflow = saves();
    workflow["1"]["inputs"]["width"] = json!(-5);
    workflow["3"] = json!({ "class_type": "Nope", "inputs": {} });
    let answer = stage
        .run("validate", &json!({ "workflow": workflow }))
        .await
        .unwrap();
    assert_eq!(answer["valid"], false);
    let fault = |index: usize| {
        (
            answer["faults"][index]["field"].clone(),
            answer["faults"][index]["type"].clone(),
        )
    };
    assert_eq!(
        fault(0),
        (
            json!("params.workflow.1.inputs.width"),
            json!("value_smaller_than_min")
        )
    );
    assert_eq!(
        fault(1),
        (json!("params.workflow.3.class_type"), json!("missing_node_type"))
    );
    stage.peer().look(|state| assert!(state.submissions.is_empty()));
}

#[tokio::test]
async fn a_call_that_takes_too_long_has_its_prompt_cancelled() {
    let mut stage = Stage::with(1).await;
    let params = json!({ "workflow": only("Gate", json!({})) }).to_string();
    let mut request = one_shot("art", "queue_prompt", &params);
    request.operation.as_mut().unwrap().timeout = Some(span(Duration::from_millis(500)));
    let status = execute(&mut stage.broker, request).await.unwrap_err();
    assert_eq!(
        (reason(&status), executed(&status)),
        ("EXECUTE_TIMEOUT".to_owned(), "unknown".to_owned())
    );
    stage.peer().until(|state| state.ended.len() == 1).await;
    assert_eq!(stage.peer().look(|state| state.ended[0].1.clone()), "interrupted");
}

#[tokio::test]
async fn history_is_kept_while_the_caller_has_not_been_given_it() {
    let mut stage = Stage::with(1).await;
    stage.peer().answer_instead("GET /view", 500, false);
    let params = json!({ "workflow": saves(), "delete_history": true, "outputs": "bytes" });
    let mut stream = stage.stream(&params).await;
    let status = stream.failure().await;
    assert_eq!(
        (fact(&status, "kind"), executed(&status)),
        ("box_failed".to_owned(), "yes".to_owned())
    );
    let about = json!({ "prompt_id": fact(&status, "prompt_id") });
    let answer = stage.run("fetch", &about).await.unwrap();
    assert_eq!(answer["files"].as_array().unwrap().len(), 1);
    // A failure is told whole, and then there is nothing to keep.
    let explodes = only("Explode", json!({ "exception": "ValueError", "message": "no" }));
    let params = json!({ "workflow": explodes, "delete_history": true });
    let failed = stage.run("queue_prompt", &params).await.unwrap_err();
    assert_eq!(fact(&failed, "kind"), "node_failed");
    stage.peer().look(|state| assert_eq!(state.history.len(), 1));
}

#[tokio::test]
async fn a_lease_may_leave_any_number_of_prompts_one_after_another() {
    let mut stage = Stage::with(1).await;
    let leased = lease(&mut stage.broker, "art").await;
    let params = json!({ "workflow": only("Say", json!({ "text": "a cat" })), "detach": true }).to_string();
    for count in 1..=101 {
        let call = on_lease(&leased.lease_token, "queue_prompt", &params);
        execute(&mut stage.broker, call).await.unwrap();
        stage.peer().until(|state| state.ended.len() == count).await;
    }
    // At the same time there is a limit.
    let gate = json!({ "workflow": only("Gate", json!({})), "detach": true }).to_string();
    for _ in 0..100 {
        let call = on_lease(&leased.lease_token, "queue_prompt", &gate);
        execute(&mut stage.broker, call).await.unwrap();
    }
    let call = on_lease(&leased.lease_token, "queue_prompt", &params);
    let status = execute(&mut stage.broker, call).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    stage
        .peer()
        .look(|state| assert_eq!(state.submissions.len(), 201));
}
