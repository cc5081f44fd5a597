//! A prompt is cancelled, and no other; and its slot is nobody's before it is gone.

use serde_json::json;
use sublet::proto::DeletePoolRequest;
use tokio::task::JoinHandle;

use super::*;
use crate::support::comfy_peer::State;

const THEIRS: &str = "00000000-0000-4000-8000-000000000001";
const THEIRS_TOO: &str = "00000000-0000-4000-8000-000000000002";

fn gate() -> Value {
    json!({ "workflow": only("Gate", json!({})) })
}

fn begin(stage: &Stage, params: &Value) -> JoinHandle<Result<String, Status>> {
    let (mut broker, request) = (
        stage.broker.clone(),
        one_shot("art", "queue_prompt", &params.to_string()),
    );
    tokio::spawn(async move { execute(&mut broker, request).await })
}

/// Nothing was done to the box that could have hit another prompt.
fn only_named(peer: &Peer, ids: &[&str]) {
    peer.look(|state| {
        for cancel in &state.cancels {
            assert!(ids.iter().any(|id| cancel.contains(id)), "{cancel}");
            assert!(!cancel.contains("clear"), "{cancel}");
        }
    });
}

#[tokio::test]
async fn a_client_who_goes_has_its_running_prompt_interrupted_and_no_other() {
    let mut stage = Stage::with(1).await;
    let mut stream = stage.stream(&gate()).await;
    let started = stream.until("started").await;
    let id = started["prompt_id"].as_str().unwrap().to_owned();
    stage.peer().put(THEIRS, only("Gate", json!({})));
    drop(stream);
    let ended = (id.clone(), "interrupted".to_owned());
    stage.peer().until(|state| state.ended.contains(&ended)).await;
    // The other one runs now, and goes on to its own end.
    stage
        .peer()
        .until(|state| state.began.contains(&THEIRS.to_owned()))
        .await;
    stage.peer().open();
    let theirs = (THEIRS.to_owned(), "success".to_owned());
    stage.peer().until(|state| state.ended.contains(&theirs)).await;
    only_named(stage.peer(), &[&id]);
    // The session is there again.
    stage.prompt(saves()).await.unwrap();
    assert_eq!(stage.peer().look(|state| state.client_ids.len()), 1);
}

#[tokio::test]
async fn a_client_who_goes_has_its_waiting_prompt_taken_out_of_the_queue() {
    let mut stage = Stage::with(1).await;
    stage.peer().put(THEIRS, only("Gate", json!({})));
    stage.peer().runs().await;
    let mut stream = stage.stream(&gate()).await;
    let id = stream.until("queued").await["prompt_id"]
        .as_str()
        .unwrap()
        .to_owned();
    stage.peer().put(THEIRS_TOO, only("Gate", json!({})));
    drop(stream);
    stage
        .peer()
        .until(|state| !state.pending.iter().any(|job| job.id == id))
        .await;
    stage.peer().look(|state| {
        assert_eq!(state.began, [THEIRS]);
        assert_eq!(state.pending[0].id, THEIRS_TOO);
        assert!(!state.interrupted);
    });
    only_named(stage.peer(), &[&id]);
}

#[tokio::test]
async fn a_newer_box_is_asked_with_its_own_cancel() {
    let mut stage = Stage::with(1).await;
    stage.peer().change(|state| state.modern = true);
    let mut stream = stage.stream(&gate()).await;
    let id = stream.until("started").await["prompt_id"]
        .as_str()
        .unwrap()
        .to_owned();
    drop(stream);
    stage.peer().until(|state| state.ended.len() == 1).await;
    assert_eq!(
        stage.peer().look(|state| state.cancels.clone()),
        [format!("cancel {id}")]
    );
}

#[tokio::test]
async fn cancel_does_not_wait_for_the_slot_that_it_is_about() {
    let mut stage = Stage::with(1).await;
    let call = begin(&stage, &gate());
    let id = stage.peer().runs().await;
    let answer = stage.run("cancel", &json!({ "prompt_id": id })).await.unwrap();
    assert_eq!(answer["state"], "running");
    assert_eq!(
        (&answer["cancelled"], &answer["gone"]),
        (&json!(true), &json!(true))
    );
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Cancelled);
    assert_eq!(
        (reason(&status), executed(&status)),
        ("BACKEND_ERROR".to_owned(), "yes".to_owned())
    );
    let again = stage.run("cancel", &json!({ "prompt_id": id })).await.unwrap();
    assert_eq!(
        (&again["state"], &again["cancelled"]),
        (&json!("cancelled"), &json!(false))
    );
}

#[tokio::test]
async fn a_slot_is_not_given_on_while_an_interrupt_is_not_noticed() {
    let mut stage = Stage::changed(1, impatient).await;
    let deaf = json!({ "workflow": only("Deaf", json!({})) });
    let mut stream = stage.stream(&deaf).await;
    let id = stream.until("started").await["prompt_id"]
        .as_str()
        .unwrap()
        .to_owned();
    drop(stream);
    let next = begin(&stage, &json!({ "workflow": saves() }));
    // The session was closed, and a new one is tried; it asks for the queue, and asks again.
    stage.peer().until(|state| state.interrupted).await;
    stage.peer().is_asked(5).await;
    stage.peer().look(|state| {
        assert_eq!(state.submissions.len(), 1, "the slot is taken");
        assert_eq!(state.began, [id.as_str()]);
    });
    stage.peer().open();
    next.await.unwrap().unwrap();
    stage
        .peer()
        .look(|state| assert_eq!(state.ended[0], (id.clone(), "interrupted".to_owned())));
    only_named(stage.peer(), &[&id]);
}

