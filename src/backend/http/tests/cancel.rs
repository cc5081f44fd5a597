//! Calls that are cut off: nothing more of them reaches the service.

use std::time::Duration;

use super::*;
use crate::backend::BodyChunk;

/// Feeds an upload for ever.
async fn feed(input: tokio::sync::mpsc::Sender<BodyChunk>) {
    let part = Bytes::from(vec![b'x'; 10_000]);
    while input.send(BodyChunk::Data(part.clone())).await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_revoke_in_mid_upload_the_service_counts_no_byte_more() {
    for _ in 0..20 {
        let peer = Peer::start(vec![vec![Step::ToEnd]]);
        let mut bench = Bench::with(&peer).await;
        let (input, operation) = streams::upload(json!({"method": "POST"}));
        let feeding = tokio::spawn(feed(input));
        let mut sink = Sink::collect(1000);
        let mut call = bench.session.execute(operation, &mut sink);
        tokio::select! {
            _ = &mut call => panic!("it ended"),
            () = peer.until(|lines| lines[0].bytes.len() > 200_000) => {}
        }
        bench.fence.shut();
        let handed_over = bench.fence.sent();
        drop(call);
        // The pool opens the fence again, to settle the session.
        bench.fence.open(2);
        bench.session.settle().await.unwrap();
        feeding.await.unwrap();
        peer.until(|lines| lines[0].end.is_some()).await;
        assert_eq!(bench.fence.sent(), handed_over);
        let arrived = peer.lines()[0].bytes.len() as u64;
        assert!(arrived <= handed_over, "{arrived} bytes of {handed_over}");
        assert!(!peer.lines()[0].bytes.ends_with(b"0\r\n\r\n"));
    }
}

#[tokio::test]
async fn a_dropped_call_is_cut_at_once_though_the_fence_stays_open() {
    let peer = Peer::start(vec![vec![Step::Head, Step::Wait, Step::ToEnd], vec![Step::Serve]]);
    let mut bench = Bench::with(&peer).await;
    let mut large = request(json!({"method": "PUT"}));
    large.body = Body::Whole(vec![b'x'; 32 << 20].into());
    let mut sink = Sink::collect(1000);
    let mut call = bench.session.execute(large, &mut sink);
    tokio::select! {
        _ = &mut call => panic!("it ended"),
        () = peer.until(|lines| !lines[0].requests.is_empty()) => {}
    }
    drop(call);
    let handed_over = bench.fence.sent();
    assert_eq!(bench.session.cleanliness(), Cleanliness::Dirty);
    peer.go_on();
    bench.session.settle().await.unwrap();
    peer.until(|lines| lines[0].end.is_some()).await;
    assert_eq!(bench.fence.sent(), handed_over);
    assert_eq!(peer.lines()[0].end, Some(End::Reset));
    assert_eq!(bench.session.cleanliness(), Cleanliness::Clean);
    let answer = bench.ask(json!({})).await.unwrap();
    assert_eq!((answer.text(), answer.retries), ("{}", 0), "the slot dials anew");
    assert_eq!(peer.lines()[1].requests.len(), 1);
}

/// Sockets of this machine that are connected to `port`, by the kernel's own list.
fn connected_to(port: u16) -> usize {
    let port = format!(":{port:04X}");
    let list = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = list.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[2].ends_with(&port) && row[3] == "01")
        .count()
}

#[tokio::test]
async fn settling_returns_when_the_old_socket_is_gone() {
    let peer = Peer::start(vec![vec![Step::Request, Step::ToEnd]]);
    let mut bench = Bench::with(&peer).await;
    for round in 0..10 {
        let asked = |lines: &[peer::Line]| lines.get(round).is_some_and(|line| line.requests.len() == 1);
        tokio::select! {
            _ = bench.ask(json!({})) => panic!("it ended"),
            () = peer.until(asked) => {}
        }
        // The list may miss a socket while other tests open and close theirs, but invents none.
        while connected_to(peer.port()) != 1 {
            tokio::task::yield_now().await;
        }
        bench.session.settle().await.unwrap();
        assert_eq!(connected_to(peer.port()), 0);
    }
}

#[tokio::test]
async fn nothing_is_sent_or_retried_behind_a_shut_fence() {
    let peer = Peer::start(vec![vec![Step::Serve]]);
    let mut bench = Bench::with(&peer).await;
    bench.ask(json!({})).await.unwrap();
    let (sent, bytes) = (bench.fence.sent(), peer.lines()[0].bytes.len());
    bench.fence.shut();
    let error = bench.ask(json!({})).await.unwrap_err();
    assert_eq!(bench.executed(&error, sent), Executed::No, "{error:?}");
    bench.session.settle().await.unwrap();
    peer.until(|lines| lines[0].end.is_some()).await;
    assert_eq!((peer.lines().len(), peer.lines()[0].bytes.len()), (1, bytes));
}

