//! Ends that come at the worst moment, and callers that do not play along.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;
use crate::{
    backend::{
        Backend, CallError, Cleanliness, Completion, DialError, Fence, Needs, Session, SessionLost, Sink,
    },
    error::Faults,
    lease::End,
};

#[tokio::test(start_paused = true)]
async fn late_cut_of_an_ended_lease_leaves_the_next_holder_alone() {
    let broker = broker_with(1);
    let (old, _) = lease(&broker).await;
    let turn = broker.begin(&old).unwrap();
    // A release (or the reaper) on another thread records the end, and is held up before it shuts the fence...
    let ended = broker.leases.end(old.number, End::Released);
    // ...the call comes to its end meanwhile, and the session goes to the next holder...
    turn.run(operation("echo", "1"), Sink::collect(UNARY_LIMIT))
        .await
        .unwrap();
    let (new, token) = lease(&broker).await;
    assert_eq!(new.session_id, old.session_id);
    // ...and only then the first thread goes on.
    broker.see_to(ended, End::Released);
    broker
        .execute_on_lease(on_lease(&token, operation("echo", "2")))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn session_closed_between_its_grant_and_its_lease_is_replaced_by_another() {
    let broker = broker_with(1);
    let (first, token) = lease(&broker).await;
    let mut waiting = Box::pin(broker.acquire_lease(acquire_in(SECOND * 10)));
    assert!((&mut waiting).now_or_never().is_none());
    broker.release(&token, false);
    // Granted, but its task has not run yet.
    broker.close_session("echo", &first.session_id).unwrap();
    let granted = waiting.await.unwrap();
    assert_ne!(granted.leased.session_id, first.session_id);
    let token = broker.token(granted.leased.number);
    broker
        .execute_on_lease(on_lease(&token, operation("echo", "1")))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn forced_delete_does_not_wait_for_a_lease_that_is_being_made() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let mut waiting = Box::pin(broker.acquire_lease(acquire_in(SECOND * 10)));
    assert!((&mut waiting).now_or_never().is_none());
    broker.release(&token, false);
    let removing = tokio::spawn(Arc::clone(&broker).remove_pool("echo", Duration::ZERO, true));
    tokio::time::sleep(SECOND).await;
    let refused = waiting.await.unwrap_err();
    assert!(matches!(refused.error, Error::PoolDraining), "{refused:?}");
    removing.await.unwrap();
    assert!(broker.pools.get("echo").is_err());
}

/// A kind that finds out only by settling whether it stands at a boundary.
#[derive(Debug, Default)]
struct Seen {
    interrupted: AtomicBool,
    settled: AtomicBool,
    /// Seconds that settling takes.
    settling: AtomicU32,
    executes: AtomicU32,
}

#[derive(Debug, Clone)]
struct Stub(Arc<Seen>);

impl Backend for Stub {
    fn kind(&self) -> &'static str {
        "stub"
    }
    fn inspect(&self, _: &Operation) -> Result<Needs, Faults> {
        Ok(Needs::default())
    }
    fn dial(&self, fence: Arc<Fence>, _: &str) -> BoxFuture<'static, Result<Box<dyn Session>, DialError>> {
        let session = StubSession(Arc::clone(&self.0), fence);
        std::future::ready(Ok(Box::new(session) as Box<dyn Session>)).boxed()
    }
}

#[derive(Debug)]
struct StubSession(Arc<Seen>, Arc<Fence>);

impl Session for StubSession {
    fn endpoint(&self) -> &Arc<str> {
        static NAME: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| Arc::from("stub"));
        &NAME
    }
    fn execute<'a>(
        &'a mut self,
        operation: Operation,
        _: &'a mut Sink,
    ) -> BoxFuture<'a, Result<Completion, CallError>> {
        async move {
            self.0.executes.fetch_add(1, Ordering::SeqCst);
            self.1.hand_over(1).unwrap();
            match operation.name.as_str() {
                "panic" => panic!("a defect of the backend"),
                "hang" => {
                    self.0.interrupted.store(true, Ordering::SeqCst);
                    std::future::pending().await
                }
                _ => Ok(Completion::default()),
            }
        }
        .boxed()
    }
    fn settle(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        async {
            tokio::time::sleep(SECOND * self.0.settling.load(Ordering::SeqCst)).await;
            self.0.settled.store(true, Ordering::SeqCst);
            Ok(())
        }
        .boxed()
    }
    // "Called between calls only": nothing here says that it is asked in the middle of one.
    fn cleanliness(&self) -> Cleanliness {
        Cleanliness::Clean
    }
    fn reset(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        std::future::ready(Ok(())).boxed()
    }
    fn probe(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        std::future::ready(Ok(())).boxed()
    }
    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}

