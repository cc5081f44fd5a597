//! Bodies streamed both ways.

use tokio::sync::mpsc;

use super::*;
use crate::{
    backend::{BodyChunk, BodyReader, Event},
    proto,
};

/// A request whose body comes in parts, and where the parts are put.
pub(super) fn upload(params: Value) -> (mpsc::Sender<BodyChunk>, Operation) {
    let (input, chunks) = mpsc::channel(1);
    let (credit, _) = mpsc::unbounded_channel();
    let mut operation = request(params);
    operation.body = Body::Stream(BodyReader::new(chunks, credit));
    (input, operation)
}

fn part(bytes: &'static [u8]) -> BodyChunk {
    BodyChunk::Data(Bytes::from_static(bytes))
}

#[tokio::test]
async fn a_streamed_body_is_sent_in_chunks_as_it_comes() {
    let peer = Peer::start(vec![vec![Step::Echo]]);
    let mut bench = Bench::with(&peer).await;
    let (input, operation) = upload(json!({"method": "POST"}));
    let feed = async {
        input.send(part(b"[1,")).await.unwrap();
        peer.until(|lines| lines[0].bytes.ends_with(b"[1,\r\n")).await;
        input.send(part(b"2]")).await.unwrap();
        input.send(BodyChunk::Last).await.unwrap();
    };
    let (answer, ()) = tokio::join!(bench.run(operation), feed);
    assert_eq!(answer.unwrap().text(), "[1,2]");
    assert!(peer.requests()[0].head.contains("transfer-encoding: chunked\r\n"));
    bench.ask(json!({"method": "POST", "json": 3})).await.unwrap();
    assert_eq!(peer.lines().len(), 1, "the connection was kept");
}

#[tokio::test]
async fn a_streamed_body_of_promised_length_is_sent_without_chunks() {
    let peer = Peer::start(vec![vec![Step::Echo]]);
    let mut bench = Bench::with(&peer).await;
    let (input, operation) = upload(json!({"method": "POST", "headers": {"content-length": "5"}}));
    let feed = async {
        input.send(part(b"[1,")).await.unwrap();
        input.send(part(b"2]")).await.unwrap();
    };
    let (answer, ()) = tokio::join!(bench.run(operation), feed);
    assert_eq!(answer.unwrap().text(), "[1,2]");
    let head = &peer.requests()[0].head;
    assert!(
        head.contains("content-length: 5\r\n") && !head.contains("chunked"),
        "{head}"
    );
}

#[tokio::test]
async fn a_body_of_another_length_than_promised_is_no_request() {
    for parts in [vec![part(b"123"), BodyChunk::Last], vec![part(b"123456")]] {
        let peer = Peer::start(vec![vec![Step::Request]]);
        let mut bench = Bench::with(&peer).await;
        let (input, operation) = upload(json!({"method": "POST", "headers": {"content-length": "5"}}));
        let feed = async {
            for part in parts {
                input.send(part).await.unwrap();
            }
        };
        let (result, ()) = tokio::join!(bench.run(operation), feed);
        assert!(matches!(result, Err(CallError::Broken { .. })), "{result:?}");
        bench.session.settle().await.unwrap();
        peer.until(|lines| lines[0].end.is_some()).await;
        assert_eq!(peer.requests().len(), 0);
    }
}

