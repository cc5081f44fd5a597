//! Sessions that are lost, and what is said of their calls.

use tonic::Code;

use super::*;

#[tokio::test]
async fn restarted_driver_has_lost_every_session_and_says_so_before_anything_is_sent() {
    let mut stage = Stage::with(2).await;
    let one = lease(&mut stage.broker, "dev").await.lease_token;
    let two = lease(&mut stage.broker, "dev").await.lease_token;
    stage.on(&one, "set", json!({"value": 1})).await.unwrap();
    stage.driver = stage.driver.restart().await;
    for token in [&one, &two] {
        let lost = stage.on(token, "get", json!({})).await.unwrap_err();
        assert_eq!(
            (reason(&lost).as_str(), executed(&lost).as_str()),
            ("SESSION_LOST", "no")
        );
    }
    assert_eq!(stage.one("get", json!({})).await.unwrap(), json!(""));
    assert_eq!(
        stage.driver.record.count("get began"),
        1,
        "only the new session's"
    );
}

#[tokio::test]
async fn driver_that_dies_in_a_call_leaves_its_outcome_unknown() {
    let mut stage = Stage::with(1).await;
    let token = lease(&mut stage.broker, "dev").await.lease_token;
    let mut broker = stage.broker.clone();
    let request = on_lease(&token, "wait", "{}");
    let call = tokio::spawn(async move { broker.execute(request).await.unwrap_err() });
    stage.driver.record.wait_for("wait began", 1).await;
    stage.driver = stage.driver.restart().await;
    let lost = call.await.unwrap();
    assert_eq!(
        (reason(&lost).as_str(), executed(&lost).as_str()),
        ("SESSION_LOST", "unknown")
    );
    let ended = stage.on(&token, "get", json!({})).await.unwrap_err();
    assert_eq!(reason(&ended), "SESSION_LOST", "the lease has ended with it");
}

#[tokio::test]
async fn error_that_loses_the_session_ends_the_lease_and_tells_what_was_executed() {
    let mut stage = Stage::with(1).await;
    for (told, word) in [(1, "no"), (2, "yes")] {
        let token = lease(&mut stage.broker, "dev").await.lease_token;
        let params = json!({"executed": told, "session_lost": true});
        let lost = stage.on(&token, "fail", params).await.unwrap_err();
        assert_eq!(
            (reason(&lost).as_str(), executed(&lost).as_str()),
            ("SESSION_LOST", word)
        );
        assert!(lost.message().contains("PAPER_JAM: tray 2"), "{lost:?}");
    }
    assert_eq!(stage.one("get", json!({})).await.unwrap(), json!(""));
    assert_eq!(stage.created().await, 3);
    stage.driver.record.wait_for("disconnect", 2).await;
}

#[tokio::test]
async fn plain_status_means_what_the_protocol_says() {
    let mut stage = Stage::with(1).await;
    for (code, reason_is, executed_is, sessions) in [
        (Code::InvalidArgument, "BACKEND_ERROR", "yes", 1),
        (Code::Unimplemented, "BACKEND_ERROR", "no", 1),
        (Code::NotFound, "SESSION_LOST", "no", 1),
        (Code::Unknown, "SESSION_LOST", "unknown", 2),
        (Code::Unavailable, "SESSION_LOST", "unknown", 3),
    ] {
        let error = stage
            .one("status", json!({"code": code as i32}))
            .await
            .unwrap_err();
        let found = (reason(&error), executed(&error));
        assert_eq!(
            (found.0.as_str(), found.1.as_str()),
            (reason_is, executed_is),
            "{code:?}"
        );
        assert_eq!(stage.created().await, sessions, "{code:?}");
    }
}

#[tokio::test]
async fn stream_without_an_end_loses_the_session() {
    let mut stage = Stage::broken(1, Fault::NoEnd).await;
    let lost = stage.one("count", json!({"count": 2})).await.unwrap_err();
    assert_eq!(
        (reason(&lost).as_str(), executed(&lost).as_str()),
        ("SESSION_LOST", "unknown")
    );
    assert!(lost.message().contains("`end`"), "{lost:?}");
}

#[tokio::test]
async fn check_that_another_instance_answers_finds_the_session_lost() {
    let stage = Stage::broken(1, Fault::OtherInstance).await;
    let request = sublet::proto::CheckPoolRequest {
        name: "dev".to_owned(),
    };
    let told = pools(&stage.app.address)
        .check_pool(request)
        .await
        .unwrap()
        .into_inner();
    assert!(format!("{told:?}").contains("another instance"), "{told:?}");
}

#[tokio::test]
async fn stream_that_ends_with_an_output_loses_the_session() {
    let mut stage = Stage::broken(1, Fault::OutputInEnd).await;
    let lost = stage.one("count", json!({"count": 2})).await.unwrap_err();
    assert_eq!(reason(&lost), "SESSION_LOST");
    assert!(lost.message().contains("output into `end`"), "{lost:?}");
}

#[tokio::test]
async fn connect_that_takes_too_long_leaves_no_session_beside_the_next() {
    let stage = Stage::broken(1, Fault::HoldsTheFirstConnect).await;
    let mut spec = definition(&stage.driver.address, 1);
    spec.timeouts = Some(sublet::proto::Timeouts {
        connect: Some(span(std::time::Duration::from_millis(50))),
        ..sublet::proto::Timeouts::default()
    });
    create(&stage.app.address, "hasty", spec).await;
    let mut broker = stage.broker.clone();
    assert_eq!(
        execute(&mut broker, one_shot("hasty", "echo", "{}"))
            .await
            .unwrap(),
        "{}"
    );
    let seen = stage.driver.record.order(&["connect ", "disconnect"]);
    assert_eq!(seen, ["connect ", "disconnect", "connect "]);
    assert_eq!(stage.driver.sessions(), 1);
}