fn stub_broker() -> (Arc<Broker>, Arc<Seen>) {
    let broker = Broker::new(7, Clock::tokio(), Handle::current()).unwrap();
    tokio::spawn(Arc::clone(&broker).run());
    let seen = Arc::new(Seen::default());
    broker.add_pool(
        "echo",
        Plan {
            settings: Settings {
                max_sessions: 1,
                max_idle: 1,
                ..Settings::default()
            },
            policy: Policy::default(),
            backend: Arc::new(Stub(Arc::clone(&seen))),
        },
    );
    (broker, seen)
}

type Inbound = mpsc::UnboundedSender<Option<SessionInput>>;

async fn open(broker: &Arc<Broker>) -> (Opened, Inbound, Outbound) {
    let (out, outbound) = outbox();
    let (opened, session) = broker
        .open_session("echo", &Waiting::default(), out)
        .await
        .unwrap();
    let (inbound, messages) = mpsc::unbounded_channel();
    tokio::spawn(session.drive(UnboundedReceiverStream::new(messages)));
    (opened, inbound, outbound)
}

fn call(id: u64, request: CallRequest, stream: bool, more_input: bool) -> Option<SessionInput> {
    Some(SessionInput::Call(SessionCall {
        id,
        request: Ok(request),
        stream,
        more_input,
        bytes: 0,
    }))
}

#[tokio::test(start_paused = true)]
async fn session_whose_call_was_cut_by_a_revoke_is_settled_before_anyone_else_has_it() {
    let (broker, seen) = stub_broker();
    let (opened, inbound, _outbound) = open(&broker).await;
    inbound
        .send(call(1, operation("hang", "{}"), false, false))
        .unwrap();
    tokio::time::sleep(SECOND).await;
    assert!(seen.interrupted.load(Ordering::SeqCst));
    broker.revoke(&opened.leased.id);
    let (next, _) = lease(&broker).await;
    assert!(
        next.session_id != opened.leased.session_id || seen.settled.load(Ordering::SeqCst),
        "the next holder got a session in the middle of a call"
    );
}

/// A lease whose call has just timed out, on a session that takes 3 s to settle.
async fn timed_out() -> (Arc<Broker>, Arc<Seen>, String) {
    let (broker, seen) = stub_broker();
    seen.settling.store(3, Ordering::SeqCst);
    let (_, token) = lease(&broker).await;
    let started = broker.clock().now();
    let mut hangs = numbered(&token, 1, "hang", "{}");
    hangs.call.timeout = Some(SECOND);
    let failure = broker.execute_on_lease(hangs).await.unwrap_err();
    assert!(
        matches!(failure.error, Error::ExecuteTimeout { .. }),
        "{failure:?}"
    );
    assert_eq!(broker.clock().now().since(started), SECOND, "answered at once");
    assert!(!seen.settled.load(Ordering::SeqCst));
    (broker, seen, token)
}

#[tokio::test(start_paused = true)]
async fn call_after_one_that_timed_out_begins_when_the_session_is_settled() {
    for seqno in [0, 2] {
        let (broker, seen, token) = timed_out().await;
        let mut next = numbered(&token, seqno, "echo", "1");
        next.numbered = next.numbered.filter(|_| seqno > 0);
        let running = broker.execute_on_lease(next);
        let (answer, ()) = tokio::join!(running, async {
            tokio::time::sleep(SECOND).await;
            assert_eq!(seen.executes.load(Ordering::SeqCst), 1, "it has to wait");
        });
        answer.unwrap();
        assert!(seen.settled.load(Ordering::SeqCst));
    }
}