#[tokio::test]
async fn an_upload_whose_caller_goes_away_is_cut_without_its_end() {
    let peer = Peer::start(vec![vec![Step::Request]]);
    let mut bench = Bench::with(&peer).await;
    let (input, operation) = upload(json!({"method": "POST"}));
    let feed = async {
        input.send(part(b"half")).await.unwrap();
        peer.until(|lines| lines[0].bytes.ends_with(b"half\r\n")).await;
        drop(input);
    };
    let (result, ()) = tokio::join!(bench.run(operation), feed);
    assert!(matches!(result, Err(CallError::Input)), "{result:?}");
    bench.session.settle().await.unwrap();
    peer.until(|lines| lines[0].end.is_some()).await;
    let line = &peer.lines()[0];
    assert_eq!(
        line.end,
        Some(End::Reset),
        "an end that looks wanted would be a lie"
    );
    assert!(line.bytes.ends_with(b"half\r\n"));
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_is_given_and_the_connection_is_not_kept() {
    let early = answer("HTTP/1.1 413 Too Large\ncontent-length: 2\n\nno");
    let peer = Peer::start(vec![vec![Step::Head, early, Step::ToEnd], vec![Step::Serve]]);
    let mut bench = Bench::with(&peer).await;
    let (input, operation) = upload(json!({"method": "POST"}));
    input.send(part(b"half")).await.unwrap();
    let answer = bench.run(operation).await.unwrap();
    assert_eq!(
        (answer.attributes["status"].as_str(), answer.body()),
        ("413", &b"no"[..])
    );
    assert_eq!(bench.session.cleanliness(), Cleanliness::Clean);
    let next = bench.ask(json!({})).await.unwrap();
    assert_eq!((next.text(), next.retries, peer.lines().len()), ("{}", 0, 2));
}

#[tokio::test]
async fn a_streamed_answer_is_a_head_and_then_frames() {
    let body = vec![b'x'; 200_000];
    let mut bytes = b"HTTP/1.1 207 Many\r\nb: 1\r\na: 2\r\nb: 3\r\ncontent-length: 200000\r\n\r\n".to_vec();
    bytes.extend_from_slice(&body);
    let peer = Peer::start(vec![vec![Step::Request, Step::Send(bytes), Step::ToEnd]]);
    let mut bench = Bench::with(&peer).await;
    let (events, mut seen) = mpsc::channel(1);
    let mut sink = Sink::Stream(events);
    let read = async {
        let Some(Event::Head(head)) = seen.recv().await else {
            panic!("no head")
        };
        let mut got = Vec::new();
        while got.len() < body.len() {
            let Some(Event::Data(part)) = seen.recv().await else {
                panic!("no data")
            };
            assert!(part.len() <= 64 * 1024);
            got.extend_from_slice(&part);
        }
        (head, got)
    };
    let (result, (head, got)) = tokio::join!(bench.session.execute(request(json!({})), &mut sink), read);
    assert!(matches!(result.unwrap().output, Output::None));
    assert_eq!(got, body);
    let header = |name: &str, value: &str| proto::Header {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    assert_eq!(head.status, 207);
    let expected = [
        header("b", "1"),
        header("b", "3"),
        header("a", "2"),
        header("content-length", "200000"),
    ];
    assert_eq!(head.headers, expected);
}

#[tokio::test]
async fn a_caller_who_does_not_read_stops_the_service_from_sending() {
    const TOTAL: usize = 64 << 20;
    let head = format!("HTTP/1.1 200 OK\ncontent-length: {TOTAL}\n\n");
    let peer = Peer::start(vec![vec![Step::Request, answer(&head), Step::Flood]]);
    let mut bench = Bench::with(&peer).await;
    let (events, mut seen) = mpsc::channel(1);
    let mut sink = Sink::Stream(events);
    let mut call = bench.session.execute(request(json!({})), &mut sink);
    let mut before = 0;
    // Until a whole round of everyone's work moves nothing any more.
    for still in 0.. {
        assert!(futures_util::poll!(&mut call).is_pending());
        tokio::task::yield_now().await;
        let sent = peer.lines()[0].sent;
        if sent > 100_000 && sent == before && still > 10_000 {
            break;
        }
        before = sent;
    }
    assert!(before < TOTAL / 2, "the service could send {before} bytes");
    let read = async {
        let mut got = 0;
        while let Some(event) = seen.recv().await {
            if let Event::Data(part) = event {
                got += part.len();
                if got == TOTAL {
                    break;
                }
            }
        }
        got
    };
    let (result, got) = tokio::join!(call, read);
    result.unwrap();
    assert_eq!(got, TOTAL, "and it goes on when the caller reads");
}

#[tokio::test]
async fn an_answer_too_large_to_collect_is_given_up() {
    let peer = Peer::start(vec![
        vec![Step::Request, answer("HTTP/1.1 200 OK\n\n"), Step::Flood],
        vec![Step::Serve],
    ]);
    let mut bench = Bench::with(&peer).await;
    let error = bench.ask(json!({})).await.unwrap_err();
    assert!(
        matches!(error, CallError::Sink(crate::backend::SinkClosed::TooLarge)),
        "{error:?}"
    );
    bench.session.settle().await.unwrap();
    peer.until(|lines| lines[0].end == Some(End::Reset)).await;
    assert_eq!(bench.ask(json!({})).await.unwrap().retries, 0);
}
