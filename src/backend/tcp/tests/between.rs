//! Between holders: what is kept, what is reset, and what is closed; and how idle sessions are checked.

use super::*;
use crate::proto::{TcpStep, tcp_reset::Keep, tcp_step::Step};

/// What the next holder would find after a one-shot request that was answered.
async fn after_a_request(own: TcpBackend) -> (Bench, Cleanliness) {
    let mut bench = Bench::with(own).await;
    bench.request("GET\r\n", "one\r\n").await.unwrap();
    let found = bench.session.cleanliness();
    (bench, found)
}

#[tokio::test]
async fn a_session_is_closed_after_use_unless_the_definition_says_how_it_is_reset() {
    let bench = Bench::with(lines()).await;
    assert_eq!(bench.session.cleanliness(), Cleanliness::Clean, "nobody used it");
    let (bench, found) = after_a_request(lines()).await;
    assert_eq!(found, Cleanliness::Broken);
    assert_eq!(bench.end().await, (Vec::new(), true), "it says goodbye");
}

#[tokio::test]
async fn a_session_with_an_answer_for_each_message_is_kept() {
    let kept = || lines_reset_by(How::Keep(Keep::Answered.into()));
    let (mut bench, found) = after_a_request(kept()).await;
    assert_eq!(found, Cleanliness::Clean);
    bench.next_holder();
    let answer = bench.request("GET\r\n", "two\r\n").await;
    assert_eq!(body(answer), "two\r\n");

    bench.call("send", json!({"text": "GET\r\n"})).await.unwrap();
    assert_eq!(
        bench.session.cleanliness(),
        Cleanliness::Broken,
        "an answer is to come"
    );
    bench.says("three\r\n").await;
    assert_eq!(bench.session.cleanliness(), Cleanliness::Broken, "it has come");
    bench.call("receive", json!({})).await.unwrap();
    assert_eq!(bench.session.cleanliness(), Cleanliness::Clean, "it was taken");
}

#[tokio::test]
async fn a_call_that_begins_after_its_holders_end_changes_nothing() {
    let mut bench = Bench::with(lines_reset_by(How::Keep(Keep::Answered.into()))).await;
    bench.call("send", json!({"text": "GET\r\n"})).await.unwrap();
    bench.fence.shut();
    let late = bench.call("receive", json!({})).await;
    assert!(
        matches!(
            &late,
            Err(CallError::Lost {
                executed: Some(Executed::No),
                ..
            })
        ),
        "{late:?}"
    );
    bench.session.settle().await.unwrap();
    assert_eq!(
        bench.session.cleanliness(),
        Cleanliness::Broken,
        "an answer is still to come"
    );
}

#[tokio::test]
async fn a_half_read_answer_never_reaches_the_next_holder() {
    for how in [
        How::Keep(Keep::Answered.into()),
        How::Keep(Keep::Silent.into()),
        How::Exchange(exchange("RESET\r\n", exactly("OK\r\n"))),
    ] {
        let mut bench = Bench::with(lines_reset_by(how)).await;
        bench.request("GET\r\n", "one\r\nrest").await.unwrap();
        assert_eq!(bench.session.cleanliness(), Cleanliness::Broken);
    }
}

#[tokio::test]
async fn an_answer_that_comes_too_late_meets_no_holder() {
    let (mut bench, found) = after_a_request(lines_reset_by(How::Keep(Keep::Answered.into()))).await;
    assert_eq!(found, Cleanliness::Clean);
    bench.next_holder();
    bench.says("late\r\n").await;
    let sent = bench.fence.sent();
    let error = bench.call("receive", json!({})).await.unwrap_err();
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
    assert_eq!(bench.session.cleanliness(), Cleanliness::Broken);
}

