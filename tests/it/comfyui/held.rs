//! A slot is taken until its prompt is gone, and nobody waits for that who does not want the slot.

use serde_json::json;
use sublet::proto::DeletePoolRequest;
use tokio::{task::JoinHandle, time::timeout};

use super::*;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// Runs a prompt of one node on a lease, until something ends the call.
fn prompt_on(stage: &Stage, token: &str, class: &str) -> JoinHandle<Result<String, Status>> {
    let params = json!({ "workflow": only(class, json!({})) }).to_string();
    let (mut broker, request) = (stage.broker.clone(), on_lease(token, "queue_prompt", &params));
    tokio::spawn(async move { execute(&mut broker, request).await })
}

/// Little time to close, but all of it to be rid of a prompt.
fn patient(spec: &mut PoolSpec) {
    spec.timeouts = Some(Timeouts {
        close: Some(span(Duration::from_millis(300))),
        ..Timeouts::default()
    });
}

async fn delete(stage: &Stage) {
    let delete = DeletePoolRequest {
        name: "art".to_owned(),
        force: true,
        ..DeletePoolRequest::default()
    };
    let mut pools = pools(&stage.app.address);
    let deleted = timeout(LONG, pools.delete_pool(delete)).await;
    deleted.expect("it does not wait for the prompt").unwrap();
}

#[tokio::test]
async fn a_box_that_has_a_prompt_yet_is_not_one_that_cannot_be_reached() {
    let mut stage = Stage::changed(1, |spec| {
        impatient(spec);
        spec.timeouts.as_mut().unwrap().connect = Some(span(Duration::from_secs(2)));
    })
    .await;
    let params = json!({ "workflow": only("Gate", json!({})), "detach": true });
    stage.run("queue_prompt", &params).await.unwrap();
    stage.peer().runs().await;
    let mut request = acquire("art");
    request.options.as_mut().unwrap().wait_timeout = Some(span(Duration::from_secs(3)));
    let status = stage.broker.acquire_lease(request).await.unwrap_err();
    assert_eq!(reason(&status), "ACQUIRE_TIMEOUT");
    stage.peer().open();
    lease(&mut stage.broker, "art").await;
}

#[tokio::test]
async fn a_pool_that_ends_does_not_wait_for_a_prompt_that_does_not_notice_its_interrupt() {
    let mut stage = Stage::changed(1, patient).await;
    let leased = lease(&mut stage.broker, "art").await;
    let call = prompt_on(&stage, &leased.lease_token, "Deaf");
    stage.peer().runs().await;
    release(&mut stage.broker, &leased.lease_token).await;
    call.await.unwrap().unwrap_err();
    stage.peer().until(|state| state.interrupted).await;
    delete(&stage).await;
    assert!(stage.peer().look(|state| state.running.is_some()));
}

#[tokio::test]
async fn a_pool_that_ends_does_not_wait_for_a_prompt_of_a_call_that_was_given_up() {
    let mut stage = Stage::changed(1, patient).await;
    let leased = lease(&mut stage.broker, "art").await;
    let call = prompt_on(&stage, &leased.lease_token, "Deaf");
    stage.peer().runs().await;
    call.abort();
    stage.peer().until(|state| state.interrupted).await;
    delete(&stage).await;
    assert!(stage.peer().look(|state| state.running.is_some()));
}

#[tokio::test]
async fn a_lease_outlives_a_prompt_that_does_not_notice_its_interrupt_soon() {
    let mut stage = Stage::changed(1, patient).await;
    let leased = lease(&mut stage.broker, "art").await;
    let call = prompt_on(&stage, &leased.lease_token, "Deaf");
    stage.peer().runs().await;
    call.abort();
    stage.peer().until(|state| state.interrupted).await;
    let next = prompt_on(&stage, &leased.lease_token, "Gate");
    stage.peer().is_asked(3).await;
    assert_eq!(stage.peer().look(|state| state.submissions.len()), 1);
    stage.peer().open();
    stage.peer().open();
    next.await.unwrap().unwrap();
    assert_eq!(stage.peer().look(|state| state.client_ids.len()), 1);
}
