//! Sessions that are streams of shared connections: what a provider leaves open is reset, and its connection goes on.

use std::time::Duration;

use super::*;
use crate::{
    backend::http::tests::{
        h2_peer::{DATA, H2Peer, HEADERS, Manners, PING, WINDOW_UPDATE},
        peer::Identity,
    },
    proto::Tls,
};
use llm_peer::{stop, token};

const END: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
/// `:status: 200` and `content-type: text/event-stream`.
const EVENTS: &[u8] = b"\x88\x0f\x10\x11text/event-stream";
/// `:status: 400`.
const REFUSED: &[u8] = b"\x8c";
const PART: [u8; 16 * 1024] = [b' '; 16 * 1024];

/// A provider that agrees to HTTP/2 and is silent about requests: the test answers. And a session with it.
async fn shared(manners: Manners) -> (H2Peer, Bench) {
    let identity = Identity::speaking(&[b"h2"]);
    let silent = Manners {
        answers: false,
        ..manners
    };
    let peer = H2Peer::start_tls(vec![silent], identity.acceptor());
    let own = LlmBackend {
        tls: Some(Tls {
            skip_verify: true,
            ..Tls::default()
        }),
        ..own(Wire::Openai)
    };
    let bench = Bench::made(&spec(&format!("https://localhost:{}", peer.port()), own)).await;
    (peer, bench)
}

/// What must not wait for what it prevents itself.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(20), work).await;
    waited.expect("it waits for the end of a stream that it holds open itself")
}

/// Answers the request on `stream` with a head and parts, and leaves its stream open.
async fn leave_open(peer: &H2Peer, stream: u32, head: &[u8], parts: Vec<&[u8]>) {
    peer.until(|wires| wires[0].open.contains(&stream)).await;
    peer.say(0, (HEADERS, END_HEADERS), stream, head);
    for part in parts {
        peer.say(0, (DATA, 0), stream, part);
    }
}

/// The stream was reset, and the next call goes over the same connection.
async fn goes_on(peer: &H2Peer, bench: &mut Bench, stream: u32) {
    peer.until(|wires| wires[0].resets(stream) == 1).await;
    let answer = async {
        peer.until(|wires| wires[0].open.contains(&(stream + 2))).await;
        peer.answer(0, stream + 2, b"{}");
    };
    let (answered, ()) = tokio::join!(bench.ask("models", "{}"), answer);
    assert_eq!(json_of(&answered.unwrap()), "{}");
    assert_eq!(peer.wires().len(), 1);
}

#[tokio::test]
async fn a_stream_that_is_left_open_behind_its_end_marker_is_reset() {
    let (peer, mut bench) = shared(Manners::default()).await;
    let text = format!("{}{}", token("a"), stop());
    let answer = leave_open(&peer, 1, EVENTS, vec![text.as_bytes()]);
    let (streamed, ()) = soon(async { tokio::join!(bench.stream("chat", HELLO), answer) }).await;
    assert_eq!(streamed.unwrap().text, "a");
    goes_on(&peer, &mut bench, 1).await;
}

#[tokio::test]
async fn a_stream_that_is_left_open_behind_an_error_is_reset() {
    let (peer, mut bench) = shared(Manners::default()).await;
    let text = format!("{}data: {{\"error\":{{\"message\":\"m\"}}}}\n\n", token("a"));
    let answer = leave_open(&peer, 1, EVENTS, vec![text.as_bytes()]);
    let ((error, _), ()) = soon(async { tokio::join!(bench.fail("chat", HELLO), answer) }).await;
    assert_eq!(error.metadata["kind"], "upstream_5xx");
    goes_on(&peer, &mut bench, 1).await;
}

#[tokio::test]
async fn a_refusal_that_is_too_long_to_be_read_is_reset() {
    let (peer, mut bench) = shared(Manners::default()).await;
    let answer = leave_open(&peer, 1, REFUSED, vec![&PART; 5]);
    let ((error, _), ()) = soon(async { tokio::join!(bench.fail("chat", HELLO), answer) }).await;
    assert_eq!(error.metadata["kind"], "invalid");
    goes_on(&peer, &mut bench, 1).await;
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_request_is_sent_stops_the_rest_of_it() {
    let stingy = Manners {
        credits: false,
        ..Manners::default()
    };
    let (peer, mut bench) = shared(stingy).await;
    let long = json!({"prompt": "x".repeat(1 << 20)}).to_string();
    let refuse = async {
        peer.until(|wires| wires[0].data(1) > 0).await;
        peer.say(0, (HEADERS, END_HEADERS), 1, REFUSED);
        peer.say(0, (DATA, END), 1, b"{}");
    };
    let ((error, _), ()) = soon(async { tokio::join!(bench.fail("chat", &long), refuse) }).await;
    assert_eq!(error.metadata["kind"], "invalid");
    goes_on(&peer, &mut bench, 1).await;
}

#[tokio::test]
async fn a_list_of_models_that_is_too_long_for_a_health_check_is_reset() {
    let (peer, mut bench) = shared(Manners::default()).await;
    let answer = async {
        leave_open(&peer, 1, b"\x88", vec![&PART; 10]).await;
        // It has read some of it, so that there is room for more.
        let read = |wires: &[crate::backend::http::tests::h2_peer::Wire]| {
            let mut frames = wires[0].frames.iter();
            frames.any(|frame| frame.kind == WINDOW_UPDATE && frame.stream == 1)
        };
        peer.until(read).await;
        for _ in 0..8 {
            peer.say(0, (DATA, 0), 1, &PART);
        }
    };
    let (probed, ()) = soon(async { tokio::join!(bench.session.probe(), answer) }).await;
    probed.unwrap();
    goes_on(&peer, &mut bench, 1).await;
}

#[tokio::test]
async fn a_connection_on_which_not_even_a_ping_is_answered_is_given_up_long_before_an_answer_is_due() {
    let mute = Manners {
        pongs: false,
        ..Manners::default()
    };
    let (peer, mut bench) = shared(mute).await;
    let mut call = Box::pin(bench.ask("chat", HELLO));
    tokio::select! {
        _ = &mut call => panic!("it ended"),
        () = peer.until(|wires| wires[0].open.len() == 1) => {}
    }
    // Nothing moves any more but the clock.
    tokio::time::pause();
    let clock = Clock::tokio();
    let error = call.await.unwrap_err();
    assert!(
        matches!(error, CallError::Broken { executed: None, .. }),
        "{error:?}"
    );
    let silent = clock.now().since(crate::clock::Time::ZERO);
    assert!(silent < Duration::from_secs(34), "it took {silent:?}");
    tokio::time::resume();
    peer.until(|wires| wires[0].ended && wires[0].count(PING) == 1)
        .await;
}
