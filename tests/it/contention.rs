//! Many callers and few sessions, over real connections.

use std::time::Duration;

use sublet::proto::{
    AcquireLeaseRequest, Call, Input, KeepAliveRequest, LeaseEnd, Open, OpenSessionRequest,
    open_session_request::Message, open_session_response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::support::{app::App, calls::*};

fn message(message: Message) -> OpenSessionRequest {
    OpenSessionRequest {
        message: Some(message),
    }
}

/// The caller's end of an open session.
struct Opened {
    out: mpsc::UnboundedSender<OpenSessionRequest>,
    answers: tonic::Streaming<sublet::proto::OpenSessionResponse>,
}

async fn open(broker: &mut Broker, pool: &str) -> Opened {
    let (out, messages) = mpsc::unbounded_channel();
    out.send(message(Message::Open(Open {
        pool: pool.to_owned(),
        options: None,
    })))
    .unwrap();
    let answers = broker
        .open_session(UnboundedReceiverStream::new(messages))
        .await
        .unwrap();
    let mut answers = answers.into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert!(matches!(
        first.message,
        Some(open_session_response::Message::Opened(_))
    ));
    Opened { out, answers }
}

#[tokio::test]
async fn queued_acquires_on_one_connection_do_not_block_a_release_on_it() {
    let app = App::start().await;
    create(&app.address, "few", echo(1)).await;
    let mut broker = broker(&app.address);
    let first = lease(&mut broker, "few").await;
    let waiting: Vec<_> = (0..150)
        .map(|_| {
            let mut broker = broker.clone();
            tokio::spawn(async move {
                let granted = lease(&mut broker, "few").await;
                release(&mut broker, &granted.lease_token).await
            })
        })
        .collect();
    while stats(&app.address, "few").await.waiters < 150 {
        tokio::task::yield_now().await;
    }
    assert_eq!(release(&mut broker, &first.lease_token).await, LeaseEnd::Released);
    for waiter in waiting {
        assert_eq!(waiter.await.unwrap(), LeaseEnd::Released);
    }
    let stats = stats(&app.address, "few").await;
    assert_eq!(
        (stats.granted, stats.waiters, stats.sessions_created),
        (151, 0, 1)
    );
}

#[tokio::test]
async fn more_than_half_of_a_connection_s_streams_may_not_wait() {
    let app = App::start().await;
    create(&app.address, "few", echo(1)).await;
    let mut broker = broker(&app.address);
    let first = lease(&mut broker, "few").await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..513 {
        let mut broker = broker.clone();
        waiting.spawn(async move { broker.acquire_lease(acquire("few")).await });
    }
    let refused = waiting.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(reason(&refused), "QUEUE_FULL");
    assert_eq!(executed(&refused), "no");
    release(&mut broker, &first.lease_token).await;
}

#[tokio::test]
async fn stalled_input_does_not_delay_a_keepalive_beside_it() {
    let app = App::start().await;
    create(&app.address, "echo", echo(2)).await;
    let mut broker = broker(&app.address);
    let held = lease(&mut broker, "echo").await;
    let mut session = open(&mut broker, "echo").await;
    let call = Call {
        id: 1,
        operation: Some(operation("sleep", r#"{"duration":"60s"}"#)),
        stream: false,
        more_input: false,
    };
    session.out.send(message(Message::Call(call))).unwrap();
    // A call that is not running has no credit: what it sends all the same must not fill the connection.
    let upload = Call {
        id: 2,
        operation: Some(operation("echo", "{}")),
        stream: true,
        more_input: true,
    };
    session.out.send(message(Message::Call(upload))).unwrap();
    for _ in 0..256 {
        let data = vec![0; 64 << 10].into();
        let input = Input {
            call_id: 2,
            data,
            last: false,
        };
        session.out.send(message(Message::Input(input))).unwrap();
    }
    let refused = session.answers.message().await.unwrap().unwrap();
    assert_eq!(refused.call_id, 2);
    let (out, tokens) = mpsc::unbounded_channel();
    let mut statuses = broker
        .keep_alive(UnboundedReceiverStream::new(tokens))
        .await
        .unwrap()
        .into_inner();
    for _ in 0..10 {
        out.send(KeepAliveRequest {
            lease_tokens: vec![held.lease_token.clone()],
        })
        .unwrap();
        let answer = statuses.message().await.unwrap().unwrap();
        assert_eq!(answer.statuses[0].ended(), LeaseEnd::Unspecified);
    }
}

#[tokio::test]
async fn lease_of_a_silent_holder_goes_to_the_next_at_its_ttl() {
    let app = App::start().await;
    create(&app.address, "few", echo(1)).await;
    let mut broker = broker(&app.address);
    let request = AcquireLeaseRequest {
        ttl: Some(span(Duration::from_millis(100))),
        ..acquire("few")
    };
    let silent = broker.acquire_lease(request).await.unwrap().into_inner();
    let next = lease(&mut broker, "few").await.lease.unwrap();
    let silent_lease = silent.lease.unwrap();
    assert_eq!(next.session_id, silent_lease.session_id);
    assert!(next.fence > silent_lease.fence);
    let late = execute(
        &mut broker,
        on_lease(&silent.lease_token, "echo", r#"{"id":"late"}"#),
    )
    .await
    .unwrap_err();
    assert_eq!(
        (reason(&late).as_str(), executed(&late).as_str()),
        ("LEASE_EXPIRED", "no")
    );
}

#[tokio::test]
async fn session_of_a_stream_whose_connection_breaks_is_free_at_once() {
    let app = App::start().await;
    create(&app.address, "few", echo(1)).await;
    let mut holder = broker(&app.address);
    let session = open(&mut holder, "few").await;
    let mut next = broker(&app.address);
    let waiting = tokio::spawn(async move { lease(&mut next, "few").await });
    while stats(&app.address, "few").await.waiters < 1 {
        tokio::task::yield_now().await;
    }
    drop((session, holder));
    waiting.await.unwrap();
}

#[tokio::test]
async fn cancelled_acquire_leaves_the_queue() {
    let app = App::start().await;
    create(&app.address, "few", echo(1)).await;
    let mut first = broker(&app.address);
    let held = lease(&mut first, "few").await;
    let mut second = broker(&app.address);
    let waiting = tokio::spawn(async move { lease(&mut second, "few").await });
    while stats(&app.address, "few").await.waiters < 1 {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    while stats(&app.address, "few").await.waiters > 0 {
        tokio::task::yield_now().await;
    }
    release(&mut first, &held.lease_token).await;
    let stats = stats(&app.address, "few").await;
    assert_eq!(
        (stats.cancelled, stats.idle_sessions, stats.active_sessions),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn statistics_add_up_after_a_storm() {
    let app = App::start().await;
    create(&app.address, "few", echo(3)).await;
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut broker = broker(&app.address);
            tokio::spawn(async move {
                for turn in 0..20 {
                    if turn % 4 == 0 {
                        let granted = lease(&mut broker, "few").await;
                        execute(&mut broker, on_lease(&granted.lease_token, "echo", "1"))
                            .await
                            .unwrap();
                        release(&mut broker, &granted.lease_token).await;
                    } else {
                        execute(&mut broker, one_shot("few", "echo", "1")).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let stats = stats(&app.address, "few").await;
    assert_eq!(stats.acquires, 400);
    assert_eq!(stats.granted + stats.refused + stats.cancelled, 400);
    assert_eq!(
        (stats.requests, stats.requests_ok, stats.requests_failed),
        (400, 400, 0)
    );
    assert_eq!(stats.sessions_created + stats.sessions_reused, 400);
    assert!(stats.peak_sessions <= 3);
    assert!(stats.reuse_ratio >= 0.99, "{}", stats.reuse_ratio);
    assert_eq!(
        (stats.active_sessions, stats.waiters, stats.resetting_sessions),
        (0, 0, 0)
    );
    assert_eq!(stats.wait.unwrap().count, 400);
}