#[tokio::test]
async fn closing_says_goodbye_and_waits_for_the_service() {
    let peer = Peer::start(vec![vec![Step::Request, Step::Json("{}"), Step::ToEnd]]);
    let mut bench = Bench::with(&peer).await;
    bench.ask(json!({})).await.unwrap();
    let close = tokio::spawn(bench.session.close());
    peer.until(|lines| lines[0].end.is_some()).await;
    assert_eq!(peer.lines()[0].end, Some(End::Closed));
    close.await.unwrap();
}

#[tokio::test]
async fn closing_waits_as_long_as_the_service_does_not_close() {
    let peer = Peer::start(vec![vec![
        Step::Request,
        Step::Json("{}"),
        Step::Wait,
        Step::ToEnd,
    ]]);
    let mut bench = Bench::with(&peer).await;
    bench.ask(json!({})).await.unwrap();
    let mut close = bench.session.close();
    for _ in 0..1000 {
        assert!(futures_util::poll!(&mut close).is_pending());
        tokio::task::yield_now().await;
    }
    drop(close);
    peer.go_on();
    peer.until(|lines| lines[0].end == Some(End::Reset) || lines[0].end == Some(End::Closed))
        .await;
}

#[tokio::test]
async fn a_dropped_session_leaves_neither_socket_nor_task() {
    let peer = Peer::start(vec![vec![Step::ToEnd]]);
    let bench = Bench::with(&peer).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    drop(bench);
    peer.until(|lines| lines[0].end.is_some()).await;
    let gone = async {
        // The accept loop is what stays.
        while tasks() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
}

fn trusting_anyone() -> HttpBackend {
    HttpBackend {
        tls: Some(crate::proto::Tls {
            enabled: true,
            skip_verify: true,
            ..crate::proto::Tls::default()
        }),
        ..HttpBackend::default()
    }
}

/// The service refuses a large body at once, does not read it, and keeps the connection open. Then the call's holder
/// ends and the next one comes, and only then does the service read.
async fn refuse_unread(tls: bool, body: Body, mut head: Value) {
    let script = vec![
        Step::Head,
        answer("HTTP/1.1 413 Too Large\ncontent-length: 2\n\nno"),
        Step::Wait,
        Step::ToEnd,
    ];
    let (peer, own) = if tls {
        (Peer::start_tls(vec![script], &Identity::new()), trusting_anyone())
    } else {
        (Peer::start(vec![script]), HttpBackend::default())
    };
    let mut bench = Bench::made(&spec(&peer.address(), own)).await;
    head["method"] = json!("POST");
    let mut upload = request(head);
    upload.body = body;
    let answer = bench.run(upload).await.unwrap();
    assert_eq!(answer.attributes["status"], "413");
    assert_eq!(bench.session.cleanliness(), Cleanliness::Clean);
    bench.fence.shut();
    let handed_over = bench.fence.sent();
    bench.fence.open(2);
    peer.go_on();
    peer.until(|lines| lines[0].end.is_some()).await;
    assert_eq!(bench.fence.sent(), handed_over);
    assert_eq!(
        peer.lines()[0].end,
        Some(End::Reset),
        "a whole end would be a lie"
    );
}

#[tokio::test]
async fn what_was_not_written_of_a_whole_body_is_never_sent_for_the_next_holder() {
    for tls in [false, true] {
        refuse_unread(tls, Body::Whole(vec![b'x'; 16 << 20].into()), json!({})).await;
    }
}

#[tokio::test]
async fn what_was_not_written_of_a_promised_stream_is_never_sent_for_the_next_holder() {
    let part = Bytes::from(vec![b'x'; 16 << 20]);
    let (input, mut operation) = streams::upload(json!({}));
    input.send(BodyChunk::Data(part)).await.unwrap();
    let body = std::mem::replace(&mut operation.body, Body::Whole(Bytes::new()));
    let head = json!({"headers": {"content-length": (16 << 20).to_string()}});
    refuse_unread(false, body, head).await;
}

#[tokio::test]
async fn a_request_that_was_written_keeps_its_connection() {
    for (peer, own) in [
        (Peer::start(vec![vec![Step::Serve]]), HttpBackend::default()),
        (
            Peer::start_tls(vec![vec![Step::Serve]], &Identity::new()),
            trusting_anyone(),
        ),
    ] {
        let mut bench = Bench::made(&spec(&peer.address(), own)).await;
        for round in 0..60 {
            let mut asked = request(json!({"method": "POST"}));
            let size = [0, 100, 1 << 20][round % 3];
            asked.body = Body::Whole(vec![b'x'; size].into());
            assert_eq!(bench.run(asked).await.unwrap().retries, 0);
        }
        assert_eq!(peer.lines().len(), 1);
    }
}
