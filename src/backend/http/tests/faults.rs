//! What is claimed of a failed call, beside what the service saw of it.

use super::*;
use crate::backend::BodyChunk;

/// Answers that are none, and how the connection ends after them.
fn faults() -> Vec<(&'static str, String, Step)> {
    let half = "HTTP/1.1 200 OK\ncontent-length: 10\n\nhalf";
    let chunks = "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\nzz\n";
    let huge = "x".repeat(4_000_000);
    vec![
        ("closed after the request", String::new(), Step::Close),
        ("reset after the request", String::new(), Step::Reset),
        ("closed in the answer", half.to_owned(), Step::Close),
        ("reset in the answer", half.to_owned(), Step::Reset),
        ("half a head", "HTTP/1.1 20".to_owned(), Step::Close),
        ("garbage", "SSH-2.0-x\n\n".to_owned(), Step::ToEnd),
        ("bad chunks", chunks.to_owned(), Step::ToEnd),
        ("zeros for ever", String::new(), Step::Flood),
        (
            "huge headers",
            format!("HTTP/1.1 200 OK\nx: {huge}\n\n"),
            Step::ToEnd,
        ),
    ]
}

#[tokio::test]
async fn the_claim_about_a_failed_call_is_what_the_service_saw() {
    for (name, sent, end) in faults() {
        let peer = Peer::start(vec![vec![Step::Request, answer(&sent), end], vec![Step::Serve]]);
        let mut bench = Bench::with(&peer).await;
        let before = bench.fence.sent();
        let error = bench
            .ask(json!({"method": "POST", "json": {}}))
            .await
            .unwrap_err();
        assert_eq!(
            bench.executed(&error, before),
            Executed::Unknown,
            "{name}: {error:?}"
        );
        assert_eq!((peer.requests().len(), peer.lines().len()), (1, 1), "{name}");
        assert_eq!(bench.session.cleanliness(), Cleanliness::Dirty, "{name}");
        bench.session.settle().await.unwrap();
        assert_eq!(bench.session.cleanliness(), Cleanliness::Clean, "{name}");
        assert_eq!(bench.ask(json!({})).await.unwrap().retries, 0, "{name}");
    }
}

#[tokio::test]
async fn what_was_handed_over_is_never_sent_again() {
    let dies = vec![Step::Request, Step::Json("{}"), Step::Request];
    let peer = Peer::start(vec![dies, vec![Step::Serve]]);
    let mut bench = Bench::with(&peer).await;
    bench.ask(json!({})).await.unwrap();
    let sent = bench.fence.sent();
    let error = bench.ask(json!({"path": "/second"})).await.unwrap_err();
    assert_eq!(bench.executed(&error, sent), Executed::Unknown);
    assert_eq!((peer.requests().len(), peer.lines().len()), (2, 1));
    bench.session.settle().await.unwrap();
    bench.ask(json!({"path": "/third"})).await.unwrap();
    let seen: Vec<_> = peer
        .requests()
        .iter()
        .map(|seen| seen.head[4..6].to_owned())
        .collect();
    assert_eq!(seen, ["/ ", "/s", "/t"]);
}

#[tokio::test]
async fn a_request_on_a_connection_closed_while_idle_is_sent_on_a_new_one() {
    for goodbye in [
        Vec::new(),
        vec![Step::Reset],
        vec![answer("HTTP/1.1 408 Too Late\nconnection: close\n\n")],
    ] {
        let mut closes = vec![Step::Request, Step::Json("{}"), Step::Wait];
        closes.extend(goodbye);
        let peer = Peer::start(vec![closes, vec![Step::Serve]]);
        let mut bench = Bench::with(&peer).await;
        bench.ask(json!({})).await.unwrap();
        peer.go_on();
        peer.until(|lines| lines[0].end.is_some()).await;
        let answer = bench.ask(json!({"method": "POST", "json": 1})).await.unwrap();
        assert_eq!((answer.text(), answer.retries), ("{}", 1));
        let seen: Vec<_> = peer.lines().iter().map(|line| line.requests.len()).collect();
        assert_eq!(seen, [1, 1]);
    }
}

