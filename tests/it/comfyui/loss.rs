//! Boxes that lose sockets, restart, and say less than they should.

use serde_json::json;

use super::*;

fn gated() -> Value {
    let mut workflow = saves();
    workflow["3"] = json!({ "class_type": "Gate", "inputs": {} });
    workflow
}

#[tokio::test]
async fn a_prompt_whose_socket_is_lost_is_followed_to_its_end() {
    let mut stage = Stage::with(1).await;
    let mut stream = stage.stream(&json!({ "workflow": gated() })).await;
    stream.until("started").await;
    stage.peer().runs().await;
    stage.peer().drop_sockets();
    let warning = stream.until("warning").await;
    assert!(
        warning["message"].as_str().unwrap().contains("socket was lost"),
        "{warning}"
    );
    stage.peer().open();
    let done = stream.until("done").await;
    assert_eq!(done["degraded"], true);
    assert_eq!(done["files"].as_array().unwrap().len(), 1);
    // The next one has a socket again, with a client id of its own.
    let answer = stage.prompt(saves()).await.unwrap();
    assert_eq!(answer.get("degraded"), None);
    stage.peer().look(|state| {
        assert_eq!(state.client_ids.len(), 2);
        assert_ne!(state.client_ids[0], state.client_ids[1]);
    });
}

#[tokio::test]
async fn a_box_that_restarted_and_forgot_the_prompt_has_lost_the_session() {
    let mut stage = Stage::with(1).await;
    let mut stream = stage.stream(&json!({ "workflow": gated() })).await;
    stream.until("started").await;
    stage.peer().restart();
    let status = stream.failure().await;
    assert_eq!(status.code(), tonic::Code::Aborted);
    assert_eq!(
        (reason(&status), executed(&status)),
        ("SESSION_LOST".to_owned(), "unknown".to_owned())
    );
    stage.prompt(saves()).await.unwrap();
}

#[tokio::test]
async fn a_lease_on_a_box_that_restarted_ends() {
    let mut stage = Stage::with(1).await;
    let leased = lease(&mut stage.broker, "art").await;
    let params = json!({ "workflow": gated() }).to_string();
    let (mut broker, request) = (
        stage.broker.clone(),
        on_lease(&leased.lease_token, "queue_prompt", &params),
    );
    let call = tokio::spawn(async move { execute(&mut broker, request).await });
    stage.peer().runs().await;
    stage.peer().restart();
    assert_eq!(reason(&call.await.unwrap().unwrap_err()), "SESSION_LOST");
    let status = execute(&mut stage.broker, on_lease(&leased.lease_token, "queue", "{}"))
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "SESSION_LOST");
}

#[tokio::test]
async fn outputs_that_cannot_run_are_a_warning_where_others_can() {
    let mut stage = Stage::with(1).await;
    let mut workflow = saves();
    workflow["5"] = json!({ "class_type": "EmptyImage", "inputs": { "width": -5 } });
    workflow["6"] = json!({ "class_type": "PreviewImage", "inputs": { "images": ["5", 0] } });
    let answer = stage.prompt(workflow.clone()).await.unwrap();
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("params.workflow.5.inputs.width: value_smaller_than_min"),
        "{warning}"
    );
    assert_eq!(answer["files"].as_array().unwrap().len(), 1);
    let mut stream = stage.stream(&json!({ "workflow": workflow })).await;
    assert_eq!(stream.until("warning").await["message"], warning);
}

#[tokio::test]
async fn a_blocked_branch_is_a_warning_and_no_end() {
    let mut stage = Stage::with(1).await;
    let mut workflow = saves();
    workflow["0"] = json!({ "class_type": "Block", "inputs": { "exception": "ExecutionBlocked", "message": "not today" } });
    workflow["00"] = json!({ "class_type": "PreviewImage", "inputs": { "images": ["0", 0] } });
    let answer = stage.prompt(workflow).await.unwrap();
    assert_eq!(
        answer["warnings"],
        json!(["node 0 blocked its branch: not today"])
    );
    assert_eq!(answer["status"], "success");
}