#[tokio::test]
async fn a_released_lease_has_its_prompt_cancelled_before_anyone_else_gets_the_slot() {
    let mut stage = Stage::changed(1, impatient).await;
    let leased = lease(&mut stage.broker, "art").await;
    let params = json!({ "workflow": only("Deaf", json!({})) }).to_string();
    let (mut broker, request) = (
        stage.broker.clone(),
        on_lease(&leased.lease_token, "queue_prompt", &params),
    );
    let call = tokio::spawn(async move { execute(&mut broker, request).await });
    stage.peer().runs().await;
    release(&mut stage.broker, &leased.lease_token).await;
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(
        (reason(&status), executed(&status)),
        ("LEASE_RELEASED".to_owned(), "unknown".to_owned())
    );
    stage.peer().until(|state| state.interrupted).await;
    let (mut broker, request) = (stage.broker.clone(), acquire("art"));
    let next = tokio::spawn(async move { broker.acquire_lease(request).await });
    stage.peer().is_asked(5).await;
    assert!(!next.is_finished(), "the box has one slot");
    stage.peer().open();
    next.await.unwrap().unwrap();
    assert_eq!(stage.peer().look(|state| state.ended[0].1.clone()), "interrupted");
}

#[tokio::test]
async fn two_leases_are_never_on_one_box() {
    let mut stage = Stage::with(2).await;
    let first = lease(&mut stage.broker, "art").await.lease.unwrap();
    let second = lease(&mut stage.broker, "art").await.lease.unwrap();
    assert_ne!(first.endpoint, second.endpoint);
    let mut third = acquire("art");
    third.options.as_mut().unwrap().wait_timeout = Some(span(Duration::ZERO));
    let status = stage.broker.acquire_lease(third).await.unwrap_err();
    assert_eq!(reason(&status), "ACQUIRE_TIMEOUT");
}

#[tokio::test]
async fn what_was_not_handed_over_of_a_submission_never_is() {
    let mut stage = Stage::with(1).await;
    stage.peer().change(|state| state.holds = true);
    let long = "x".repeat(4_000_000);
    let asked = stage.peer().look(|state| state.requests.len());
    let call = begin(
        &stage,
        &json!({ "workflow": only("Gate", json!({ "text": long })) }),
    );
    let seen = |state: &State, line: &str| state.requests[asked..].iter().any(|other| other == line);
    stage.peer().until(|state| seen(state, "POST /prompt")).await;
    call.abort();
    // The session is being settled: the queue was asked for when the prompt came up, and now it is again.
    stage.peer().until(|state| seen(state, "GET /queue")).await;
    stage.peer().change(|state| state.holds = false);
    stage.peer().until(|state| state.cut == 1).await;
    stage.prompt(saves()).await.unwrap();
    assert_eq!(stage.peer().look(|state| state.submissions.len()), 1);
}

#[tokio::test]
async fn a_submission_that_was_handed_over_is_cancelled_when_its_answer_has_come() {
    let mut stage = Stage::with(1).await;
    stage.peer().change(|state| state.holds = true);
    let asked = stage.peer().look(|state| state.requests.len());
    let call = begin(&stage, &json!({ "workflow": only("Gate", json!({})) }));
    stage
        .peer()
        .until(|state| state.requests[asked..].iter().any(|line| line == "POST /prompt"))
        .await;
    call.abort();
    stage.peer().change(|state| state.holds = false);
    stage.prompt(saves()).await.unwrap();
    stage.peer().look(|state| {
        assert_eq!(state.submissions.len(), 2);
        assert!(state.ended.iter().all(|(_, how)| how == "success") || state.ended[0].1 == "interrupted");
        assert_eq!(state.remaining(), 0);
    });
}

#[tokio::test]
async fn a_prompt_left_on_a_box_outlives_the_pool_that_left_it() {
    let mut stage = Stage::changed(1, impatient).await;
    let deaf = json!({ "workflow": only("Deaf", json!({})) });
    let mut stream = stage.stream(&deaf).await;
    let id = stream.until("started").await["prompt_id"]
        .as_str()
        .unwrap()
        .to_owned();
    drop(stream);
    stage.peer().until(|state| state.interrupted).await;
    let mut pools = pools(&stage.app.address);
    let delete = DeletePoolRequest {
        name: "art".to_owned(),
        force: true,
        ..DeletePoolRequest::default()
    };
    pools.delete_pool(delete).await.unwrap();
    // The same box, by another spelling.
    let mut spec = definition(&stage.boxes);
    spec.endpoints[0].address = format!("http://{}/", stage.peer().address());
    create(&stage.app.address, "art", spec).await;
    let asked = stage.peer().look(|state| state.requests.len());
    let next = begin(&stage, &json!({ "workflow": saves() }));
    stage
        .peer()
        .until(|state| {
            state.requests[asked..]
                .iter()
                .filter(|line| *line == "GET /queue")
                .count()
                > 8
        })
        .await;
    stage
        .peer()
        .look(|state| assert_eq!(state.began, [id.as_str()], "the slot is taken"));
    assert!(!next.is_finished());
    assert_eq!(stage.peer().look(|state| state.submissions.len()), 1);
    stage.peer().open();
    next.await.unwrap().unwrap();
}