#[tokio::test]
async fn a_streamed_body_not_begun_is_sent_on_a_new_connection() {
    let peer = Peer::start(vec![
        vec![Step::Request, Step::Json("{}"), Step::Wait],
        vec![Step::Echo],
    ]);
    let mut bench = Bench::with(&peer).await;
    bench.ask(json!({})).await.unwrap();
    peer.go_on();
    peer.until(|lines| lines[0].end.is_some()).await;
    let (input, operation) = streams::upload(json!({"method": "POST"}));
    let feed = async {
        input
            .send(BodyChunk::Data(Bytes::from_static(b"[1]")))
            .await
            .unwrap();
        input.send(BodyChunk::Last).await.unwrap();
    };
    let (answer, ()) = tokio::join!(bench.run(operation), feed);
    let answer = answer.unwrap();
    assert_eq!((answer.text(), answer.retries), ("[1]", 1));
}

#[tokio::test]
async fn a_probe_tells_a_connection_closed_while_idle_without_sending_anything() {
    let peer = Peer::start(vec![vec![Step::Wait]]);
    let mut bench = Bench::with(&peer).await;
    bench.session.probe().await.unwrap();
    peer.go_on();
    peer.until(|lines| lines[0].end.is_some()).await;
    bench.session.probe().await.unwrap_err();
    assert_eq!(peer.lines()[0].bytes.len(), 0);
}

#[tokio::test]
async fn a_dial_refused_within_the_slot_is_told_as_such_and_nothing_was_executed() {
    let mut peer = Peer::start(vec![vec![Step::Request, Step::Json("{}"), Step::Wait]]);
    let mut bench = Bench::with(&peer).await;
    bench.ask(json!({})).await.unwrap();
    peer.refuse().await;
    peer.go_on();
    peer.until(|lines| lines[0].end.is_some()).await;
    let error = bench.ask(json!({})).await.unwrap_err();
    let CallError::Dial(fault) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(fault.kind, DialErrorKind::Transient);
    assert_eq!(peer.requests().len(), 1);
}

#[tokio::test]
async fn a_dial_refused_after_a_redirect_does_not_deny_the_first_half() {
    let moved = answer("HTTP/1.1 302 Found\nlocation: /b\nconnection: close\ncontent-length: 0\n\n");
    let mut peer = Peer::start(vec![vec![Step::Request, Step::Wait, moved]]);
    let mut bench = Bench::with(&peer).await;
    let sent = bench.fence.sent();
    let refuse = async {
        peer.until(|lines| lines[0].requests.len() == 1).await;
        peer.refuse().await;
        peer.go_on();
    };
    let (result, ()) = tokio::join!(bench.ask(json!({"follow_redirects": 1})), refuse);
    let error = result.unwrap_err();
    assert!(matches!(error, CallError::Broken { .. }), "{error:?}");
    assert_eq!(bench.executed(&error, sent), Executed::Unknown);
}

#[tokio::test]
async fn a_dial_that_fails_is_transient_where_it_may_help_to_try_again() {
    let mut peer = Peer::start(vec![vec![]]);
    peer.refuse().await;
    let refused = backend(&spec(&peer.address(), HttpBackend::default()), Path::new("/")).unwrap();
    let fence = Arc::new(Fence::default());
    fence.open(1);
    let error = refused.dial(Arc::clone(&fence), "").await.unwrap_err();
    assert_eq!(error.kind, DialErrorKind::Transient);
    let unknown = backend(
        &spec("no-such-host.invalid:80", HttpBackend::default()),
        Path::new("/"),
    )
    .unwrap();
    let error = unknown.dial(fence, "").await.unwrap_err();
    assert!(error.message.contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn a_service_that_never_answers_meets_the_first_byte_timeout() {
    let peer = Peer::start(vec![vec![Step::Request, Step::Hang]]);
    let own = HttpBackend {
        first_byte_timeout: span(50),
        ..HttpBackend::default()
    };
    let mut bench = Bench::made(&spec(&peer.address(), own)).await;
    let error = bench.ask(json!({})).await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Timeout {
                what: "first byte",
                ..
            }
        ),
        "{error:?}"
    );
    bench.session.settle().await.unwrap();
}

#[tokio::test]
async fn a_service_that_takes_nothing_meets_the_write_timeout() {
    let peer = Peer::start(vec![vec![Step::Hang]]);
    let own = HttpBackend {
        write_timeout: span(50),
        ..HttpBackend::default()
    };
    let mut bench = Bench::made(&spec(&peer.address(), own)).await;
    let mut large = request(json!({"method": "PUT"}));
    large.body = Body::Whole(vec![0; 32 << 20].into());
    let error = bench.run(large).await.unwrap_err();
    assert!(
        matches!(error, CallError::Timeout { what: "write", .. }),
        "{error:?}"
    );
}
