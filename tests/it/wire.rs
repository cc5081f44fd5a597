//! What the wire promises: numbers, faults, plain metadata, deadlines.

use std::time::Duration;

use prost_types::{Struct, Value, value::Kind};
use sublet::proto::{
    AcquireLeaseRequest, AcquireOptions, Call, Endpoint, ExecuteRequest, ExecuteStreamRequest, Open,
    OpenSessionRequest, Operation, PoolSpec, Sizing, Timeouts, event::Event, open_session_request,
    open_session_response, operation::Input, result::Output,
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::support::{app::App, calls::*};

fn number(value: f64) -> Struct {
    let value = Value {
        kind: Some(Kind::NumberValue(value)),
    };
    Struct {
        fields: [("seed".to_owned(), value)].into(),
    }
}

fn with_struct(params: Struct) -> ExecuteRequest {
    ExecuteRequest {
        operation: Some(Operation {
            name: "echo".to_owned(),
            input: Some(Input::Params(params)),
            ..Operation::default()
        }),
        ..one_shot("echo", "", "")
    }
}

#[tokio::test]
async fn json_text_passes_byte_for_byte() {
    let app = App::start().await;
    create(&app.address, "echo", echo(1)).await;
    let mut broker = broker(&app.address);
    let text = "{\"z\": 18446744073709551615,\n \"a\":1.10, \"é\":\"\\u00e9\"}";
    assert_eq!(
        execute(&mut broker, one_shot("echo", "echo", text))
            .await
            .unwrap(),
        text
    );
}

#[tokio::test]
async fn integer_that_a_struct_may_have_spoilt_is_refused_with_advice() {
    let app = App::start().await;
    create(&app.address, "echo", echo(1)).await;
    let mut broker = broker(&app.address);
    let refused = broker
        .execute(with_struct(number(1_152_921_504_606_846_976.0)))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(executed(&refused), "no");
    let details = refused.get_error_details();
    let fault = &details.bad_request().unwrap().field_violations[0];
    assert_eq!(fault.field, "operation.params.seed");
    assert!(fault.description.contains("params_json"), "{}", fault.description);
    let answer = broker
        .execute(with_struct(number(20.0)))
        .await
        .unwrap()
        .into_inner();
    assert!(matches!(answer.result.unwrap().output, Some(Output::Json(_))));
}

#[tokio::test]
async fn bad_definition_is_told_every_fault_and_changes_nothing() {
    let app = App::start().await;
    let bad = PoolSpec {
        endpoints: vec![Endpoint::default()],
        sizing: Some(Sizing {
            min_sessions: 20,
            max_sessions: Some(0),
            ..Sizing::default()
        }),
        timeouts: Some(Timeouts {
            connect: Some(span(Duration::from_secs(1_000_000))),
            ..Timeouts::default()
        }),
        ..echo(1)
    };
    let refused = pools(&app.address)
        .create_pool(named("Bad Name", bad))
        .await
        .unwrap_err();
    let details = refused.get_error_details();
    let faults = details.bad_request().unwrap().field_violations.clone();
    for field in [
        "pool.name",
        "pool.spec.endpoints",
        "pool.spec.sizing.max_sessions",
        "pool.spec.timeouts.connect",
    ] {
        assert!(
            faults.iter().any(|fault| fault.field == field),
            "{field} in {faults:?}"
        );
    }
    let listed = pools(&app.address)
        .list_pools(sublet::proto::ListPoolsRequest::default())
        .await
        .unwrap();
    assert!(listed.into_inner().pools.is_empty());
}

#[tokio::test]
async fn every_fault_of_a_call_is_told_at_once() {
    let app = App::start().await;
    let request = ExecuteRequest {
        seqno: 3,
        request_id: "not a uuid".to_owned(),
        operation: Some(Operation {
            timeout: Some(span(Duration::from_secs(1_000_000))),
            ..operation("", "{not json")
        }),
        ..one_shot("", "", "")
    };
    let refused = broker(&app.address).execute(request).await.unwrap_err();
    let details = refused.get_error_details();
    let fields: Vec<_> = details
        .bad_request()
        .unwrap()
        .field_violations
        .iter()
        .map(|fault| fault.field.clone())
        .collect();
    assert_eq!(
        fields,
        [
            "request_id",
            "operation.name",
            "operation.timeout",
            "operation.params_json",
            "pool",
            "seqno"
        ]
    );
}

#[tokio::test]
async fn reason_reaches_clients_that_cannot_decode_details() {
    let app = App::start().await;
    let missing = broker(&app.address)
        .execute(one_shot("absent", "echo", "1"))
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.metadata().get("sublet-reason").unwrap(), "POOL_NOT_FOUND");
}