#[tokio::test]
async fn a_session_with_a_silent_peer_is_kept_until_it_speaks() {
    let mut bench = Bench::with(lines_reset_by(How::Keep(Keep::Silent.into()))).await;
    for _ in 0..3 {
        bench.call("send", json!({"text": "metric 1\n"})).await.unwrap();
        bench.heard("metric 1\n").await;
        assert_eq!(bench.session.cleanliness(), Cleanliness::Clean);
        bench.next_holder();
    }
    bench.says("what?").await;
    assert_eq!(bench.session.cleanliness(), Cleanliness::Broken);
}

fn reset_by_exchange() -> TcpBackend {
    lines_reset_by(How::Exchange(exchange("RESET\r\n", begins_with("OK"))))
}

#[tokio::test]
async fn a_reset_by_exchange_needs_its_answer_and_nothing_behind_it() {
    let (mut bench, found) = after_a_request(reset_by_exchange()).await;
    assert_eq!(found, Cleanliness::Dirty);
    bench.says("OK done\r\n").await;
    // The answer is there before the question only because the test cannot do two things at once.
    let error = bench.session.reset().await.unwrap_err();
    assert!(error.to_string().contains("nobody asked"), "{error}");

    for (answer, good) in [
        ("OK done\r\n", true),
        ("-ERR\r\n", false),
        ("OK\r\nOK\r\n", false),
    ] {
        let (mut bench, _) = after_a_request(reset_by_exchange()).await;
        let reset = async {
            let reset = bench.session.reset().await;
            (reset.is_ok(), bench.session.cleanliness())
        };
        let answered = async {
            let mut heard = [0; 7];
            bench.peer.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"RESET\r\n");
            bench.peer.write_all(answer.as_bytes()).await.unwrap();
        };
        let (found, ()) = tokio::join!(reset, answered);
        let wanted = if good {
            Cleanliness::Clean
        } else {
            Cleanliness::Broken
        };
        assert_eq!(found, (good, wanted), "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_on_its_way_is_never_taken_for_the_resets() {
    let (mut bench, _) = after_a_request(reset_by_exchange()).await;
    bench.call("send", json!({"text": "GET\r\n"})).await.unwrap();
    assert_eq!(bench.session.cleanliness(), Cleanliness::Broken);
}

#[tokio::test]
async fn a_probe_without_an_exchange_sends_nothing_and_sees_an_end_or_a_word() {
    let mut bench = Bench::with(lines()).await;
    bench.session.probe().await.unwrap();
    bench.says("welcome\r\n").await;
    bench.session.probe().await.unwrap();
    let first = bench.call("receive", json!({})).await;
    assert_eq!(
        body(first),
        "welcome\r\n",
        "what a new connection says is its first holder's"
    );
    bench.session.probe().await.unwrap();
    bench.says("unasked\r\n").await;
    bench.session.probe().await.unwrap_err();

    let mut bench = Bench::with(lines()).await;
    bench.peer.shutdown().await.unwrap();
    while bench.session.cleanliness() != Cleanliness::Broken {
        tokio::task::yield_now().await;
    }
    bench.session.probe().await.unwrap_err();
    assert_eq!(bench.fence.sent(), 0);
}

#[tokio::test]
async fn a_probe_by_exchange_needs_its_answer() {
    for (answer, good) in [
        ("+PONG\r\n", true),
        ("-LOADING\r\n", false),
        ("+PONG\r\nx", false),
    ] {
        let mut bench = Bench::with(TcpBackend {
            health: Some(exchange("PING\r\n", exactly("+PONG\r\n"))),
            ..lines()
        })
        .await;
        let answered = async {
            let mut heard = [0; 6];
            bench.peer.read_exact(&mut heard).await.unwrap();
            bench.peer.write_all(answer.as_bytes()).await.unwrap();
        };
        let (probed, ()) = tokio::join!(bench.session.probe(), answered);
        assert_eq!(probed.is_ok(), good, "{answer:?}: {probed:?}");
    }
}

#[tokio::test]
async fn a_probe_that_is_cut_costs_its_session() {
    let mut bench = Bench::with(TcpBackend {
        health: Some(exchange("PING\r\n", exactly("+PONG\r\n"))),
        ..lines()
    })
    .await;
    assert!(bench.session.probe().now_or_never().is_none());
    assert_eq!(bench.session.cleanliness(), Cleanliness::Broken);
}

/// Runs something on a runtime of its own, which is gone afterwards.
fn elsewhere<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work)
}