#[tokio::test]
async fn what_is_heard_of_others_is_not_passed_on() {
    let mut stage = Stage::with(1).await;
    let theirs = "00000000-0000-4000-8000-000000000001";
    // Without a client id its events go to everyone.
    stage.peer().put(theirs, only("Steps", json!({ "steps": 5 })));
    stage.peer().change(|state| {
        for job in &mut state.pending {
            job.extra = json!({});
        }
    });
    let mut broadcast = stage
        .stream(&json!({ "workflow": only("Gate", json!({})), "preview_fps": 30 }))
        .await;
    broadcast.until("started").await;
    let other = crate::support::comfy_peer::broadcast(theirs);
    for (kind, data) in other {
        stage.peer().shared.tell(None, kind, data);
    }
    stage.peer().open();
    let told = broadcast.all().await.unwrap();
    for (event, _) in &told {
        assert!(!event.to_string().contains(theirs), "{event}");
    }
    let kinds = kinds(&told);
    assert!(!kinds.contains(&"text"), "{kinds:?}");
    assert_eq!(kinds.last(), Some(&"done"));
}

#[tokio::test]
async fn an_idle_session_finds_its_socket_lost_and_opens_another() {
    let mut stage = Stage::with(1).await;
    stage.prompt(saves()).await.unwrap();
    stage.peer().drop_sockets();
    stage.prompt(saves()).await.unwrap();
    assert_eq!(stage.peer().look(|state| state.client_ids.len()), 2);
}

#[tokio::test]
async fn an_image_that_is_on_the_socket_only_is_not_lost_in_silence() {
    let mut stage = Stage::with(1).await;
    let workflow = json!({
        "1": { "class_type": "Gate", "inputs": {} },
        "2": { "class_type": "SaveImageWebsocket", "inputs": { "images": ["1", 0] } },
    });
    let mut stream = stage.stream(&json!({ "workflow": workflow })).await;
    stream.until("started").await;
    stage.peer().runs().await;
    stage.peer().drop_sockets();
    stream.until("warning").await;
    stage.peer().open();
    let status = stream.failure().await;
    assert_eq!(
        (status.code(), executed(&status), fact(&status, "kind")),
        (tonic::Code::DataLoss, "yes".to_owned(), "image_lost".to_owned()),
        "{status:?}"
    );
    assert_eq!(fact(&status, "node"), "2");
    // Other outputs do not depend on it.
    let params = json!({ "workflow": workflow, "targets": ["1"] });
    let mut stream = stage.stream(&params).await;
    stream.until("started").await;
    stage.peer().runs().await;
    stage.peer().drop_sockets();
    stream.until("warning").await;
    stage.peer().open();
    assert_eq!(stream.until("done").await["degraded"], true);
}

#[tokio::test]
async fn a_box_that_was_out_of_reach_and_forgot_the_prompt_has_lost_the_session() {
    let mut stage = Stage::with(1).await;
    let mut stream = stage.stream(&json!({ "workflow": gated() })).await;
    let id = stream.until("started").await["prompt_id"]
        .as_str()
        .unwrap()
        .to_owned();
    stage.peer().runs().await;
    let line = format!("GET /history/{id}");
    let asked = |state: &crate::support::comfy_peer::State| {
        state.requests.iter().filter(|other| **other == line).count()
    };
    let before = stage.peer().look(asked);
    stage.peer().answer_instead(&line, 502, false);
    stage.peer().until(|state| asked(state) > before).await;
    // It comes back without its prompts, and the link has died without a word.
    stage.peer().change(|state| {
        state.life += 1;
        state.running = None;
        state.instead.clear();
    });
    let status = stream.failure().await;
    assert_eq!(
        (reason(&status), executed(&status)),
        ("SESSION_LOST".to_owned(), "unknown".to_owned())
    );
}

#[tokio::test]
async fn a_prompt_that_could_not_be_cancelled_is_when_the_box_is_back() {
    let mut stage = Stage::changed(1, impatient).await;
    let mut stream = stage.stream(&json!({ "workflow": gated() })).await;
    let id = stream.until("started").await["prompt_id"]
        .as_str()
        .unwrap()
        .to_owned();
    stage.peer().runs().await;
    stage.peer().answer_instead("GET /queue", 503, false);
    let asked = |state: &crate::support::comfy_peer::State| {
        state.requests.iter().filter(|line| *line == "GET /queue").count()
    };
    let before = stage.peer().look(asked);
    drop(stream);
    // Its session cannot be settled and ends; nobody asks for another, and yet the box is asked.
    stage.peer().until(|state| asked(state) > before + 3).await;
    stage.peer().change(|state| state.instead.clear());
    let ended = (id, "interrupted".to_owned());
    stage.peer().until(|state| state.ended.contains(&ended)).await;
}
