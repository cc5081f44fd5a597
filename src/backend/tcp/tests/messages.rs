//! Messages out and in.

use super::*;
use crate::backend::BodyChunk;

#[tokio::test]
async fn a_request_is_sent_as_it_is_and_answered_with_one_message() {
    let mut bench = Bench::with(lines()).await;
    let answer = bench.request("PING\r\n", "+PONG\r\n").await;
    assert_eq!(body(answer), "+PONG\r\n");
    assert_eq!(bench.fence.sent(), 6);
    bench.peer.write_all(b"b\0\xff\r\n").await.unwrap();
    let params = json!({"hex": "00ff0d", "as": "text"});
    let answer = bench.call("request", params).await;
    assert_eq!(json_of(answer), json!({"hex": "6200ff0d0a"}), "it is no UTF-8");
    let mut heard = [0; 3];
    bench.peer.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, [0, 255, 13]);
}

#[tokio::test]
async fn people_may_have_answers_as_text_or_hex() {
    let mut bench = Bench::with(lines()).await;
    bench.says("one\r\ntwo\r\n").await;
    let text = bench.call("receive", json!({"as": "text"})).await;
    assert_eq!(json_of(text), json!({"text": "one\r\n"}));
    let hex = bench.call("receive", json!({"as": "hex"})).await;
    assert_eq!(json_of(hex), json!({"hex": "74776f0d0a"}));
}

#[tokio::test]
async fn what_comes_beyond_a_message_is_the_holders_next_one() {
    let mut bench = Bench::with(lines()).await;
    let first = bench.request("GET\r\n", "one\r\ntwo\r\nthr").await;
    assert_eq!(body(first), "one\r\n");
    assert_eq!(body(bench.call("receive", json!({})).await), "two\r\n");
    bench.says("ee\r\n").await;
    assert_eq!(body(bench.call("receive", json!({})).await), "three\r\n");
}

