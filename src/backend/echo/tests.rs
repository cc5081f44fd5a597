use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::Code;

use super::*;
use crate::{
    backend::{Body, BodyChunk, BodyReader, CallError, Cleanliness, Completion, Event, Output, Params, Sink},
    error::Executed,
    proto::{Endpoint, Value as Arg, value::Kind},
};

fn call(name: &str, params: Value) -> Operation {
    Operation {
        name: name.to_owned(),
        params: Params::Object(params),
        args: Vec::new(),
        body: Body::Whole(Bytes::new()),
        alone: false,
        inspected: crate::backend::Inspected::default(),
    }
}

struct Bench {
    echo: Echo,
    fence: Arc<Fence>,
    session: Box<dyn Session>,
}

impl Bench {
    async fn new() -> Self {
        let echo = Echo::new(Duration::ZERO);
        let fence = Arc::new(Fence::default());
        fence.open(1);
        let session = echo.dial(Arc::clone(&fence), "").await.unwrap();
        Self { echo, fence, session }
    }

    async fn run(&mut self, operation: Operation) -> Result<Completion, CallError> {
        self.echo.inspect(&operation).map_err(CallError::Invalid)?;
        self.session.execute(operation, &mut Sink::collect(1 << 20)).await
    }

    async fn json(&mut self, name: &str, params: Value) -> Value {
        let output = self.run(call(name, params)).await.unwrap().output;
        let Output::Json(text) = output else {
            panic!("{output:?}");
        };
        serde_json::from_str(&text).unwrap()
    }

    async fn pool_record(&mut self) -> Value {
        self.json("count", json!({"scope": "pool"})).await
    }
}

#[tokio::test]
async fn echo_gives_text_back_byte_for_byte() {
    let text = "{ \"z\":18446744073709551615,\"a\" : 1.0 }";
    let mut bench = Bench::new().await;
    let mut operation = call("echo", json!({}));
    operation.params = Params::Text(text.to_owned());
    assert!(matches!(bench.run(operation).await.unwrap().output, Output::Json(back) if back == text));
    assert_eq!(bench.json("echo", json!({"a": 1})).await, json!({"a": 1}));
}

#[tokio::test]
async fn echo_gives_a_body_or_args_back() {
    let mut bench = Bench::new().await;
    let mut operation = call("echo", json!({}));
    operation.body = Body::Whole(Bytes::from_static(b"\0raw"));
    assert!(matches!(bench.run(operation).await.unwrap().output, Output::Body(back) if back == "\0raw"));
    let mut operation = call("echo", json!({}));
    operation.args = vec![Arg {
        kind: Some(Kind::Int(7)),
        ..Arg::default()
    }];
    let Output::Rows(rows) = bench.run(operation).await.unwrap().output else {
        panic!("no rows");
    };
    assert_eq!(
        (rows.columns.len(), rows.rows[0].values[0].kind.clone()),
        (1, Some(Kind::Int(7)))
    );
}

