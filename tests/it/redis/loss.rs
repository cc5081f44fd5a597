//! Servers that go away.

use super::{Stage, words};
use crate::support::{calls::*, redis::Server};

#[tokio::test]
async fn a_server_killed_in_the_middle_of_a_call_leaves_its_outcome_unknown() {
    let server = Server::start_with("", |_| {});
    let mut stage = Stage::on_server(&server, 1).await;
    let token = lease(&mut stage.broker, "cache").await.lease_token;
    let mut broker = stage.broker.clone();
    let waiting = on_lease(&token, "command", &words("BLPOP queue 0").to_string());
    let call = tokio::spawn(async move { execute(&mut broker, waiting).await });
    stage.until(1, &["cmd=blpop ", "flags=b "]).await;
    server.stop();
    let lost = call.await.unwrap().unwrap_err();
    assert_eq!(
        (reason(&lost).as_str(), executed(&lost).as_str()),
        ("SESSION_LOST", "unknown")
    );
    let next = stage.run_on(&token, "GET k").await.unwrap_err();
    assert_eq!(
        (reason(&next).as_str(), executed(&next).as_str()),
        ("SESSION_LOST", "no")
    );
}

#[tokio::test]
async fn a_server_killed_between_calls_is_noticed_before_anything_is_sent() {
    let server = Server::start_with("", |_| {});
    let mut stage = Stage::on_server(&server, 1).await;
    let token = lease(&mut stage.broker, "cache").await.lease_token;
    stage.run_on(&token, "WATCH k").await.unwrap();
    server.stop();
    server.start_again();
    let lost = stage.run_on(&token, "GET k").await.unwrap_err();
    assert_eq!(
        (reason(&lost).as_str(), executed(&lost).as_str()),
        ("SESSION_LOST", "no")
    );
    // The pool finds the server again.
    assert_eq!(stage.run("ECHO mine").await.unwrap(), "mine");
}

#[tokio::test]
async fn a_session_that_the_server_closed_is_replaced() {
    let mut stage = Stage::with(1).await;
    let id = stage.run("CLIENT ID").await.unwrap();
    stage.admin.run(&format!("CLIENT KILL ID {id}")).await;
    let next = loop {
        // The end may be on its way still when the session is granted.
        match stage.run("CLIENT ID").await {
            Ok(next) => break next,
            Err(lost) => assert_eq!(executed(&lost), "no", "{lost:?}"),
        }
    };
    assert_ne!(next, id);
}

#[tokio::test]
async fn a_session_whose_server_became_a_replica_is_not_kept() {
    let server = Server::start_with("", |_| {});
    let mut stage = Stage::on_server(&server, 1).await;
    let id = stage.run("CLIENT ID").await.unwrap();
    stage.admin.run("REPLICAOF 127.0.0.1 1").await;
    let refused = stage.run("SET k v").await.unwrap_err();
    assert_eq!(
        (refused.code(), executed(&refused).as_str()),
        (tonic::Code::FailedPrecondition, "no"),
        "{refused:?}"
    );
    stage.admin.run("REPLICAOF NO ONE").await;
    assert_ne!(stage.run("CLIENT ID").await.unwrap(), id);
    assert_eq!(stage.run("SET k v").await.unwrap(), "OK");
}
