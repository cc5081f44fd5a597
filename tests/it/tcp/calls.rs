//! Calls, and what the peer's own end of the connection says of them.

use std::time::Duration;

use sublet::proto::{AcquireOptions, ExecuteRequest, result::Output};
use tonic::{Code, Status};

use super::*;

/// A call's bytes.
async fn bytes(broker: &mut Broker, request: ExecuteRequest) -> Result<String, Status> {
    let result = broker.execute(request).await?.into_inner().result.unwrap();
    match result.output {
        Some(Output::Body(bytes)) => Ok(String::from_utf8(bytes.into()).unwrap()),
        other => panic!("no bytes: {other:?}"),
    }
}

fn within(millis: u64, mut request: ExecuteRequest) -> ExecuteRequest {
    let operation = request.operation.as_mut().unwrap();
    operation.timeout = Some(span(Duration::from_millis(millis)));
    request
}

fn get() -> ExecuteRequest {
    one_shot("device", "request", r#"{"text":"GET\r\n"}"#)
}

#[tokio::test]
async fn one_shots_have_a_session_each_unless_the_definition_says_that_nothing_is_left() {
    let mut stage = Stage::with(|address| definition(address, 1)).await;
    for answer in ["one\r\n", "two\r\n"] {
        let answering = async {
            let mut peer = stage.listener.accept().await.unwrap().0;
            hears(&mut peer, "GET\r\n").await;
            says(&mut peer, answer).await;
            end_of(&mut peer).await
        };
        let (answered, end) = tokio::join!(bytes(&mut stage.broker, get()), answering);
        assert_eq!(answered.unwrap(), answer);
        assert_eq!(end, (Vec::new(), true), "it was closed, with a goodbye");
    }

    let mut stage = Stage::with(|address| kept(address, 1)).await;
    let answering = async {
        let mut peer = stage.listener.accept().await.unwrap().0;
        for _ in 0..3 {
            hears(&mut peer, "GET\r\n").await;
            says(&mut peer, "ok\r\n").await;
        }
        peer
    };
    let asking = async {
        for _ in 0..3 {
            assert_eq!(bytes(&mut stage.broker, get()).await.unwrap(), "ok\r\n");
        }
    };
    let (_peer, ()) = tokio::join!(answering, asking);
    assert_eq!(stats(&stage.app.address, "device").await.sessions_created, 1);
}

#[tokio::test]
async fn holder_sends_and_receives_and_the_next_one_finds_nothing_of_it() {
    let mut stage = Stage::with(|address| kept(address, 1)).await;
    let token = lease(&mut stage.broker, "device").await.lease_token;
    let mut peer = stage.accept().await;
    let send = on_lease(&token, "send", r#"{"text":"LIST\r\n"}"#);
    stage.broker.execute(send).await.unwrap();
    hears(&mut peer, "LIST\r\n").await;
    says(&mut peer, "one\r\ntwo\r\nthr").await;
    for line in ["one\r\n", "two\r\n"] {
        let receive = on_lease(&token, "receive", "{}");
        assert_eq!(bytes(&mut stage.broker, receive).await.unwrap(), line);
    }
    release(&mut stage.broker, &token).await;
    assert_eq!(
        end_of(&mut peer).await,
        (Vec::new(), true),
        "half an answer was left unread"
    );

    let answering = async {
        let mut peer = stage.listener.accept().await.unwrap().0;
        hears(&mut peer, "GET\r\n").await;
        says(&mut peer, "fresh\r\n").await;
        peer
    };
    let (answer, _peer) = tokio::join!(bytes(&mut stage.broker, get()), answering);
    assert_eq!(answer.unwrap(), "fresh\r\n");
}

#[tokio::test]
async fn what_only_a_holder_can_use_is_refused_as_a_one_shot() {
    let mut stage = Stage::with(|address| definition(address, 1)).await;
    for name in ["receive", "tunnel"] {
        let error = execute(&mut stage.broker, one_shot("device", name, "{}"))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains("needs a lease"), "{}", error.message());
    }
}

#[tokio::test]
async fn what_became_of_a_call_is_told_as_the_peer_saw_it() {
    let mut stage = Stage::with(|address| definition(address, 1)).await;
    let empty = one_shot("device", "request", r#"{"text":""}"#);
    let error = execute(&mut stage.broker, empty).await.unwrap_err();
    assert_eq!(
        (error.code(), executed(&error).as_str()),
        (Code::InvalidArgument, "no")
    );

    let (failed, end) = tokio::join!(execute(&mut stage.broker, get()), async {
        let mut peer = stage.listener.accept().await.unwrap().0;
        hears(&mut peer, "GET\r\n").await;
        says(&mut peer, "half an ans").await;
        peer.shutdown().await.unwrap();
        end_of(&mut peer).await
    });
    let error = failed.unwrap_err();
    assert_eq!(
        (reason(&error).as_str(), executed(&error).as_str()),
        ("SESSION_LOST", "unknown")
    );
    assert_eq!(end, (Vec::new(), false));

    let token = lease(&mut stage.broker, "device").await.lease_token;
    let mut peer = stage.accept().await;
    peer.shutdown().await.unwrap();
    let receive = on_lease(&token, "receive", "{}");
    let mut told = execute(&mut stage.broker, receive).await.unwrap_err();
    assert_eq!(
        (reason(&told).as_str(), executed(&told).as_str()),
        ("SESSION_LOST", "no")
    );
    assert_eq!(end_of(&mut peer).await.0, b"", "not one byte came");
    told = execute(&mut stage.broker, on_lease(&token, "send", r#"{"text":"x"}"#))
        .await
        .unwrap_err();
    assert_eq!(executed(&told), "no");

    drop(stage.listener);
    let mut refused = get();
    refused.options = Some(AcquireOptions {
        wait_timeout: Some(span(Duration::from_millis(500))),
        ..AcquireOptions::default()
    });
    let error = execute(&mut stage.broker, refused).await.unwrap_err();
    assert_eq!(
        (reason(&error).as_str(), executed(&error).as_str()),
        ("BACKEND_UNREACHABLE", "no")
    );
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_cut_and_a_receive_loses_nothing() {
    let mut stage = Stage::with(|address| definition(address, 1)).await;
    let (failed, end) = tokio::join!(execute(&mut stage.broker, within(50, get())), async {
        let mut peer = stage.listener.accept().await.unwrap().0;
        end_of(&mut peer).await
    });
    let error = failed.unwrap_err();
    assert_eq!(
        (reason(&error).as_str(), executed(&error).as_str()),
        ("EXECUTE_TIMEOUT", "unknown")
    );
    assert!(
        end == (b"GET\r\n".to_vec(), false) || end == (Vec::new(), false),
        "{end:?}"
    );

    let token = lease(&mut stage.broker, "device").await.lease_token;
    let mut peer = stage.accept().await;
    says(&mut peer, "on").await;
    let receive = || on_lease(&token, "receive", "{}");
    let error = execute(&mut stage.broker, within(50, receive()))
        .await
        .unwrap_err();
    assert_eq!(
        (reason(&error).as_str(), executed(&error).as_str()),
        ("EXECUTE_TIMEOUT", "no")
    );
    says(&mut peer, "e\r\n").await;
    assert_eq!(bytes(&mut stage.broker, receive()).await.unwrap(), "one\r\n");
}

#[tokio::test]
async fn a_caller_who_goes_in_the_middle_leaves_the_peer_a_reset_at_once() {
    let mut stage = Stage::with(|address| kept(address, 1)).await;
    let mut asking = stage.broker.clone();
    let call = tokio::spawn(async move { execute(&mut asking, get()).await });
    let mut peer = stage.accept().await;
    hears(&mut peer, "GET\r\n").await;
    call.abort();
    assert_eq!(end_of(&mut peer).await, (Vec::new(), false));
    let answering = async {
        let mut peer = stage.listener.accept().await.unwrap().0;
        hears(&mut peer, "GET\r\n").await;
        says(&mut peer, "fresh\r\n").await;
        peer
    };
    let (answer, _peer) = tokio::join!(bytes(&mut stage.broker, get()), answering);
    assert_eq!(answer.unwrap(), "fresh\r\n");
}