/// On a runtime that is gone nothing would move any more.
#[test]
fn a_session_moves_to_who_uses_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peer = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut peer, _) = listener.accept().unwrap();
        for (heard, said) in [
            ("GET\r\n", "one\r\n"),
            ("PING\r\n", "PONG\r\n"),
            ("RESET\r\n", "OK\r\n"),
        ] {
            let mut read = vec![0; heard.len()];
            peer.read_exact(&mut read).unwrap();
            assert_eq!(String::from_utf8_lossy(&read), heard);
            peer.write_all(said.as_bytes()).unwrap();
        }
        peer.read_to_end(&mut Vec::new()).unwrap()
    });
    let own = TcpBackend {
        health: Some(exchange("PING\r\n", exactly("PONG\r\n"))),
        ..reset_by_exchange()
    };
    let backend = backend(&address, own, Path::new("/nowhere")).unwrap();
    let fence = Arc::new(Fence::default());
    fence.open(1);
    let mut session = elsewhere(backend.dial(Arc::clone(&fence), "")).unwrap();
    let get = operation("request", json!({"text": "GET\r\n"}));
    let answer = elsewhere(run(&*backend, &mut *session, get));
    assert_eq!(body(answer), "one\r\n");
    elsewhere(session.probe()).unwrap();
    elsewhere(session.reset()).unwrap();
    assert_eq!(session.cleanliness(), Cleanliness::Clean);
    elsewhere(session.close());
    assert_eq!(peer.join().unwrap(), 0, "a goodbye");
}

fn step(step: Step) -> TcpStep {
    TcpStep { step: Some(step) }
}

/// A greeting with a secret, which the peer answers with `answer`.
async fn greeted(answer: &str) -> Result<(), DialError> {
    let secret = crate::proto::SecretRef {
        source: Some(crate::proto::secret_ref::Source::Env(
            "SUBLET_SECRET_KEY".to_owned(),
        )),
    };
    let own = TcpBackend {
        greeting: vec![
            step(Step::Expect(begins_with("220 "))),
            step(Step::Send(typed("AUTH "))),
            step(Step::SendSecret(secret)),
            step(Step::Send(typed("\r\n"))),
            step(Step::Expect(exactly("OK\r\n"))),
            step(Step::Send(typed("HELLO\r\n"))),
        ],
        ..lines()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let backend = backend(&address, own, Path::new("/nowhere")).unwrap();
    let fence = Arc::new(Fence::default());
    fence.open(1);
    let answering = async {
        let mut peer = listener.accept().await.unwrap().0;
        peer.write_all(b"220 mail ready\r\n").await.unwrap();
        let mut heard = [0; 13];
        peer.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"AUTH canary\r\n");
        peer.write_all(answer.as_bytes()).await.unwrap();
        if !answer.ends_with('\n') {
            peer.shutdown().await.unwrap();
        }
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).await.ok();
        rest
    };
    let dialing = async {
        let session = backend.dial(Arc::clone(&fence), "").await?;
        assert_eq!(fence.sent(), 0, "it is nothing of a call");
        session.close().await;
        Ok(())
    };
    let (dialed, rest) = tokio::join!(dialing, answering);
    assert_eq!(rest == b"HELLO\r\n", dialed.is_ok());
    dialed
}

#[tokio::test]
async fn a_greeting_is_said_step_by_step_and_its_secret_told_nobody() {
    greeted("OK\r\n").await.unwrap();
    let error = greeted("-ERR canary is wrong\r\n").await.unwrap_err();
    assert_eq!(error.kind, DialErrorKind::Permanent);
    assert!(!error.message.contains("canary"), "{error}");
    let error = greeted("O").await.map_err(|error| error.kind);
    assert_eq!(error, Err(DialErrorKind::Transient));
}