#[tokio::test]
async fn caller_s_deadline_still_hears_the_reason() {
    let app = App::start().await;
    create(&app.address, "few", echo(1)).await;
    let mut broker = broker(&app.address);
    let _held = lease(&mut broker, "few").await;
    let mut request = Request::new(acquire("few"));
    request.set_timeout(Duration::from_secs(2));
    let refused = broker.acquire_lease(request).await.unwrap_err();
    assert_eq!(reason(&refused), "ACQUIRE_TIMEOUT");
}

#[tokio::test]
async fn stream_ends_once_and_its_deadline_is_told_as_such() {
    let app = App::start().await;
    create(&app.address, "echo", echo(1)).await;
    let mut broker = broker(&app.address);
    let stream = |params: &str| ExecuteStreamRequest {
        request: Some(one_shot("echo", "stream", params)),
    };
    let mut events = broker
        .execute_stream(stream(r#"{"count":3}"#))
        .await
        .unwrap()
        .into_inner();
    let mut kinds = Vec::new();
    while let Some(message) = events.message().await.unwrap() {
        kinds.push(match message.event.unwrap().event.unwrap() {
            Event::Accepted(_) => "accepted",
            Event::JsonText(_) => "item",
            Event::End(_) => "end",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(kinds, ["accepted", "item", "item", "item", "end"]);
    let mut request = Request::new(stream(r#"{"count":1000,"interval":"100ms"}"#));
    request
        .metadata_mut()
        .insert("grpc-timeout", "300m".parse().unwrap());
    let mut events = broker.execute_stream(request).await.unwrap().into_inner();
    let ended = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a stream cut by its deadline must not look complete"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn fence_rises_over_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let mut fences = Vec::new();
    for boot in 0..3 {
        let app = App::over(data.path().to_owned(), |_| {}).await;
        if boot == 0 {
            create(&app.address, "echo", echo(1)).await;
        }
        let mut broker = broker(&app.address);
        let granted = lease(&mut broker, "echo").await;
        fences.push(granted.lease.unwrap().fence);
        release(&mut broker, &granted.lease_token).await;
        app.stop().await;
    }
    assert!(fences.is_sorted_by(|left, right| left < right), "{fences:?}");
}

fn large_call() -> OpenSessionRequest {
    let operation = Operation {
        body: vec![0; 5 << 20].into(),
        ..operation("echo", "")
    };
    let call = Call {
        id: 1,
        operation: Some(operation),
        ..Call::default()
    };
    OpenSessionRequest {
        message: Some(open_session_request::Message::Call(call)),
    }
}

#[tokio::test]
async fn message_that_is_too_large_for_an_open_session_is_told_so_and_its_session_is_free() {
    let app = App::start().await;
    create(&app.address, "echo", echo(1)).await;
    let mut broker = broker(&app.address);
    let open = Open {
        pool: "echo".to_owned(),
        options: None,
    };
    let open = OpenSessionRequest {
        message: Some(open_session_request::Message::Open(open)),
    };
    // The stream stays open on this side: it is the broker that ends it.
    let messages = tokio_stream::iter([open, large_call()]).chain(tokio_stream::pending());
    let mut answers = broker.open_session(messages).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        told.push((answer.call_id, answer.message.unwrap()));
    }
    use open_session_response::Message;
    let [(0, Message::Opened(opened)), (0, Message::Error(error))] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(error.code, Code::InvalidArgument as i32);
    assert!(error.message.contains("at most 4 MiB"), "{}", error.message);
    let at_once = AcquireLeaseRequest {
        options: Some(AcquireOptions {
            wait_timeout: Some(span(Duration::ZERO)),
            ..AcquireOptions::default()
        }),
        ..acquire("echo")
    };
    let lease = broker.acquire_lease(at_once).await.unwrap().into_inner();
    let first = opened.lease.as_ref().unwrap();
    assert_eq!(
        lease.lease.unwrap().session_id,
        first.session_id,
        "released, not lost"
    );
}

#[tokio::test]
async fn first_message_that_is_too_large_is_told_so() {
    let app = App::start().await;
    let refused = broker(&app.address)
        .open_session(tokio_stream::iter([large_call()]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(executed(&refused), "no");
    assert!(
        refused.message().contains("at most 4 MiB"),
        "{}",
        refused.message()
    );
}
