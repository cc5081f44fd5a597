//! Commands that wait, and callers who do not.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;

use super::Stage;
use crate::support::{calls::*, redis::Server};

const BLOCKED: &[&str] = &["flags=b ", "cmd=blpop "];

/// Begins a call that somebody else ends.
fn begin(stage: &Stage, request: sublet::proto::ExecuteRequest) -> JoinHandle<Result<String, tonic::Status>> {
    let mut broker = stage.broker.clone();
    tokio::spawn(async move { execute(&mut broker, request).await })
}

fn blpop(stage: &Stage) -> JoinHandle<Result<String, tonic::Status>> {
    begin(
        stage,
        one_shot("cache", "command", r#"{"args":["BLPOP","queue",0]}"#),
    )
}

#[tokio::test]
async fn a_blocking_command_waits_for_its_answer() {
    let mut stage = Stage::with(1).await;
    let call = blpop(&stage);
    stage.until(1, BLOCKED).await;
    stage.admin.run("RPUSH queue x").await;
    assert_eq!(call.await.unwrap().unwrap(), r#"["queue","x"]"#);
    // It left nothing: the session goes on without a reset.
    let token = lease(&mut stage.broker, "cache").await;
    assert!(token.lease.unwrap().reused);
}

#[tokio::test]
async fn a_client_killed_while_it_waits_waits_no_more_at_the_server() {
    let mut stage = Stage::with(1).await;
    let call = blpop(&stage);
    stage.until(1, BLOCKED).await;
    call.abort();
    stage.until(0, BLOCKED).await;
    // Nobody takes what comes later.
    stage.admin.run("RPUSH queue x").await;
    assert_eq!(stage.run("LLEN queue").await.unwrap(), 1);
}

#[tokio::test]
async fn a_lease_that_ends_while_its_call_waits_ends_the_wait() {
    let mut stage = Stage::with(1).await;
    let token = lease(&mut stage.broker, "cache").await.lease_token;
    let call = begin(
        &stage,
        on_lease(&token, "command", r#"{"args":["BLPOP","queue",0]}"#),
    );
    stage.until(1, BLOCKED).await;
    release(&mut stage.broker, &token).await;
    let ended = call.await.unwrap().unwrap_err();
    assert_eq!(
        (reason(&ended).as_str(), executed(&ended).as_str()),
        ("LEASE_RELEASED", "unknown")
    );
    stage.until(0, BLOCKED).await;
    assert_eq!(stage.run("ECHO mine").await.unwrap(), "mine");
}

#[tokio::test]
async fn time_that_passes_ends_the_wait_too() {
    let mut stage = Stage::with(1).await;
    let mut request = one_shot("cache", "command", r#"{"args":["BLPOP","queue",0]}"#);
    request.operation.as_mut().unwrap().timeout = Some(span(Duration::from_millis(50)));
    let ended = stage.call(request).await.unwrap_err();
    assert_eq!(
        (reason(&ended).as_str(), executed(&ended).as_str()),
        ("EXECUTE_TIMEOUT", "unknown")
    );
    stage.until(0, BLOCKED).await;
}

#[tokio::test]
async fn a_server_that_answers_late_keeps_the_lease_of_a_brief_command() {
    // It is paused for everyone.
    let server = Server::start_with("", |_| {});
    let mut stage = Stage::on_server(&server, 1).await;
    let token = lease(&mut stage.broker, "cache").await.lease_token;
    stage.run_on(&token, "WATCH k").await.unwrap();
    stage.admin.run("CLIENT PAUSE 100000 WRITE").await;
    let mut set = on_lease(&token, "command", r#"{"args":["SET","k","v"]}"#);
    set.operation.as_mut().unwrap().timeout = Some(span(Duration::from_millis(50)));
    let cancelled = stage.call(set).await.unwrap_err();
    assert_eq!(
        (reason(&cancelled).as_str(), executed(&cancelled).as_str()),
        ("EXECUTE_TIMEOUT", "unknown")
    );
    stage.admin.run("CLIENT UNPAUSE").await;
    // What was cancelled is answered and dropped; the holder's next call gets its own answer, on its own session.
    let answer = loop {
        match stage.run_on(&token, "ECHO mine").await {
            Err(busy) if reason(&busy) == "LEASE_BUSY" => tokio::task::yield_now().await,
            answer => break answer,
        }
    };
    assert_eq!(answer.unwrap(), "mine");
}

#[tokio::test]
async fn another_client_may_end_the_wait() {
    let mut stage = Stage::with(1).await;
    let id = stage.run("CLIENT ID").await.unwrap();
    let call = blpop(&stage);
    stage.until(1, BLOCKED).await;
    assert_eq!(stage.admin.run(&format!("CLIENT UNBLOCK {id} ERROR")).await, 1);
    let ended = call.await.unwrap().unwrap_err();
    assert_eq!(
        (ended.code(), executed(&ended).as_str()),
        (tonic::Code::Cancelled, "no")
    );
    assert_eq!(stage.run("CLIENT ID").await.unwrap(), id);
}

#[tokio::test]
async fn a_long_script_that_is_refused_to_others_is_told_as_busy() {
    let server = Server::start_with("--busy-reply-threshold 1", |_| {});
    let mut stage = Stage::on_server(&server, 2).await;
    // Both sessions are open before the server is busy.
    let tokens = [
        lease(&mut stage.broker, "cache").await.lease_token,
        lease(&mut stage.broker, "cache").await.lease_token,
    ];
    let endless = json!({ "args": ["EVAL", "while true do end", 0] }).to_string();
    let call = begin(&stage, on_lease(&tokens[0], "command", &endless));
    let busy = loop {
        match stage.run_on(&tokens[1], "GET k").await {
            Ok(_) => tokio::task::yield_now().await,
            Err(busy) => break busy,
        }
    };
    assert_eq!(
        (busy.code(), executed(&busy).as_str()),
        (tonic::Code::Unavailable, "no"),
        "{busy:?}"
    );
    assert!(
        tonic_types::StatusExt::get_error_details(&busy)
            .retry_info()
            .is_some()
    );
    stage.run_on(&tokens[1], "SCRIPT KILL").await.unwrap();
    let killed = call.await.unwrap().unwrap_err();
    assert_eq!(executed(&killed), "yes", "{killed:?}");
}
