//! Callers who ask for one endpoint of a pool, and where what they got wrong is said to be.

use sublet::proto::{
    AcquireLeaseRequest, AcquireOptions, Call, Endpoint, ExecuteRequest, ExecuteStreamRequest, LlmBackend,
    Open, OpenSessionRequest, PoolSpec, open_session_request::Message, open_session_response,
    pool_spec::Backend,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{app::App, calls::*};

/// A broker with one pool, `chat`, of two endpoints that nobody has to reach.
async fn stage() -> (App, Broker) {
    let app = App::start().await;
    let endpoint = |name: &str, address: &str| Endpoint {
        name: name.to_owned(),
        address: address.to_owned(),
        max_sessions: Some(1),
    };
    let spec = PoolSpec {
        endpoints: vec![endpoint("near", "127.0.0.1:9"), endpoint("", "127.0.0.2:9")],
        backend: Some(Backend::Llm(LlmBackend::default())),
        ..PoolSpec::default()
    };
    create(&app.address, "chat", spec).await;
    let broker = broker(&app.address);
    (app, broker)
}

fn faults(status: &Status) -> Vec<(String, String)> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(executed(status), "no");
    let details = status.get_error_details();
    let violations = details.bad_request().unwrap().field_violations.clone();
    let told = violations
        .into_iter()
        .map(|fault| (fault.field, fault.description));
    told.collect()
}

fn at(endpoint: &str) -> Option<AcquireOptions> {
    Some(AcquireOptions {
        endpoint: endpoint.to_owned(),
        ..AcquireOptions::default()
    })
}

fn call(name: &str) -> ExecuteRequest {
    one_shot("chat", name, r#"{"prompt":"hello"}"#)
}

fn message(message: Message) -> OpenSessionRequest {
    OpenSessionRequest {
        message: Some(message),
    }
}

#[tokio::test]
async fn endpoint_that_the_pool_does_not_have_is_told_by_the_field_it_was_asked_for_in() {
    let (_app, mut broker) = stage().await;
    let options = at("far");
    let acquire = AcquireLeaseRequest {
        options: options.clone(),
        ..acquire("chat")
    };
    let execute = ExecuteRequest {
        options: options.clone(),
        ..call("chat")
    };
    let repeatable = ExecuteRequest {
        request_id: "3f2b7c1e-58d4-4e0a-9c1f-6f1d2a9b7e10".to_owned(),
        ..execute.clone()
    };
    let stream = ExecuteStreamRequest {
        request: Some(execute.clone()),
    };
    let open = Message::Open(Open {
        pool: "chat".to_owned(),
        options,
    });
    let refused = [
        (
            "options.endpoint",
            broker.acquire_lease(acquire).await.unwrap_err(),
        ),
        ("options.endpoint", broker.execute(execute).await.unwrap_err()),
        ("options.endpoint", broker.execute(repeatable).await.unwrap_err()),
        (
            "request.options.endpoint",
            broker.execute_stream(stream).await.unwrap_err(),
        ),
        (
            "open.options.endpoint",
            broker
                .open_session(tokio_stream::iter([message(open)]))
                .await
                .unwrap_err(),
        ),
    ];
    for (field, status) in refused {
        let message = "is no endpoint of this pool, which has `near`, `127.0.0.2:9`";
        assert_eq!(faults(&status), [(field.to_owned(), message.to_owned())]);
    }
}

#[tokio::test]
async fn faults_of_a_streamed_call_are_where_its_message_has_them() {
    let (_app, mut broker) = stage().await;
    for (request, fields) in [
        (
            ExecuteRequest {
                seqno: 3,
                ..one_shot("chat", "", "{not json")
            },
            vec![
                "request.operation.name",
                "request.operation.params_json",
                "request.seqno",
            ],
        ),
        (call("sing"), vec!["request.operation.name"]),
    ] {
        let request = ExecuteStreamRequest {
            request: Some(request),
        };
        let status = broker.execute_stream(request).await.unwrap_err();
        let told: Vec<_> = faults(&status).into_iter().map(|(field, _)| field).collect();
        assert_eq!(told, fields);
    }
    let status = broker
        .execute_stream(ExecuteStreamRequest::default())
        .await
        .unwrap_err();
    assert_eq!(faults(&status)[0].0, "request");
}

#[tokio::test]
async fn faults_of_a_call_in_an_open_session_are_where_its_message_has_them() {
    let (app, mut broker) = stage().await;
    create(&app.address, "echo", echo(1)).await;
    let call = |id, name: &str, params: &str| {
        message(Message::Call(Call {
            id,
            operation: Some(operation(name, params)),
            ..Call::default()
        }))
    };
    let open = message(Message::Open(Open {
        pool: "echo".to_owned(),
        options: None,
    }));
    let messages = [
        open,
        call(1, "", "1"),
        call(2, "sing", "1"),
        call(3, "sleep", "{}"),
    ];
    let messages = tokio_stream::iter(messages);
    let mut answers = broker.open_session(messages).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        if let Some(open_session_response::Message::Error(error)) = answer.message {
            told.push((answer.call_id, error.message));
        }
    }
    assert_eq!(told.len(), 3, "{told:?}");
    for (id, message) in told {
        assert!(
            message.contains("invalid argument: call.operation."),
            "{id}: {message}"
        );
    }
}