#[tokio::test]
async fn a_call_may_say_itself_how_its_message_ends() {
    let mut bench = Bench::with(lines()).await;
    bench.says("abcd|ef\u{2}gh\0\0\0\u{3}ijk").await;
    let ways = [
        (json!({"length": 2}), "ab"),
        (json!({"delimiter": "|"}), "cd|"),
        (json!({"delimiter": {"hex": "66"}}), "ef"),
        (json!({"prefix": {"bytes": 1}}), "\u{2}gh"),
        (json!({"prefix": {"bytes": 4, "order": "big"}}), "\0\0\0\u{3}ijk"),
    ];
    for (params, message) in ways {
        assert_eq!(
            body(bench.call("receive", params.clone()).await),
            message,
            "{params}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_may_end_when_nothing_more_comes() {
    let mut bench = Bench::with(TcpBackend::default()).await;
    bench.says("all of it").await;
    let clock = Clock::tokio();
    let answer = bench.call("receive", json!({"quiet": "250ms"})).await;
    assert_eq!(body(answer), "all of it");
    assert_eq!(clock.now().as_nanos(), 250_000_000, "no sooner");
}

#[tokio::test]
async fn the_peers_end_ends_a_message_that_ends_with_silence_and_breaks_any_other() {
    let mut bench = Bench::with(lines()).await;
    bench.says("half").await;
    bench.peer.shutdown().await.unwrap();
    let half = bench.call("receive", json!({"quiet": "60s"})).await;
    assert_eq!(body(half), "half");
    let error = bench.call("receive", json!({})).await.unwrap_err();
    assert!(
        matches!(error, CallError::Lost { executed: None, .. }),
        "{error:?}"
    );
    assert_eq!(bench.session.cleanliness(), Cleanliness::Broken);
    let sent = bench.fence.sent();
    let error = bench.call("send", json!({"text": "late"})).await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Lost {
                executed: Some(Executed::No),
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(bench.fence.sent(), sent);
}

#[tokio::test]
async fn a_message_longer_than_the_limit_costs_its_session() {
    let mut bench = Bench::with(TcpBackend {
        max_message_bytes: Some(10),
        ..lines()
    })
    .await;
    bench.says("12345678\r\n12345\r\n123456789\r\n").await;
    assert_eq!(body(bench.call("receive", json!({})).await), "12345678\r\n");
    let shorter = bench.call("receive", json!({"max_bytes": 7})).await;
    assert_eq!(body(shorter), "12345\r\n");
    let error = bench.call("receive", json!({})).await.unwrap_err();
    assert!(error.to_string().contains("longer than 10 bytes"), "{error}");
    assert_eq!(bench.session.cleanliness(), Cleanliness::Broken);
    bench.session.settle().await.unwrap_err();
}

#[tokio::test]
async fn a_message_too_large_for_its_answer_can_be_asked_for_again() {
    let mut bench = Bench::with(lines()).await;
    let large = format!("{}\r\n", "x".repeat(200_000));
    bench.peer.write_all(large.as_bytes()).await.unwrap();
    let mut small = Sink::collect(1000);
    let receive = operation("receive", json!({}));
    let error = bench.session.execute(receive, &mut small).await.unwrap_err();
    assert!(matches!(error, CallError::Sink(_)), "{error:?}");
    bench.session.settle().await.unwrap();
    assert_eq!(body(bench.call("receive", json!({})).await), large);
}

#[tokio::test]
async fn an_answer_that_was_not_taken_is_never_the_next_requests() {
    let mut bench = Bench::with(lines()).await;
    let large = format!("{}\r\n", "x".repeat(2000));
    bench.peer.write_all(large.as_bytes()).await.unwrap();
    let mut small = Sink::collect(1000);
    let request = operation("request", json!({"text": "A\r\n"}));
    let error = bench.session.execute(request, &mut small).await.unwrap_err();
    assert!(matches!(error, CallError::Sink(_)), "{error:?}");
    bench.session.settle().await.unwrap();
    for name in ["request", "send", "tunnel"] {
        let refused = bench.call(name, json!({"text": "B\r\n"})).await;
        assert!(
            matches!(refused, Err(CallError::Invalid(_))),
            "{name}: {refused:?}"
        );
    }
    assert_eq!(body(bench.call("receive", json!({})).await), large);
    bench.heard("A\r\n").await;
    assert_eq!(body(bench.request("B\r\n", "b\r\n").await), "b\r\n");
}

#[tokio::test]
async fn a_receive_that_is_cut_loses_nothing() {
    let mut bench = Bench::with(lines()).await;
    bench.says("on").await;
    let mut sink = Sink::collect(1000);
    let mut call = bench.session.execute(operation("receive", json!({})), &mut sink);
    assert!((&mut call).now_or_never().is_none());
    drop(call);
    bench.session.settle().await.unwrap();
    bench.says("e\r\n").await;
    assert_eq!(body(bench.call("receive", json!({})).await), "one\r\n");
}

#[tokio::test]
async fn a_request_that_is_cut_costs_its_session_and_the_peer_sees_a_reset() {
    let mut bench = Bench::with(lines()).await;
    let mut sink = Sink::collect(1000);
    let mut call = bench
        .session
        .execute(operation("request", json!({"text": "GET\r\n"})), &mut sink);
    assert!((&mut call).now_or_never().is_none());
    drop(call);
    bench.heard("GET\r\n").await;
    bench.session.settle().await.unwrap_err();
    let error = bench.call("send", json!({"text": "late"})).await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Lost {
                executed: Some(Executed::No),
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(bench.end().await, (Vec::new(), false));
}

#[tokio::test]
async fn a_streamed_body_goes_out_as_it_comes_and_one_that_stops_costs_its_session() {
    let mut bench = Bench::with(lines()).await;
    for whole in [true, false] {
        let (parts, received) = tokio::sync::mpsc::channel(4);
        let (credit, _credit) = tokio::sync::mpsc::unbounded_channel();
        let mut send = operation("send", json!({}));
        send.body = Body::Stream(crate::backend::BodyReader::new(received, credit));
        for part in ["one ", "", "message"] {
            parts.send(BodyChunk::Data(part.into())).await.unwrap();
        }
        if whole {
            parts.send(BodyChunk::Last).await.unwrap();
        }
        drop(parts);
        let sent = bench.session.execute(send, &mut Sink::collect(0)).await;
        assert_eq!(sent.is_ok(), whole, "{sent:?}");
        bench.heard("one message").await;
        assert_eq!(bench.session.settle().await.is_ok(), whole);
    }
}

#[tokio::test]
async fn a_peer_that_answers_before_it_has_heard_all_is_listened_to() {
    let mut bench = Bench::with(TcpBackend {
        max_message_bytes: Some(16 << 20),
        ..TcpBackend::default()
    })
    .await;
    let (mut reader, mut writer) = bench.peer.into_split();
    let echo = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut writer).await });
    let length = 8 << 20;
    let mut request = operation("request", json!({ "length": length }));
    request.body = Body::Whole(vec![b'x'; length].into());
    let mut sink = Sink::collect(length);
    bench.session.execute(request, &mut sink).await.unwrap();
    assert_eq!(bench.fence.sent(), length as u64);
    drop(bench.session);
    echo.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn operations_that_make_no_sense_are_refused_before_anything_is_sent() {
    let mut bench = Bench::with(lines()).await;
    let cases = [
        ("query", json!({}), vec!["name"]),
        ("send", json!({"text": "a", "hex": "00"}), vec!["params.hex"]),
        ("send", json!({"hex": "0"}), vec!["params.hex"]),
        ("send", json!({"text": ""}), vec!["params"]),
        ("send", json!({"text": "a", "length": 1}), vec!["params.length"]),
        ("send", json!({"txt": "a"}), vec!["params"]),
        ("receive", json!({"text": "a"}), vec!["params.text"]),
        ("receive", json!({"length": 0}), vec!["params.length"]),
        ("receive", json!({"length": 1, "quiet": 1}), vec!["params"]),
        ("receive", json!({"delimiter": ""}), vec!["params.delimiter"]),
        (
            "receive",
            json!({"delimiter": {"hex": "0"}}),
            vec!["params.delimiter"],
        ),
        ("receive", json!({"delimiter": 1}), vec!["params.delimiter"]),
        (
            "receive",
            json!({"prefix": {"bytes": 3}}),
            vec!["params.prefix.bytes"],
        ),
        ("receive", json!({"quiet": "2m"}), vec!["params.quiet"]),
        (
            "receive",
            json!({"max_bytes": 2_000_000}),
            vec!["params.max_bytes"],
        ),
        (
            "receive",
            json!({"as": "text", "max_bytes": 1_000_000}),
            vec!["params.max_bytes"],
        ),
        ("receive", json!({"as": "json"}), vec!["params"]),
        ("tunnel", json!({"as": "text"}), vec!["params.as"]),
        ("receive", json!({"half_open": true}), vec!["params.half_open"]),
        ("send", json!({}), vec!["body"]),
        (
            "request",
            json!({"hex": "zz", "length": 0, "half_open": true}),
            vec!["params.half_open", "params.hex", "params.length"],
        ),
    ];
    for (name, params, wanted) in cases {
        let error = bench.call(name, params.clone()).await.unwrap_err();
        assert_eq!(faults(error), wanted, "{name} {params}");
    }
    let mut bare = Bench::with(TcpBackend::default()).await;
    let error = bare.call("receive", json!({})).await.unwrap_err();
    assert_eq!(
        faults(error),
        ["params"],
        "the pool does not say how a message ends"
    );
    assert_eq!((bench.fence.sent(), bare.fence.sent()), (0, 0));
}

#[test]
fn what_only_a_holder_can_use_needs_a_lease() {
    let backend = backend("127.0.0.1:9", lines(), Path::new("/")).unwrap();
    let needs = |name, params| backend.inspect(&operation(name, params)).unwrap().lease;
    assert!(needs("receive", json!({})));
    assert!(needs("tunnel", json!({})));
    assert!(!needs("send", json!({"text": "a"})));
    assert!(!needs("request", json!({"text": "a"})));
}

#[tokio::test]
async fn nothing_passes_a_shut_fence() {
    let mut bench = Bench::with(lines()).await;
    bench.fence.shut();
    let error = bench.call("send", json!({"text": "late"})).await.unwrap_err();
    assert!(matches!(error, CallError::Lost { .. }), "{error:?}");
    assert_eq!(bench.fence.sent(), 0);
    let (rest, _) = bench.end().await;
    assert!(rest.is_empty(), "{rest:?}");
}
