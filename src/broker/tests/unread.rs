//! Open sessions whose caller does not read: what is held for him, for how long, and what he is told in the end.

use super::{
    sessions::{Caller, open},
    *,
};
use crate::backend::Event;

/// Calls with small answers until one waits for room.
fn fill(caller: &mut Caller) -> u64 {
    for _ in 1..17 {
        caller.call("echo", "1");
    }
    caller.call("echo", "17")
}

/// What is left to read.
async fn rest(caller: &mut Caller) -> Vec<(u64, SessionOutput)> {
    let mut rest = Vec::new();
    while let Some(message) = caller.outbound.recv().await {
        rest.push(message);
    }
    rest
}

#[tokio::test(start_paused = true)]
async fn streamed_call_that_was_not_read_in_time_never_ends_well() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let id = caller.call_shaped("stream", r#"{"count":20}"#, true, false);
    tokio::time::sleep(SECOND * 31).await;
    lease(&broker).await;
    let told = rest(&mut caller).await;
    let events = told
        .iter()
        .filter(|(_, told)| matches!(told, SessionOutput::Event(Event::Json(_))));
    assert_eq!(events.count(), 15, "beside `accepted`");
    let [
        ..,
        (call, SessionOutput::Error(failure)),
        (0, SessionOutput::Error(_)),
    ] = told.as_slice()
    else {
        panic!("some events are missing: {told:?}");
    };
    assert_eq!((*call, failure.executed), (id, Some(Executed::Yes)));
    assert!(failure.to_string().contains("did not read"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn answer_that_waits_for_room_outlives_its_lease() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let session = Arc::clone(&caller.opened.leased.session_id);
    let last = fill(&mut caller);
    let queued = caller.call("echo", "18");
    tokio::time::sleep(SECOND).await;
    broker.revoke(&caller.opened.leased.id);
    let (leased, _) = lease(&broker).await;
    assert_eq!(leased.session_id, session, "it stood at a boundary");
    for id in 1..=last {
        assert_eq!(caller.answer().await.0, id);
    }
    for id in [queued, 0] {
        let (failed, failure) = caller.error().await;
        assert_eq!((failed, failure.executed), (id, Some(Executed::No)));
        assert!(matches!(failure.error, Error::LeaseRevoked { .. }), "{failure:?}");
    }
    assert!(caller.outbound.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn answer_that_waits_for_room_does_not_hold_up_a_reset() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    fill(&mut caller);
    tokio::time::sleep(SECOND).await;
    let started = broker.clock().now();
    caller.inbound.send(None).unwrap();
    lease(&broker).await;
    assert_eq!(broker.clock().now().since(started), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn caller_that_does_not_read_is_waited_for_once() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let running = caller.call("sleep", r#"{"duration":"100s"}"#);
    tokio::task::yield_now().await;
    let calls: Vec<_> = (0..16 + 17).map(|_| caller.call("echo", "1")).collect();
    tokio::time::sleep(SECOND * 31).await;
    lease(&broker).await;
    let mut told: Vec<_> = rest(&mut caller).await.iter().map(|(id, _)| *id).collect();
    assert_eq!(told.pop(), Some(0), "the session's own end comes last");
    told.sort_unstable();
    let all: Vec<_> = std::iter::once(running).chain(calls).collect();
    assert_eq!(told, all, "each call has one answer");
}

#[tokio::test(start_paused = true)]
async fn input_beyond_its_credit_does_not_replace_the_answer_that_came_first() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let echo = lasting(SECOND * 5, operation("echo", "{}"));
    caller.send(SessionInput::Call(SessionCall {
        id: 1,
        request: Ok(echo),
        stream: true,
        more_input: true,
        bytes: 0,
    }));
    for _ in 0..60 {
        caller.input(1, 10, false);
    }
    tokio::time::sleep(SECOND * 6).await;
    caller.input(1, 300 << 10, false);
    tokio::time::sleep(SECOND).await;
    loop {
        if let (_, SessionOutput::Error(failure)) = caller.next().await {
            assert!(
                matches!(failure.error, Error::ExecuteTimeout { .. }),
                "{failure:?}"
            );
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answer_that_waits_for_room_does_not_hold_up_the_end_of_a_broken_stream() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let session = Arc::clone(&caller.opened.leased.session_id);
    let last = fill(&mut caller);
    tokio::time::sleep(SECOND).await;
    caller.input(last + 1, 10, false);
    let (leased, _) = lease(&broker).await;
    assert_eq!(leased.session_id, session);
    for id in 1..=last {
        assert_eq!(caller.answer().await.0, id);
    }
    let (id, failure) = caller.error().await;
    assert_eq!(id, 0);
    assert!(failure.to_string().contains("no such call"), "{failure}");
}
