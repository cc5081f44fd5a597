//! Interrupts that are refused, lost, or come too late.

use serde_json::json;

use super::*;

/// A detached prompt of one node, which runs.
async fn running(stage: &mut Stage, class: &str) -> Value {
    let params = json!({ "workflow": only(class, json!({})), "detach": true });
    let answer = stage.run("queue_prompt", &params).await.unwrap();
    stage.peer().runs().await;
    json!({ "prompt_id": answer["prompt_id"] })
}

#[tokio::test]
async fn a_cancel_that_the_box_does_not_hear_is_not_said_to_have_cancelled() {
    let mut stage = Stage::with(1).await;
    let about = running(&mut stage, "Gate").await;
    stage.peer().change(|state| state.refused = 1);
    let status = stage.run("cancel", &about).await.unwrap_err();
    assert_eq!(fact(&status, "kind"), "unavailable");
    assert!(stage.peer().look(|state| state.running.is_some()));
    let answer = stage.run("cancel", &about).await.unwrap();
    assert_eq!(
        (&answer["cancelled"], &answer["gone"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(stage.peer().look(|state| state.ended[0].1.clone()), "interrupted");
}

#[tokio::test]
async fn an_interrupt_that_is_lost_is_sent_again() {
    // So that it is not its session's end that sends it.
    let patient = |spec: &mut PoolSpec| {
        spec.timeouts = Some(Timeouts {
            reset: Some(span(Duration::from_secs(600))),
            ..Timeouts::default()
        });
    };
    let mut stage = Stage::changed(1, patient).await;
    stage.peer().change(|state| state.wiped = 1);
    let mut stream = stage
        .stream(&json!({ "workflow": only("Gate", json!({})) }))
        .await;
    let id = stream.until("started").await["prompt_id"].clone();
    drop(stream);
    stage.peer().until(|state| state.ended.len() == 1).await;
    stage.peer().look(|state| {
        assert_eq!(state.ended[0].1, "interrupted");
        let interrupt = format!(r#"interrupt {{"prompt_id":{id}}}"#);
        assert_eq!(state.cancels, [interrupt.clone(), interrupt]);
    });
}

#[tokio::test]
async fn a_prompt_that_ends_well_before_it_notices_was_not_cancelled() {
    let mut stage = Stage::with(1).await;
    stage.peer().change(|state| state.wiped = u32::MAX);
    let about = running(&mut stage, "Gate").await;
    let (mut broker, request) = (
        stage.broker.clone(),
        one_shot("art", "cancel", &about.to_string()),
    );
    let cancel = tokio::spawn(async move { execute(&mut broker, request).await });
    stage.peer().until(|state| !state.cancels.is_empty()).await;
    stage.peer().open();
    let answer: Value = serde_json::from_str(&cancel.await.unwrap().unwrap()).unwrap();
    assert_eq!(
        (&answer["state"], &answer["cancelled"], &answer["gone"]),
        (&json!("running"), &json!(false), &json!(true))
    );
}