#[tokio::test(start_paused = true)]
async fn stream_after_a_call_that_timed_out_begins_when_the_session_is_settled() {
    let (broker, seen, token) = timed_out().await;
    let next = numbered(&token, 2, "echo", "1");
    let stream = broker.stream_on_lease(next).await.unwrap();
    stream.outcome.await.unwrap().unwrap();
    assert!(seen.settled.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn lease_released_while_its_session_settles_frees_it_only_settled() {
    let (broker, seen, token) = timed_out().await;
    assert_eq!(broker.release(&token, false), End::Released);
    let (next, _) = tokio::join!(
        broker.acquire_lease(acquire_in(SECOND * 30)),
        tokio::task::yield_now()
    );
    assert!(seen.settled.load(Ordering::SeqCst), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn no_wait_gets_an_idle_session_that_has_to_be_probed_first() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    broker.release(&token, false);
    tokio::time::sleep(SECOND * 3).await;
    let found = broker.acquire_lease(acquire_in(Duration::ZERO)).await;
    assert!(found.is_ok(), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn small_parts_within_the_credit_are_taken() {
    let broker = broker_with(1);
    let (_opened, inbound, mut outbound) = open(&broker).await;
    inbound.send(call(1, operation("echo", "1"), true, true)).unwrap();
    tokio::time::sleep(SECOND).await;
    // 1200 bytes, and the credit is 262144.
    for _ in 0..1200 {
        let part = SessionInput::Input {
            call_id: 1,
            data: Bytes::from_static(b"x"),
            last: false,
        };
        inbound.send(Some(part)).unwrap();
    }
    let last = SessionInput::Input {
        call_id: 1,
        data: Bytes::new(),
        last: true,
    };
    inbound.send(Some(last)).unwrap();
    tokio::time::sleep(SECOND).await;
    loop {
        match outbound.recv().await.unwrap().1 {
            SessionOutput::End(_) => break,
            SessionOutput::Error(failure) => panic!("{failure:?}"),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn first_part_of_a_body_earns_no_credit_beyond_the_window() {
    let broker = broker_with(1);
    let (_opened, inbound, mut outbound) = open(&broker).await;
    let mut request = operation("echo", "1");
    request.operation.body = Body::Whole(vec![0; 3 << 20].into());
    inbound.send(call(1, request, true, true)).unwrap();
    let mut credit = 0;
    loop {
        match tokio::time::timeout(SECOND, outbound.recv()).await {
            Ok(Some((_, SessionOutput::InputCredit(bytes)))) => credit += bytes,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    assert!(credit <= 256 << 10, "{credit} bytes may be in flight");
}

#[tokio::test(start_paused = true)]
async fn open_session_whose_backend_panics_ends_its_lease() {
    let (broker, _) = stub_broker();
    let (opened, inbound, mut outbound) = open(&broker).await;
    inbound
        .send(call(1, operation("panic", "{}"), false, false))
        .unwrap();
    while outbound.recv().await.is_some() {}
    tokio::time::sleep(SECOND).await;
    assert!(
        broker.leases.status(opened.leased.number).is_err(),
        "a lease without a session lives on"
    );
}

#[tokio::test(start_paused = true)]
async fn revoked_session_is_free_at_once_though_its_caller_does_not_read() {
    let broker = broker_with(1);
    let (opened, inbound, _outbound) = open(&broker).await;
    inbound
        .send(call(1, operation("stream", r#"{"count":1000}"#), true, false))
        .unwrap();
    tokio::time::sleep(SECOND).await;
    let started = broker.clock().now();
    broker.revoke(&opened.leased.id);
    let waiting = acquire_in(SECOND * 300);
    broker.acquire_lease(waiting).await.unwrap();
    let took = broker.clock().now().since(started);
    assert!(took <= SECOND, "{took:?}");
}

#[test]
fn numbered_call_on_a_runtime_that_has_stopped_does_not_hang() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let other = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let here = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (broker, token) = here.block_on(async {
            let broker = Broker::new(7, Clock::tokio(), other.handle().clone()).unwrap();
            let plan = Plan {
                settings: Settings::default(),
                policy: Policy::default(),
                backend: Arc::new(Stub(Arc::default())),
            };
            broker.add_pool("echo", plan);
            let (_, token) = lease(&broker).await;
            (broker, token)
        });
        drop(other);
        here.block_on(async {
            let call = numbered(&token, 1, "echo", "1");
            broker.execute_on_lease(call).await.unwrap_err();
        });
        done.send(()).ok();
    });
    ended.recv_timeout(Duration::from_secs(5)).expect("it hangs");
}