#[tokio::test]
async fn a_streamed_body_comes_back_in_frames() {
    let mut bench = Bench::new().await;
    let (chunks, reader) = mpsc::channel(4);
    let (credit, mut credited) = mpsc::unbounded_channel();
    let mut operation = call("echo", json!({}));
    operation.body = Body::Stream(BodyReader::new(reader, credit));
    chunks
        .send(BodyChunk::Data(vec![7; 100_000].into()))
        .await
        .unwrap();
    chunks.send(BodyChunk::Last).await.unwrap();
    let (events, mut seen) = mpsc::channel(4);
    bench
        .session
        .execute(operation, &mut Sink::Stream(events))
        .await
        .unwrap();
    let mut sizes = Vec::new();
    while let Ok(Event::Data(bytes)) = seen.try_recv() {
        sizes.push(bytes.len());
    }
    assert_eq!(sizes, [65_536, 34_464]);
    assert_eq!(credited.recv().await, Some(100_000));
    assert_eq!(bench.json("count", json!({})).await["bytes"], 100_002);
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_a_failure_of_the_input() {
    let mut bench = Bench::new().await;
    let (chunks, reader) = mpsc::channel(4);
    let mut operation = call("echo", json!({}));
    operation.body = Body::Stream(BodyReader::new(reader, mpsc::unbounded_channel().0));
    drop(chunks);
    assert!(matches!(bench.run(operation).await, Err(CallError::Input)));
}

#[tokio::test(start_paused = true)]
async fn sleep_takes_the_time_it_is_told() {
    let mut bench = Bench::new().await;
    let before = crate::clock::Clock::tokio();
    bench
        .run(call("sleep", json!({"duration": "250ms"})))
        .await
        .unwrap();
    assert_eq!(
        before.now().since(crate::clock::Time::ZERO),
        Duration::from_millis(250)
    );
}

#[tokio::test]
async fn a_failure_is_the_one_that_was_ordered() {
    let mut bench = Bench::new().await;
    let order =
        json!({"code": "not_found", "message": "gone", "executed": "no", "retry_after": "2s", "id": "a"});
    let Err(CallError::Backend(error, executed)) = bench.run(call("fail", order)).await else {
        panic!("it did not fail");
    };
    assert_eq!(
        (error.code, error.message.as_str(), executed),
        (Code::NotFound, "gone", Executed::No)
    );
    assert_eq!(error.retry_after, Some(Duration::from_secs(2)));
    bench.run(call("fail", json!({"id": "b"}))).await.unwrap_err();
    let record = bench.pool_record().await;
    assert_eq!(
        (&record["received"], &record["executed"]),
        (&json!(["a", "b"]), &json!(["b"]))
    );
}

#[tokio::test]
async fn a_stream_has_as_many_items_as_ordered() {
    let mut bench = Bench::new().await;
    let (events, mut seen) = mpsc::channel(8);
    let order = call("stream", json!({"count": 3}));
    bench
        .session
        .execute(order, &mut Sink::Stream(events))
        .await
        .unwrap();
    for number in 1..=3 {
        let Some(Event::Json(item)) = seen.recv().await else {
            panic!("no item")
        };
        assert_eq!(item, format!("{{\"item\":{number}}}"));
    }
    assert!(seen.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_handed_over_once_the_fence_is_shut() {
    let mut bench = Bench::new().await;
    let fence = Arc::clone(&bench.fence);
    let (events, mut seen) = mpsc::channel(100);
    let order = call("stream", json!({"count": 100, "interval": "1s"}));
    let mut sink = Sink::Stream(events);
    let revoke = async {
        seen.recv().await.unwrap();
        fence.shut();
    };
    let (result, ()) = tokio::join!(bench.session.execute(order, &mut sink), revoke);
    assert!(matches!(result, Err(CallError::Broken { executed: None, .. })));
    assert!(seen.try_recv().is_err(), "an item came after the fence was shut");
    let sent = bench.fence.sent();
    for name in ["echo", "set", "get", "count", "drop"] {
        let operation = call(
            name,
            if name == "set" {
                json!({"value": 1})
            } else {
                json!({})
            },
        );
        assert!(matches!(
            bench.session.execute(operation, &mut Sink::collect(9)).await,
            Err(CallError::Broken { .. })
        ));
    }
    assert_eq!(bench.fence.sent(), sent);
    bench.fence.open(2);
    assert_eq!(bench.json("get", json!({})).await, Value::Null);
}

#[tokio::test]
async fn a_variable_needs_a_lease_and_a_reset_removes_it() {
    let mut bench = Bench::new().await;
    let set = call("set", json!({"value": {"b": 1}}));
    assert!(bench.echo.inspect(&set).unwrap().lease);
    assert!(bench.echo.inspect(&call("get", json!({}))).unwrap().lease);
    assert!(!bench.echo.inspect(&call("count", json!({}))).unwrap().lease);
    assert_eq!(bench.session.cleanliness(), Cleanliness::Clean);
    bench.run(set).await.unwrap();
    assert_eq!(bench.session.cleanliness(), Cleanliness::Dirty);
    assert_eq!(bench.json("get", json!({})).await, json!({"b": 1}));
    bench.session.reset().await.unwrap();
    assert_eq!(bench.session.cleanliness(), Cleanliness::Clean);
    assert_eq!(bench.json("get", json!({})).await, Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_leaves_the_session_dirty_until_it_is_settled() {
    let mut bench = Bench::new().await;
    let sleep = call("sleep", json!({"duration": "1h", "id": "s"}));
    let cut = tokio::time::timeout(Duration::from_secs(1), bench.run(sleep)).await;
    assert!(cut.is_err());
    assert_eq!(bench.session.cleanliness(), Cleanliness::Dirty);
    bench.session.settle().await.unwrap();
    assert_eq!(bench.session.cleanliness(), Cleanliness::Clean);
    let record = bench.pool_record().await;
    assert_eq!(
        (&record["received"], &record["executed"]),
        (&json!(["s"]), &json!([]))
    );
}

#[tokio::test]
async fn what_a_dropped_connection_claims_is_what_the_record_says() {
    for (order, sent, executed, carried_out) in [
        (json!({"id": "x"}), true, None, true),
        (json!({"id": "x", "when": "before"}), false, None, false),
        (
            json!({"id": "x", "executed": "yes"}),
            true,
            Some(Executed::Yes),
            true,
        ),
        (
            json!({"id": "x", "executed": "no"}),
            true,
            Some(Executed::No),
            false,
        ),
    ] {
        let mut bench = Bench::new().await;
        let Err(CallError::Lost {
            executed: claimed, ..
        }) = bench.run(call("drop", order.clone())).await
        else {
            panic!("it was not lost");
        };
        assert_eq!((claimed, bench.fence.sent() > 0), (executed, sent), "{order}");
        assert_eq!(bench.session.cleanliness(), Cleanliness::Broken);
        assert!(bench.session.probe().await.is_err());
        bench.session = bench.echo.dial(Arc::clone(&bench.fence), "").await.unwrap();
        let record = bench.pool_record().await;
        let names = |yes: bool| if yes { json!(["x"]) } else { json!([]) };
        assert_eq!(
            (&record["received"], &record["executed"]),
            (&names(sent), &names(carried_out)),
            "{order}"
        );
    }
}

#[tokio::test]
async fn counts_are_kept_for_the_session_and_for_the_pool() {
    let mut bench = Bench::new().await;
    bench.run(call("echo", json!({}))).await.unwrap();
    bench.session = bench.echo.dial(Arc::clone(&bench.fence), "").await.unwrap();
    bench.run(call("echo", json!({}))).await.unwrap();
    assert_eq!(bench.json("count", json!({})).await["calls"], 2);
    assert_eq!(
        bench.pool_record().await["operations"],
        json!({"echo": 2, "count": 2})
    );
}

#[tokio::test]
async fn an_operation_that_makes_no_sense_is_refused_with_its_path() {
    let bench = Bench::new().await;
    let mut with_body = call("sleep", json!({"duration": 1}));
    with_body.body = Body::Whole(Bytes::from_static(b"x"));
    let long = "x".repeat(200);
    for (operation, field) in [
        (call("fly", json!({})), "name"),
        (call("sleep", json!({})), "params"),
        (call("sleep", json!({"duration": "1s", "tired": true})), "params"),
        (call("fail", json!({"code": "OK"})), "params"),
        (call("stream", json!({"count": 2_000_000})), "params.count"),
        (call("stream", json!({"count": 1, "size": 65_537})), "params.size"),
        (
            call("drop", json!({"when": "before", "executed": "yes"})),
            "params.executed",
        ),
        (call("set", json!({"value": 1, "id": long})), "params.id"),
        (with_body, "body"),
    ] {
        let faults = bench.echo.inspect(&operation).unwrap_err();
        assert_eq!(faults.list()[0].field, field, "{operation:?}");
    }
}

#[test]
fn a_definition_is_refused_with_all_its_faults() {
    let spec = PoolSpec {
        endpoints: vec![Endpoint::default()],
        ..PoolSpec::default()
    };
    let own = EchoBackend {
        dial_delay: Some(prost_types::Duration {
            seconds: 61,
            nanos: 0,
        }),
    };
    let faults = build(&spec, own).unwrap_err();
    let fields: Vec<_> = faults.list().iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["endpoints", "echo.dial_delay"]);
}

#[tokio::test(start_paused = true)]
async fn dialing_takes_its_delay() {
    let clock = crate::clock::Clock::tokio();
    let echo = Echo::new(Duration::from_secs(3));
    echo.dial(Arc::default(), "").await.unwrap();
    assert_eq!(
        clock.now().since(crate::clock::Time::ZERO),
        Duration::from_secs(3)
    );
}
