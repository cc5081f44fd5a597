//! Operations, events, input, errors, and what the next holder finds.

use sublet::proto::{
    Call, Input, Open, OpenSessionRequest, OpenSessionResponse, open_session_request::Message,
    open_session_response,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;

#[tokio::test]
async fn params_and_answers_pass_byte_for_byte_and_sessions_are_reused() {
    let mut stage = Stage::with(1).await;
    let text = r#"{"z": 18446744073709551615, "a": 1.0}"#;
    for _ in 0..3 {
        let answer = execute(&mut stage.broker, one_shot("dev", "echo", text))
            .await
            .unwrap();
        assert_eq!(answer, text);
    }
    assert_eq!(stage.created().await, 1);
    assert_eq!(stage.driver.record.count("reset"), 0, "echo leaves nothing");
}

#[tokio::test]
async fn streams_end_once_and_unary_callers_get_them_collected() {
    let mut stage = Stage::with(1).await;
    let request = one_shot("dev", "count", r#"{"count": 3, "size": 100000}"#);
    let mut events = stage.stream(request.clone()).await;
    let mut size = 0;
    while let Some(Told::Data(bytes)) = next(&mut events).await.unwrap() {
        assert!(bytes.len() <= 64 << 10);
        size += bytes.len();
    }
    assert_eq!(size, 300_000);
    let result = stage
        .broker
        .execute(request)
        .await
        .unwrap()
        .into_inner()
        .result
        .unwrap();
    let Some(sublet::proto::result::Output::Body(body)) = result.output else {
        panic!("{result:?}")
    };
    assert_eq!(body.len(), 300_000);
    assert_eq!(stage.created().await, 1);
}

#[tokio::test]
async fn what_a_holder_leaves_is_gone_for_the_next() {
    let mut stage = Stage::with(1).await;
    let lease_one = lease(&mut stage.broker, "dev").await.lease_token;
    stage
        .on(&lease_one, "set", json!({"value": "mine"}))
        .await
        .unwrap();
    let got = stage.on(&lease_one, "get", json!({})).await.unwrap();
    assert_eq!(got, json!("\"mine\""));
    release(&mut stage.broker, &lease_one).await;
    let lease_two = lease(&mut stage.broker, "dev").await.lease_token;
    assert_eq!(stage.on(&lease_two, "get", json!({})).await.unwrap(), json!(""));
    assert_eq!(stage.driver.record.count("reset"), 1);
    assert_eq!(stage.created().await, 1, "it was reset, not replaced");
}

#[tokio::test]
async fn operations_are_looked_at_before_a_session_is_taken_and_by_the_first_session() {
    let mut stage = Stage::with(1).await;
    for _ in 0..2 {
        let unknown = stage.one("print", json!({})).await.unwrap_err();
        assert_eq!(
            (unknown.code(), executed(&unknown).as_str()),
            (Code::InvalidArgument, "no")
        );
        assert!(unknown.message().contains("echo"), "{unknown:?}");
        let stateful = stage.one("set", json!({"value": 1})).await.unwrap_err();
        assert_eq!(stateful.code(), Code::InvalidArgument);
        assert!(stateful.message().contains("needs a lease"), "{stateful:?}");
    }
    let list = stage.one("echo", json!([1])).await.unwrap_err();
    assert_eq!(list.code(), Code::InvalidArgument, "params are an object");
    assert_eq!(stage.driver.record.count("set began"), 0);
}

#[tokio::test]
async fn a_drivers_error_comes_with_its_code_its_facts_and_what_it_executed() {
    let mut stage = Stage::with(1).await;
    for (told, word) in [(0, "yes"), (1, "no"), (2, "yes"), (3, "unknown")] {
        let error = stage.one("fail", json!({ "executed": told })).await.unwrap_err();
        assert_eq!(
            (error.code(), executed(&error).as_str()),
            (Code::FailedPrecondition, word)
        );
        assert_eq!(reason(&error), "BACKEND_ERROR");
        let details = error.get_error_details();
        let facts = &details.error_info().unwrap().metadata;
        assert_eq!(facts["driver_code"], "PAPER_JAM");
        assert_eq!(facts["driver_metadata"], r#"{"tray":"2"}"#);
    }
    assert_eq!(stage.created().await, 1, "the session goes on");
}

/// An open session in whose first call input is collected.
async fn collecting(
    stage: &mut Stage,
    params: &str,
) -> (impl Fn(Message) + use<>, Streaming<OpenSessionResponse>) {
    let (out, messages) = tokio::sync::mpsc::unbounded_channel();
    let send = move |message| {
        let message = Some(message);
        out.send(OpenSessionRequest { message }).unwrap();
    };
    send(Message::Open(Open {
        pool: "dev".to_owned(),
        options: None,
    }));
    send(Message::Call(Call {
        id: 1,
        operation: Some(operation("collect", params)),
        stream: false,
        more_input: true,
    }));
    let messages = UnboundedReceiverStream::new(messages);
    let answers = stage.broker.open_session(messages).await.unwrap();
    (send, answers.into_inner())
}

#[tokio::test]
async fn call_that_was_cut_in_the_middle_of_its_input_costs_its_session() {
    let mut stage = Stage::with(1).await;
    let (send, mut answers) = collecting(&mut stage, "{}").await;
    let lease_id = match answers.message().await.unwrap().unwrap().message.unwrap() {
        open_session_response::Message::Opened(opened) => opened.lease.unwrap().id,
        other => panic!("{other:?}"),
    };
    send(Message::Input(Input {
        call_id: 1,
        data: vec![b'x'; 1000].into(),
        last: false,
    }));
    stage.driver.record.wait_for("input", 1).await;
    let request = sublet::proto::RevokeLeaseRequest { lease_id };
    pools(&stage.app.address).revoke_lease(request).await.unwrap();
    stage.one("echo", json!({})).await.unwrap();
    assert_eq!(
        stage.created().await,
        2,
        "the rest of the input must reach nobody"
    );
    stage.driver.record.wait_for("disconnect", 1).await;
}

#[tokio::test]
async fn driver_that_answers_before_it_has_taken_all_input_costs_no_session() {
    let mut stage = Stage::with(1).await;
    let (send, mut answers) = collecting(&mut stage, r#"{"refuse": true}"#).await;
    let refused = loop {
        match answers.message().await.unwrap().unwrap().message.unwrap() {
            open_session_response::Message::Error(error) => break error,
            open_session_response::Message::Result(result) => panic!("{result:?}"),
            _ => {}
        }
    };
    assert!(format!("{refused:?}").contains("no input today"), "{refused:?}");
    drop((send, answers));
    stage.one("echo", json!({})).await.unwrap();
    assert_eq!(stage.created().await, 1);
}

#[tokio::test]
async fn input_reaches_the_driver_in_parts_as_it_takes_them() {
    let mut stage = Stage::with(1).await;
    let (send, mut answers) = collecting(&mut stage, "{}").await;
    let (mut left, mut credit) = (100, 0);
    let result = loop {
        match answers.message().await.unwrap().unwrap().message.unwrap() {
            open_session_response::Message::InputCredit(more) => {
                credit += more;
                while left > 0 && credit >= 50_000 {
                    credit -= 50_000;
                    left -= 1;
                    send(Message::Input(Input {
                        call_id: 1,
                        data: vec![b'x'; 50_000].into(),
                        last: left == 0,
                    }));
                }
            }
            open_session_response::Message::Result(result) => break result,
            open_session_response::Message::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    };
    let text = format!("{:?}", result.output);
    assert!(text.contains("5000000"), "{text}");
    assert_eq!(stage.driver.record.count("input"), 100);
}
