//! Open sessions: order, input and credit, cancelling, and every way to end.

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;
use crate::backend::Event;

/// The caller's end of an open session.
pub(super) struct Caller {
    pub(super) opened: Opened,
    pub(super) inbound: mpsc::UnboundedSender<Option<SessionInput>>,
    pub(super) outbound: Outbound,
    next_id: u64,
    /// Bytes that the next calls' messages are said to have.
    bytes: usize,
}

pub(super) async fn open(broker: &Arc<Broker>) -> Caller {
    let (out, outbound) = outbox();
    let (opened, session) = broker
        .open_session("echo", &Waiting::default(), out)
        .await
        .unwrap();
    let (inbound, messages) = mpsc::unbounded_channel();
    tokio::spawn(session.drive(UnboundedReceiverStream::new(messages)));
    Caller {
        opened,
        inbound,
        outbound,
        next_id: 1,
        bytes: 0,
    }
}

impl Caller {
    pub(super) fn send(&self, message: SessionInput) {
        self.inbound.send(Some(message)).unwrap();
    }

    pub(super) fn call(&mut self, name: &str, params: &str) -> u64 {
        self.call_shaped(name, params, false, false)
    }

    pub(super) fn call_shaped(&mut self, name: &str, params: &str, stream: bool, more_input: bool) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(SessionInput::Call(SessionCall {
            id,
            request: Ok(operation(name, params)),
            stream,
            more_input,
            bytes: self.bytes,
        }));
        id
    }

    pub(super) fn input(&self, call_id: u64, bytes: usize, last: bool) {
        self.send(SessionInput::Input {
            call_id,
            data: vec![b'x'; bytes].into(),
            last,
        });
    }

    pub(super) fn half_close(&mut self) {
        self.inbound = mpsc::unbounded_channel().0;
    }

    pub(super) async fn next(&mut self) -> (u64, SessionOutput) {
        self.outbound.recv().await.expect("the session has ended")
    }

    pub(super) async fn answer(&mut self) -> (u64, String) {
        match self.next().await {
            (id, SessionOutput::Result(answer)) => (id, json(&answer)),
            other => panic!("an answer was expected, not {other:?}"),
        }
    }

    pub(super) async fn error(&mut self) -> (u64, Failure) {
        match self.next().await {
            (id, SessionOutput::Error(failure)) => (id, failure),
            other => panic!("an error was expected, not {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_run_in_the_order_they_came() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    caller.call("sleep", r#"{"duration":"5s"}"#);
    for turn in 2..=16 {
        caller.call("echo", &turn.to_string());
    }
    assert_eq!(caller.next().await.0, 1);
    for turn in 2..=16_u64 {
        assert_eq!(caller.answer().await, (turn, turn.to_string()));
    }
}

#[tokio::test(start_paused = true)]
async fn half_close_finishes_what_is_queued_and_releases() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let session = Arc::clone(&caller.opened.leased.session_id);
    caller.call("sleep", r#"{"duration":"5s"}"#);
    caller.call("echo", "2");
    drop(caller.inbound);
    assert_eq!(caller.outbound.recv().await.unwrap().0, 1);
    assert_eq!(caller.outbound.recv().await.unwrap().0, 2);
    assert!(caller.outbound.recv().await.is_none());
    let (leased, _) = lease(&broker).await;
    assert_eq!(leased.session_id, session, "released, not discarded");
}

#[tokio::test(start_paused = true)]
async fn reset_cancels_and_discards() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let session = Arc::clone(&caller.opened.leased.session_id);
    caller.call("sleep", r#"{"duration":"20s"}"#);
    tokio::time::sleep(SECOND).await;
    let started = broker.clock().now();
    caller.inbound.send(None).unwrap();
    let (leased, _) = lease(&broker).await;
    assert_ne!(leased.session_id, session);
    assert_eq!(broker.clock().now().since(started), Duration::ZERO, "at once");
}

#[tokio::test(start_paused = true)]
async fn failed_call_answers_in_stream_and_the_queue_goes_on() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    caller.call("fail", "{}");
    caller.call("dance", "{}");
    caller.call("echo", "3");
    let (id, failure) = caller.error().await;
    assert_eq!(id, 1);
    assert!(matches!(failure.error, Error::Backend(_)));
    let (id, failure) = caller.error().await;
    assert_eq!(id, 2);
    assert_eq!(failure.executed, Some(Executed::No));
    assert_eq!(caller.answer().await, (3, "3".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn lost_session_fails_the_rest_as_not_executed_and_closes() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    caller.call("drop", r#"{"when":"after"}"#);
    caller.call("echo", "2");
    let (id, failure) = caller.error().await;
    assert_eq!((id, failure.executed), (1, Some(Executed::Unknown)));
    for expected in [2, 0] {
        let (id, failure) = caller.error().await;
        assert_eq!((id, failure.executed), (expected, Some(Executed::No)));
        assert!(matches!(failure.error, Error::SessionLost { .. }));
    }
    assert!(caller.outbound.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn revoked_session_says_so_and_closes() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    caller.call("sleep", r#"{"duration":"20s"}"#);
    tokio::time::sleep(SECOND).await;
    broker.revoke(&caller.opened.leased.id);
    let (id, failure) = caller.error().await;
    assert_eq!(id, 1);
    assert!(matches!(failure.error, Error::LeaseRevoked { .. }));
    let (id, failure) = caller.error().await;
    assert_eq!(id, 0);
    assert!(matches!(failure.error, Error::LeaseRevoked { .. }));
    assert!(caller.outbound.recv().await.is_none());
    lease(&broker).await;
}

#[tokio::test(start_paused = true)]
async fn idle_open_session_ends_at_its_hard_limit() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let started = broker.clock().now();
    let (id, failure) = caller.error().await;
    assert_eq!(id, 0);
    assert!(matches!(failure.error, Error::LeaseExpired { how: "hard limit" }));
    assert_eq!(broker.clock().now().since(started), SECOND * 120);
    lease(&broker).await;
}

#[tokio::test(start_paused = true)]
async fn seventeenth_queued_call_is_refused_alone() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    caller.call("sleep", r#"{"duration":"5s"}"#);
    tokio::task::yield_now().await;
    for _ in 0..17 {
        caller.call("echo", "1");
    }
    let (id, failure) = caller.error().await;
    assert_eq!(id, 18);
    assert!(matches!(failure.error, Error::QueueFull { limit: 16 }));
    for id in 1..=17 {
        assert_eq!(caller.next().await.0, id);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_are_bounded_in_bytes_too() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    caller.call("sleep", r#"{"duration":"5s"}"#);
    tokio::task::yield_now().await;
    caller.bytes = 3 << 20;
    let (large, refused) = (caller.call("echo", "2"), caller.call("echo", "3"));
    caller.bytes = 1 << 20;
    let small = caller.call("echo", "4");
    let (id, failure) = caller.error().await;
    assert_eq!((id, failure.executed), (refused, Some(Executed::No)));
    assert!(matches!(failure.error, Error::NoRoom { .. }), "{failure:?}");
    caller.send(SessionInput::Cancel { call_id: large });
    assert_eq!(caller.error().await.0, large);
    caller.bytes = 3 << 20;
    let again = caller.call("echo", "5");
    for id in [1, small, again] {
        assert_eq!(caller.next().await.0, id);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_reads_are_bounded_in_bytes_too() {
    let broker = broker_with(1);
    let pool = Arc::clone(&broker.pools.get("echo").unwrap().pool);
    let mut caller = open(&broker).await;
    for _ in 0..5 {
        caller.call("stream", r#"{"count":40,"size":65536}"#);
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        pool.stats().requests,
        2,
        "one answer is there, the next waits for room"
    );
    for id in 1..=5 {
        assert_eq!(caller.next().await.0, id);
    }
}

#[tokio::test(start_paused = true)]
async fn caller_that_goes_while_an_answer_waits_for_room_frees_the_session_at_once() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    for _ in 0..2 {
        caller.call("stream", r#"{"count":40,"size":65536}"#);
    }
    tokio::time::sleep(SECOND).await;
    let started = broker.clock().now();
    drop(caller);
    lease(&broker).await;
    assert_eq!(broker.clock().now().since(started), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn cancelled_calls_leave_the_session_usable() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let running = caller.call("sleep", r#"{"duration":"20s"}"#);
    let queued = caller.call("echo", "2");
    caller.call("echo", "3");
    tokio::time::sleep(SECOND).await;
    caller.send(SessionInput::Cancel { call_id: queued });
    caller.send(SessionInput::Cancel { call_id: running });
    let (id, failure) = caller.error().await;
    assert_eq!((id, failure.executed), (queued, Some(Executed::No)));
    let (id, failure) = caller.error().await;
    assert_eq!((id, failure.executed), (running, Some(Executed::Unknown)));
    assert_eq!(caller.answer().await, (3, "3".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn call_ids_must_go_up_by_one() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    caller.next_id = 5;
    caller.call("echo", "1");
    let (id, failure) = caller.error().await;
    assert_eq!(id, 0);
    assert!(failure.to_string().contains("next one is 1"), "{failure}");
    assert!(caller.outbound.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn streamed_body_comes_back_and_its_credit_too() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let id = caller.call_shaped("echo", "{}", true, true);
    let mut credit = 0_usize;
    let (mut sent, mut echoed) = (0_usize, 0_usize);
    let total = 2 << 20;
    loop {
        match caller.next().await {
            (_, SessionOutput::InputCredit(bytes)) => credit += usize::try_from(bytes).unwrap(),
            (_, SessionOutput::Event(Event::Data(bytes))) => echoed += bytes.len(),
            (_, SessionOutput::Accepted(_)) => {}
            (ended, SessionOutput::End(_)) => {
                assert_eq!(ended, id);
                break;
            }
            other => panic!("unexpected {other:?}"),
        }
        while sent < total && credit >= 32 << 10 {
            credit -= 32 << 10;
            sent += 32 << 10;
            caller.input(id, 32 << 10, sent == total);
        }
    }
    assert_eq!((sent, echoed), (total, total));
}

#[tokio::test(start_paused = true)]
async fn input_beyond_its_credit_fails_the_call_alone() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let id = caller.call_shaped("echo", "{}", false, true);
    caller.input(id, 300 << 10, false);
    assert!(matches!(caller.next().await, (1, SessionOutput::InputCredit(_))));
    let (failed, failure) = caller.error().await;
    assert_eq!(failed, id);
    assert!(failure.to_string().contains("credit"), "{failure}");
    caller.input(id, 10, true);
    caller.call("echo", "2");
    assert_eq!(caller.answer().await, (2, "2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn body_without_its_last_part_is_a_stall() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let id = caller.call_shaped("echo", "{}", false, true);
    caller.input(id, 10, false);
    assert!(matches!(caller.next().await, (1, SessionOutput::InputCredit(_))));
    let (failed, failure) = caller.error().await;
    assert_eq!(failed, id);
    assert!(failure.to_string().contains("stall"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn half_close_fails_calls_that_lack_input_at_once_and_finishes_the_rest() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let session = Arc::clone(&caller.opened.leased.session_id);
    let started = broker.clock().now();
    let running = caller.call_shaped("echo", "{}", false, true);
    let waiting = caller.call_shaped("echo", "{}", false, true);
    let last = caller.call("echo", "3");
    caller.input(running, 10, false);
    caller.half_close();
    assert!(matches!(caller.next().await, (1, SessionOutput::InputCredit(_))));
    for (call, executed) in [(running, Executed::Unknown), (waiting, Executed::No)] {
        let (id, failure) = caller.error().await;
        assert_eq!((id, failure.executed), (call, Some(executed)));
        assert!(
            failure.to_string().contains("before Input with `last`"),
            "{failure}"
        );
    }
    assert_eq!(caller.answer().await, (last, "3".to_owned()));
    assert!(caller.outbound.recv().await.is_none());
    let (leased, _) = lease(&broker).await;
    assert_eq!(leased.session_id, session, "settled and released, not discarded");
    assert_eq!(broker.clock().now().since(started), Duration::ZERO, "at once");
}

#[tokio::test(start_paused = true)]
async fn half_close_leaves_a_call_alone_whose_last_input_has_come() {
    let broker = broker_with(1);
    let mut caller = open(&broker).await;
    let id = caller.call_shaped("echo", "{}", true, true);
    // More than fits on its way to the caller, so that the end waits behind them.
    for _ in 0..200 {
        caller.input(id, 10, false);
    }
    caller.input(id, 10, true);
    caller.half_close();
    tokio::time::sleep(SECOND).await;
    let mut echoed = 0;
    loop {
        match caller.next().await {
            (_, SessionOutput::Event(Event::Data(bytes))) => echoed += bytes.len(),
            (_, SessionOutput::Accepted(_) | SessionOutput::InputCredit(_)) => {}
            (_, SessionOutput::End(_)) => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(echoed, 2010);
}
