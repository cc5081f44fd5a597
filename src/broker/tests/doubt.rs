//! Calls of which not all is known: nobody is told that they ran, or that they did not.

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    backend::Sink,
    broker::{
        execute::Loan,
        noted::Noted,
        replay::{Ask, SharedCall},
    },
};

fn ask() -> Ask {
    Ask {
        fingerprint: Fingerprint::of(b"doubt"),
        field: "request_id",
    }
}

fn key() -> (Arc<str>, Uuid) {
    (Arc::from("echo"), Uuid::from_u128(1))
}

/// Begins a call that takes long, and drops it in the middle, as a panic would.
async fn begin_and_drop(broker: &Arc<Broker>, noted: Noted) {
    let entry = broker.pools.get("echo").unwrap();
    let held = broker.take_session(&entry, &Waiting::default()).await.unwrap();
    let loan = Loan::new(&entry, held, broker.clock());
    let call = operation("sleep", r#"{"duration":"9s"}"#);
    let running = noted.run(loan, call, Sink::collect(UNARY_LIMIT));
    assert!(running.now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn stream_dropped_in_the_middle_is_of_unknown_outcome() {
    let broker = broker_with(1);
    let noted = broker.note_stream(key(), &ask()).unwrap();
    begin_and_drop(&broker, noted).await;
    let Err((error, executed)) = broker.note_stream(key(), &ask()) else {
        panic!("it would run twice");
    };
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
    assert_eq!(executed, Executed::Unknown);
}

#[tokio::test(start_paused = true)]
async fn one_shot_dropped_in_the_middle_runs_no_longer() {
    let broker = broker_with(1);
    let call = SharedCall::new(std::future::pending(), CancellationToken::new());
    let Ok(noted) = broker.note_one_shot(key(), &ask(), &call) else {
        panic!("it is new");
    };
    begin_and_drop(&broker, noted).await;
    let Err(Err((error, _))) = broker.note_one_shot(key(), &ask(), &call) else {
        panic!("a repeat would wait for ever, or run twice");
    };
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn call_dropped_before_it_began_is_forgotten() {
    let broker = broker_with(1);
    drop(broker.note_stream(key(), &ask()).unwrap());
    assert!(broker.note_stream(key(), &ask()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn repeat_of_a_stream_that_only_waits_is_not_told_that_it_was_executed() {
    let broker = broker_with(1);
    let (_, _token) = lease(&broker).await;
    let call = || repeatable(Uuid::from_u128(5), "stream", r#"{"count":1}"#);
    let mut first = Box::pin(broker.stream_on_pool(call()));
    assert!((&mut first).now_or_never().is_none(), "it waits in the queue");
    let again = broker.stream_on_pool(call()).await.unwrap_err();
    assert!(matches!(again.error, Error::AlreadyExecuted));
    assert_eq!(again.executed, Some(Executed::Unknown));
}

#[tokio::test(start_paused = true)]
async fn repeat_of_a_numbered_stream_that_runs_is_not_told_that_it_was_executed() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let call = || numbered(&token, 1, "stream", r#"{"count":300,"interval":"1s"}"#);
    let _running = broker.stream_on_lease(call()).await.unwrap();
    let again = broker.execute_on_lease(call()).await.unwrap_err();
    assert!(matches!(again.error, Error::AlreadyExecuted));
    assert_eq!(again.executed, Some(Executed::Unknown));
}

#[tokio::test(start_paused = true)]
async fn older_number_of_unknown_outcome_stays_in_doubt() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let mut cut = numbered(&token, 1, "sleep", r#"{"duration":"20s"}"#);
    cut.call.timeout = Some(SECOND);
    broker.execute_on_lease(cut).await.unwrap_err();
    for seqno in 2..=3 {
        let call = numbered(&token, seqno, "echo", "1");
        broker.execute_on_lease(call).await.unwrap();
    }
    for (seqno, expected) in [(1, Executed::Unknown), (2, Executed::Yes)] {
        let again = broker.execute_on_lease(numbered(&token, seqno, "echo", "1"));
        let failure = again.await.unwrap_err();
        assert!(matches!(failure.error, Error::AlreadyExecuted));
        assert_eq!(failure.executed, Some(expected));
    }
}
