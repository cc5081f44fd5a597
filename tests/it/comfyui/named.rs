//! Boxes that give prompts names of their own.

use serde_json::json;
use sublet::proto::CloseSessionRequest;

use super::*;

#[tokio::test]
async fn a_prompt_that_the_box_names_itself_is_cancelled_though_its_session_is_closed() {
    let mut stage = Stage::with(1).await;
    stage
        .peer()
        .change(|state| (state.holds, state.renames) = (true, true));
    let leased = lease(&mut stage.broker, "art").await;
    let params = json!({ "workflow": only("Gate", json!({})) }).to_string();
    let (mut broker, request) = (
        stage.broker.clone(),
        on_lease(&leased.lease_token, "queue_prompt", &params),
    );
    let call = tokio::spawn(async move { execute(&mut broker, request).await });
    stage
        .peer()
        .until(|state| state.requests.iter().any(|line| line == "POST /prompt"))
        .await;
    let close = CloseSessionRequest {
        pool: "art".to_owned(),
        session_id: leased.lease.unwrap().session_id,
    };
    pools(&stage.app.address).close_session(close).await.unwrap();
    call.await.unwrap().unwrap_err();
    stage.peer().change(|state| state.holds = false);
    stage.peer().until(|state| !state.ended.is_empty()).await;
    stage
        .peer()
        .look(|state| assert_eq!(state.ended[0].1, "interrupted"));
    stage.prompt(saves()).await.unwrap();
}
