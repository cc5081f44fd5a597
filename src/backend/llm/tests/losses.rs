//! Answers that break off, that nobody can read, or that do not come in time, and connections that are lost.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tonic::Code;

use super::{
    http_peer::{Identity, json_answer},
    *,
};
use llm_peer::{answered, begun, events, finish, stop, token};

#[tokio::test]
async fn a_stream_that_is_cut_before_its_end_marker_is_a_loss_of_data() {
    let cut = |text: String| [begun(&text), vec![Step::Close]].concat();
    let ended = |text: String| events(&text, 1000);
    let half = token("lost").trim_end().trim_end_matches('}').to_owned();
    let cases = [
        ("cut after a token", cut(token("a")), Executed::Unknown),
        (
            "cut within a chunk",
            cut(format!("{}{half}", token("a"))),
            Executed::Unknown,
        ),
        (
            "cut before any",
            cut(String::from(": hello\n\n")),
            Executed::Unknown,
        ),
        (
            "cut after the model stopped",
            cut(format!("{}{}", token("a"), finish("stop"))),
            Executed::Yes,
        ),
        (
            "ended without a marker",
            ended(format!("{}{}", token("a"), finish("stop"))),
            Executed::Yes,
        ),
        (
            "ended within a chunk",
            ended(format!("{}{half}", token("a"))),
            Executed::Unknown,
        ),
        (
            "marked with an empty reason",
            ended(format!("{}{}data: [DONE]\n\n", token("a"), finish(""))),
            Executed::Unknown,
        ),
        (
            "marked without a reason",
            ended(format!("{}data: [DONE]\n\n", token("a"))),
            Executed::Unknown,
        ),
    ];
    for (what, script, wanted) in cases {
        let peer = Peer::start(vec![script, events(&stop(), 100)]);
        let mut bench = Bench::with(&peer).await;
        let (error, executed) = bench.fail("chat", HELLO).await;
        assert_eq!(error.metadata["kind"], "truncated", "{what}");
        assert_eq!(
            (error.code, executed, error.retry_after),
            (Code::DataLoss, wanted, None),
            "{what}"
        );
        assert_eq!(
            bench.stream("chat", HELLO).await.unwrap().attributes["finish_reason"],
            "stop",
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_whole_answer_that_is_cut_or_is_none_is_a_loss_of_data() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"id\":";
    let script = vec![Step::Request, Step::Send(cut.into()), Step::Close];
    let peer = Peer::start(vec![script, answered(200, "", "<html>a portal</html>")]);
    let mut bench = Bench::with(&peer).await;
    let (error, executed) = failure(bench.ask("chat", HELLO).await.unwrap_err());
    assert_eq!(
        (error.metadata["kind"].as_str(), executed),
        ("truncated", Executed::Unknown)
    );
    let (error, executed) = failure(bench.ask("chat", HELLO).await.unwrap_err());
    assert_eq!(
        (error.metadata["kind"].as_str(), executed),
        ("malformed", Executed::Yes)
    );
    assert_eq!(error.code, Code::DataLoss);
}

#[tokio::test]
async fn a_part_that_cannot_be_read_is_told_and_ends_the_answer() {
    for bad in ["data: {\"choices\": [{\n\n", "data: nonsense\n\n"] {
        let peer = Peer::start(vec![events(&format!("{}{bad}{}", token("a"), stop()), 1000)]);
        let (error, executed) = Bench::with(&peer).await.fail("chat", HELLO).await;
        assert_eq!(
            (error.metadata["kind"].as_str(), error.code, executed),
            ("malformed", Code::DataLoss, Executed::Unknown),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn each_deadline_is_told_apart() {
    let slow = LlmBackend {
        first_token_timeout: span(50),
        ..own(Wire::Openai)
    };
    let timeout = |error: CallError| {
        let CallError::Timeout { what, .. } = error else {
            panic!("{error:?}");
        };
        what
    };
    for script in [
        vec![Step::Request, Step::ToEnd],
        // Neither a comment nor the first chunk, which says only who speaks, is a token.
        [
            begun(": wait\n\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n"),
            vec![Step::ToEnd],
        ]
        .concat(),
    ] {
        let peer = Peer::start(vec![script, events(&format!("{}{}", token("a"), stop()), 50)]);
        let mut bench = Bench::of(&peer, slow.clone()).await;
        assert_eq!(
            timeout(bench.stream("chat", HELLO).await.unwrap_err()),
            "first token"
        );
        bench.session.settle().await.unwrap();
        peer.until(|lines| lines[0].end == Some(End::Reset)).await;
        assert_eq!(bench.stream("chat", HELLO).await.unwrap().text, "a");
    }
    let idle = LlmBackend {
        idle_timeout: span(50),
        ..own(Wire::Openai)
    };
    let peer = Peer::start(vec![[begun(&token("a")), vec![Step::ToEnd]].concat()]);
    let mut bench = Bench::of(&peer, idle).await;
    assert_eq!(timeout(bench.stream("chat", HELLO).await.unwrap_err()), "idle");
}

#[tokio::test]
async fn a_connection_that_the_provider_closed_is_dialed_anew_and_what_it_read_is_never_sent_twice() {
    let answer = answered(200, "", "{}");
    let peer = Peer::start(vec![
        [answer.clone(), vec![Step::Close]].concat(),
        [answer, vec![Step::Request, Step::Reset]].concat(),
        vec![Step::ToEnd],
    ]);
    let mut bench = Bench::with(&peer).await;
    bench.ask("chat", HELLO).await.unwrap();
    peer.until(|lines| lines[0].end.is_some()).await;
    bench.ask("chat", HELLO).await.unwrap();
    let error = bench.ask("chat", HELLO).await.unwrap_err();
    assert!(
        matches!(error, CallError::Broken { executed: None, .. }),
        "{error:?}"
    );
    assert_eq!((peer.lines().len(), peer.requests().len()), (2, 3));
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_again_has_done_nothing() {
    let mut peer = Peer::start(vec![[answered(200, "", "{}"), vec![Step::Close]].concat()]);
    let mut bench = Bench::with(&peer).await;
    bench.ask("chat", HELLO).await.unwrap();
    peer.until(|lines| lines[0].end.is_some()).await;
    peer.refuse().await;
    let before = bench.fence.sent();
    let error = bench.ask("chat", HELLO).await.unwrap_err();
    assert!(matches!(error, CallError::Dial(_)), "{error:?}");
    assert_eq!(bench.fence.sent(), before);
}

/// More than one event holds.
fn long(begin: &str, end: &str) -> String {
    format!("{begin}{}{end}", "x".repeat(200_000))
}

#[tokio::test]
async fn a_long_answer_that_is_passed_on_as_it_comes_is_none_the_less_looked_at() {
    let page = long("<html>", "</html>");
    let error = long(r#"{"error":{"type":"overloaded_error","message":""#, r#""}}"#);
    let half = long(r#"{"model":"m-1","choices":[{"message":{"content":""#, "");
    let close = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    let cut_bytes = |bytes: &[u8]| {
        let sent = [close.as_bytes(), bytes].concat();
        vec![Step::Request, Step::Send(sent), Step::Close]
    };
    let cut = |text: &str| cut_bytes(text.as_bytes());
    let whole = r#"{"prompt":"a","stream":false}"#;
    for (script, kind, code, wanted) in [
        (
            answered(200, "", &page),
            "malformed",
            Code::DataLoss,
            Executed::Yes,
        ),
        (
            answered(200, "", &error),
            "overloaded",
            Code::ResourceExhausted,
            Executed::Yes,
        ),
        (cut(&half), "truncated", Code::DataLoss, Executed::Unknown),
        (
            cut(r#"{"model":"m"#),
            "truncated",
            Code::DataLoss,
            Executed::Unknown,
        ),
        (
            // The first two bytes of a character's three.
            cut_bytes(b"{\"model\":\"\xE6\x97"),
            "truncated",
            Code::DataLoss,
            Executed::Unknown,
        ),
        (cut(""), "malformed", Code::DataLoss, Executed::Yes),
    ] {
        let peer = Peer::start(vec![script, answered(200, "", "{}")]);
        let mut bench = Bench::with(&peer).await;
        let (error, executed) = bench.fail("chat", whole).await;
        assert_eq!(
            (error.metadata["kind"].as_str(), error.code, executed),
            (kind, code, wanted)
        );
        bench.stream("chat", whole).await.unwrap();
    }
}

#[tokio::test]
async fn a_provider_that_takes_no_more_of_a_request_is_timed_out() {
    let peer = Peer::start(vec![vec![Step::Hang]]);
    let mut bench = Bench::with(&peer).await;
    let fence = Arc::clone(&bench.fence);
    let long = json!({"prompt": "x".repeat(32 << 20)}).to_string();
    let mut call = Box::pin(bench.ask("chat", &long));
    let stuck = async {
        let mut before = None;
        while before != Some(fence.sent()) || fence.sent() == 0 {
            before = Some(fence.sent());
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::select! {
        _ = &mut call => panic!("it ended"),
        () = stuck => {}
    }
    // Nothing moves any more but the clock.
    tokio::time::pause();
    let error = call.await.unwrap_err();
    let limit = Duration::from_secs(30);
    assert!(
        matches!(error, CallError::Timeout { what: "write", limit: told } if told == limit),
        "{error:?}"
    );
}

/// Answers one request over TLS and closes; whoever comes after it is left without a word.
async fn answers_once(identity: &Identity) -> (u16, impl Future<Output = ()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = identity.acceptor();
    let (closed, done) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut first = acceptor.accept(socket).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            first.read_buf(&mut seen).await.unwrap();
        }
        first.write_all(&json_answer(b"{}")).await.unwrap();
        first.shutdown().await.unwrap();
        drop(first);
        closed.send(()).unwrap();
        let mut silent = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            silent.push(socket);
        }
    });
    (port, async { done.await.unwrap() })
}

#[tokio::test]
async fn a_provider_that_answers_no_handshake_is_given_up_within_the_time_to_connect() {
    let identity = Identity::speaking(&[b"http/1.1"]);
    let (port, closed) = answers_once(&identity).await;
    let own = LlmBackend {
        tls: Some(crate::proto::Tls {
            skip_verify: true,
            ..crate::proto::Tls::default()
        }),
        ..own(Wire::Openai)
    };
    let mut bench = Bench::made(&spec(&format!("https://localhost:{port}"), own)).await;
    bench.ask("models", "{}").await.unwrap();
    closed.await;
    let before = bench.fence.sent();
    tokio::time::pause();
    let clock = Clock::tokio();
    let error = bench.ask("chat", HELLO).await.unwrap_err();
    assert!(matches!(error, CallError::Dial(_)), "{error:?}");
    assert!(error.to_string().contains("no connection within 5s"), "{error}");
    assert_eq!(bench.fence.sent(), before, "nothing of the call was handed over");
    let waited = clock.now().since(crate::clock::Time::ZERO);
    assert!(waited < Duration::from_secs(6), "it took {waited:?}");
}
